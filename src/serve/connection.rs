//! One client: its socket, what it wrote and was not yet read, what it is yet to be sent.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::encode::Line;
use super::lines::{LineReader, TooLong};
use super::peers::Peer;
use super::subscription::Subscription;
use super::wire::{ErrorLine, Gap, MAX_COMMAND_IN, MAX_LINE_IN, ServerLine};
use crate::types::command::ErrorCode;

/// Answers that may wait for a client to take them. With as many, its next lines are left unread.
const MAX_REPLIES: usize = 64;

pub struct Connection {
    /// Ascends in the order in which clients came.
    pub id: u64,
    pub role: Role,
    pub peer: Peer,
    stream: UnixStream,
    input: LineReader,
    /// The client writes no more.
    read_closed: bool,
    output: Output,
    /// Why the connection is over, once it is.
    gone: Option<String>,
}

/// What a client may do, by the socket that it came to.
pub enum Role {
    Tracks(Subscription),
    /// While `busy`, one of its commands is being carried out. The next is not looked at before that is
    /// answered, so answers come in the order of the commands.
    Control {
        busy: bool,
    },
}

struct Output {
    /// Lines that are never dropped: greetings, states, answers, errors. They go before `reports`.
    replies: VecDeque<Line>,
    /// Bounded by `capacity`; the oldest is dropped when another comes.
    reports: VecDeque<Line>,
    capacity: usize,
    /// Reports lost since the client was last told.
    lost: u64,
    /// The line that is being written, and how much of it has gone.
    current: Option<(Line, usize)>,
    /// The socket took no more bytes at the last try.
    blocked: bool,
    /// The client reads no more: what is meant for it is discarded.
    deaf: bool,
    /// Since when the client has taken nothing though something waits for it.
    stalled_since: Option<Instant>,
}

impl Connection {
    /// Takes over a stream that is non-blocking. `capacity` is that of the queue of reports.
    pub fn new(id: u64, peer: Peer, stream: UnixStream, role: Role, capacity: usize) -> Connection {
        let longest = if matches!(role, Role::Tracks(_)) { MAX_LINE_IN } else { MAX_COMMAND_IN };
        let output = Output {
            replies: VecDeque::new(),
            reports: VecDeque::new(),
            capacity: capacity.max(1),
            lost: 0,
            current: None,
            blocked: false,
            deaf: false,
            stalled_since: None,
        };
        Connection { id, role, peer, stream, input: LineReader::new(longest), read_closed: false, output, gone: None }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Bytes of the longest line that is read from it.
    pub fn longest_line(&self) -> usize {
        self.input.limit()
    }

    /// Why the connection is over; `None` while it lives.
    pub fn gone(&self) -> Option<&str> {
        self.gone.as_deref()
    }

    pub fn close(&mut self, why: impl Into<String>) {
        self.gone.get_or_insert(why.into());
    }

    fn is_busy(&self) -> bool {
        matches!(self.role, Role::Control { busy: true })
    }

    /// Whether the daemon would act on more lines now.
    fn accepts_lines(&self) -> bool {
        self.gone.is_none() && !self.is_busy() && self.output.replies.len() < MAX_REPLIES
    }

    pub fn wants_to_read(&self) -> bool {
        self.accepts_lines() && !self.read_closed
    }

    pub fn wants_to_write(&self) -> bool {
        self.gone.is_none() && self.output.blocked
    }

    /// Whether [`Connection::next_line`] may give a line without anything more being read.
    pub fn has_lines(&self) -> bool {
        self.accepts_lines() && self.input.has_more()
    }

    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        if self.has_lines() { self.input.next_line() } else { None }
    }

