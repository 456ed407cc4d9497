//! What an evaluation found, for people and for programs.

use std::collections::BTreeSet;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use super::run::StageTimes;

/// Region similarity J and boundary accuracy F, in [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    pub j: f64,
    pub f: f64,
}

impl Score {
    /// J&F: the mean of the two.
    pub fn jf(self) -> f64 {
        (self.j + self.f) / 2.0
    }

    /// The mean of scores; 0 of none.
    pub fn mean(scores: impl IntoIterator<Item = Score>) -> Score {
        let (mut sum, mut count) = (Score::default(), 0u32);
        for score in scores {
            sum = Score { j: sum.j + score.j, f: sum.f + score.f };
            count += 1;
        }
        let count = f64::from(count.max(1));
        Score { j: sum.j / count, f: sum.f / count }
    }
}

/// The scores of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameScores {
    pub frame: usize,
    /// (instances)
    pub scores: Vec<Score>,
}

/// The score of one sequence: the mean over its objects of the mean over its frames, the first and the last left
/// out.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceReport {
    pub name: String,
    /// All frames of the sequence that the tracker saw.
    pub frames: usize,
    pub score: Score,
    /// The frames that were scored, in order.
    pub by_frame: Vec<FrameScores>,
}

impl SequenceReport {
    pub fn new(name: String, frames: usize, by_frame: Vec<FrameScores>) -> SequenceReport {
        let score = mean_of_objects(&by_frame.iter().collect::<Vec<_>>());
        SequenceReport { name, frames, score, by_frame }
    }

    /// The score of those frames alone that were scored in `other` too, which is the same sequence under other conditions.
    pub fn where_scored_in(&self, other: &SequenceReport) -> Score {
        let scored: BTreeSet<usize> = other.by_frame.iter().map(|scores| scores.frame).collect();
        mean_of_objects(&self.by_frame.iter().filter(|scores| scored.contains(&scores.frame)).collect::<Vec<_>>())
    }
}

/// The mean over objects of the mean over frames.
fn mean_of_objects(by_frame: &[&FrameScores]) -> Score {
    let objects = by_frame.first().map_or(0, |frame| frame.scores.len());
    Score::mean((0..objects).map(|object| Score::mean(by_frame.iter().map(|frame| frame.scores[object]))))
}

/// The scores of several sequences, and the speed over all their frames.
///
/// As JSON: `{"sequences": {"boat": {"j": .., "f": .., "jf": .., "frames": ..}}, "mean": {"j": .., "f": ..,
/// "jf": ..}, "operations": .., "fps": {"decode": .., "preprocess": .., "embed": .., "propagate": .., "mask": .., "total": ..}}`. A
/// stage that took no time is left out of `fps`, and so are `operations` where they are not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub sequences: Vec<SequenceReport>,
    /// Time of all frames together, by stage.
    pub times: StageTimes,
    /// Operations of the backbone's products for a frame that is computed whole, a multiplication and an addition each counted.
    pub operations: Option<u64>,
}

impl Report {
    /// The mean over sequences.
    pub fn mean(&self) -> Score {
        Score::mean(self.sequences.iter().map(|sequence| sequence.score))
    }

    /// Frames of all sequences.
    pub fn frames(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.frames).sum()
    }

    /// Frames of all sequences that were scored.
    pub fn scored(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.by_frame.len()).sum()
    }

    /// Frames a second, by stage; stages that took no time are left out.
    pub fn fps(&self) -> Vec<(&'static str, f64)> {
        let fps = |(name, time): (_, std::time::Duration)| (name, self.frames() as f64 / time.as_secs_f64());
        self.times.named().into_iter().filter(|(_, time)| !time.is_zero()).map(fps).collect()
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("Report", 4)?;
        report.serialize_field("sequences", &Map(self.sequences.iter().map(|s| (s.name.as_str(), s)).collect()))?;
        report.serialize_field("mean", &self.mean())?;
        match &self.operations {
            Some(operations) => report.serialize_field("operations", operations)?,
            None => report.skip_field("operations")?,
        }
        report.serialize_field("fps", &Map(self.fps()))?;
        report.end()
    }
}

impl Serialize for SequenceReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_struct("SequenceReport", 4)?;
        sequence.serialize_field("j", &self.score.j)?;
        sequence.serialize_field("f", &self.score.f)?;
        sequence.serialize_field("jf", &self.score.jf())?;
        sequence.serialize_field("frames", &self.frames)?;
        sequence.end()
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut score = serializer.serialize_struct("Score", 3)?;
        score.serialize_field("j", &self.j)?;
        score.serialize_field("f", &self.f)?;
        score.serialize_field("jf", &self.jf())?;
        score.end()
    }
}

/// The same sequences by several presets of the rule, in the order asked for. As JSON: `{"presets": {"soft": {..}, ..}}`, each a
/// [`Report`].
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub presets: Vec<(String, Report)>,
}

impl Serialize for Comparison {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut comparison = serializer.serialize_struct("Comparison", 1)?;
        let reports = self.presets.iter().map(|(name, report)| (name.as_str(), report)).collect();
        comparison.serialize_field("presets", &Map(reports))?;
        comparison.end()
    }
}

