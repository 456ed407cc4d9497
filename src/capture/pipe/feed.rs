//! What writes frames: a named pipe that some program opens, or a command that is started here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::capture::{CameraConfig, SourceError};

/// Bytes of a pipe, so that a frame takes few reads: what an unprivileged user may ask for.
const PIPE_BYTES: i32 = 1 << 20;
/// How long a command may take to end, by itself and when it is told to.
const ENDING: Duration = Duration::from_millis(500);
const GLANCE: Duration = Duration::from_millis(10);
/// Bytes of the last line that a command said, at most, and pieces of what it says that are heard at once.
const MOST_SAID: usize = 200;
const MOST_HEARD: usize = 16;

/// Where the bytes come from.
pub struct Feed {
    /// For people.
    name: String,
    from: From,
    /// Whether anything came yet: nobody may have opened a named pipe so far.
    is_fed: bool,
}

enum From {
    Named(File),
    Command(Box<Running>),
}

struct Running {
    child: Child,
    out: ChildStdout,
    /// What it says of itself, until it closes that.
    err: Option<ChildStderr>,
    /// The line that it says at present.
    line: Vec<u8>,
    /// The last that was not empty.
    said: String,
}

/// What reading came to.
pub enum Fed {
    Bytes,
    /// Nothing before the deadline.
    Nothing,
}

impl Feed {
    pub fn open(config: &CameraConfig) -> Result<Feed, SourceError> {
        let (name, from) = match &config.command[..] {
            [] => (config.device.clone(), From::Named(open_named(&config.device)?)),
            [program, arguments @ ..] => {
                (program.clone(), From::Command(Box::new(Running::start(program, arguments)?)))
            }
        };
        // A smaller pipe serves too.
        let _ = fcntl(from.fd(), FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        Ok(Feed { name, from, is_fed: false })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a named pipe, and no command.
    pub fn is_named(&self) -> bool {
        matches!(self.from, From::Named(_))
    }

    /// Appends up to `most` bytes to `into`, as soon as there are some.
    ///
    /// # Errors
    /// When what writes has ended, or the system says so.
    pub fn read(&mut self, into: &mut Vec<u8>, most: usize, deadline: Instant) -> Result<Fed, SourceError> {
        loop {
            if let From::Command(running) = &mut self.from {
                running.listen();
            }
            let before = into.len();
            into.resize(before + most.min(PIPE_BYTES as usize), 0);
            let read = self.from.read(&mut into[before..]);
            into.truncate(before + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) if self.is_fed || matches!(self.from, From::Command(_)) => return Err(self.ended()),
                Ok(0) => sleep(GLANCE.min(deadline.saturating_duration_since(Instant::now()))),
                Ok(_) => {
                    self.is_fed = true;
                    return Ok(Fed::Bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(deadline)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SourceError::from_io(&self.name, "reading", error)),
            }
            if Instant::now() >= deadline {
                return Ok(Fed::Nothing);
            }
        }
    }

    /// Waits until there is something to read.
    fn wait(&self, deadline: Instant) -> Result<(), SourceError> {
        let mut fds = vec![PollFd::new(self.from.fd(), PollFlags::POLLIN)];
        if let From::Command(running) = &self.from {
            fds.extend(running.err.as_ref().map(|err| PollFd::new(err.as_fd(), PollFlags::POLLIN)));
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(SourceError::from_io(&self.name, "waiting", error.into())),
        }
    }

    fn ended(&mut self) -> SourceError {
        let name = &self.name;
        SourceError::Ended(match &mut self.from {
            From::Named(_) => format!("{name}: the program that writes to it has closed it"),
            From::Command(running) => {
                let status =
                    running.end().map_or_else(|| "closed its output".into(), |status| format!("ended, {status}"));
                let said = if running.said.is_empty() { String::new() } else { format!(": {}", running.said) };
                format!("`{name}` {status}{said}")
            }
        })
    }
}

impl From {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            From::Named(file) => file.as_fd(),
            From::Command(running) => running.out.as_fd(),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            From::Named(file) => file.read(into),
            From::Command(running) => running.out.read(into),
        }
    }
}

fn open_named(path: &str) -> Result<File, SourceError> {
    // Whoever writes to it may come later.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(|error| SourceError::from_io(path, "opening", error))?;
    let kind = file.metadata().map_err(|error| SourceError::from_io(path, "opening", error))?.file_type();
    if !kind.is_fifo() {
        return Err(SourceError::Unsupported(format!("{path} is no named pipe; `mkfifo` makes one")));
    }
    Ok(file)
}

impl Running {
    fn start(program: &str, arguments: &[String]) -> Result<Running, SourceError> {
        let mut command = Command::new(program);
        // In a group of its own: what it starts ends with it.
        command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = || format!("starting `{program}`");
        let mut child = command.spawn().map_err(|source| SourceError::Io { what: what(), source })?;
        let (out, err) = (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
        for fd in [out.as_fd(), err.as_fd()] {
            let set = fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            set.map_err(|source| SourceError::Io { what: what(), source: source.into() })?;
        }
        Ok(Running { child, out, err: Some(err), line: Vec::new(), said: String::new() })
    }

    /// Takes in what it says of itself, so that it never waits for that to be read.
    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        // One that never stops talking is not listened to for ever.
        for _ in 0..MOST_HEARD {
            let Some(err) = &mut self.err else { return };
            match err.read(&mut bytes) {
                Ok(0) => self.err = None,
                Ok(read) => self.hear(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !matches!(byte, b'\n' | b'\r') {
                if self.line.len() < MOST_SAID {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line);
            if !line.trim().is_empty() {
                log::debug!("process {}: {line}", self.child.id());
                line.trim().clone_into(&mut self.said);
            }
            self.line.clear();
        }
    }

    /// How it ended, where it does so within a moment.
    fn end(&mut self) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + ENDING;
        loop {
            self.listen();
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.listen();
                    self.hear(b"\n");
                    return Some(status);
                }
                Ok(None) if Instant::now() < until => sleep(GLANCE),
                _ => return None,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id().cast_signed());
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = killpg(group, Signal::SIGTERM);
            let _ = self.end();
        }
        // Those of its group that are left, too.
        let _ = killpg(group, Signal::SIGKILL);
        // One that changed its user may not be ended from here.
        if self.end().is_none() {
            log::warn!("process {} does not end", self.child.id());
        }
    }
}
