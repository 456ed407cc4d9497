//! The two listening sockets: made where the configuration says, or taken over from the service manager.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::unistd::Group;

use super::ServeConfig;
use super::peers::{Access, Entrance};
use super::wire::{CONTROL_SOCKET, TRACKS_SOCKET};

/// Why the sockets cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot make the folder {path} for the sockets: {source}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("`{key}` is {value:?}; give permissions as three or four octal digits, such as \"0660\"")]
    Mode { key: &'static str, value: String },
    #[error("`{key}` names the group {name:?}, which does not exist here; `getent group` lists those that do")]
    Group { key: &'static str, name: String },
    #[error("`{key}` names the user {name:?}, who does not exist here; `getent passwd` lists those that do")]
    User { key: &'static str, name: String },
    #[error("{path} is in use by another daemon; stop it, or serve in another folder")]
    InUse { path: PathBuf },
    #[error("{path} exists and is not a socket; it is left alone: move it away, or serve in another folder")]
    NotASocket { path: PathBuf },
    #[error("cannot {action} {path}: {source}")]
    Socket { path: PathBuf, action: &'static str, source: io::Error },
    #[error("cannot take over the sockets of the service manager: {0}")]
    Activation(String),
    #[error("cannot start to serve: {0}")]
    Start(io::Error),
}

/// Listening sockets that the service manager opened. What is absent is made from the configuration.
#[derive(Debug, Default)]
pub struct Activated {
    pub tracks: Option<UnixListener>,
    pub control: Option<UnixListener>,
}

impl Activated {
    /// Whether nothing is left to be made.
    pub fn is_complete(&self) -> bool {
        self.tracks.is_some() && self.control.is_some()
    }

    /// Takes the sockets that systemd passed to this process, if it did. Call it once, before threads are
    /// started: it reads and clears the process's environment.
    ///
    /// # Errors
    /// When what was passed is not one or two listening Unix stream sockets.
    #[cfg(target_os = "linux")]
    pub fn from_environment() -> Result<Activated, ServeError> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut listeners = Vec::new();
        for index in 0..passed.len() {
            let listener = passed.take_unix_listener(index).map_err(|e| ServeError::Activation(e.to_string()))?;
            listeners.extend(listener);
        }
        Activated::assign(listeners)
    }

    /// Tells the sockets apart by the file name that each listens on; those that have neither name are
    /// `tracks.sock` first, then `control.sock`.
    ///
    /// # Errors
    /// When there are more than two, or two of one name.
    pub fn assign(listeners: Vec<UnixListener>) -> Result<Activated, ServeError> {
        let mut activated = Activated::default();
        let mut unnamed = Vec::new();
        for listener in listeners {
            let name = listener
                .local_addr()
                .ok()
                .and_then(|address| address.as_pathname()?.file_name()?.to_str().map(String::from));
            let place = match name.as_deref() {
                Some(TRACKS_SOCKET) => &mut activated.tracks,
                Some(CONTROL_SOCKET) => &mut activated.control,
                _ => {
                    unnamed.push(listener);
                    continue;
                }
            };
            if place.replace(listener).is_some() {
                let name = name.unwrap_or_default();
                return Err(ServeError::Activation(format!("there are two of the name {name}; pass one")));
            }
        }
        let mut unnamed = unnamed.into_iter();
        for place in [&mut activated.tracks, &mut activated.control] {
            if place.is_none() {
                *place = unnamed.next();
            }
        }
        match unnamed.count() {
            0 => Ok(activated),
            more => Err(ServeError::Activation(format!(
                "there are {more} too many; pass {TRACKS_SOCKET} and {CONTROL_SOCKET} only"
            ))),
        }
    }
}

/// A listening socket, non-blocking. A file that we made is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    pub socket: UnixListener,
    /// Who is let in.
    pub entrance: Entrance,
    /// Kept for what its drop does.
    _made: Option<MadeFile>,
}

/// The two sockets that are served.
#[derive(Debug)]
pub struct Listeners {
    pub tracks: Listener,
    pub control: Listener,
}

impl Listeners {
    /// Takes over what was passed, and makes the rest.
    ///
    /// # Errors
    /// When a path is taken by something alive or by what is not a socket, or cannot be made as configured.
    pub fn open(folder: &Path, access: &Access, activated: Activated) -> Result<Listeners, ServeError> {
        let open = |passed: Option<UnixListener>, name: &str, entrance: &Entrance| match passed {
            Some(socket) => {
                socket.set_nonblocking(true).map_err(|e| ServeError::Activation(e.to_string()))?;
                Ok(Listener { socket, entrance: entrance.clone(), _made: None })
            }
            None => make(folder, name, entrance),
        };
        Ok(Listeners {
            tracks: open(activated.tracks, TRACKS_SOCKET, &access.tracks)?,
            control: open(activated.control, CONTROL_SOCKET, &access.control)?,
        })
    }
}

/// Reads permissions such as "0660"; `None` when they are not three or four octal digits.
pub fn parse_mode(text: &str) -> Option<u32> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    octal.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o777)
}

