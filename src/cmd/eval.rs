use std::fmt::Display;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::bare::Bare;
use super::exit::{Kind, failure};
use super::follow::{ModelChoice, SessionTracker};
use super::values::preset;
use super::{connect, out};
use crate::config::Config;
use crate::embed::{Backend, GpuFloats, ModelConfig, Runtime};
use crate::eval::run::evaluate;
use crate::eval::{Comparison, Corruption, Davis, Report, Robustness};
use crate::propagate::PropagateConfig;

/// Score a model on video sequences with known masks.
///
/// Each object is tagged by its mask in a sequence's first frame and followed by the daemon's own session. The
/// masks of the frames between the first and the last are compared with the known ones: J is their mean overlap, F
/// the mean agreement of their outlines, J&F the mean of both. The data set has the layout of DAVIS 2017:
/// JPEGImages/480p/NAME/*.jpg and Annotations/480p/NAME/*.png. The speed of each stage is told in frames a second.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A model's manifest, a bare ONNX file, or `bundled`
    #[arg(long, value_name = "MANIFEST|ONNX")]
    model: String,
    #[command(flatten)]
    bare: Bare,
    /// Take presets, those of your own too, from this configuration, and nothing else [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data set's folder
    #[arg(long, value_name = "DIR")]
    davis: PathBuf,
    /// Only these sequences [default: all that are there]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    sequences: Vec<String>,
    /// The constants of the propagation rule: `sharp`, `fast`, `best`, `soft`, `dino`, `crw` or `dinov3`
    ///
    /// `sharp` is what the daemon does unless told otherwise, `fast` the same on fewer patches and `best` on more, which need a
    /// backend in 8-bit integers; `soft` is without the picture's edges, `dino` the published rule, to the letter. Several are
    /// run one after the other, and shown side by side.
    #[arg(long, default_value = "sharp", value_name = "A,B", value_delimiter = ',')]
    preset: Vec<String>,
    /// Make the videos worse, and tell what is lost: KIND=LEVEL, or `all`
    ///
    /// Each is run alone, beside the videos as they are, and compared on the frames that are scored in both. Kinds: blur,
    /// noise, jpeg, brightness (a step up, and down again), rotation (the camera rolls to both sides), drop (every other frame
    /// missing), burst (ten frames missing at a time); and single frames that are black, torn or repeated, which are not
    /// scored themselves. Levels: mild, moderate (the default), strong.
    #[arg(long, value_name = "KIND=LEVEL", value_delimiter = ',', value_parser = Asked::parse)]
    degrade: Vec<Asked>,
    /// Look everywhere for what is lost, as the daemon does
    ///
    /// The published rule does not, so scores are told without it unless asked.
    #[arg(long)]
    recover: bool,
    /// Save every mask as a palette PNG, in the layout of DAVIS results; of several presets or with --degrade, in
    /// a folder for each
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Save the scores as JSON; `-` prints them instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Threads of the model; 0 for one a core
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=64))]
    threads: u64,
    /// The processor that computes the network: auto, cpu, or wgpu for a graphics processor
    #[arg(long, default_value = "auto", value_name = "RUNTIME", value_parser = str::parse::<Runtime>)]
    runtime: Runtime,
    /// What a graphics processor computes in: auto, f32 or f16
    #[arg(long, default_value = "auto", value_name = "FLOATS", value_parser = str::parse::<GpuFloats>)]
    gpu_floats: GpuFloats,
    /// Whose operators compute it on the CPU: auto, int8 or reference
    #[arg(long, default_value = "auto", value_name = "BACKEND", value_parser = str::parse::<Backend>)]
    backend: Backend,
    /// Compute patches anew only where they changed by more than this share of full brightness; 0 for all of every frame
    #[arg(long, default_value_t = 0.0, value_name = "CHANGE", value_parser = share)]
    reuse: f32,
    /// With --reuse: frames after which all patches are computed anew
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    refresh_frames: u64,
}

/// What one word after `--degrade` asks for.
#[derive(Clone, Debug)]
struct Asked(Vec<Corruption>);

impl Asked {
    fn parse(text: &str) -> Result<Asked, String> {
        Corruption::parse(text).map(Asked)
    }
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it must be a number from 0 to 1".into()),
    }
}

