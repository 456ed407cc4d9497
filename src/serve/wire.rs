//! Every object of the protocol, as it stands on a line. `docs/protocol.md` documents each field, and a test
//! holds the two together.
//!
//! The daemon writes [`ServerLine`]s; clients write [`ClientLine`]s, which [`super::request`] reads.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use serde::{Deserialize, Serialize};

use crate::types::command::ErrorCode;
use crate::types::mask::CocoRle;
use crate::types::{Answer, Command, CommandError, Seed, TrackId, TrackReport};

/// The protocol that this version speaks.
pub const PROTOCOL: Protocol = Protocol { major: 1, minor: 0 };

/// Bytes of the longest line that the daemon reads from `tracks.sock` and from `control.sock`, its newline not counted. The
/// latter takes what a gallery exports.
pub const MAX_LINE_IN: usize = 64 * 1024;
pub const MAX_COMMAND_IN: usize = 1024 * 1024;

/// Bytes of the longest line that the daemon writes, its newline included.
pub const MAX_LINE_OUT: usize = 1024 * 1024;

/// File names of the two sockets.
pub const TRACKS_SOCKET: &str = "tracks.sock";
pub const CONTROL_SOCKET: &str = "control.sock";

/// What the daemon writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "snake_case")]
pub enum ServerLine {
    Hello(Hello),
    Tracks(Tracks),
    Subscribed(Subscribed),
    Gap(Gap),
    Answer(AnswerLine),
    Error(ErrorLine),
    /// A class that this version does not know: read from a newer daemon, never sent.
    #[serde(other)]
    Unknown,
}

impl ServerLine {
    /// The line's bytes, its newline included.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

/// The first line on either socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: Protocol,
    /// The daemon's version.
    pub version: String,
    /// Differs from one start of the daemon to the next.
    pub boot_id: String,
    pub cameras: Vec<HelloCamera>,
}

impl Hello {
    /// The greeting of a daemon that speaks [`PROTOCOL`].
    pub fn new(version: impl Into<String>, boot_id: impl Into<String>, cameras: Vec<HelloCamera>) -> Hello {
        Hello { protocol: PROTOCOL, version: version.into(), boot_id: boot_id.into(), cameras }
    }
}

/// Lines of another major version cannot be relied on; a higher minor version only adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    pub major: u32,
    pub minor: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HelloCamera {
    pub name: String,
    /// Width, height of its frames in pixels; absent until it has been opened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<[usize; 2]>,
    /// The model that embeds its frames.
    pub model: String,
}

/// A camera's tracks in one frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tracks {
    #[serde(flatten)]
    pub report: Arc<TrackReport>,
    /// Masks were asked for, but with them the line would have been longer than [`MAX_LINE_OUT`].
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub masks_dropped: bool,
}

/// Answers `subscribe`. The newest report of each subscribed camera follows, then their changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscribed {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<CommandId>,
    /// Absent for every camera, those that come later too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cameras: Option<Vec<String>>,
    pub masks: bool,
    /// Reports a second of each camera; absent for all of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_rate: Option<f64>,
}

/// Stands where reports are missing, because the client did not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub dropped: u64,
}

/// A command was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerLine {
    pub id: CommandId,
    /// The class of the line that this answers.
    pub command: String,
    #[serde(flatten)]
    pub answer: Answer,
}

/// A line could not be read, or a command not be carried out. The connection stays, unless the code is one
/// of `client.*`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorLine {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<CommandId>,
    /// The class of the line that this answers, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command: Option<String>,
    pub code: ErrorCode,
    pub message: String,
}

impl ErrorLine {
    /// An error that answers no line.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ErrorLine {
        ErrorLine { id: None, command: None, code, message: message.into() }
    }
}

impl From<ErrorLine> for CommandError {
    fn from(line: ErrorLine) -> CommandError {
        CommandError { code: line.code, message: line.message }
    }
}

/// What a client calls its command; the answer repeats it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CommandId {
    Number(i64),
    Text(String),
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandId::Number(number) => number.fmt(f),
            CommandId::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// What a client writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "class", rename_all = "snake_case")]
