//! Models that are ONNX files without a manifest, as `eval` and `trial` take them.

use std::path::PathBuf;

use super::exit::{Kind, failure};
use super::follow::ModelChoice;
use super::values::{parse_channels, parse_size};
use crate::embed::{BareModel, ModelConfig};

/// What a bare ONNX file does not say of itself.
#[derive(Clone, Debug, clap::Args)]
pub struct Bare {
    /// A bare ONNX file: the output that holds the tokens
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// A bare ONNX file: side of a patch in pixels [default: 16]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u64).range(1..=64))]
    patch: Option<u64>,
    /// A bare ONNX file: subtracted from red, green, blue in [0, 1] [default: 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_parser = parse_channels, allow_hyphen_values = true)]
    mean: Option<[f32; 3]>,
    /// A bare ONNX file: what red, green, blue are then divided by [default: 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_parser = parse_channels)]
    std: Option<[f32; 3]>,
    /// A bare ONNX file: the input size, where the file leaves it open
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = parse_size)]
    input_size: Option<[usize; 2]>,
}

impl Bare {
    /// The model that `config` names, be it by a manifest or by a bare ONNX file.
    ///
    /// # Errors
    /// When something is said of a manifest that it says itself, or not enough of a bare file.
    pub fn choose(&self, config: ModelConfig) -> anyhow::Result<ModelChoice> {
        let file = PathBuf::from(&config.manifest);
        if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
            let Some(output) = self.output.clone() else {
                let message = "a bare ONNX file says nothing of itself: name the output that holds its tokens with \
                               --output, and give --patch, --mean and --std where they differ from 16 and 0.5";
                return Err(failure(Kind::Usage, message));
            };
            let model = BareModel {
                onnx: file,
                output,
                patch: self.patch.unwrap_or(16) as usize,
                mean: self.mean.unwrap_or([0.5; 3]),
                std: self.std.unwrap_or([0.5; 3]),
                input_sizes: self.input_size.into_iter().collect(),
            };
            return Ok(ModelChoice::Onnx { model, execution: config.execution() });
        }
        let described = [self.output.is_some(), self.patch.is_some(), self.mean.is_some(), self.std.is_some()];
        if described.contains(&true) || self.input_size.is_some() {
            let message = "--output, --patch, --mean, --std and --input-size describe a bare ONNX file; a manifest says \
                           all of it";
            return Err(failure(Kind::Usage, message));
        }
        Ok(ModelChoice::Manifest(config))
    }
}
