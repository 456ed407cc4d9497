use std::path::{Path, PathBuf};

use crate::cmd::exit::{Kind, failure};
use crate::cmd::values::{parse_channels, parse_size};
use crate::cmd::{connect, out};
use crate::embed::BareModel;
use crate::model::describe::{Description, describe};

use super::target;

/// Write the manifest and the probe of an ONNX file.
///
/// The daemon runs a model by its manifest: what the file does not say of itself, and a probe. Both are written
/// beside the file, as NAME.toml and NAME.probe.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The model: one input, a picture (1, 3, height, width); one row of the output for each patch
    onnx: PathBuf,
    /// The output that holds the tokens; those before the patches' are left out
    #[arg(long, value_name = "NAME")]
    output: String,
    /// Side of a patch in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=64))]
    patch: u64,
    /// Subtracted from red, green, blue in [0, 1]
    #[arg(long, value_name = "R,G,B", default_value = "0.5,0.5,0.5", value_parser = parse_channels, allow_hyphen_values = true)]
    mean: [f32; 3],
    /// What red, green, blue are then divided by
    #[arg(long, value_name = "R,G,B", default_value = "0.5,0.5,0.5", value_parser = parse_channels)]
    std: [f32; 3],
    /// The input sizes to offer, the default first [default: the one that the file fixes]
    #[arg(long, value_name = "HEIGHTxWIDTH,...", value_delimiter = ',', value_parser = parse_size)]
    input_sizes: Vec<[usize; 2]>,
    /// A quantized model: the same one in 32-bit floats, from which the probe comes
    #[arg(long, value_name = "ONNX")]
    reference: Option<PathBuf>,
    /// What the model is called in reports [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// What kind of model it is, such as dinov2 or mae
    #[arg(long, default_value = "vit")]
    family: String,
    /// The terms of its weights, an SPDX expression or a sentence
    #[arg(long, default_value = "not stated")]
    licence: String,
    /// Write over a manifest and a probe that are there
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
EXAMPLES
  DINOv2, whose patches have 14 pixels and whose input sizes are open:
      tagalong model manifest dinov2-s.onnx --output last_hidden_state --family dinov2 \\
          --patch 14 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --input-sizes 336x448,224x224

  The same, quantized:
      tagalong model manifest dinov2-s-int8.onnx --output last_hidden_state --family dinov2 \\
          --patch 14 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --input-sizes 336x448 \\
          --reference dinov2-s.onnx

  Then see that it is good, and name it in the configuration:
      tagalong check dinov2-s.toml";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let stem = self.onnx.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.onnx.parent().unwrap_or(Path::new("")).to_owned();
        let description = Description { name: self.name.unwrap_or(stem), family: self.family, licence: self.licence };
        let model = BareModel {
            onnx: self.onnx,
            output: self.output,
            patch: self.patch as usize,
            mean: self.mean,
            std: self.std,
            input_sizes: self.input_sizes,
        };
        let (manifest, probe) = describe(&model, self.reference.as_deref(), description).map_err(connect::refused)?;
        let files = [
            (folder.join(&manifest.probe.file), probe),
            (folder.join(format!("{}.toml", manifest.name)), manifest.to_text("tagalong model manifest").into_bytes()),
        ];
        target::check_free(files.iter().map(|(file, _)| file), self.force)?;
        for (file, bytes) in files {
            std::fs::write(&file, bytes)
                .map_err(|error| failure(Kind::CantCreate, format!("{}: {error}", file.display())))?;
            out::line(file.display())?;
        }
        Ok(())
    }
}
