//! What is lost where videos are made worse, for people and for programs.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::corruption::Corruption;
use super::report::{Map, Report, Score};

/// The same sequences as they are and made worse, in the order asked for.
///
/// As JSON: `{"clean": {..}, "degraded": {"blur=moderate": {"clean": .., "degraded": .., "difference": .., "frames": ..,
/// "report": {..}}, ..}}`: reports as [`Report`] has them, and of each corruption what [`Loss`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct Robustness {
    pub clean: Report,
    pub degraded: Vec<(Corruption, Report)>,
}

/// J&F of the same frames, as they are and made worse. Frames that were not scored where they were made worse, since they
/// were missing or spoilt, count for neither.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    pub clean: f64,
    pub degraded: f64,
}

impl Loss {
    /// Below 0 where something was lost.
    pub fn difference(self) -> f64 {
        self.degraded - self.clean
    }
}

impl Robustness {
    /// What is lost of each sequence, by its name.
    pub fn by_sequence(&self, degraded: &Report) -> Vec<(&str, Loss)> {
        let pairs = self.clean.sequences.iter().zip(&degraded.sequences);
        let loss = |clean: Score, degraded: Score| Loss { clean: clean.jf(), degraded: degraded.jf() };
        pairs.map(|(clean, worse)| (clean.name.as_str(), loss(clean.where_scored_in(worse), worse.score))).collect()
    }

    /// The mean over sequences.
    pub fn loss(&self, degraded: &Report) -> Loss {
        let losses = self.by_sequence(degraded);
        let mean =
            |of: fn(&Loss) -> f64| losses.iter().map(|(_, loss)| of(loss)).sum::<f64>() / losses.len().max(1) as f64;
        Loss { clean: mean(|loss| loss.clean), degraded: mean(|loss| loss.degraded) }
    }
}

impl Serialize for Robustness {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names: Vec<String> = self.degraded.iter().map(|(corruption, _)| corruption.to_string()).collect();
        let entries = self.degraded.iter().map(|(_, report)| Entry { loss: self.loss(report), report });
        let mut robustness = serializer.serialize_struct("Robustness", 2)?;
        robustness.serialize_field("clean", &self.clean)?;
        robustness.serialize_field("degraded", &Map(names.iter().map(String::as_str).zip(entries).collect()))?;
        robustness.end()
    }
}

/// One corruption, for programs.
struct Entry<'a> {
    loss: Loss,
    report: &'a Report,
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entry = serializer.serialize_struct("Entry", 5)?;
        entry.serialize_field("clean", &self.loss.clean)?;
        entry.serialize_field("degraded", &self.loss.degraded)?;
        entry.serialize_field("difference", &self.loss.difference())?;
        entry.serialize_field("frames", &self.report.scored())?;
        entry.serialize_field("report", self.report)?;
        entry.end()
    }
}

/// A table for the terminal: J&F of the frames that were scored, and the sequence that lost most.
impl fmt::Display for Robustness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.degraded.iter().map(|(corruption, _)| corruption.to_string()).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        writeln!(f, "{:width$}  frames   clean  degraded  difference  most is lost of", "J&F")?;
        for (name, (_, report)) in names.iter().zip(&self.degraded) {
            let loss = self.loss(report);
            write!(
                f,
                "{name:width$}  {:>6}  {:.4}    {:.4}     {:+.4}",
                report.scored(),
                loss.clean,
                loss.degraded,
                loss.difference()
            )?;
            let losses = self.by_sequence(report);
            let worst = losses.iter().min_by(|(_, a), (_, b)| a.difference().total_cmp(&b.difference()));
            match worst {
                Some((sequence, loss)) => writeln!(f, "  {sequence} {:+.4}", loss.difference())?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{FrameScores, SequenceReport};
    use super::*;

    /// A sequence of one object, with these J and F both in its frames.
    fn sequence(name: &str, scores: &[(usize, f64)]) -> SequenceReport {
        let frame = |(frame, v): &(usize, f64)| FrameScores { frame: *frame, scores: vec![Score { j: *v, f: *v }] };
        SequenceReport::new(name.into(), 5, scores.iter().map(frame).collect())
    }

    fn robustness() -> Robustness {
        let report = |sequences| Report { sequences, ..Report::default() };
        // What is lost in frame 2 alone is not seen where that frame is missing.
        let boat = |third| sequence("boat", &[(1, 0.75), (3, third)]);
        let clean = report(vec![sequence("boat", &[(1, 0.75), (2, 0.0), (3, 0.25)]), sequence("bus", &[(1, 1.0)])]);
        let degraded = [("drop", boat(0.0)), ("blur=strong", boat(0.25))].map(|(name, boat)| {
            (Corruption::parse(name).unwrap()[0], report(vec![boat, sequence("bus", &[(1, 1.0)])]))
        });
        Robustness { clean, degraded: degraded.into() }
    }

    #[test]
    fn frames_that_are_not_scored_count_for_neither() {
        let robustness = robustness();
        let losses: Vec<Loss> = robustness.degraded.iter().map(|(_, report)| robustness.loss(report)).collect();
        assert_eq!(losses[0], Loss { clean: 0.75, degraded: 0.6875 });
        assert_eq!(losses[1], Loss { clean: 0.75, degraded: 0.75 });
    }

    #[test]
    fn the_table_lines_up() {
        let expected = "\
J&F            frames   clean  degraded  difference  most is lost of
drop=moderate       3  0.7500    0.6875     -0.0625  boat -0.1250
blur=strong         3  0.7500    0.7500     +0.0000  boat +0.0000
";
        assert_eq!(robustness().to_string(), expected);
    }

    #[test]
    fn json_has_the_documented_form() {
        let robustness = robustness();
        let json = serde_json::to_value(&robustness).unwrap();
        assert_eq!(json["clean"], serde_json::to_value(&robustness.clean).unwrap());
        let entry = &json["degraded"]["drop=moderate"];
        assert_eq!(
            (&entry["clean"], &entry["degraded"], &entry["difference"]),
            (&0.75.into(), &0.6875.into(), &(-0.0625).into())
        );
        assert_eq!(entry["frames"], 3);
        assert_eq!(entry["report"], serde_json::to_value(&robustness.degraded[0].1).unwrap());
    }
}
