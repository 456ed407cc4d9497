//! The listening sockets while they are served: who is let in, and when.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::connection::Role;
use super::listeners::Listener;
use super::wire::{ErrorLine, ServerLine};
use crate::types::command::ErrorCode;

/// How long a socket takes no clients after accepting failed, as it does when no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// Which of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tracks,
    Control,
}

impl Kind {
    pub fn of(role: &Role) -> Kind {
        match role {
            Role::Tracks(_) => Kind::Tracks,
            Role::Control { .. } => Kind::Control,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Tracks => "tracks",
            Kind::Control => "control",
        }
    }
}

/// A listening socket, and whether it takes clients at present.
pub struct Door {
    pub kind: Kind,
    listener: Listener,
    paused_until: Option<Instant>,
    /// Accepting failed the last time, and that was logged.
    failing: bool,
    /// A client was turned away since there was last room, and that was logged.
    full: bool,
}

impl Door {
    pub fn new(listener: Listener, kind: Kind) -> Door {
        Door { kind, listener, paused_until: None, failing: false, full: false }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.socket.as_fd()
    }

    /// Until when it takes no clients; `None` when it does.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Takes clients again if it is time to.
    pub fn end_pause(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
    }

    /// The next client of the backlog, its stream non-blocking; `None` when there is none, or none can be taken.
    pub fn accept(&mut self, now: Instant) -> Option<UnixStream> {
        loop {
            let accepted = self.listener.socket.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(stream)
            });
            match accepted {
                Ok(stream) => {
                    self.failing = false;
                    return Some(stream);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    ErrorKind::WouldBlock => return None,
                    _ => {
                        if !std::mem::replace(&mut self.failing, true) {
                            log::warn!("cannot take another {} client: {error}; trying on", self.kind.name());
                        }
                        // The client stays in the backlog, where it would be reported again at once, and for ever.
                        self.paused_until = Some(now + PAUSE);
                        return None;
                    }
                },
            }
        }
    }

    /// Notes that a client was let in.
    pub fn has_room(&mut self) {
        self.full = false;
    }

    /// Tells a client that there are too many, and closes.
    pub fn turn_away(&mut self, mut stream: UnixStream, present: usize) {
        if !std::mem::replace(&mut self.full, true) {
            log::warn!("a {} client was turned away: there are {present} already", self.kind.name());
        }
        let message = format!("there are {present} clients already, and no more are allowed; try again later");
        let line = ServerLine::Error(ErrorLine::new(ErrorCode::TooManyClients, message));
        // Whoever cannot take one line into an empty buffer has gone.
        let _ = stream.write_all(&line.to_bytes());
    }
}
