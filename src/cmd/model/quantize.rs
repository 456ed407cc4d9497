use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cmd::exit::{Kind, failure};
use crate::cmd::{connect, out};
use crate::embed::ModelFiles;
use crate::model::quantize::{Bounds, Progress, QuantizeError, quantize};

use super::frames::{self, Frames};
use super::target;

/// Make a model that computes in 8-bit integers.
///
/// A quarter of the size, and faster where the processor multiplies integers. What each layer costs is measured on
/// pictures, and what costs too much stays in floats. The result is standard ONNX with a manifest of its own; its probe
/// is that of the model in floats.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The manifest of a model in 32-bit floats
    manifest: PathBuf,
    /// Measure on the pictures of this folder and those inside it, JPEG or PNG [default: the built-in scene]
    ///
    /// Frames of videos like those that the model will see serve best. Pairs of pictures that follow each other are
    /// taken evenly from all.
    #[arg(long, value_name = "DIR")]
    calibrate: Option<PathBuf>,
    /// How many pictures to measure on; an even number
    #[arg(long, value_name = "N", default_value_t = PICTURES as u64, value_parser = clap::value_parser!(u64).range(2..=256))]
    pictures: u64,
    /// A layer that alone lowers the mean cosine of the features by more stays in floats
    #[arg(long, value_name = "LOSS", default_value_t = Bounds::default().layer, value_parser = parse_loss)]
    layer_bound: f64,
    /// The layers that lose most stay in floats until all others together lower the mean cosine by no more
    #[arg(long, value_name = "LOSS", default_value_t = Bounds::default().whole, value_parser = parse_loss)]
    bound: f64,
    /// What the model is called in reports, and its files [default: the other's name and -int8]
    #[arg(long)]
    name: Option<String>,
    /// The folder to write to; made if it is not there [default: that of the manifest]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Save the report as JSON; `-` prints it instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write over a model that is there
    #[arg(long)]
    force: bool,
}

/// How many pictures to measure on, if nothing else is said.
pub const PICTURES: usize = 8;

const EXAMPLES: &str = "\
EXAMPLES
  From a checkpoint to a quantized model:
      tagalong model import dinov2_vits14_pretrain.pth
      tagalong model quantize dinov2_vits14_pretrain.toml --calibrate videos

  Only what loses next to nothing:
      tagalong model quantize dinov2_vits14_pretrain.toml --calibrate videos --layer-bound 0.0001";

fn parse_loss(text: &str) -> Result<f64, String> {
    let loss = text.parse::<f64>().ok().filter(|loss| (0.0..=1.0).contains(loss));
    loss.ok_or_else(|| "a loss is 0 to 1".into())
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let manifest = self.manifest.to_string_lossy().into_owned();
        let model = ModelFiles::read(&manifest).map_err(connect::refused)?;
        let name = self.name.unwrap_or_else(|| format!("{}-int8", model.manifest.name));
        target::check_name(&name)?;
        let folder = self.out.unwrap_or_else(|| self.manifest.parent().unwrap_or(Path::new("")).to_owned());
        target::check_free(&target::files_of(&folder, &name), self.force)?;
        let frames = self.calibrate.map_or(Frames::Scene, Frames::Folder);
        let pictures = frames::pairs(&frames, self.pictures as usize)?;
        let bounds = Bounds { layer: self.layer_bound, whole: self.bound };
        let bar =
            ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:30} {pos}/{len}  {eta} left  {msg}")?);
        let result = quantize(model, &pictures, bounds, &name, &folder, &mut |progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
            bar.set_message(progress.doing.to_owned());
        });
        bar.finish_and_clear();
        let (report, files) = result.map_err(refused)?;
        match &self.json {
            Some(file) if file.as_os_str() == "-" => return out::json(&report),
            Some(file) => {
                let text = serde_json::to_string(&report)? + "\n";
                let failed = |error| failure(Kind::CantCreate, format!("{}: {error}", file.display()));
                std::fs::write(file, text).map_err(failed)?;
            }
            None => {}
        }
        out::print(&report.to_string())?;
        for file in files {
            out::line(file.display())?;
        }
        Ok(())
    }
}

/// A bar that shows which layer is measured.
pub fn bar() -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {eta} left  {msg}")?;
    Ok(ProgressBar::new(0).with_style(style))
}

pub fn show(bar: &ProgressBar, progress: Progress<'_>) {
    bar.set_length(progress.total as u64);
    bar.set_position(progress.done as u64);
    bar.set_message(progress.doing.to_owned());
}

pub fn refused(error: QuantizeError) -> anyhow::Error {
    match error {
        QuantizeError::Load(error) => connect::refused(error),
        QuantizeError::Write { .. } => failure(Kind::CantCreate, error),
        error => failure(Kind::Data, error),
    }
}
