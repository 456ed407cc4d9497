//! Tracks out: the two sockets, and the client that reads them.
//!
//! One thread, the event loop, reads and writes every client without waiting for any; a few more carry out
//! commands. `docs/protocol.md` describes what goes over the sockets; [`wire`] holds it as types.

pub mod client;
pub mod request;
pub mod wire;

mod connection;
mod doors;
mod encode;
mod event_loop;
mod lines;
mod listeners;
mod peers;
mod socket;
mod subscription;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use crate::types::{Answer, Command, CommandError, TrackReport};

pub use listeners::{Activated, ServeError, make_folder, parse_mode, problems};
pub use peers::Access;
pub use socket::{Server, TracksSink};
pub use wire::{Hello, HelloCamera};

/// Something that reports go to. It never makes the caller wait for a reader.
pub trait Sink: Send {
    fn send(&mut self, report: &Arc<TrackReport>) -> Result<(), SinkError>;

    /// Waits until what was sent has gone, at most this long.
    fn flush(&mut self, at_most: Duration) -> Result<(), SinkError>;
}

/// Whoever carries out commands. The control socket calls it from its own threads, several at once.
pub trait Controller: Send + Sync {
    fn execute(&self, command: Command) -> Result<Answer, CommandError>;
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("the sink is closed")]
    Closed,
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

/// The sockets and their limits. Defaults live in `config/default.toml` alone.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServeConfig {
    /// Folder of `tracks.sock` and `control.sock`; made if it is not there.
    pub directory: std::path::PathBuf,
    /// Permissions of `tracks.sock`, an octal string such as "0660".
    pub tracks_mode: String,
    /// Permissions of `control.sock`, an octal string such as "0600".
    pub control_mode: String,
    /// Group that owns `tracks.sock`; empty for the daemon's own.
    pub tracks_group: String,
    /// Group that owns `control.sock`; empty for the daemon's own.
    pub control_group: String,
    /// Users, and groups with an `@` before them, whose clients alone may read tracks, whatever the file's permissions; empty for
    /// all that these let in.
    pub tracks_allow: Vec<String>,
    /// The same for those that give commands.
    pub control_allow: Vec<String>,
    /// Clients of each socket at once, 1 to 10,000.
    pub max_clients: usize,
    /// Reports kept for a client that does not keep up, 1 to 1,000.
    pub queue: usize,
    /// Milliseconds for which a client may take no byte before it is dropped, 100 to 600,000.
    pub write_timeout_ms: u64,
}