const EXAMPLES: &str = "\
EXAMPLES
  The bundled model on every sequence:
      tagalong eval --model bundled --davis DAVIS

  The published rule with a vision transformer that has no manifest:
      tagalong eval --model vit_small.onnx --output last_hidden_state --patch 16 \\
          --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --davis DAVIS --preset dino

  All presets beside each other:
      tagalong eval --model bundled --davis DAVIS --preset dino,crw,dinov3,soft,fast,sharp,best

  What fewer and more patches give:
      tagalong eval --model dinov2-vits14.toml --backend int8 --davis DAVIS --preset fast,sharp,best

  What is lost where pictures are blurred or frames missing, and all kinds of it:
      tagalong eval --model bundled --davis DAVIS --degrade blur=strong,drop
      tagalong eval --model bundled --davis DAVIS --sequences boat,swing --degrade all

  Two sequences, with masks to look at and scores for a program:
      tagalong eval --model models/bundled.toml --davis DAVIS --sequences boat,dance-jump \\
          --save masks --json scores.json";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let config = Config::builtin();
        let presets = self.config.as_deref().map_or_else(|| Ok(config.clone()), Config::load)?;
        let choice = self.model_choice(&config.model)?;
        let mut rules: Vec<(&String, PropagateConfig)> = Vec::new();
        for name in &self.preset {
            if !rules.iter().any(|(known, _)| *known == name) {
                rules.push((name, preset(&presets, name)?));
            }
        }
        let corruptions = self.corruptions();
        if rules.len() > 1 && !corruptions.is_empty() {
            let message =
                "--degrade tells what one preset loses: give one with --preset, and run it again for the others";
            return Err(failure(Kind::Usage, message));
        }
        let mut track = config.track.clone();
        // The evaluation asks for masks to the last frame: no object is given up.
        (track.recover, track.remove_after_s) = (self.recover, 0.0);
        let davis = Davis::open(&self.davis, None)?;
        let mut model = connect::model_by(self.runtime, &choice)?;
        // What one of them cannot have is told before hours go into the others.
        for (name, rule) in &rules {
            model.change_density(rule.density).map_err(|error| error.context(format!("preset {name}")))?;
        }
        log::info!("evaluating {}", model.describe());
        let mut tracker = SessionTracker::new(model, rules[0].1.clone(), track);
        let mut score = |rule: &PropagateConfig, corruption: Option<Corruption>, folder: Option<String>| {
            tracker.change_rule(rule.clone());
            let save = self.save.as_ref().map(|save| folder.map_or_else(|| save.clone(), |folder| save.join(folder)));
            let report = with_progress(|tell| {
                evaluate(&davis, &self.sequences, corruption, &mut tracker, save.as_deref(), tell)
            })?;
            anyhow::Ok(Report { operations: tracker.operations(), ..report })
        };
        match &rules[..] {
            [(_, rule)] if corruptions.is_empty() => self.show(&score(rule, None, None)?),
            [(_, rule)] => {
                let clean = score(rule, None, Some("clean".into()))?;
                let worse = |how: Corruption| anyhow::Ok((how, score(rule, Some(how), Some(how.to_string()))?));
                let degraded = corruptions.into_iter().map(worse).collect::<Result<_, _>>()?;
                self.show(&Robustness { clean, degraded })
            }
            rules => {
                let alone = |(name, rule): &(&String, PropagateConfig)| {
                    anyhow::Ok(((*name).clone(), score(rule, None, Some((*name).clone()))?))
                };
                self.show(&Comparison { presets: rules.iter().map(alone).collect::<Result<_, _>>()? })
            }
        }
    }

    /// What the videos are made worse by, each once, in the order asked for.
    fn corruptions(&self) -> Vec<Corruption> {
        let mut corruptions = Vec::new();
        for corruption in self.degrade.iter().flat_map(|asked| &asked.0) {
            if !corruptions.contains(corruption) {
                corruptions.push(*corruption);
            }
        }
        corruptions
    }

    fn show(&self, report: &(impl Serialize + Display)) -> anyhow::Result<()> {
        match &self.json {
            Some(file) if file.as_os_str() == "-" => out::json(report),
            Some(file) => {
                save_json(file, report)?;
                out::print(&report.to_string())
            }
            None => out::print(&report.to_string()),
        }
    }

    fn model_choice(&self, defaults: &ModelConfig) -> anyhow::Result<ModelChoice> {
        let (manifest, threads) = (self.model.clone(), self.threads as usize);
        let (runtime, gpu_floats, backend) = (self.runtime, self.gpu_floats, self.backend);
        let (reuse, refresh_frames) = (self.reuse, self.refresh_frames as usize);
        self.bare.choose(ModelConfig {
            manifest,
            threads,
            runtime,
            gpu_floats,
            backend,
            reuse,
            refresh_frames,
            ..defaults.clone()
        })
    }
}

fn save_json(file: &Path, report: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(report)? + "\n";
    std::fs::write(file, text).map_err(|error| failure(Kind::CantCreate, format!("{}: {error}", file.display())))
}

/// Runs an evaluation below a bar that shows how far it has come, where standard error is a terminal.
fn with_progress(
    evaluate: impl FnOnce(&mut dyn FnMut(crate::eval::run::Progress<'_>)) -> Result<Report, crate::eval::EvalError>,
) -> anyhow::Result<Report> {
    let style = "{bar:30} {pos}/{len} frames  {per_sec:.1}  {eta} left  {msg}";
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(style)?);
    let report = evaluate(&mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.sequence.to_owned());
    });
    bar.finish_and_clear();
    Ok(report?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{BareModel, Execution};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn choice(arguments: &str) -> Result<ModelChoice, String> {
        let line = ["eval", "--davis", "d"].into_iter().chain(arguments.split(' '));
        let args = Line::try_parse_from(line).unwrap().args;
        args.model_choice(&Config::builtin().model).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bare_onnx_file_needs_the_name_of_its_output() {
        let onnx = |patch, mean, std| {
            let (onnx, output) = ("v.onnx".into(), "x6".into());
            let model = BareModel { onnx, output, patch, mean, std, input_sizes: Vec::new() };
            ModelChoice::Onnx { model, execution: Execution { runtime: Runtime::Auto, ..Execution::default() } }
        };
        assert_eq!(choice("--model v.onnx --output x6"), Ok(onnx(16, [0.5; 3], [0.5; 3])));
        let given = choice("--model v.onnx --output x6 --patch 8 --mean 0.1,0.2,0.3 --std 1,2,3");
        assert_eq!(given, Ok(onnx(8, [0.1, 0.2, 0.3], [1.0, 2.0, 3.0])));
        assert!(choice("--model v.onnx").unwrap_err().contains("--output"));
    }

    #[test]
    fn a_manifest_is_not_contradicted() {
        let Ok(ModelChoice::Manifest(config)) = choice("--model m.toml --threads 2") else { panic!("no manifest") };
        assert_eq!((config.manifest.as_str(), config.threads), ("m.toml", 2));
        assert!(choice("--model bundled --patch 8").unwrap_err().contains("a manifest says all of it"));
    }
}
