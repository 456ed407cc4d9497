//! Frames in: from a V4L2 camera, another platform's camera, another program, a GStreamer pipeline, a folder of pictures, or a
//! built-in scene.

pub mod devices;
#[cfg(all(target_os = "linux", feature = "gstreamer"))]
pub mod gstreamer;
pub mod images;
pub mod modes;
#[cfg(feature = "nokhwa")]
pub mod nokhwa;
#[cfg(target_os = "linux")]
pub mod pipe;
pub mod reopen;
pub mod sequence;
pub mod synthetic;
#[cfg(target_os = "linux")]
pub mod v4l2;

use std::fmt;
use std::time::Instant;

use crate::types::Frame;

pub use devices::{DeviceInfo, devices};
pub use reopen::{Event, Reopening, State};

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

    /// Whether it is better left open when no frame comes for long: opened again it would give none either, and lose what it has.
    fn outlasts_silence(&self) -> bool {
        false
    }
}

/// Opens the source that `config` describes.
///
/// `resume_from` is the number of the first frame: 0 at the start, and one more than the last frame's number when
/// a source is opened again, so that a camera's numbers never repeat.
///
/// # Errors
/// When the source is not there, may not be used, or gives nothing that is understood.
pub fn open(config: &CameraConfig, pace: Pace, resume_from: u64) -> Result<Box<dyn FrameSource>, SourceError> {
    match config.source {
        #[cfg(target_os = "linux")]
        SourceKind::V4l2 => Ok(Box::new(v4l2::V4l2Source::open(config, resume_from)?)),
        #[cfg(not(target_os = "linux"))]
        SourceKind::V4l2 => {
            Err(SourceError::Unsupported("V4L2 cameras are of Linux alone; set `source = \"nokhwa\"` here".into()))
        }
        #[cfg(feature = "nokhwa")]
        SourceKind::Nokhwa => Ok(Box::new(nokhwa::NokhwaSource::open(config, resume_from)?)),
        #[cfg(not(feature = "nokhwa"))]
        SourceKind::Nokhwa => {
            Err(SourceError::Unsupported("this build has no nokhwa; build with `--features nokhwa`".into()))
        }
        #[cfg(target_os = "linux")]
        SourceKind::Pipe => Ok(Box::new(pipe::PipeSource::open(config, resume_from)?)),
        #[cfg(not(target_os = "linux"))]
        SourceKind::Pipe => Err(SourceError::Unsupported("pipes are read on Linux alone".into())),
        #[cfg(all(target_os = "linux", feature = "gstreamer"))]
        SourceKind::Gstreamer => Ok(Box::new(gstreamer::GstreamerSource::open(config, pace, resume_from)?)),
        #[cfg(not(all(target_os = "linux", feature = "gstreamer")))]
        SourceKind::Gstreamer => Err(SourceError::Unsupported(
            "this build has no GStreamer; build with `--features gstreamer`, or have `gst-launch-1.0` feed a `pipe`"
                .into(),
        )),
        SourceKind::Images => Ok(Box::new(images::ImageSource::open(config, pace, resume_from)?)),
        SourceKind::Synthetic => {
            let source = match pace {
                Pace::Live => synthetic::SyntheticSource::new(config)?,
                Pace::Lossless => synthetic::SyntheticSource::lossless(config)?,
            };
            Ok(Box::new(source.from_frame(resume_from)))
        }
    }
}

/// Who sets the pace of a source that is not a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The clock: frames come at the configured rate and bear the time at which they came.
    Live,
    /// The reader: frames come as fast as they are asked for, and bear the time at which they would have come,
    /// counted from 0, so that every run is the same.
    Lossless,
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

impl fmt::Display for StreamFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}", self.pixels, self.width, self.height)?;
        if let Some(fps) = self.fps {
            write!(f, " at {fps} fps")?;
        }
        write!(f, " from {}", self.source)
    }
}

