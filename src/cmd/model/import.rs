use std::path::{Path, PathBuf};

use crate::cmd::exit::{Kind as ExitKind, failure};
use crate::cmd::values::{parse_channels, parse_size};
use crate::cmd::{connect, out};
use crate::model::checkpoint::CheckpointError;
use crate::model::import::{Import, ImportError, import};
use crate::model::vit::{Family, Hints, Kind, family};

use super::target;

/// Make a model of a checkpoint that its authors published.
///
/// Reads the weights of DINOv2, DINO, iBOT, MAE, Scale-MAE and supervised vision transformers, from .safetensors
/// files and from PyTorch's .pth, and writes NAME.onnx, NAME.probe and NAME.toml, the manifest that the daemon runs
/// the model by. Nothing in a checkpoint is ever run. The probe is computed from the checkpoint itself, and the model
/// that was written is run against it before it gets its name.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The weights: a .safetensors file, or what torch.save wrote
    checkpoint: PathBuf,
    /// The input sizes to offer, the default first; each side a multiple of the patch
    #[arg(long, value_name = "HEIGHTxWIDTH,...", value_delimiter = ',', value_parser = parse_size, default_value = "336x448")]
    input_sizes: Vec<[usize; 2]>,
    /// What kind of network it is [default: what its tensors show]
    #[arg(long, value_parser = parse_family)]
    family: Option<&'static Family>,
    /// The block whose output are the features, counted from 1 [default: the last; in supervised networks the middle]
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// What of the block are the features: its tokens, or the keys of its attention
    #[arg(long, value_enum, default_value_t)]
    kind: KindArg,
    /// Attention heads [default: one for each 64 dimensions]
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Scale-MAE: metres on the ground of one pixel of the input [default: 1]
    #[arg(long, value_name = "METRES", value_parser = parse_distance)]
    gsd: Option<f32>,
    /// Which network of the file, where it holds several: what stands before its tensors' names
    #[arg(long)]
    prefix: Option<String>,
    /// Subtracted from red, green, blue in [0, 1] [default: the family's]
    #[arg(long, value_name = "R,G,B", value_parser = parse_channels, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// What red, green, blue are then divided by [default: the family's]
    #[arg(long, value_name = "R,G,B", value_parser = parse_channels)]
    std: Option<[f32; 3]>,
    /// The terms of the weights, an SPDX expression or a sentence [default: those of the family's authors]
    #[arg(long)]
    licence: Option<String>,
    /// What the model is called in reports, and its files [default: the checkpoint's name]
    #[arg(long)]
    name: Option<String>,
    /// The folder to write to; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Write over a model that is there
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
EXAMPLES
  DINOv2 for two input sizes; the daemon runs the first unless its configuration says otherwise:
      tagalong model import dinov2_vits14_pretrain.pth --input-sizes 336x448,224x308

  The keys of DINO's last block:
      tagalong model import dino_deitsmall8_pretrain.pth --input-sizes 240x320 --kind keys

  Scale-MAE for aerial pictures of 30 cm a pixel:
      tagalong model import scalemae-vitlarge-800.pth --gsd 0.3

  Then see that it is good, and name its manifest in the configuration:
      tagalong check dinov2_vits14_pretrain.toml";

/// [`Kind`], on the command line.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum KindArg {
    #[default]
    Tokens,
    Keys,
}

fn parse_family(name: &str) -> Result<&'static Family, String> {
    let names: Vec<&str> = family::FAMILIES.iter().map(|family| family.name).collect();
    Family::named(name).ok_or_else(|| {
        format!("there is no such family{}; there are {}", crate::suggest::suggestion(name, &names), names.join(", "))
    })
}

fn parse_distance(text: &str) -> Result<f32, String> {
    let distance = text.parse::<f32>().ok().filter(|metres| *metres > 0.0 && *metres <= 10_000.0);
    distance.ok_or_else(|| "a ground sample distance is in metres, more than 0 and up to 10000".into())
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let name = match self.name {
            Some(name) => name,
            None => self.checkpoint.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        target::check_name(&name)?;
        target::check_free(&target::files_of(&self.out, &name), self.force)?;
        let wanted = Import {
            hints: Hints {
                family: self.family,
                prefix: self.prefix,
                heads: self.heads,
                ground_sample_distance: self.gsd,
            },
            input_sizes: self.input_sizes,
            layer: self.layer,
            kind: Some(match self.kind {
                KindArg::Tokens => Kind::Tokens,
                KindArg::Keys => Kind::Keys,
            }),
            mean: self.mean,
            std: self.std,
            licence: self.licence,
            name,
            split_above: None,
        };
        let imported =
            import(&self.checkpoint, &wanted, &self.out).map_err(|error| refused(error, &self.checkpoint))?;
        out::line(imported.summary)?;
        out::line(format_args!(
            "the model that was written agrees with the checkpoint: cosine {:.6}",
            imported.cosine
        ))?;
        for file in imported.files {
            out::line(file.display())?;
        }
        Ok(())
    }
}

pub fn refused(error: ImportError, checkpoint: &Path) -> anyhow::Error {
    match error {
        ImportError::Checkpoint(CheckpointError::Read { .. }) => failure(ExitKind::NoInput, error),
        ImportError::Checkpoint(error) => failure(ExitKind::Data, error),
        ImportError::Unfit(problem) => failure(ExitKind::Data, format!("{}: {problem}", checkpoint.display())),
        ImportError::Write { .. } => failure(ExitKind::CantCreate, error),
        ImportError::Model(error) => connect::refused(error),
    }
}
