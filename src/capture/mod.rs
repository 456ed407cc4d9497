//! Frames in: from a V4L2 camera, another platform's camera, a folder of pictures, or a built-in scene.

pub mod synthetic;

use std::time::Instant;

use crate::types::Frame;

/// Something that frames come from. One thread owns it.
pub trait FrameSource: Send {
    /// What was really opened, for the log and for `status`.
    fn format(&self) -> StreamFormat;

    /// The next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`SourceError::Timeout`] when no frame came before `deadline`: call again. Any other error means that
    /// the source must be opened again.
    fn next(&mut self, deadline: Instant) -> Result<Option<Frame>, SourceError>;
}

/// What a source delivers, as it really is and not as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamFormat {
    /// The device, folder or scene, for a person to read.
    pub source: String,
    /// The pixel format's four-character code.
    pub pixels: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Frames a second, where it is known.
    pub fps: Option<f32>,
}

/// Why a source gives no frame.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("no frame from {0} in time")]
    Timeout(String),
    #[error("{0} does not exist; `tagalong devices` lists what is there")]
    NotFound(String),
    #[error("{0} may not be opened by this user; add the user to the group `video`")]
    Permission(String),
    #[error("{0} is in use by another program")]
    Busy(String),
    #[error("{0} is gone")]
    Disconnected(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("{path}: {problem}")]
    Unreadable { path: String, problem: String },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

/// One camera, as the configuration describes it. Defaults live in `config/default.toml` alone.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraConfig {
    /// Names the camera in reports and commands: 1 to 64 letters, digits, `-`, `_` and `.`; unique.
    pub name: String,
    pub source: SourceKind,
    /// `v4l2`: a path, a name under `/dev/v4l/by-id` or by-path, or `auto`. `nokhwa`: a number, or `auto`.
    pub device: String,
    /// `auto`, or the four-character code of a pixel format.
    pub format: String,
    /// Pixels asked for, 16 to 8192; the device may give another size. 0 with `images`: the pictures' own.
    pub width: usize,
    /// Pixels asked for, 16 to 8192.
    pub height: usize,
    /// Frames a second asked for, 0.1 to 1000; for `images` and `synthetic` the rate at which they are shown.
    pub fps: f32,
    /// Milliseconds without a frame after which the device counts as lost, 100 to 60,000.
    pub timeout_ms: u64,
    /// `images`: the folder of JPEG and PNG files.
    pub folder: std::path::PathBuf,
    /// `images`: begin again after the last picture.
    pub repeat: bool,
    /// `synthetic`: what is shown follows from this number alone.
    pub seed: u64,
    /// `synthetic`: how many objects move, 1 to 64.
    pub objects: usize,
}

/// What kind of thing frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    V4l2,
    Nokhwa,
    Images,
    Synthetic,
}
