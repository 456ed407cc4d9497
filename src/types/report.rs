//! What leaves the daemon for each frame, as it stands on the wire.
//!
//! Additive changes only within a protocol major version. `docs/protocol.md` documents every field; a test
//! holds the two together.

use serde::{Deserialize, Serialize};

use super::mask::CocoRle;

/// A track's identity: never reused while a state directory lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrackId(pub u64);

impl std::fmt::Display for TrackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a track stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackState {
    /// Tagged a moment ago; not yet followed for long enough to be relied on.
    Tentative,
    /// Seen in this frame.
    Tracked,
    /// Little or nothing is seen, but it was seen a moment ago.
    Occluded,
    /// Not seen for longer; looked for everywhere.
    Lost,
    /// Gone for good; told once.
    Removed,
    /// Nobody tagged it: it may be an object, and can be made a tag.
    Proposal,
}

/// Why a track is in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The user tagged it.
    Tagged,
    /// It was followed for as many frames as the configuration asks.
    Confirmed,
    /// What is seen is much smaller than it was a moment ago.
    Shrunk,
    /// Nothing is seen, or what is seen is too unlike the object.
    Unseen,
    /// It was last seen at the edge of the picture.
    LeftView,
    /// It is seen again where it was expected.
    Seen,
    /// It was found again by looking everywhere.
    Reacquired,
    /// What is known from before was recognised.
    Recognised,
    /// What is seen may be this object as well as another.
    Ambiguous,
    /// It was not seen for longer than the configuration allows.
    TimedOut,
    /// The user removed it.
    Untagged,
    /// The camera's session was reset.
    Reset,
    /// The camera delivers no frames.
    CameraLost,
    /// It stands out, or moves.
    Proposed,
    /// A tag needed its place, or it stands out no more.
    Withdrawn,
}

/// One tracked object in one frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Track {
    pub id: TrackId,
    /// What the user called it.
    pub name: String,
    pub state: TrackState,
    /// Why it is in this state.
    pub reason: Reason,
    /// In [0, 1]: the IoU that the mask is expected to have with the object's true one.
    pub score: f32,
    /// x, y, width, height in pixels of the captured frame; absent when nothing is seen.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none", default)]
    pub bounds: Option<[f32; 4]>,
    /// x, y in pixels of the captured frame; absent when nothing is seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub centroid: Option<[f32; 2]>,
    /// Pixels of the captured frame.
    pub area: u64,
    /// x, y in pixels of the captured frame a second.
    pub velocity: [f32; 2],
    /// Frames since the object was tagged.
    pub age: u64,
    /// Frames since it was last seen; 0 when it is seen in this one.
    pub since_seen: u64,
    /// Its pixels, for those who asked for masks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mask: Option<CocoRle>,
}

/// How long each stage took for one frame, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// From capture until the backbone took the frame.
    pub queue: f32,
    /// Conversion, resizing, normalisation.
    pub preprocess: f32,
    /// The backbone.
    pub embed: f32,
    /// Label propagation.
    pub propagate: f32,
    /// Masks, measures, life cycle.
    pub track: f32,
    /// From capture until the report was handed to the sinks.
    pub total: f32,
}

/// Every track of one camera in one frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackReport {
    pub camera: String,
    /// Counts every frame that the camera produced, those that were lost too.
    pub seq: u64,
    /// Frames lost since the last report.
    pub dropped: u64,
    /// Monotonic clock at capture, nanoseconds.
    pub t_mono_ns: u64,
    /// Nanoseconds since the Unix epoch at capture.
    pub t_real_ns: u64,
    /// Width, height of the captured frame in pixels.
    pub size: [usize; 2],
    pub latency_ms: Latency,
    pub tracks: Vec<Track>,
}
