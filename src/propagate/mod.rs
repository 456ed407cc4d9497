//! Labels from frame to frame, by nearest neighbours among patch embeddings.

pub mod affinity;
pub mod exemplars;
pub mod memory;
pub mod refine;
pub mod seed;
pub mod upsample;

pub use memory::{ObjectKey, Propagator};
use refine::RefineRule;

/// Objects that one camera can have at once.
pub const MAX_OBJECTS: usize = 64;

/// The constants of the propagation rule. Presets of them live in `config/default.toml`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct PropagateConfig {
    /// Patches along each side of a frame for one of the model's input size, 0.25 to 4.
    pub density: f32,
    /// How many times larger than in a whole frame objects may be looked at, 1 to 8.
    pub zoom: f32,
    /// Most similar patches that a patch takes its labels from, over the whole memory together; 1 to 64.
    pub top_k: usize,
    /// Frames kept beside the reference frame, 0 to 64.
    pub context_frames: usize,
    /// How far a patch may move, in patches, 1 to 1,000.
    pub radius: usize,
    pub window: Window,
    /// A match weighs exp(cosine / temperature); 0.001 to 10.
    pub temperature: f32,
    pub seed: SeedRule,
    /// Stretch each instance's labels to [0, 1] before the arg-max.
    pub min_max: bool,
    /// How far around a pixel the picture is looked at for edges that masks are to follow, in patches; 0 for not at all, up to 4.
    pub refine_radius: f32,
    /// How much of the picture's variance an edge must have to be followed, 0.0001 to 1.
    pub refine_epsilon: f32,
}

impl PropagateConfig {
    /// How masks get their edges, if not from labels alone.
    pub fn refine(&self) -> Option<RefineRule> {
        let rule = RefineRule { radius: self.refine_radius, epsilon: self.refine_epsilon };
        (rule.radius > 0.0).then_some(rule)
    }
}

/// The shape of the neighbourhood that a patch is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    Square,
    Circle,
}

/// How a mask becomes labels of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeedRule {
    /// All or nothing, by the pixel at the patch's upper left, as OpenCV's nearest resize picks it.
    Nearest,
    /// By the fraction of the patch's area that the mask covers.
    Area,
}
