use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::exit::{Kind, failure};
use super::values::preset;
use super::{connect, out};
use crate::config::Config;
use crate::embed::{ModelConfig, load_tract};
use crate::eval::{Davis, Degradation, Sequence};
use crate::propagate::PropagateConfig;
use crate::study::extractor::{Extractor, Model, Noise, Pixels};
use crate::study::report::{Judged, Report, Settings};
use crate::study::{CLEAN, ModelStudy, Plan, Treatment, plots, study};

/// Compare what models' features are worth to nearest neighbours.
///
/// Four tasks, with no training: few-shot classification of patches, identification of instances, retrieval of objects,
/// and tracking across frames. Each with features as they are, with the dimensions that vary most left out,
/// centred, standardised, and projected; each on pictures as they are, and under blur, noise, darkness and rotation.
/// What is fitted is fitted to one half of the videos and tried on the other. Beside the models, the pixels themselves
/// and pure noise are studied. The same command gives the same numbers again, to the last digit. The report is Markdown,
/// JSON and plots. Features of all frames that are looked at are held in memory, several times over.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Models' manifests, or `bundled`
    #[arg(required = true, value_name = "MANIFEST")]
    models: Vec<String>,
    /// Videos with known masks, in DAVIS layout
    #[arg(long, value_name = "DIR")]
    davis: PathBuf,
    /// Only these sequences [default: all that are there]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    sequences: Vec<String>,
    /// Where the report is written: report.md, report.json and plots
    #[arg(long, value_name = "DIR", default_value = "study")]
    out: PathBuf,
    /// Take the place of a report that is there
    #[arg(long)]
    force: bool,
    /// Look at every n-th frame; of short videos at more, so that there are three
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    every: u64,
    /// Labelled frames of each video, in the classification
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    shots: u64,
    /// Nearest neighbours that vote
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    k: u64,
    /// How many dimensions to leave out, those that vary most; each number is tried
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 2, 5, 10, 20, 50, 100, 200],
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    drop: Vec<u64>,
    /// How many directions a projection keeps [default: half of the dimensions]
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    project: Option<u64>,
    /// How many directions of variance over time the projection takes away
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    remove: u64,
    /// Degradations with their strengths, or `none`
    ///
    /// blur=HUNDREDTHS of the picture's height, noise=FRACTION of full scale, brightness=FACTOR, rotation=DEGREES,
    /// jpeg=QUALITY. [default: three strengths of each but jpeg]
    #[arg(long, value_name = "KIND=STRENGTH", value_delimiter = ',')]
    degrade: Vec<String>,
    /// The rule of propagation; masks are made of labels alone, since no pictures are kept
    #[arg(long, default_value = "soft")]
    preset: String,
    /// Which patches are sampled, and which noise is added, follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const EXAMPLES: &str = "\
EXAMPLES
  What does dropping dimensions do to a masked-image model, beside a contrastive one?
      tagalong study mae-vitb16.toml dinov2-vitb14.toml --davis DAVIS

  A quick look, nothing degraded:
      tagalong study bundled --davis DAVIS --sequences boat,swing --degrade none";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let config = Config::builtin();
        // It compares features at the models' own input sizes, and keeps no pictures: masks are made of labels alone.
        let rule = PropagateConfig { density: 1.0, refine_radius: 0.0, ..preset(&config, &self.preset)? };
        let degradations = self.degradations()?;
        self.prepare()?;
        let davis = Davis::open(&self.davis, None)?;
        let names = if self.sequences.is_empty() { davis.names() } else { &self.sequences };
        // In one order, each once: which half a video belongs to follows from its place.
        let names: BTreeSet<&String> = names.iter().collect();
        let sequences = names.into_iter().map(|name| davis.sequence(name)).collect::<Result<Vec<Sequence>, _>>()?;
        // All are loaded once before the first is studied, so that a mistake in the last does not come after hours.
        let loaded = self.models.iter().map(|name| model(name).map(|model| (model.name(), model.dim())));
        let (called, dims): (Vec<String>, Vec<usize>) = loaded.collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
        for (at, name) in called.iter().enumerate() {
            if called[..at].contains(name) || ["pixels", "noise"].contains(&name.as_str()) {
                let message = format!("{}: another one is called {name}: give each a name of its own", self.models[at]);
                return Err(failure(Kind::Usage, message));
            }
        }
        let plan = |dim: usize| Plan {
            every: self.every as usize,
            shots: self.shots as usize,
            k: self.k as usize,
            treatments: self.treatments(dim),
            degradations: degradations.clone(),
            seed: self.seed,
            rule: rule.clone(),
            track: config.track.clone(),
        };
        let mut models = Vec::new();
        for (name, dim) in self.models.iter().zip(&dims) {
            models.push(run(&mut model(name)?, &sequences, &plan(*dim))?);
        }
        // What is measured is held to what there is without any network, and to chance where it is known.
        let first = model(&self.models[0])?;
        let bare = Plan { treatments: vec![Treatment::AsTheyAre], degradations: Vec::new(), ..plan(first.dim()) };
        models.push(run(&mut Pixels::new(&first), &sequences, &bare)?);
        models.push(run(&mut Noise::new(first.grid(), first.dim(), self.seed), &sequences, &bare)?);

        let names = sequences.iter().map(|sequence| sequence.name().to_owned()).collect();
        let report = Report { settings: Settings::new(names, &plan(dims[0]), &self.preset), models };
        self.write(&report)?;
        out::print(&summary(&report))?;
        out::line(format_args!("{}: all of it", self.out.join("report.md").display()))
    }

    /// Holds that the report can be written, before hours are spent on it.
    fn prepare(&self) -> anyhow::Result<()> {
        if !self.force && self.out.read_dir().is_ok_and(|mut files| files.next().is_some()) {
            let message = format!("{}: there is something in it already: --force writes over it", self.out.display());
            return Err(failure(Kind::CantCreate, message));
        }
        let tried = fs::create_dir_all(&self.out).and_then(|()| try_to_write(&self.out));
        tried.map_err(|error| failure(Kind::CantCreate, format!("{}: {error}", self.out.display())))
    }

    fn treatments(&self, dim: usize) -> Vec<Treatment> {
        let kept = self.project.map_or(dim / 2, |kept| kept as usize);
        let drop: BTreeSet<u64> = self.drop.iter().copied().collect();
        let drop = drop.into_iter().map(|count| Treatment::Drop(count as usize));
        let fitted = [Treatment::Standardise, Treatment::Project { kept, removed: self.remove as usize }];
        [Treatment::AsTheyAre, Treatment::Centre].into_iter().chain(drop).chain(fitted).collect()
    }

    fn degradations(&self) -> anyhow::Result<Vec<Degradation>> {
        match &self.degrade[..] {
            [] => Ok(Degradation::DEFAULT.into()),
            [none] if none == "none" => Ok(Vec::new()),
            given => {
                let mut degradations: Vec<Degradation> = Vec::new();
                for text in given {
                    let parsed = Degradation::parse(text.trim());
                    let degradation =
                        parsed.map_err(|rule| failure(Kind::Usage, format!("{text:?}: {rule}; or none")))?;
                    if !degradations.contains(&degradation) {
                        degradations.push(degradation);
                    }
                }
                Ok(degradations)
            }
        }
    }

    fn write(&self, report: &Report) -> anyhow::Result<()> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| {
            failure(Kind::CantCreate, format!("{}: {error}", path.display()))
        };
        let mut files = plots::plots(report).map_err(|error| failed(&self.out, &error))?;
        files.push(("report.json".into(), lines(report)?));
        files.push(("report.md".into(), report.to_markdown()));
        for (name, text) in files {
            let path = self.out.join(name);
            fs::write(&path, text).map_err(|error| failed(&path, &error))?;
        }
        Ok(())
    }
}

