//! Frames to patch embeddings: a manifest that says what a model is, preprocessing, and a runtime.

mod blocks;
mod cores;
mod denoise;
mod embedder;
mod files;
mod gpu;
mod kernels;
mod layers;
mod load;
mod manifest;
mod onnx;
mod ops;
mod packed;
mod plan;
mod prepare;
mod preprocess;
mod tract;
mod transform;

pub use embedder::{EmbedTimes, Embedder};
pub use files::{BUNDLED, ModelFiles, hex_digest};
pub use gpu::{Adapter, adapters};
pub use load::{
    BareModel, LoadError, find_gpu, load, load_bare, load_kept, load_on_cpu, load_tract, probe_features, read_onnx,
    unproved,
};
pub use manifest::{DataFile, Manifest, Precision, Probe, is_name};
pub use onnx::OnnxFile;
pub use ops::Rewritten;
pub use preprocess::{PreprocessError, Preprocessor};
pub use tract::{InnerValues, OutputLayout, TractBackbone};
pub use transform::Transform;

use crate::types::{Features, InputTensor, PatchGrid};

/// Longest side of an input in pixels: attention grows with the square of their number.
pub const MAX_INPUT_SIDE: usize = 8_192;

/// A network that turns pictures into patch embeddings. One thread owns it.
pub trait Backbone: Send {
    fn spec(&self) -> &BackboneSpec;

    /// Makes a grid ready, so that the first picture of it takes no longer than the next: one of the spec's, or, where the
    /// network can be stretched, any other.
    ///
    /// # Errors
    /// When the model cannot be run on it.
    fn prepare(&mut self, _grid: PatchGrid) -> Result<(), EmbedError> {
        Ok(())
    }

    /// Embeds a picture of one of the spec's grids into `out`, which takes its grid and dimension from it.
    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError>;

    /// As [`Backbone::embed`], of the next picture of a camera: what looks as it did in an earlier one may be taken over.
    /// Gives the share of the tokens that were computed.
    ///
    /// # Errors
    /// As [`Backbone::embed`].
    fn follow(&mut self, _camera: usize, input: &InputTensor, out: &mut Features) -> Result<f32, EmbedError> {
        self.embed(input, out).map(|()| 1.0)
    }

    /// As [`Backbone::embed`], of several pictures of one grid, in one pass over the weights where the runtime can.
    ///
    /// # Errors
    /// As [`Backbone::embed`]; then none of the features are to be used.
    fn embed_together(&mut self, frames: &mut [(&InputTensor, &mut Features)]) -> Result<(), EmbedError> {
        frames.iter_mut().try_for_each(|(input, out)| self.embed(input, out))
    }

    /// Operations of a picture's products on a grid that was made ready, a multiplication and an addition each counted; `None`
    /// where nobody knows.
    fn operations(&self, _grid: PatchGrid) -> Option<u64> {
        None
    }

    /// Takes nothing over from a camera's earlier pictures: the next is of another scene.
    fn forget(&mut self, _camera: usize) {}

    /// Who computes at present; a graphics processor may fail at any time.
    fn running(&self) -> Running {
        Running::default()
    }
}

/// What the pipeline needs to know of a loaded model.
#[derive(Clone, Debug, PartialEq)]
pub struct BackboneSpec {
    pub name: String,
    pub family: String,
    /// Hex.
    pub sha256: String,
    /// Hex, of all that embeddings follow from: the graph, its weights, and what is done before and after it. Those of two
    /// models can be compared where this is the same.
    pub features: String,
    /// The grids that the model takes, the default first.
    pub grids: Vec<PatchGrid>,
    /// Length of one embedding, dropped dimensions not counted.
    pub dim: usize,
    /// Subtracted from each channel in [0, 1]: red, green, blue.
    pub mean: [f32; 3],
    /// Each channel is then divided by this.
    pub std: [f32; 3],
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
    #[error(
        "an input of {asked} pixels (height x width) is none that the model was exported for, as {first} is, and only a vision \
         transformer that this program's own operators compute can be stretched to it: use one with the backend int8, or a preset \
         of density 1"
    )]
    Fixed { asked: String, first: String },
    #[error("the model failed to run: {0}")]
    Runtime(String),
    #[error("the model's output {0}")]
    Output(String),
    /// Of a frame that was embedded together with others.
    #[error("{0}")]
    Together(String),
}