impl StreamFormat {
    /// What was asked for and is not delivered, as "640x480 at 60 fps"; `None` when all of it is.
    pub fn unmet(&self, config: &CameraConfig) -> Option<String> {
        let size = (config.width, config.height) != (self.width, self.height);
        let rate = self.fps.is_some_and(|fps| (fps - config.fps).abs() > config.fps * modes::RATE_TOLERANCE);
        match (size, rate) {
            _ if matches!(config.source, SourceKind::Images | SourceKind::Gstreamer) => None,
            _ if self.pixels == "MJPG" && config.source == SourceKind::Pipe => None,
            (true, true) => Some(format!("{}x{} at {} fps", config.width, config.height, config.fps)),
            (true, false) => Some(format!("{}x{}", config.width, config.height)),
            (false, true) => Some(format!("{} fps", config.fps)),
            (false, false) => None,
        }
    }
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
    /// What wrote frames, how it ended and what it said.
    #[error("{0}")]
    Ended(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("{path}: {problem}")]
    Unreadable { path: String, problem: String },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

impl SourceError {
    /// What the system's `error` means for a `device`, met while `doing` something with it.
    pub fn from_io(device: &str, doing: &str, error: std::io::Error) -> SourceError {
        #[cfg(unix)]
        match error.raw_os_error() {
            Some(libc::ENOENT) => return SourceError::NotFound(device.into()),
            Some(libc::ENODEV | libc::ENXIO) => return SourceError::Disconnected(device.into()),
            Some(libc::EACCES | libc::EPERM) => return SourceError::Permission(device.into()),
            Some(libc::EBUSY) => return SourceError::Busy(device.into()),
            _ => {}
        }
        SourceError::Io { what: format!("{device}: {doing}"), source: error }
    }
}

/// One camera, as the configuration describes it. Defaults live in `config/default.toml` alone.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct CameraConfig {
    /// Names the camera in reports and commands: 1 to 64 letters, digits, `-`, `_` and `.`; unique.
    pub name: String,
    pub source: SourceKind,
    /// `v4l2`: a path, a name under `/dev/v4l/by-id` or by-path, or `auto`. `nokhwa`: a number, or `auto`. `pipe`: a named pipe's path,
    /// where there is no command.
    pub device: String,
    /// `pipe`: a program and its arguments, which writes frames to its standard output.
    pub command: Vec<String>,
    /// `gstreamer`: a pipeline, as `gst-launch-1.0` takes it, with one `appsink`.
    pub pipeline: String,
    /// `auto`, or the four-character code of a pixel format.
    pub format: String,
    /// Pixels asked for, 16 to 8192; the device may give another size, and `images` give the pictures' own.
    pub width: usize,
    /// Pixels asked for, 16 to 8192.
    pub height: usize,
    /// Frames a second asked for, 0.1 to 1000; for `images` and `synthetic` the rate at which they are shown.
    pub fps: f32,
    /// Milliseconds without a frame after which the device counts as lost, 100 to 60,000.
    pub timeout_ms: u64,
    /// `images`: the folder of JPEG and PNG files.
    pub folder: std::path::PathBuf,
    /// `images` and films of `gstreamer`: begin again after the last picture.
    pub repeat: bool,
    /// `synthetic`: what is shown follows from this number alone.
    pub seed: u64,
    /// `synthetic`: how many objects move, 1 to 64.
    pub objects: usize,
}

impl CameraConfig {
    /// Whether code runs for it that is not the daemon's own, whose needs nobody knows: a program, or what a pipeline loads.
    pub fn runs_others(&self) -> bool {
        !self.command.is_empty() || self.source == SourceKind::Gstreamer
    }
}

/// What kind of thing frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    V4l2,
    Nokhwa,
    Pipe,
    Gstreamer,
    Images,
    Synthetic,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A camera as tests want it.
    pub(crate) fn config(source: SourceKind) -> CameraConfig {
        CameraConfig {
            name: "test".into(),
            source,
            device: "auto".into(),
            command: Vec::new(),
            pipeline: String::new(),
            format: "auto".into(),
            width: 640,
            height: 480,
            fps: 30.0,
            timeout_ms: 1000,
            folder: std::path::PathBuf::new(),
            repeat: false,
            seed: 0,
            objects: 1,
        }
    }

    #[test]
    fn a_format_tells_what_it_lacks() {
        let config = config(SourceKind::V4l2);
        let format = |width, height, fps| StreamFormat {
            source: "/dev/video0".into(),
            pixels: "YUYV".into(),
            width,
            height,
            fps,
        };
        struct Case(usize, usize, Option<f32>, Option<&'static str>);
        let cases = [
            Case(640, 480, Some(30.0), None),
            Case(640, 480, Some(29.97), None),
            Case(640, 480, None, None),
            Case(640, 480, Some(15.0), Some("30 fps")),
            Case(640, 360, Some(30.0), Some("640x480")),
            Case(320, 240, Some(60.0), Some("640x480 at 30 fps")),
        ];
        for Case(width, height, fps, unmet) in cases {
            assert_eq!(format(width, height, fps).unmet(&config).as_deref(), unmet);
        }
        assert_eq!(format(640, 480, Some(30.0)).to_string(), "YUYV 640x480 at 30 fps from /dev/video0");
        assert_eq!(format(640, 480, None).to_string(), "YUYV 640x480 from /dev/video0");
    }

    #[cfg(unix)]
    #[test]
    fn what_the_system_says_becomes_what_to_do() {
        let say = |code| SourceError::from_io("/dev/video0", "streaming", std::io::Error::from_raw_os_error(code));
        assert!(matches!(say(libc::ENOENT), SourceError::NotFound(_)));
        assert!(matches!(say(libc::EACCES), SourceError::Permission(_)));
        assert!(matches!(say(libc::EBUSY), SourceError::Busy(_)));
        assert!(matches!(say(libc::ENODEV), SourceError::Disconnected(_)));
        assert!(say(libc::EIO).to_string().starts_with("/dev/video0: streaming: "));
    }
}
