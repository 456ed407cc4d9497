//! The daemon, as the commands reach it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::exit::{Kind, failure};
use crate::serve::client::{ClientError, ControlClient, TracksClient, control_path, tracks_path};
use crate::serve::wire::{CONTROL_SOCKET, TRACKS_SOCKET};
use crate::types::command::CameraStatus;

/// How long the daemon may take to answer. A tag waits for a frame, and a reload for a model.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between one attempt and the next.
const PAUSE: Duration = Duration::from_millis(50);

/// Which daemon is meant.
#[derive(Debug, clap::Args)]
pub struct Daemon {
    /// Folder of the daemon's sockets [default: $TAGALONG_SOCKET_DIR, or /run/tagalong]
    #[arg(long, value_name = "DIR", global = false)]
    socket_dir: Option<PathBuf>,
    /// Wait so long for a daemon that starts, and for its cameras' first frames [default: 0]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait: Option<u64>,
}

impl Daemon {
    /// Connects to give commands.
    ///
    /// # Errors
    /// Says how to start a daemon where there is none, and whom to ask where this user may not.
    pub fn control(&self) -> anyhow::Result<ControlClient> {
        let path = self.socket_dir.as_ref().map_or_else(control_path, |folder| folder.join(CONTROL_SOCKET));
        let deadline = self.deadline();
        let connect = || ControlClient::connect(&path, TIMEOUT);
        let mut client = patiently(deadline, connect).map_err(|error| explain(error, &path, "serve.control_group"))?;
        while Instant::now() < deadline && client.status()?.cameras.iter().any(awaits_frame) {
            std::thread::sleep(PAUSE);
        }
        Ok(client)
    }

    /// Connects to read tracks.
    ///
    /// # Errors
    /// As [`Daemon::control`].
    pub fn tracks(&self) -> anyhow::Result<TracksClient> {
        let path = self.socket_dir.as_ref().map_or_else(tracks_path, |folder| folder.join(TRACKS_SOCKET));
        let connect = || TracksClient::connect(&path, TIMEOUT);
        patiently(self.deadline(), connect).map_err(|error| explain(error, &path, "serve.tracks_group"))
    }

    /// Until when a daemon that starts is waited for.
    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.wait.unwrap_or(0))
    }
}

/// Whether commands find no frame of the camera yet, but soon will: a slow model is still busy with the first one.
fn awaits_frame(camera: &CameraStatus) -> bool {
    camera.state == "waiting" || (camera.state == "streaming" && camera.reported == 0)
}

/// Connects, again and again until the deadline while nobody listens yet.
fn patiently<T>(deadline: Instant, connect: impl Fn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    loop {
        match connect() {
            Err(ClientError::Connect { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

fn explain(error: ClientError, path: &Path, group_key: &str) -> anyhow::Error {
    let path = path.display();
    let ClientError::Connect { source, .. } = &error else { return error.into() };
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let message = format!(
                "no daemon answers at {path}; start one with `tagalong run --config FILE` or \
                 `systemctl start tagalong`, or name the folder of its sockets with --socket-dir"
            );
            failure(Kind::Unavailable, message)
        }
        io::ErrorKind::PermissionDenied => {
            let message = format!(
                "this user may not open {path}; be its owner or root, or set `{group_key}` in the daemon's \
                 configuration to a group of this user"
            );
            failure(Kind::Permission, message)
        }
        _ => error.into(),
    }
}
