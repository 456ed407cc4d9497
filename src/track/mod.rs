//! Tracks: identities and their life cycle, from label fields.

mod distractors;
mod evidence;
mod life;
mod lookalikes;
pub mod session;

pub use evidence::Evidence;
pub use session::{Session, TagError};

/// When a track changes its state. Defaults live in `config/default.toml` alone.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrackConfig {
    /// Frames in a row in which a new track must be seen to become Tracked, 1 to 1,000.
    pub confirm_frames: u64,
    /// Occluded below this fraction of the object's usual area, 0 to 1.
    pub occluded_area: f32,
    /// A track whose score is lower is not seen, 0 to 1.
    pub min_score: f32,
    /// Seconds unseen after which a track is Lost, 0 to 3,600.
    pub lost_after_s: f32,
    /// Seconds Lost after which a track is Removed; 0 for never.
    pub remove_after_s: f32,
    /// Clear the labels of what is lost, and look for it everywhere by its reference.
    pub recover: bool,
    /// Objects of one camera at once, 1 to 64.
    pub max_objects: usize,
}