    /// Takes what the client wrote, at most the length of `scratch`.
    pub fn read(&mut self, scratch: &mut [u8]) {
        match self.stream.read(scratch) {
            Ok(0) => self.read_closed = true,
            Ok(n) => self.input.push(&scratch[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => self.close(error.to_string()),
        }
    }

    /// Notes that the client has closed its end whole.
    pub fn hung_up(&mut self) {
        if self.read_closed || !self.wants_to_read() {
            self.close("it hung up");
        }
    }

    /// Closes a control connection to which nothing more can come. A reader of tracks may have shut down its
    /// writing half from the start.
    pub fn close_if_done(&mut self) {
        let control = matches!(self.role, Role::Control { busy: false });
        if control && self.read_closed && !self.input.has_more() && self.is_drained() {
            self.close("it asked for nothing more");
        }
    }

    pub fn reply(&mut self, line: &ServerLine) {
        self.reply_bytes(line.to_bytes().into());
    }

    pub fn reply_bytes(&mut self, line: Line) {
        if !self.output.deaf {
            self.output.replies.push_back(line);
        }
    }

    /// Queues a report. Where the queue is full though the socket was tried once more, the oldest is dropped.
    /// Returns how many were lost: 0 or 1. `None` is a report that has no line, and counts as lost.
    pub fn offer(&mut self, line: Option<Line>, now: Instant) -> u64 {
        if self.output.is_full() {
            // Many reports may come at once, and to a client that keeps up none of them is too much.
            self.write(now);
        }
        let full = self.output.is_full();
        let lost = u64::from(full || line.is_none());
        if let Some(line) = line {
            if full {
                self.output.reports.pop_front();
            }
            self.output.reports.push_back(line);
        }
        self.lose(lost);
        lost
    }

    /// Notes that `count` reports were lost before they came to this client's queue.
    pub fn lose(&mut self, count: u64) {
        self.output.lost += count;
    }

    /// Forgets queued reports, because a new state is about to replace them. What was lost is told before it.
    pub fn clear_reports(&mut self) {
        self.output.reports.clear();
        if let Some(gap) = self.output.take_gap() {
            self.reply_bytes(gap);
        }
    }

    /// Whether nothing is on its way to the client, or being made for it.
    pub fn is_finished(&self) -> bool {
        self.is_drained() && !self.is_busy()
    }

    fn is_drained(&self) -> bool {
        let output = &self.output;
        output.current.is_none() && output.replies.is_empty() && output.reports.is_empty() && output.lost == 0
    }

    /// Notes that the socket takes bytes again.
    pub fn unblock(&mut self) {
        self.output.blocked = false;
    }

    /// Writes as much as the socket takes.
    pub fn write(&mut self, now: Instant) {
        if self.gone.is_some() || self.output.blocked {
            return;
        }
        while let Some((line, sent)) = self.output.take_current() {
            match self.stream.write(&line[sent..]) {
                Ok(n) => {
                    self.output.stalled_since = None;
                    if sent + n < line.len() {
                        self.output.current = Some((line, sent + n));
                    }
                }
                Err(error) => {
                    self.output.current = Some((line, sent));
                    match error.kind() {
                        ErrorKind::Interrupted => {}
                        ErrorKind::WouldBlock => {
                            self.output.blocked = true;
                            self.output.stalled_since.get_or_insert(now);
                            return;
                        }
                        // A controller that gave its commands and left may have lines that are not yet read.
                        _ if self.wants_to_read() && matches!(self.role, Role::Control { .. }) => {
                            self.output.deafen();
                            return;
                        }
                        _ => return self.close(error.to_string()),
                    }
                }
            }
        }
    }

    /// When the client is to be given up unless it takes something.
    pub fn stall_deadline(&self, timeout: Duration) -> Option<Instant> {
        self.output.stalled_since.map(|since| since + timeout)
    }

    /// Gives up a client that took no byte for `timeout`, and tells it so where that is possible.
    pub fn check_stall(&mut self, timeout: Duration, now: Instant) {
        if self.gone.is_some() || self.stall_deadline(timeout).is_none_or(|deadline| now < deadline) {
            return;
        }
        // The kernel calls a socket writable only once most of its buffer is free: ask again before judging.
        self.unblock();
        self.write(now);
        if self.stall_deadline(timeout).is_none_or(|deadline| now < deadline) {
            return;
        }
        let why = format!("it took no byte for {} ms", timeout.as_millis());
        self.output.reports.clear();
        self.output.replies.clear();
        self.reply(&ServerLine::Error(ErrorLine::new(ErrorCode::TooSlow, format!("closed, because {why}"))));
        // A larger buffer takes the last words, for the client to find if it wakes.
        if nix::sys::socket::setsockopt(&self.stream, nix::sys::socket::sockopt::SndBuf, &(1 << 20)).is_ok() {
            self.unblock();
            self.write(now);
        }
        self.close(why);
    }
}

impl Output {
    fn is_full(&self) -> bool {
        self.reports.len() >= self.capacity
    }

    fn deafen(&mut self) {
        self.deaf = true;
        self.current = None;
        self.replies.clear();
    }

    /// The line to write next, and how much of it has gone. A gap stands where the lost reports would have.
    fn take_current(&mut self) -> Option<(Line, usize)> {
        if let Some(current) = self.current.take() {
            return Some(current);
        }
        if let Some(reply) = self.replies.pop_front() {
            return Some((reply, 0));
        }
        self.take_gap().or_else(|| self.reports.pop_front()).map(|line| (line, 0))
    }

    /// The line that tells of lost reports, if any were.
    fn take_gap(&mut self) -> Option<Line> {
        let dropped = std::mem::take(&mut self.lost);
        (dropped > 0).then(|| ServerLine::Gap(Gap { dropped }).to_bytes().into())
    }
}
