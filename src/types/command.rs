//! What a controller can ask of the daemon, and what it is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::{Reason, TrackId, TrackState};
use super::{Seed, report};

/// A command, after it was read from the wire and checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Give an object of a camera's picture an identity. `camera: None` means the only camera.
    /// `seq: None` means the newest frame.
    Tag {
        camera: Option<String>,
        seed: Seed,
        name: Option<String>,
        seq: Option<u64>,
        /// Put it into the gallery as well.
        save: bool,
    },
    /// Make what the gallery knows by this name a track, where it is seen now.
    Recognise {
        camera: Option<String>,
        name: String,
    },
    /// Make a proposal a tag.
    Accept {
        id: TrackId,
        name: Option<String>,
        save: bool,
    },
    /// Put a track into the gallery, under its own name or another.
    Save {
        id: TrackId,
        name: Option<String>,
    },
    /// What the gallery knows.
    Gallery,
    GalleryRename {
        name: String,
        to: String,
    },
    /// Make one object of two that are the same thing.
    GalleryMerge {
        name: String,
        into: String,
    },
    GalleryForget {
        name: String,
    },
    GalleryExport {
        name: String,
    },
    /// `name: None` keeps the name that it has.
    GalleryImport {
        object: Vec<u8>,
        name: Option<String>,
    },
    Untag {
        id: TrackId,
    },
    Rename {
        id: TrackId,
        name: String,
    },
    /// Removes every track of a camera, or of all.
    Reset {
        camera: Option<String>,
    },
    List {
        camera: Option<String>,
    },
    Status,
    /// The newest frame of a camera, its masks drawn over it.
    Snapshot {
        camera: Option<String>,
    },
    /// Reads the configuration again.
    Reload,
}

/// What came of a [`Command`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    Tagged {
        camera: String,
        seq: u64,
        track: report::Track,
    },
    Listed {
        tracks: Vec<ListedTrack>,
    },
    Removed {
        removed: Vec<TrackId>,
    },
    /// The gallery as it is, after whatever was done to it.
    Gallery {
        gallery: Vec<GalleryObject>,
    },
    /// A file of the gallery.
    Exported {
        name: String,
        object_base64: String,
    },
    Renamed {
        track: TrackId,
        name: String,
    },
    Snapshot {
        camera: String,
        seq: u64,
        size: [usize; 2],
        jpeg_base64: String,
    },
    /// Keys of the configuration that took effect, and those that need a restart.
    Reloaded {
        applied: Vec<String>,
        restart_needed: Vec<String>,
    },
    Status(Box<Status>),
}

/// A track, as `list` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedTrack {
    pub camera: String,
    pub id: TrackId,
    pub name: String,
    pub state: TrackState,
    pub reason: Reason,
    pub score: f32,
    pub age: u64,
    pub since_seen: u64,
}

/// An object of the gallery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GalleryObject {
    pub name: String,
    /// The model whose features it is known by.
    pub model: String,
    /// How many patches it is known by: its own, and those of other things.
    pub exemplars: [usize; 2],
    /// Pixels of the pictures that it was saved from, width and height, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<[usize; 2]>,
    /// Under which track id each camera knows it.
    pub tracks: BTreeMap<String, TrackId>,
    /// Nanoseconds since 1970: when it was saved, and last learnt from.
    pub saved_ns: u64,
    pub changed_ns: u64,
    /// Why it cannot be used, when it cannot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// Why it may not be recognised though it can be used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remark: Option<String>,
}

/// The daemon's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub boot_id: String,
    pub uptime_s: f64,
    pub model: ModelStatus,
    /// None where neither a rate nor a share of the CPU is to be held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetStatus>,
    pub cameras: Vec<CameraStatus>,
    pub clients: ClientStatus,
    pub memory_bytes: u64,
    /// Fraction of the cores' time that the process took over the last seconds; none before that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f32>,
    /// None where nobody asked the process to confine itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxStatus>,
    /// Sentences on what is not as it should be, beside the problems of cameras and of the budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What the daemon has denied itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// Access to files, the network and other processes.
    pub files: Confinement,
    pub system_calls: Confinement,
}

/// Whether a layer of the sandbox is in force, and a sentence on how, or on why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    pub confined: bool,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    pub name: String,
    pub family: String,
    /// Hex.
    pub sha256: String,
    /// "cpu" or "wgpu".
    pub runtime: String,
    /// The graphics processor that computes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why no graphics processor computes, where one was to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// The instruction set of this program's operators on the CPU; none where others compute the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Mean cosine of the probe's features to those that the manifest holds.
    pub probe_cosine: f32,
}

/// What is to be held, whether it is, and what was done for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// Frames a second that each camera is to report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_fps: Option<f32>,
    /// Fraction of the cores' time that may be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_share: Option<f32>,
    pub met: bool,
    /// What is missed, when something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Fraction of the cores' time that was taken last.
    pub cpu: f32,
    /// Width, height of the model's input in pixels: in force, and as configured.
    pub input: [usize; 2],
    pub configured_input: [usize; 2],
    /// Frames a second of each camera that are embedded at most; none where no frame is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fps: Option<f32>,
    /// Why it is this size and this rate.
    pub reason: BudgetReason,
    /// Seconds for which it has been.
    pub since_s: f64,
}

