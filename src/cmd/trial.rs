use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Kind, failure};
use super::follow::{ModelChoice, SessionTracker};
use super::{connect, out};
use crate::config::Config;
use crate::trial::{self, Report, TrialError, written};

/// Try how well identities are kept in hard cases.
///
/// Short synthetic films, each of one difficulty: an object is hidden for 1 to 300 frames, leaves and returns, passes one that
/// looks the same, or never comes back; light steps, blur, a camera that looks away. Objects are tagged in the first frame by
/// their exact masks and followed by the daemon's own session. The table tells how often what returned was found within 5
/// frames (IoU 0.5); ghosts, frames in which what had been out of sight for more than 5 was told to be seen; how many objects
/// that never came back had such; and how many tracks lay on another object; then HOTA, IDF1 and identity switches as
/// TrackEval counts them. The same command gives the same numbers again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Take model, propagation and life cycle from this configuration [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only these kinds of cases; may be given several times [default: all]
    #[arg(long = "case", value_name = "KIND")]
    cases: Vec<String>,
    /// How many films of each kind
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    films: u64,
    /// The first film's number; what is in a film follows from its number
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Print the outcomes as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
EXAMPLES
  All kinds of cases, 10 films each:
      tagalong trial

  What another configuration makes of full occlusions:
      tagalong trial --config mine.toml --case 'hidden 10' --case 'hidden 100' --films 50";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        if let Some(unknown) = self.cases.iter().find(|name| !written::kinds().any(|kind| kind == **name)) {
            let kinds = written::kinds().map(|kind| format!("'{kind}'")).collect::<Vec<_>>().join(", ");
            return Err(failure(Kind::Usage, format!("there is no kind of case '{unknown}'; there are {kinds}")));
        }
        let config = self.config.as_deref().map_or_else(|| Ok(Config::builtin()), Config::load)?;
        let mut model = connect::model(&ModelChoice::Manifest(config.model.clone()))?;
        let rule = config.propagation();
        model.change_density(rule.density)?;
        let mut tracker = SessionTracker::new(model, rule.clone(), config.track.clone());
        let mut report = Report::default();
        let is_wanted = |kind: &&str| self.cases.is_empty() || self.cases.iter().any(|name| name == kind);
        let each = written::kinds().filter(is_wanted).count() as u64;
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} films  {eta} left  {msg}")?;
        let bar = ProgressBar::new(self.films * each).with_style(style);
        for film in self.first..self.first.saturating_add(self.films) {
            for case in written::cases(film, &self.cases) {
                let case = case.map_err(gave_up)?;
                bar.set_message(case.kind.clone());
                report.add(&case.kind, &trial::run(&case, &mut tracker).map_err(gave_up)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        if self.json { out::json(&report) } else { out::print(&report.to_string()) }
    }
}

fn gave_up(error: TrialError) -> anyhow::Error {
    failure(Kind::Internal, error)
}
