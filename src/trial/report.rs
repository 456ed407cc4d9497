//! The outcomes as a table and as JSON, by the kind of case.

use std::fmt;

use serde::Serialize;

use super::Outcome;
use crate::eval::IdentityScores;

/// Every kind's outcome, in the order of the cases.
#[derive(Clone, Debug, Default)]
pub struct Report {
    kinds: Vec<(String, u64, Outcome)>,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    pub kind: &'a str,
    pub cases: u64,
    #[serde(flatten)]
    pub outcome: &'a Outcome,
    #[serde(flatten)]
    pub identity: IdentityScores,
}

impl Report {
    /// Takes in the outcome of one more case.
    pub fn add(&mut self, kind: &str, outcome: &Outcome) {
        let at = self.kinds.iter().position(|(known, ..)| known == kind).unwrap_or_else(|| {
            self.kinds.push((kind.to_owned(), 0, Outcome::default()));
            self.kinds.len() - 1
        });
        let (_, cases, sum) = &mut self.kinds[at];
        *cases += 1;
        *sum += outcome;
    }

    /// Of all cases together.
    pub fn total(&self) -> (u64, Outcome) {
        let mut total = (0, Outcome::default());
        for (_, cases, outcome) in &self.kinds {
            total.0 += cases;
            total.1 += outcome;
        }
        total
    }
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (cases, total) = self.total();
        let kinds = self.kinds.iter().map(|(kind, cases, outcome)| (kind.as_str(), *cases, outcome));
        let lines = kinds.chain([("all", cases, &total)]);
        serializer.collect_seq(lines.map(|(kind, cases, outcome)| Line {
            kind,
            cases,
            outcome,
            identity: outcome.identity.scores(),
        }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.kinds.iter().map(|(kind, ..)| kind.len()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:widest$}  {:>5}  {:>12}  {:>11}  {:>9}  {:>9}  {:>12}  {:>6}  {:>6}  {:>8}",
            "", "cases", "found again", "ghosts", "made up", "swapped", "reason right", "HOTA", "IDF1", "switches"
        )?;
        let (cases, total) = self.total();
        let rows = self.kinds.iter().map(|(kind, cases, outcome)| (kind.as_str(), *cases, outcome));
        for (kind, cases, outcome) in rows.chain([("all", cases, &total)]) {
            let of = |part: u64, all: u64| if all == 0 { "-".into() } else { format!("{part}/{all}") };
            let scores = outcome.identity.scores();
            writeln!(
                f,
                "{kind:widest$}  {cases:>5}  {:>12}  {:>11}  {:>9}  {:>9}  {:>12}  {:>6.3}  {:>6.3}  {:>8}",
                of(outcome.reacquired, outcome.returns),
                of(outcome.ghosts, outcome.absent),
                of(outcome.made_up, outcome.gone),
                of(outcome.swapped, outcome.followed),
                of(outcome.explained_right, outcome.explained),
                scores.hota,
                scores.idf1,
                scores.switches
            )?;
        }
        Ok(())
    }
}