/// Why an input size and a rate are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetReason {
    /// Nothing has been changed yet.
    Start,
    /// A camera reported fewer frames than are due.
    FpsMissed,
    /// The daemon took more than its share of the CPU.
    CpuExceeded,
    /// There was room for more.
    Room,
    /// One that this version does not know: read from a newer daemon, never sent.
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CameraStatus {
    pub name: String,
    /// "streaming", "waiting" (opened, no frame yet), "lost" or "ended".
    pub state: String,
    /// What is wrong, when something is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// Seconds in this state.
    pub since_s: f64,
    /// Pixel format, size and rate as the device gave them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub format: Option<String>,
    pub size: [usize; 2],
    /// Frames captured, embedded, reported; lost before embedding; times that the device was opened again.
    pub captured: u64,
    pub embedded: u64,
    pub reported: u64,
    pub dropped: u64,
    /// Of those lost, the ones that were skipped to keep the budget.
    #[serde(default)]
    pub skipped: u64,
    /// Share of the model's tokens that were computed in the last frames, 0 to 1; the others were taken over from frames
    /// before, because their patches looked as they did.
    #[serde(default = "all")]
    pub computed: f32,
    pub reopened: u64,
    /// Reports a second over the last seconds.
    pub fps: f32,
    pub stages: Vec<StageStatus>,
    pub tracks: usize,
}

fn all() -> f32 {
    1.0
}

/// Time that a stage takes, in milliseconds, over its last frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    pub stage: String,
    pub last_ms: f32,
    pub median_ms: f32,
    pub p99_ms: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    pub connected: u64,
    pub refused: u64,
    /// Reports that clients lost because they did not keep up.
    pub dropped_reports: u64,
}

/// A command that could not be carried out: a stable dotted code, and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub code: ErrorCode,
    pub message: String,
}

impl CommandError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> CommandError {
        CommandError { code, message: message.into() }
    }
}

/// Declares [`ErrorCode`] with the name that each code has on the wire, so that enum, names and list are one.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)*) => {
        /// The stable codes of everything that can go wrong with a line or a command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)*
            /// A code that this version does not know: read from a newer daemon, never sent.
            #[serde(other)]
            Unknown,
        }

        impl ErrorCode {
            /// Every code that a daemon of this version may send.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The code as it stands on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $code,)*
                    ErrorCode::Unknown => "unknown",
                }
            }
        }
    };
}

error_codes! {
    LineTooLong = "line.too_long",
    LineNotUtf8 = "line.not_utf8",
    LineNotJson = "line.not_json",
    LineNotAnObject = "line.not_an_object",
    /// The line is good, but belongs on the other socket.
    LineNotAllowed = "line.not_allowed",
    CommandUnknown = "command.unknown",
    FieldMissing = "command.field_missing",
    FieldInvalid = "command.field_invalid",
    /// The answer is longer than a line may be.
    AnswerTooLong = "answer.too_long",
    TooManyClients = "client.too_many",
    TooSlow = "client.too_slow",
    /// The configuration lets neither the client's user nor its groups in.
    NotAllowed = "client.not_allowed",
    CameraUnknown = "camera.unknown",
    CameraAmbiguous = "camera.ambiguous",
    CameraNoFrame = "camera.no_frame",
    TagEmpty = "tag.empty",
    TagTooMany = "tag.too_many",
    TagFrameGone = "tag.frame_gone",
    TagNameInvalid = "tag.name_invalid",
    TrackUnknown = "track.unknown",
    GalleryUnknown = "gallery.unknown",
    GalleryExists = "gallery.exists",
    GalleryFull = "gallery.full",
    /// It cannot be read, or is of another model.
    GalleryUnusable = "gallery.unusable",
    /// It is nowhere to be seen now.
    GalleryNotSeen = "gallery.not_seen",
    ConfigInvalid = "config.invalid",
    StateUnwritable = "state.unwritable",
    Stopping = "daemon.stopping",
    Busy = "daemon.busy",
    /// The daemon failed while it carried out the command; its log says more.
    Failed = "daemon.failed",
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Longest name of a track, a camera or an object of the gallery, in characters.
pub const MAX_NAME: usize = 64;

/// What about `name` keeps it from naming a track or an object of the gallery, if anything does.
pub fn name_problem(name: &str) -> Option<&'static str> {
    if name.chars().count() > MAX_NAME {
        Some("longer than 64 characters")
    } else if name.trim().is_empty() {
        Some("empty")
    } else if name.chars().any(is_unprintable) {
        Some("not printable: it holds a control character, or one that changes the direction or order of text")
    } else {
        None
    }
}

/// Control characters could drive a terminal that lists the names; invisible and direction-changing ones
/// could make one name look like another.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}
