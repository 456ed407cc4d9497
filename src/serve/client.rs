//! The other end of the two sockets: reads tracks, and gives commands.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lines::LineReader;
use super::wire::{
    AnswerLine, CONTROL_SOCKET, ClientLine, CommandId, ErrorLine, Gap, Hello, MAX_LINE_OUT, PROTOCOL, ServerLine,
    Subscribe, Subscribed, TRACKS_SOCKET, Tracks,
};
use crate::types::command::{GalleryObject, ListedTrack, Status};
use crate::types::report::Track;
use crate::types::{Answer, Command, CommandError, Seed, TrackId};

/// Where the sockets are unless something else is asked for.
pub const DEFAULT_FOLDER: &str = "/run/tagalong";

/// Names the folder of the sockets in the environment.
pub const FOLDER_VARIABLE: &str = "TAGALONG_SOCKET_DIR";

/// The path of `tracks.sock` after the environment, or the usual one.
pub fn tracks_path() -> PathBuf {
    socket_folder().join(TRACKS_SOCKET)
}

/// The path of `control.sock` after the environment, or the usual one.
pub fn control_path() -> PathBuf {
    socket_folder().join(CONTROL_SOCKET)
}

/// Why a client has nothing to give.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {path}: {source}; is the daemon running, and may this user open the socket?")]
    Connect { path: PathBuf, source: io::Error },
    #[error("the connection to the daemon broke: {0}")]
    Io(#[from] io::Error),
    #[error("the daemon closed the connection")]
    Closed,
    #[error("the daemon sent nothing in time")]
    Timeout,
    #[error("the daemon sent a line that is not of the protocol: {0}")]
    Malformed(String),
    #[error("the daemon speaks protocol version {theirs}, and this client version {ours}; use those of one release")]
    Version { theirs: u32, ours: u32 },
    #[error("{0}")]
    Refused(CommandError),
}

/// What a reader of tracks is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Tracks(Tracks),
    /// What follows is after a [`TracksClient::subscribe`].
    Subscribed(Subscribed),
    /// Reports are missing here.
    Gap(Gap),
    Error(ErrorLine),
}

/// A reader of `tracks.sock`.
#[derive(Debug)]
pub struct TracksClient {
    lines: LineStream,
    hello: Hello,
}

impl TracksClient {
    /// Connects and reads the daemon's greeting, waiting at most `timeout`.
    ///
    /// # Errors
    /// When nobody answers there, or it is not a daemon of this protocol's major version.
    pub fn connect(path: &Path, timeout: Duration) -> Result<TracksClient, ClientError> {
        let (lines, hello) = LineStream::connect(path, timeout)?;
        Ok(TracksClient { lines, hello })
    }

    /// The daemon's greeting.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks for other reports than every camera's boxes. [`Event::Subscribed`] or [`Event::Error`] answers.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn subscribe(&mut self, wants: Subscribe) -> Result<(), ClientError> {
        self.lines.send(&ClientLine::Subscribe(wants))
    }

    /// The next event; `None` once the daemon has closed the connection.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when nothing came for `timeout`, and [`ClientError::Malformed`]: call again.
    /// With any other error the connection is broken.
    pub fn next_event(&mut self, timeout: Duration) -> Result<Option<Event>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            return match self.lines.next_line(deadline) {
                Ok(ServerLine::Tracks(tracks)) => Ok(Some(Event::Tracks(tracks))),
                Ok(ServerLine::Subscribed(subscribed)) => Ok(Some(Event::Subscribed(subscribed))),
                Ok(ServerLine::Gap(gap)) => Ok(Some(Event::Gap(gap))),
                Ok(ServerLine::Error(error)) => Ok(Some(Event::Error(error))),
                Ok(ServerLine::Hello(_) | ServerLine::Answer(_) | ServerLine::Unknown) => continue,
                Err(ClientError::Closed) => Ok(None),
                Err(error) => Err(error),
            };
        }
    }

    /// Every event until the connection ends or breaks. A quiet camera is waited for without end.
    pub fn events(mut self) -> impl Iterator<Item = Result<Event, ClientError>> {
        let mut broken = false;
        std::iter::from_fn(move || {
            while !broken {
                match self.next_event(Duration::from_secs(3600)) {
                    Err(ClientError::Timeout) => continue,
                    Ok(event) => return event.map(Ok),
                    Err(error) => {
                        broken = !matches!(error, ClientError::Malformed(_));
                        return Some(Err(error));
                    }
                }
            }
            None
        })
    }
}

/// A `tag`'s answer: where the object was tagged, and its track.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagged {
    pub camera: String,
    pub seq: u64,
    pub track: Track,
}

