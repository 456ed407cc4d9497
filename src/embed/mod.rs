//! Frames to patch embeddings: a manifest that says what a model is, preprocessing, and a runtime.

mod embedder;
mod kernels;
mod layers;
mod load;
mod manifest;
mod onnx;
mod ops;
mod preprocess;
mod tract;
mod transform;

pub use embedder::{EmbedTimes, Embedder};
pub use load::{
    BareModel, LoadError, ModelFiles, hex_digest, load, load_bare, load_tract, probe_features, read_onnx, unproved,
};
pub use manifest::{DataFile, Manifest, Precision, Probe, is_name};
pub use onnx::OnnxFile;
pub use ops::Rewritten;
pub use preprocess::{PreprocessError, Preprocessor};
pub use tract::{InnerValues, OutputLayout, TractBackbone};
pub use transform::Transform;

use crate::types::{Features, InputTensor, PatchGrid};

/// A network that turns pictures into patch embeddings. One thread owns it.
pub trait Backbone: Send {
    fn spec(&self) -> &BackboneSpec;

    /// Makes one of the spec's grids ready, so that the first picture of it takes no longer than the next.
    ///
    /// # Errors
    /// When the model cannot be run on it.
    fn prepare(&mut self, _grid: PatchGrid) -> Result<(), EmbedError> {
        Ok(())
    }

    /// Embeds a picture of one of the spec's grids into `out`, which takes its grid and dimension from it.
    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError>;
}

/// What the pipeline needs to know of a loaded model.
#[derive(Clone, Debug, PartialEq)]
pub struct BackboneSpec {
    pub name: String,
    pub family: String,
    /// Hex.
    pub sha256: String,
    /// The grids that the model takes, the default first.
    pub grids: Vec<PatchGrid>,
    /// Length of one embedding, dropped dimensions not counted.
    pub dim: usize,
    /// Subtracted from each channel in [0, 1]: red, green, blue.
    pub mean: [f32; 3],
    /// Each channel is then divided by this.
    pub std: [f32; 3],
    /// The instruction set of our operators; none where tract's own compute.
    pub kernel: Option<String>,
    /// Mean cosine of the probe's features to those of the manifest; 1 where there was none to check.
    pub probe_cosine: f32,
}

/// Why a picture could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    #[error("the model takes no input of {width}x{height} pixels; it takes {accepted}")]
    Size { width: usize, height: usize, accepted: String },
    #[error("the model failed to run: {0}")]
    Runtime(String),
    #[error("the model's output {0}")]
    Output(String),
}

/// Which model embeds the frames. Defaults live in `config/default.toml` alone.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Path of a manifest, or `bundled`.
    pub manifest: String,
    /// Which of the manifest's input sizes: `auto` for its default, or `HEIGHTxWIDTH` in pixels.
    pub input: String,
    /// Threads of the backbone, 1 to 64; 0 for one a core.
    pub threads: usize,
    /// Who computes the network.
    pub backend: Backend,
}

/// Who computes the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A graph in 8-bit integers is computed as [`Backend::Int8`] does, one in floats as [`Backend::Reference`] does.
    #[default]
    Auto,
    /// Operators of this program in 8-bit integers; a graph in floats is rounded to them at load.
    Int8,
    /// tract's own operators.
    Reference,
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Backend, String> {
        match text {
            "auto" => Ok(Backend::Auto),
            "int8" => Ok(Backend::Int8),
            "reference" => Ok(Backend::Reference),
            _ => Err("a backend is auto, int8 or reference".into()),
        }
    }
}

/// How a graph is to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runtime {
    /// 0 for one a core.
    pub threads: usize,
    pub backend: Backend,
}

impl Runtime {
    /// tract alone, on all cores: what others are compared with.
    pub const REFERENCE: Runtime = Runtime { threads: 0, backend: Backend::Reference };
}