pub enum ClientLine {
    Subscribe(Subscribe),
    Tag {
        id: CommandId,
        #[serde(skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        #[serde(flatten)]
        seed: SeedField,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        save: bool,
    },
    Save {
        id: CommandId,
        track: TrackId,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    Gallery {
        id: CommandId,
    },
    GalleryRename {
        id: CommandId,
        name: String,
        to: String,
    },
    GalleryMerge {
        id: CommandId,
        name: String,
        into: String,
    },
    GalleryForget {
        id: CommandId,
        name: String,
    },
    GalleryExport {
        id: CommandId,
        name: String,
    },
    GalleryImport {
        id: CommandId,
        object_base64: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    Untag {
        id: CommandId,
        track: TrackId,
    },
    Rename {
        id: CommandId,
        track: TrackId,
        name: String,
    },
    Reset {
        id: CommandId,
        #[serde(skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
    },
    List {
        id: CommandId,
        #[serde(skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
    },
    Status {
        id: CommandId,
    },
    Snapshot {
        id: CommandId,
        #[serde(skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
    },
    Reload {
        id: CommandId,
    },
}

impl ClientLine {
    /// The line that asks for `command`.
    pub fn command(id: CommandId, command: &Command) -> ClientLine {
        match command.clone() {
            Command::Tag { camera, seed, name, seq, save } => {
                ClientLine::Tag { id, camera, seed: (&seed).into(), name, seq, save }
            }
            Command::Recognise { camera, name: known } => {
                let seed = SeedField::Gallery(known);
                ClientLine::Tag { id, camera, seed, name: None, seq: None, save: false }
            }
            Command::Accept { id: proposal, name, save } => {
                let seed = SeedField::Proposal(proposal);
                ClientLine::Tag { id, camera: None, seed, name, seq: None, save }
            }
            Command::Save { id: track, name } => ClientLine::Save { id, track, name },
            Command::Gallery => ClientLine::Gallery { id },
            Command::GalleryRename { name, to } => ClientLine::GalleryRename { id, name, to },
            Command::GalleryMerge { name, into } => ClientLine::GalleryMerge { id, name, into },
            Command::GalleryForget { name } => ClientLine::GalleryForget { id, name },
            Command::GalleryExport { name } => ClientLine::GalleryExport { id, name },
            Command::GalleryImport { object, name } => {
                let object_base64 = base64::engine::general_purpose::STANDARD.encode(object);
                ClientLine::GalleryImport { id, object_base64, name }
            }
            Command::Untag { id: track } => ClientLine::Untag { id, track },
            Command::Rename { id: track, name } => ClientLine::Rename { id, track, name },
            Command::Reset { camera } => ClientLine::Reset { id, camera },
            Command::List { camera } => ClientLine::List { id, camera },
            Command::Status => ClientLine::Status { id },
            Command::Snapshot { camera } => ClientLine::Snapshot { id, camera },
            Command::Reload => ClientLine::Reload { id },
        }
    }

    /// The line's bytes, its newline included.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

/// What a client wants to read from `tracks.sock`. The default is what it gets unasked.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Subscribe {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// `None` for every camera, those that come later too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cameras: Option<Vec<String>>,
    pub masks: bool,
    /// Reports a second of each camera, above 0 and at most 1,000; `None` for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<f64>,
}

/// The one field of `tag` that points at the object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedField {
    Box([f32; 4]),
    Point([f32; 2]),
    Mask(CocoRle),
    /// The name of what the gallery knows.
    Gallery(String),
    /// The id of what was proposed.
    Proposal(TrackId),
}

impl From<&Seed> for SeedField {
    fn from(seed: &Seed) -> SeedField {
        match seed {
            Seed::Box(bounds) => SeedField::Box(*bounds),
            Seed::Point(point) => SeedField::Point(*point),
            Seed::Mask(mask) => SeedField::Mask(mask.to_coco()),
        }
    }
}

fn to_bytes(line: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("the wire types have string keys and no failing serializer");
    bytes.push(b'\n');
    bytes
}