/// Which model embeds the frames. Defaults live in `config/default.toml` alone.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Path of a manifest, or `bundled`.
    pub manifest: String,
    /// Which of the manifest's input sizes: `auto` for its default, or `HEIGHTxWIDTH` in pixels.
    pub input: String,
    /// Threads of the backbone, 1 to 64; 0 for one a physical core.
    pub threads: usize,
    /// The processor that computes the network.
    pub runtime: Runtime,
    /// What a graphics processor computes in.
    pub gpu_floats: GpuFloats,
    /// Seconds that a graphics processor may take for its first frame, before which a driver may compile: 1 to 3,600.
    pub gpu_patience_s: u64,
    /// Whose operators do, on the CPU.
    pub backend: Backend,
    /// Whether frames of several cameras that wait are embedded in one pass.
    pub together: bool,
    /// How much of full brightness the mean of a ninth of a patch changes before the patch is computed anew, 0 to 1; 0 computes
    /// every patch of every frame.
    pub reuse: f32,
    /// Frames after which all patches are computed anew, 1 to 10,000.
    pub refresh_frames: usize,
}

impl ModelConfig {
    /// A model at its first input size, on all cores, with every frame computed whole.
    pub fn new(manifest: impl Into<String>) -> ModelConfig {
        ModelConfig {
            manifest: manifest.into(),
            input: "auto".into(),
            threads: 0,
            runtime: Runtime::Cpu,
            gpu_floats: GpuFloats::Auto,
            gpu_patience_s: GPU_PATIENCE_S,
            backend: Backend::Auto,
            together: false,
            reuse: 0.0,
            refresh_frames: 1,
        }
    }

    pub fn execution(&self) -> Execution {
        let reuse = Reuse::new(self.reuse, self.refresh_frames);
        let ModelConfig { threads, runtime, gpu_floats, gpu_patience_s, backend, .. } = *self;
        Execution { threads, runtime, gpu_floats, gpu_patience_s, backend, reuse }
    }
}

/// When what was computed of a camera's earlier pictures is used again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reuse {
    /// A patch is computed anew where the mean of a ninth of it changed by more than this share of full brightness.
    pub change: f32,
    /// All are after so many frames.
    pub refresh: usize,
}

impl Reuse {
    /// None for a change of 0, with which every frame is computed whole.
    pub fn new(change: f32, refresh: usize) -> Option<Reuse> {
        (change > 0.0).then_some(Reuse { change, refresh })
    }
}

/// The processor that computes the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// A graphics processor where there is a real one that can, and nothing is said of the CPU's operators.
    Auto,
    #[default]
    Cpu,
    /// A graphics processor, be it one that a driver only plays on the CPU; the CPU where there is none, or none that can.
    Wgpu,
}

impl std::str::FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Runtime, String> {
        match text {
            "auto" => Ok(Runtime::Auto),
            "cpu" => Ok(Runtime::Cpu),
            "wgpu" => Ok(Runtime::Wgpu),
            _ => Err("a runtime is auto, cpu or wgpu".into()),
        }
    }
}

/// What a graphics processor computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuFloats {
    /// 16 bits where it has them and the model meets its probe with them.
    #[default]
    Auto,
    F32,
    F16,
}

impl std::str::FromStr for GpuFloats {
    type Err = String;

    fn from_str(text: &str) -> Result<GpuFloats, String> {
        match text {
            "auto" => Ok(GpuFloats::Auto),
            "f32" => Ok(GpuFloats::F32),
            "f16" => Ok(GpuFloats::F16),
            _ => Err("floats are auto, f32 or f16".into()),
        }
    }
}

/// Who computes a network, and why no graphics processor does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The graphics processor.
    pub device: Option<String>,
    /// The instruction set of our operators on the CPU; none where tract's own compute.
    pub kernel: Option<String>,
    /// Why no graphics processor computes, where one was asked for.
    pub instead: Option<String>,
}

impl Running {
    /// As in the configuration.
    pub fn runtime(&self) -> &'static str {
        if self.device.is_some() { "wgpu" } else { "cpu" }
    }
}

impl std::fmt::Display for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.device.as_deref().or(self.kernel.as_deref()).unwrap_or("tract"))
    }
}

/// Whose operators compute the network on the CPU.
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

/// For those who have no configuration.
const GPU_PATIENCE_S: u64 = 20;

/// How a graph is to be run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Execution {
    /// 0 for one a core.
    pub threads: usize,
    pub runtime: Runtime,
    pub gpu_floats: GpuFloats,
    /// As [`ModelConfig::gpu_patience_s`].
    pub gpu_patience_s: u64,
    pub backend: Backend,
    /// None where every frame is computed whole.
    pub reuse: Option<Reuse>,
}

impl Default for Execution {
    /// On all cores, by whose operators the graph asks for.
    fn default() -> Execution {
        Execution { backend: Backend::Auto, ..Execution::REFERENCE }
    }
}

impl Execution {
    /// tract alone, on all cores: what others are compared with.
    pub const REFERENCE: Execution = Execution {
        threads: 0,
        runtime: Runtime::Cpu,
        gpu_floats: GpuFloats::Auto,
        gpu_patience_s: GPU_PATIENCE_S,
        backend: Backend::Reference,
        reuse: None,
    };
}