/// A picture of a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub camera: String,
    pub seq: u64,
    /// Width, height in pixels.
    pub size: [usize; 2],
    pub jpeg: Vec<u8>,
}

/// What a `reload` changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// Keys of the configuration that took effect.
    pub applied: Vec<String>,
    /// Keys that take effect with the next start.
    pub restart_needed: Vec<String>,
}

/// A giver of commands on `control.sock`. Every method waits for its answer at most the timeout of `connect`.
#[derive(Debug)]
pub struct ControlClient {
    lines: LineStream,
    hello: Hello,
    timeout: Duration,
    last_id: i64,
}

impl ControlClient {
    /// Connects and reads the daemon's greeting, waiting at most `timeout`.
    ///
    /// # Errors
    /// When nobody answers there, or it is not a daemon of this protocol's major version.
    pub fn connect(path: &Path, timeout: Duration) -> Result<ControlClient, ClientError> {
        let (lines, hello) = LineStream::connect(path, timeout)?;
        Ok(ControlClient { lines, hello, timeout, last_id: 0 })
    }

    /// The daemon's greeting.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Gives any command, and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the daemon did not carry it out; otherwise the connection is at fault.
    pub fn call(&mut self, command: &Command) -> Result<Answer, ClientError> {
        self.last_id += 1;
        let expected = CommandId::Number(self.last_id);
        let deadline = Instant::now() + self.timeout;
        self.lines.send(&ClientLine::command(expected.clone(), command))?;
        loop {
            match self.lines.next_line(deadline)? {
                ServerLine::Answer(AnswerLine { id, answer, .. }) if id == expected => return Ok(answer),
                // An error without an id is one of the connection: the client is too slow, say.
                ServerLine::Error(error) if error.id.as_ref().is_none_or(|id| *id == expected) => {
                    return Err(ClientError::Refused(error.into()));
                }
                // The answer to an earlier command, which came too late.
                _ => {}
            }
        }
    }

    /// Gives an object an identity. `camera` may be `None` where there is one only; `seq` for the newest frame. With `save` it is
    /// put into the gallery, too.
    pub fn tag(
        &mut self,
        camera: Option<&str>,
        seed: Seed,
        name: Option<&str>,
        seq: Option<u64>,
        save: bool,
    ) -> Result<Tagged, ClientError> {
        let (camera, name) = (camera.map(str::to_owned), name.map(str::to_owned));
        self.tagged(&Command::Tag { camera, seed, name, seq, save })
    }

    /// Makes what the gallery knows by `name` a track, where a camera sees it now.
    pub fn recognise(&mut self, camera: Option<&str>, name: &str) -> Result<Tagged, ClientError> {
        self.tagged(&Command::Recognise { camera: camera.map(str::to_owned), name: name.to_owned() })
    }

    /// Makes a proposal a tag, under the name that it has or another. With `save` it is put into the gallery, too.
    pub fn accept(&mut self, proposal: TrackId, name: Option<&str>, save: bool) -> Result<Tagged, ClientError> {
        self.tagged(&Command::Accept { id: proposal, name: name.map(str::to_owned), save })
    }

    fn tagged(&mut self, command: &Command) -> Result<Tagged, ClientError> {
        match self.call(command)? {
            Answer::Tagged { camera, seq, track } => Ok(Tagged { camera, seq, track }),
            other => Err(unexpected("tag", &other)),
        }
    }

    /// Asks for the gallery, or has something done to it, and returns what it is then: with [`Command::Gallery`],
    /// [`Command::Save`], and those that rename, merge, forget and import.
    pub fn gallery(&mut self, command: &Command) -> Result<Vec<GalleryObject>, ClientError> {
        match self.call(command)? {
            Answer::Gallery { gallery } => Ok(gallery),
            other => Err(unexpected("gallery", &other)),
        }
    }

    /// What another gallery takes in of an object of this one.
    pub fn gallery_export(&mut self, name: &str) -> Result<Vec<u8>, ClientError> {
        use base64::Engine;
        match self.call(&Command::GalleryExport { name: name.to_owned() })? {
            Answer::Exported { object_base64, .. } => base64::engine::general_purpose::STANDARD
                .decode(object_base64)
                .map_err(|error| ClientError::Malformed(format!("object_base64: {error}"))),
            other => Err(unexpected("gallery_export", &other)),
        }
    }

    /// Ends a track. Returns what was removed.
    pub fn untag(&mut self, id: TrackId) -> Result<Vec<TrackId>, ClientError> {
        match self.call(&Command::Untag { id })? {
            Answer::Removed { removed } => Ok(removed),
            other => Err(unexpected("untag", &other)),
        }
    }

