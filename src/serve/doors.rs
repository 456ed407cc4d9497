//! The listening sockets while they are served: who is let in, and when.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::connection::Role;
use super::listeners::Listener;
use super::peers::Peer;
use super::wire::{ErrorLine, ServerLine};
use crate::types::command::ErrorCode;

/// How long a socket takes no clients after accepting failed, as it does when no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// Users whose refusal is logged, each once.
const REFUSALS_TOLD: usize = 16;

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
    /// Users whose clients were refused, and that was logged: the first few.
    refused: Vec<Peer>,
}

impl Door {
    pub fn new(listener: Listener, kind: Kind) -> Door {
        Door { kind, listener, paused_until: None, failing: false, full: false, refused: Vec::new() }
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

    /// Whether such a client is let in.
    pub fn admits(&self, peer: Peer, stream: &UnixStream) -> bool {
        self.listener.entrance.admits(peer, stream)
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

    /// Tells a client that it is none of those who are let in, and closes.
    pub fn refuse(&mut self, stream: UnixStream, peer: Peer) {
        let known = self.refused.iter().any(|refused| refused.is_of_the_user_of(peer));
        if !known && self.refused.len() < REFUSALS_TOLD {
            self.refused.push(peer);
            log::warn!(
                "a {kind} client was refused, {peer}: `serve.{kind}_allow` does not name it",
                kind = self.kind.name()
            );
        }
        let message = format!(
            "`serve.{}_allow` of the daemon's configuration lets in neither your user nor your groups",
            self.kind.name()
        );
        part(stream, ErrorCode::NotAllowed, message);
    }

    /// Tells a client that there are too many, and closes.
    pub fn turn_away(&mut self, stream: UnixStream, present: usize) {
        if !std::mem::replace(&mut self.full, true) {
            log::warn!("a {} client was turned away: there are {present} already", self.kind.name());
        }
        let message = format!("there are {present} clients already, and no more are allowed; try again later");
        part(stream, ErrorCode::TooManyClients, message);
    }
}

/// Tells a client why, and closes.
fn part(mut stream: UnixStream, code: ErrorCode, message: String) {
    let line = ServerLine::Error(ErrorLine::new(code, message));
    // Whoever cannot take one line into an empty buffer has gone.
    let _ = stream.write_all(&line.to_bytes());
}
