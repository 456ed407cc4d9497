use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::bare::Bare;
use super::exit::{Kind, failure};
use super::follow::SessionTracker;
use super::{connect, out};
use crate::config::Config;
use crate::embed::ModelConfig;
use crate::eval::Davis;
use crate::trial::{self, Case, Report, TrialError, spliced, written};

/// Try how well identities are kept in hard cases.
///
/// Short synthetic films, each of one difficulty: an object is hidden for 1 to 300 frames, leaves and returns, passes one that
/// looks the same, or never comes back; light steps, blur, a camera that looks away; a restart, after which objects are known by
/// what the gallery keeps. Objects are tagged in the first frame by their exact masks and followed by the daemon's own session.
///
/// With --davis, real video instead: each sequence is interrupted in its middle by 60 frames of the next one, in which none of its
/// objects is there, and goes on where it stopped (`spliced`); and so is a picture beside its mirror image, in which each object
/// has a twin (`side by side`).
///
/// The table tells how often what returned was found within 5 frames (IoU 0.5); ghosts, frames in which what had been out of sight
/// for more than 5 was told to be seen; how many objects that never came back had such; how many tracks lay on another object; in
/// how many frames out of sight the right reason was told; then HOTA, IDF1 and identity switches as TrackEval counts them. The same
/// command gives the same numbers again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A model's manifest, a bare ONNX file, or `bundled` [default: the configuration's]
    #[arg(long, value_name = "MANIFEST|ONNX")]
    model: Option<String>,
    #[command(flatten)]
    bare: Bare,
    /// Take model, propagation and life cycle from this configuration [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only these kinds of cases; may be given several times [default: all]
    #[arg(long = "case", value_name = "KIND")]
    cases: Vec<String>,
    /// Real video: the folder of a data set in DAVIS layout, as `eval` takes it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["films", "first"])]
    davis: Option<PathBuf>,
    /// With --davis: only these sequences [default: all that are there]
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "davis")]
    sequences: Vec<String>,
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
      tagalong trial --config mine.toml --case 'hidden 10' --case 'hidden 100' --films 50

  Real video, interrupted, with a model that has no manifest:
      tagalong trial --model vit_tiny.onnx --output x6 --davis DAVIS --sequences boat";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let kinds: Vec<&str> =
            if self.davis.is_some() { spliced::kinds().collect() } else { written::kinds().collect() };
        if let Some(unknown) = self.cases.iter().find(|name| !kinds.contains(&name.as_str())) {
            let with = if self.davis.is_some() { "with" } else { "without" };
            let kinds = kinds.iter().map(|kind| format!("'{kind}'")).collect::<Vec<_>>().join(", ");
            return Err(failure(
                Kind::Usage,
                format!("there is no kind of case '{unknown}' {with} --davis; there are {kinds}"),
            ));
        }
        let config = self.config.as_deref().map_or_else(|| Ok(Config::builtin()), Config::load)?;
        let manifest = self.model.clone().unwrap_or_else(|| config.model.manifest.clone());
        let choice = self.bare.choose(ModelConfig { manifest, ..config.model.clone() })?;
        let davis = self.davis.as_deref().map(|root| Davis::open(root, None)).transpose()?;
        let each =
            kinds.iter().filter(|kind| self.cases.is_empty() || self.cases.iter().any(|name| name == *kind)).count();
        let (films, cases): (u64, Box<dyn Iterator<Item = Result<Case, TrialError>>>) = match &davis {
            Some(davis) => {
                let names = if self.sequences.is_empty() { davis.names() } else { &self.sequences };
                (names.len() as u64, Box::new(spliced::cases(davis, names, &self.cases).map_err(gave_up)?))
            }
            None => {
                let seeds = self.first..self.first.saturating_add(self.films);
                (self.films, Box::new(seeds.flat_map(|seed| written::cases(seed, &self.cases))))
            }
        };
        let mut model = connect::model(&choice)?;
        let rule = config.propagation();
        model.change_density(rule.density)?;
        let mut tracker = SessionTracker::new(model, rule.clone(), config.track.clone());
        let mut report = Report::default();
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} films  {eta} left  {msg}")?;
        let bar = ProgressBar::new(films * each as u64).with_style(style);
        for case in cases {
            let case = case.map_err(gave_up)?;
            bar.set_message(format!("{} {}", case.kind, case.name));
            report.add(&case.kind, &trial::run(&case, &mut tracker).map_err(gave_up)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if self.json { out::json(&report) } else { out::print(&report.to_string()) }
    }
}

fn gave_up(error: TrialError) -> anyhow::Error {
    match error {
        TrialError::Davis(error) => error.into(),
        TrialError::Alone { .. } => failure(Kind::Data, error),
        TrialError::Scene(_) | TrialError::Subject { .. } => failure(Kind::Internal, error),
    }
}