    /// Gives a track another name.
    pub fn rename(&mut self, id: TrackId, name: &str) -> Result<(), ClientError> {
        match self.call(&Command::Rename { id, name: name.to_owned() })? {
            Answer::Renamed { .. } => Ok(()),
            other => Err(unexpected("rename", &other)),
        }
    }

    /// Ends every track of a camera, or of all. Returns what was removed.
    pub fn reset(&mut self, camera: Option<&str>) -> Result<Vec<TrackId>, ClientError> {
        match self.call(&Command::Reset { camera: camera.map(str::to_owned) })? {
            Answer::Removed { removed } => Ok(removed),
            other => Err(unexpected("reset", &other)),
        }
    }

    /// The tracks of a camera, or of all.
    pub fn list(&mut self, camera: Option<&str>) -> Result<Vec<ListedTrack>, ClientError> {
        match self.call(&Command::List { camera: camera.map(str::to_owned) })? {
            Answer::Listed { tracks } => Ok(tracks),
            other => Err(unexpected("list", &other)),
        }
    }

    /// The daemon's health.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.call(&Command::Status)? {
            Answer::Status(status) => Ok(*status),
            other => Err(unexpected("status", &other)),
        }
    }

    /// The newest frame of a camera, its masks drawn over it.
    pub fn snapshot(&mut self, camera: Option<&str>) -> Result<Snapshot, ClientError> {
        use base64::Engine;
        match self.call(&Command::Snapshot { camera: camera.map(str::to_owned) })? {
            Answer::Snapshot { camera, seq, size, jpeg_base64 } => {
                let jpeg = base64::engine::general_purpose::STANDARD.decode(jpeg_base64);
                let jpeg = jpeg.map_err(|error| ClientError::Malformed(format!("jpeg_base64: {error}")))?;
                Ok(Snapshot { camera, seq, size, jpeg })
            }
            other => Err(unexpected("snapshot", &other)),
        }
    }

    /// Has the daemon read its configuration again.
    pub fn reload(&mut self) -> Result<Reloaded, ClientError> {
        match self.call(&Command::Reload)? {
            Answer::Reloaded { applied, restart_needed } => Ok(Reloaded { applied, restart_needed }),
            other => Err(unexpected("reload", &other)),
        }
    }
}

/// A socket, line by line.
#[derive(Debug)]
struct LineStream {
    stream: UnixStream,
    reader: LineReader,
    waiting: VecDeque<Vec<u8>>,
    /// 64 KiB.
    scratch: Vec<u8>,
}

impl LineStream {
    fn connect(path: &Path, timeout: Duration) -> Result<(LineStream, Hello), ClientError> {
        let failed = |source| ClientError::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_write_timeout(Some(timeout.max(Duration::from_millis(1)))).map_err(failed)?;
        let reader = LineReader::new(MAX_LINE_OUT);
        let mut lines = LineStream { stream, reader, waiting: VecDeque::new(), scratch: vec![0; 64 * 1024] };
        match lines.next_line(Instant::now() + timeout)? {
            ServerLine::Hello(hello) if hello.protocol.major == PROTOCOL.major => Ok((lines, hello)),
            ServerLine::Hello(hello) => {
                Err(ClientError::Version { theirs: hello.protocol.major, ours: PROTOCOL.major })
            }
            ServerLine::Error(error) => Err(ClientError::Refused(error.into())),
            _ => Err(ClientError::Malformed("it does not begin with `hello`".into())),
        }
    }

    fn send(&mut self, line: &ClientLine) -> Result<(), ClientError> {
        self.stream.write_all(&line.to_bytes()).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ClientError::Timeout,
            _ => ClientError::Io(error),
        })
    }

    fn next_line(&mut self, deadline: Instant) -> Result<ServerLine, ClientError> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return serde_json::from_slice(&line).map_err(|error| ClientError::Malformed(error.to_string()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.stream.read(&mut self.scratch) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(n) => self.reader.push(&self.scratch[..n]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if left.is_zero() => return Err(ClientError::Timeout),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Err(ClientError::Closed),
                    _ => return Err(ClientError::Io(error)),
                },
            }
            while let Some(line) = self.reader.next_line() {
                // The daemon keeps the limit; a line beyond it is left out like any that is not understood.
                self.waiting.extend(line.ok());
            }
        }
    }
}

fn socket_folder() -> PathBuf {
    std::env::var_os(FOLDER_VARIABLE)
        .filter(|folder| !folder.is_empty())
        .unwrap_or_else(|| DEFAULT_FOLDER.into())
        .into()
}

fn unexpected(command: &str, answer: &Answer) -> ClientError {
    ClientError::Malformed(format!("`{command}` was answered by {answer:?}").chars().take(200).collect())
}