/// Writes a file to a folder, and removes it.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let file = folder.join("report.md.part");
    File::create(&file)?;
    fs::remove_file(&file)
}

/// Loaded as the daemon would: one that fails its probe is refused.
fn model(name: &str) -> anyhow::Result<Model> {
    let config = ModelConfig::new(name);
    Ok(Model::new(load_tract(&config).map_err(connect::refused)?))
}

fn run(extractor: &mut dyn Extractor, sequences: &[Sequence], plan: &Plan) -> anyhow::Result<ModelStudy> {
    let style = ProgressStyle::with_template("{prefix}  {bar:30} {pos}/{len}  {eta} left  {msg}")?;
    let bar = ProgressBar::new(0).with_style(style).with_prefix(extractor.name());
    let studied = study(extractor, sequences, plan, &mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.pictures.to_owned());
    });
    bar.finish_and_clear();
    Ok(studied?)
}

/// A line for each cell, so that two reports can be compared line by line.
fn lines(report: &Report) -> anyhow::Result<String> {
    let mut text = format!("{{\"settings\":{},\"models\":[", serde_json::to_string(&report.settings)?);
    for (at, model) in report.models.iter().enumerate() {
        let ModelStudy { name, sha256, grid, patch, dim, unfit, cells } = model;
        let comma = if at > 0 { "," } else { "" };
        let head = json!({"name": name, "sha256": sha256, "grid": grid, "patch": patch, "dim": dim, "unfit": unfit});
        let head = head.to_string();
        text += &format!("{comma}\n{},\"cells\":[", head.trim_end_matches('}'));
        let cells = cells.iter().map(serde_json::to_string).collect::<Result<Vec<String>, _>>()?;
        text += &format!("\n{}]}}", cells.join(",\n"));
    }
    Ok(text + "]}\n")
}

/// What each task is judged by, on pictures as they are.
fn summary(report: &Report) -> String {
    let judged = || Judged::TASKS.into_iter().chain([Judged::Overall]);
    let width = |model: &ModelStudy| model.treatments().into_iter().map(str::len).max();
    let width = report.models.iter().filter_map(width).max().unwrap_or(0).max("features".len());
    let mut text = String::new();
    for model in &report.models {
        let names: Vec<String> = judged().map(Judged::name).collect();
        text += &format!("{}\n{:width$}  {}\n", model.name, "features", names.join("  "));
        for treatment in model.treatments() {
            let Some(scores) = model.scores(CLEAN, treatment) else { continue };
            let score = |(judged, name): (Judged, &String)| {
                let score = judged.of(scores).map_or("-".into(), |score| format!("{score:.4}"));
                format!("{score:>width$}", width = name.chars().count())
            };
            let row: Vec<String> = judged().zip(&names).map(score).collect();
            text += &format!("{treatment:width$}  {}\n", row.join("  "));
        }
        text.push('\n');
    }
    text
}