/// A table for the terminal: J&F, and what a frame takes besides the backbone.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequences = self.presets.first().map_or(&[][..], |(_, report)| &report.sequences[..]);
        let width = sequences.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).max("propagate, ms".len());
        let row = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn Fn(&Report) -> String| {
            write!(f, "{name:width$}")?;
            for (preset, report) in &self.presets {
                write!(f, "  {:>1$}", value(report), preset.chars().count().max(6))?;
            }
            writeln!(f)
        };
        write!(f, "{:width$}", "J&F")?;
        self.presets.iter().try_for_each(|(preset, _)| write!(f, "  {preset:>6}"))?;
        writeln!(f)?;
        for (at, sequence) in sequences.iter().enumerate() {
            row(f, &sequence.name, &|report| format!("{:.4}", report.sequences[at].score.jf()))?;
        }
        row(f, "mean", &|report| format!("{:.4}", report.mean().jf()))?;
        if self.presets.iter().any(|(_, report)| report.operations.is_some()) {
            row(f, "backbone, GOP", &|report| {
                report.operations.map_or("?".into(), |n| format!("{:.2}", n as f64 * 1e-9))
            })?;
        }
        for stage in ["propagate", "mask"] {
            let ms = |report: &Report| {
                let of_stage = report.times.named().into_iter().find(|(name, _)| *name == stage);
                let seconds = of_stage.map_or(0.0, |(_, time)| time.as_secs_f64());
                format!("{:.1}", 1e3 * seconds / report.frames().max(1) as f64)
            };
            row(f, &format!("{stage}, ms"), &ms)?;
        }
        Ok(())
    }
}

/// Pairs as a map that keeps their order.
pub(super) struct Map<'a, V>(pub Vec<(&'a str, V)>);

impl<V: Serialize> Serialize for Map<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A table for the terminal.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.sequences.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).max("sequence".len());
        let row = |f: &mut fmt::Formatter<'_>, name: &str, frames: usize, score: Score| {
            writeln!(f, "{name:width$}  {frames:>6}  {:.4}  {:.4}  {:.4}", score.j, score.f, score.jf())
        };
        writeln!(f, "{:width$}  {:>6}  {:<6}  {:<6}  {:<6}", "sequence", "frames", "J", "F", "J&F")?;
        for sequence in &self.sequences {
            row(f, &sequence.name, sequence.frames, sequence.score)?;
        }
        row(f, "mean", self.frames(), self.mean())?;
        if let Some(operations) = self.operations {
            writeln!(f, "backbone, GOP a frame  {:.2}", operations as f64 * 1e-9)?;
        }
        write!(f, "frames/s")?;
        for (stage, fps) in self.fps() {
            write!(f, "  {stage} {fps:.1}")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report() -> Report {
        let sequence = |name: &str, frames, j, f| {
            let by_frame = vec![FrameScores { frame: 1, scores: vec![Score { j, f }] }];
            SequenceReport::new(name.into(), frames, by_frame)
        };
        let times =
            StageTimes { decode: Duration::from_secs(2), embed: Duration::from_secs(3), ..StageTimes::default() };
        // Not in alphabetical order: the order asked for is kept.
        Report {
            sequences: vec![sequence("tennis", 70, 0.25, 0.5), sequence("boat", 30, 0.75, 1.0)],
            times,
            operations: None,
        }
    }

    #[test]
    fn json_has_the_documented_form() {
        let expected = r#"{"sequences":{"tennis":{"j":0.25,"f":0.5,"jf":0.375,"frames":70},"boat":{"j":0.75,"f":1.0,"jf":0.875,"frames":30}},"mean":{"j":0.5,"f":0.75,"jf":0.625},"fps":{"decode":50.0,"embed":33.333333333333336,"total":20.0}}"#;
        assert_eq!(serde_json::to_string(&report()).unwrap(), expected);
    }

    #[test]
    fn the_table_lines_up() {
        let expected = "\
sequence  frames  J       F       J&F   
tennis        70  0.2500  0.5000  0.3750
boat          30  0.7500  1.0000  0.8750
mean         100  0.5000  0.7500  0.6250
frames/s  decode 50.0  embed 33.3  total 20.0
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn presets_stand_beside_each_other() {
        let times =
            StageTimes { propagate: Duration::from_millis(250), mask: Duration::from_secs(1), ..report().times };
        let presets = vec![
            ("soft".into(), report()),
            ("published".into(), Report { times, operations: Some(4_180_000_000), ..report() }),
        ];
        let comparison = Comparison { presets };
        let expected = "\
J&F              soft  published
tennis         0.3750     0.3750
boat           0.8750     0.8750
mean           0.6250     0.6250
backbone, GOP       ?       4.18
propagate, ms     0.0        2.5
mask, ms          0.0       10.0
";
        assert_eq!(comparison.to_string(), expected);
        let json = serde_json::to_value(&comparison).unwrap();
        assert_eq!(json["presets"]["published"], serde_json::to_value(&comparison.presets[1].1).unwrap());
    }

    #[test]
    fn an_empty_report_holds_no_nonsense() {
        let empty = serde_json::to_string(&Report::default()).unwrap();
        assert_eq!(empty, r#"{"sequences":{},"mean":{"j":0.0,"f":0.0,"jf":0.0},"fps":{}}"#);
    }
}