pub(super) fn check_mode(key: &'static str, value: &str) -> Result<u32, ServeError> {
    parse_mode(value).ok_or_else(|| ServeError::Mode { key, value: value.to_owned() })
}

/// What of a configuration this machine cannot serve, each as `key: problem`.
pub fn problems(config: &ServeConfig) -> Vec<String> {
    let mut problems: Vec<String> = Access::problems(config).iter().map(|error| format!("serve: {error}")).collect();
    if config.directory.exists() && !config.directory.is_dir() {
        problems.push(format!("serve.directory: {} is no folder", config.directory.display()));
    }
    problems
}

pub(super) fn find_group(key: &'static str, name: &str) -> Result<Option<u32>, ServeError> {
    if name.is_empty() {
        return Ok(None);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        _ => Err(ServeError::Group { key, name: name.to_owned() }),
    }
}

/// Makes the folder of the sockets, which all may look into.
///
/// # Errors
/// When it is not there and cannot be made.
pub fn make_folder(folder: &Path) -> Result<(), ServeError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(|source| ServeError::Folder { path: folder.to_owned(), source })
}

/// Makes a listening socket. Its permissions are set before it listens, so nobody slips in between.
fn make(folder: &Path, name: &str, entrance: &Entrance) -> Result<Listener, ServeError> {
    let path = folder.join(name);
    make_folder(folder)?;
    let _lock = lock(folder);
    clear_stale(&path)?;
    let failed = |action| {
        let path = path.clone();
        move |error: io::Error| ServeError::Socket { path, action, source: error }
    };
    let socket = stream_socket().map_err(failed("make a socket for"))?;
    let address = UnixAddr::new(&path).map_err(|e| failed("use the path")(e.into()))?;
    socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).map_err(|e| failed("bind to")(e.into()))?;
    let made = MadeFile::new(&path).map_err(failed("find"))?;
    if let Some(group) = entrance.group {
        std::os::unix::fs::chown(&path, None, Some(group)).map_err(failed("give the configured group to"))?;
    }
    fs::set_permissions(&path, Permissions::from_mode(entrance.mode)).map_err(failed("set the permissions of"))?;
    socket::listen(&socket, Backlog::MAXCONN).map_err(|e| failed("listen on")(e.into()))?;
    let socket = UnixListener::from(socket);
    socket.set_nonblocking(true).map_err(failed("listen on"))?;
    Ok(Listener { socket, entrance: entrance.clone(), _made: Some(made) })
}

/// Keeps a second daemon that starts at the same moment from taking our new socket for a stale one. Waits for
/// a second at most: whoever may read the folder could hold the lock for ever.
fn lock(folder: &Path) -> Option<File> {
    let file = File::open(folder).ok()?;
    for _ in 0..100 {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            Err(fs::TryLockError::Error(_)) => return None,
            Ok(()) => return Some(file),
        }
    }
    None
}

/// Removes what a daemon that was killed left at `path`: a socket on which nobody answers, and nothing else.
fn clear_stale(path: &Path) -> Result<(), ServeError> {
    let failed = |action, source| ServeError::Socket { path: path.to_owned(), action, source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ServeError::NotASocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match try_connect(path) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(|e| failed("remove the stale socket", e)),
        Err(Errno::ENOENT) => Ok(()),
        // A full backlog is a daemon too, if a busy one.
        Ok(()) | Err(Errno::EAGAIN) => Err(ServeError::InUse { path: path.to_owned() }),
        Err(error) => Err(failed("find out whether anyone answers on", error.into())),
    }
}

/// Connects without waiting.
fn try_connect(path: &Path) -> Result<(), Errno> {
    let stream = UnixStream::from(stream_socket().map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?);
    stream.set_nonblocking(true).map_err(|_| Errno::EIO)?;
    socket::connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &UnixAddr::new(path)?)
}

fn stream_socket() -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let flags = SockFlag::SOCK_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = SockFlag::empty();
    Ok(socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// The file of a socket that we made, removed on drop if it is still ours.
#[derive(Debug)]
struct MadeFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl MadeFile {
    fn new(path: &Path) -> io::Result<MadeFile> {
        let found = fs::symlink_metadata(path)?;
        Ok(MadeFile { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

impl Drop for MadeFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}
