//! The one thread that accepts, reads and writes every client, and waits for none.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::{Connection, Role};
use super::doors::{Door, Kind};
use super::encode::{EncodedReport, Line};
use super::lines::TooLong;
use super::listeners::Listeners;
use super::peers::Peer;
use super::request::{self, Request};
use super::socket::{Inbox, Shared};
use super::subscription::Subscription;
use super::wire::{ErrorLine, Hello, ServerLine, Subscribe};
use super::workers::Job;
use crate::types::command::ErrorCode;
use crate::types::{CommandError, TrackReport};

/// Bytes taken from one client before the next has its turn.
const READ_BYTES: usize = 64 * 1024;

/// Clients taken from one socket's backlog before the others have their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long to sleep when waiting fails, so that the log is not flooded.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// What clients are held to.
pub struct Limits {
    /// Clients of each socket at once.
    pub clients: usize,
    /// Reports kept for one client.
    pub queue: usize,
    /// How long a client may take no byte.
    pub write_timeout: Duration,
}

pub struct EventLoop {
    shared: Arc<Shared>,
    /// Readable when something waits in `shared`.
    woken: UnixStream,
    doors: Vec<Door>,
    /// In ascending order of their ids.
    connections: Vec<Connection>,
    next_id: u64,
    hello: Hello,
    hello_line: Line,
    /// The state to begin with, by camera.
    newest: BTreeMap<String, Rc<EncodedReport>>,
    jobs: Sender<Job>,
    limits: Limits,
    stop_by: Option<Instant>,
    /// READ_BYTES long.
    scratch: Vec<u8>,
}

impl EventLoop {
    pub fn new(
        shared: Arc<Shared>,
        woken: UnixStream,
        listeners: Listeners,
        hello: Hello,
        jobs: Sender<Job>,
        limits: Limits,
    ) -> EventLoop {
        let doors = vec![Door::new(listeners.tracks, Kind::Tracks), Door::new(listeners.control, Kind::Control)];
        let hello_line = ServerLine::Hello(hello.clone()).to_bytes().into();
        EventLoop {
            shared,
            woken,
            doors,
            connections: Vec::new(),
            next_id: 1,
            hello,
            hello_line,
            newest: BTreeMap::new(),
            jobs,
            limits,
            stop_by: None,
            scratch: vec![0; READ_BYTES],
        }
    }

    /// Serves until it is told to stop.
    pub fn run(mut self) {
        // Whoever sends or flushes must learn of the end, also if it comes by a panic.
        let _closing = NoteClosed(self.shared.clone());
        let mut ready_doors = Vec::new();
        loop {
            let now = Instant::now();
            self.take_inbox(now);
            // After the inbox, so that a client's state is no older than what was sent before it connected.
            for door in ready_doors {
                self.accept(door, now);
            }
            self.release_held(now);
            self.act_on_lines(now);
            for connection in &mut self.connections {
                connection.write(now);
                connection.check_stall(self.limits.write_timeout, now);
                connection.close_if_done();
            }
            self.forget_gone();
            let waiting =
                |kind| self.connections.iter().any(|client| Kind::of(&client.role) == kind && !client.is_finished());
            if !waiting(Kind::Tracks) {
                self.shared.note_drained();
            }
            if self.stop_by.is_some_and(|by| by <= now || !waiting(Kind::Tracks) && !waiting(Kind::Control)) {
                return;
            }
            ready_doors = self.wait();
        }
    }

    /// Acts on what other threads have handed over.
    fn take_inbox(&mut self, now: Instant) {
        let Inbox { reports, lost, answers, hello, stop_by, .. } = self.shared.take();
        if let Some(hello) = hello {
            self.hello_line = ServerLine::Hello(hello.clone()).to_bytes().into();
            self.hello = hello;
            let hello = &self.hello;
            self.newest.retain(|camera, _| hello.cameras.iter().any(|known| known.name == *camera));
        }
        for (camera, count) in lost {
            let mut dropped = 0;
            for connection in &mut self.connections {
                if matches!(&connection.role, Role::Tracks(subscription) if subscription.includes(&camera)) {
                    connection.lose(count);
                    dropped += count;
                }
            }
            self.shared.counters.dropped_reports.fetch_add(dropped, Ordering::Relaxed);
        }
        for report in reports {
            self.publish(&report, now);
        }
        for answer in answers {
            // The client may have gone while its command was carried out.
            if let Ok(index) = self.connections.binary_search_by_key(&answer.client, |connection| connection.id) {
                let connection = &mut self.connections[index];
                connection.role = Role::Control { busy: false };
                connection.reply_bytes(answer.line);
            }
        }
        if stop_by.is_some() && self.stop_by.is_none() {
            self.stop_by = stop_by;
            self.doors.clear();
        }
    }

    /// Queues a report for everyone who wants it now, and keeps it as its camera's state.
    fn publish(&mut self, report: &Arc<TrackReport>, now: Instant) {
        let encoded = Rc::new(EncodedReport::new(report));
        for connection in &mut self.connections {
            if let Role::Tracks(subscription) = &mut connection.role
                && subscription.admits(&encoded, now)
            {
                let masks = subscription.masks();
                offer(connection, &encoded, masks, now, &self.shared);
            }
        }
        if self.knows(&report.camera) {
            let state = encoded.without_removed().map_or(encoded, Rc::new);
            self.newest.insert(report.camera.clone(), state);
        }
    }

    /// Queues reports that came too early for their clients' rates, once their time has come.
    fn release_held(&mut self, now: Instant) {
        let closing = self.stop_by.is_some();
        for connection in &mut self.connections {
            if let Role::Tracks(subscription) = &mut connection.role {
                let masks = subscription.masks();
                for report in subscription.release(now, closing) {
                    offer(connection, &report, masks, now, &self.shared);
                }
            }
        }
    }

    /// Acts on every line that was read whole.
    fn act_on_lines(&mut self, now: Instant) {
        for index in 0..self.connections.len() {
            while let Some(line) = self.connections[index].next_line() {
                match line {
                    Ok(line) if line.trim_ascii().is_empty() => {}
                    Ok(line) => self.act_on(index, &line, now),
                    Err(TooLong) => {
                        let message = format!(
                            "the line is longer than {} bytes; its rest was skipped",
                            self.connections[index].longest_line()
                        );
                        let error = ErrorLine::new(ErrorCode::LineTooLong, message);
                        self.connections[index].reply(&ServerLine::Error(error));
                    }
                }
            }
        }
    }

    fn act_on(&mut self, index: usize, line: &[u8], now: Instant) {
        let incoming = request::read(line);
        let connection = &self.connections[index];
        let result = match (incoming.request, Kind::of(&connection.role)) {
            (Ok(Request::Subscribe(wants)), Kind::Tracks) => self.subscribe(index, wants, now),
            (Ok(Request::Command(id, command)), Kind::Control) => match (self.stop_by, incoming.class) {
                (None, Some(class)) => {
                    let job = Job { client: connection.id, peer: connection.peer, id, class, command };
                    self.hand_over(index, job)
                }
                _ => Err(CommandError::new(ErrorCode::Stopping, "the daemon is stopping; ask again when it is back")),
            },
            (Err(error), Kind::Control) => Err(error),
            (Err(error), Kind::Tracks) if matches!(incoming.class, None | Some("subscribe")) => Err(error),
            (_, Kind::Tracks) => {
                Err(CommandError::new(ErrorCode::LineNotAllowed, "commands are taken on the control socket"))
            }
            (_, Kind::Control) => {
                Err(CommandError::new(ErrorCode::LineNotAllowed, "`subscribe` is taken on the tracks socket"))
            }
        };
        if let Err(CommandError { code, message }) = result {
            let error = ErrorLine { id: incoming.id, command: incoming.class.map(str::to_owned), code, message };
            self.connections[index].reply(&ServerLine::Error(error));
        }
    }

    fn knows(&self, camera: &str) -> bool {
        self.hello.cameras.iter().any(|known| known.name == camera)
    }

    fn hand_over(&mut self, index: usize, job: Job) -> Result<(), CommandError> {
        let failed = |_| CommandError::new(ErrorCode::Failed, "nobody is left to carry out commands");
        self.jobs.send(job).map_err(failed)?;
        self.connections[index].role = Role::Control { busy: true };
        Ok(())
    }

    fn subscribe(&mut self, index: usize, wants: Subscribe, now: Instant) -> Result<(), CommandError> {
        if let Some(unknown) = wants.cameras.iter().flatten().find(|name| !self.knows(name)) {
            let names: Vec<&str> = self.hello.cameras.iter().map(|camera| camera.name.as_str()).collect();
            let message = format!("there is no camera {unknown:?}; there are: {}", names.join(", "));
            return Err(CommandError::new(ErrorCode::CameraUnknown, message));
        }
        let subscription = Subscription::new(wants);
        let connection = &mut self.connections[index];
        connection.clear_reports();
        connection.reply(&ServerLine::Subscribed(subscription.acknowledgement()));
        begin(connection, subscription, &self.newest, now);
        Ok(())
    }

    /// Takes clients from a socket's backlog.
    fn accept(&mut self, door: usize, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = self.doors.get_mut(door) else { return };
            let Some(stream) = door.accept(now) else { return };
            let (kind, peer) = (door.kind, Peer::of(&stream));
            if !door.admits(peer, &stream) {
                door.refuse(stream, peer);
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let present = self.connections.iter().filter(|connection| Kind::of(&connection.role) == kind).count();
            if present >= self.limits.clients {
                door.turn_away(stream, present);
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            door.has_room();
            self.greet(stream, peer, kind, now);
        }
    }

    fn greet(&mut self, stream: UnixStream, peer: Peer, kind: Kind, now: Instant) {
        let role = match kind {
            Kind::Tracks => Role::Tracks(Subscription::default()),
            Kind::Control => Role::Control { busy: false },
        };
        let mut connection = Connection::new(self.next_id, peer, stream, role, self.limits.queue);
        log::debug!("{} client {} came: {}", kind.name(), connection.id, connection.peer);
        self.next_id += 1;
        self.shared.counters.connected.fetch_add(1, Ordering::Relaxed);
        connection.reply_bytes(self.hello_line.clone());
        if kind == Kind::Tracks {
            begin(&mut connection, Subscription::default(), &self.newest, now);
        }
        self.connections.push(connection);
    }

    fn forget_gone(&mut self) {
        let counters = &self.shared.counters;
        self.connections.retain(|connection| {
            let Some(why) = connection.gone() else { return true };
            log::debug!("{} client {} is gone: {why}", Kind::of(&connection.role).name(), connection.id);
            counters.connected.fetch_sub(1, Ordering::Relaxed);
            false
        });
    }

    /// Waits until there is something to do, and takes what clients sent. Returns the indices of the sockets on
    /// which clients wait to be taken in.
    fn wait(&mut self) -> Vec<usize> {
        let now = Instant::now();
        self.doors.iter_mut().for_each(|door| door.end_pause(now));
        let ready = self.poll(now);
        if ready.woken {
            let mut bytes = [0; 64];
            while self.woken.read(&mut bytes).is_ok_and(|n| n == bytes.len()) {}
        }
        for (connection, flags) in self.connections.iter_mut().zip(ready.connections) {
            if flags.contains(PollFlags::POLLOUT) {
                connection.unblock();
            }
            if flags.contains(PollFlags::POLLIN) {
                connection.read(&mut self.scratch);
            } else if flags.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL) {
                connection.close("its socket failed");
            }
            if flags.contains(PollFlags::POLLHUP) {
                connection.hung_up();
            }
        }
        ready.doors
    }

    fn poll(&self, now: Instant) -> Ready {
        let open: Vec<usize> = (0..self.doors.len()).filter(|i| self.doors[*i].paused_until().is_none()).collect();
        let mut fds = Vec::with_capacity(1 + open.len() + self.connections.len());
        fds.push(PollFd::new(self.woken.as_fd(), PollFlags::POLLIN));
        fds.extend(open.iter().map(|i| PollFd::new(self.doors[*i].fd(), PollFlags::POLLIN)));
        fds.extend(self.connections.iter().map(|connection| {
            let mut events = PollFlags::empty();
            events.set(PollFlags::POLLIN, connection.wants_to_read());
            events.set(PollFlags::POLLOUT, connection.wants_to_write());
            PollFd::new(connection.fd(), events)
        }));
        match poll(&mut fds, self.poll_timeout(now)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ready::default(),
            Err(error) => {
                log::error!("cannot wait for clients: {error}");
                std::thread::sleep(POLL_PAUSE);
                return Ready::default();
            }
        }
        let mut flags = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let woken = flags.next().is_some_and(|flags| !flags.is_empty());
        let doors = open.into_iter().zip(flags.by_ref()).filter(|(_, flags)| !flags.is_empty());
        let doors = doors.map(|(index, _)| index).collect();
        Ready { woken, doors, connections: flags.collect() }
    }

    /// Until the first thing that is to be done though nobody sends anything.
    fn poll_timeout(&self, now: Instant) -> PollTimeout {
        let mut until = self.stop_by;
        let mut sooner = |other: Option<Instant>| until = until.into_iter().chain(other).min();
        self.doors.iter().for_each(|door| sooner(door.paused_until()));
        for connection in &self.connections {
            if connection.has_lines() {
                return PollTimeout::ZERO;
            }
            sooner(connection.stall_deadline(self.limits.write_timeout));
            if let Role::Tracks(subscription) = &connection.role {
                sooner(subscription.next_release());
            }
        }
        // Rounded up, or the last millisecond before a deadline would be spent polling without a pause.
        let wait = until.map(|until| until.saturating_duration_since(now).as_millis() + 1);
        wait.map_or(PollTimeout::NONE, |wait| PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX))
    }
}

/// What [`poll`] found.
#[derive(Default)]
struct Ready {
    woken: bool,
    /// Indices.
    doors: Vec<usize>,
    /// For each connection in turn.
    connections: Vec<PollFlags>,
}

struct NoteClosed(Arc<Shared>);

impl Drop for NoteClosed {
    fn drop(&mut self) {
        self.0.counters.connected.store(0, Ordering::Relaxed);
        self.0.note_closed();
    }
}

/// Greets a client's subscription with the newest report of each of its cameras.
fn begin(
    connection: &mut Connection,
    mut subscription: Subscription,
    newest: &BTreeMap<String, Rc<EncodedReport>>,
    now: Instant,
) {
    for (camera, report) in newest {
        if !subscription.includes(camera) {
            continue;
        }
        subscription.began(camera, now);
        if let Some(line) = report.line(subscription.masks()) {
            connection.reply_bytes(line);
        }
    }
    connection.role = Role::Tracks(subscription);
}

fn offer(connection: &mut Connection, report: &EncodedReport, masks: bool, now: Instant, shared: &Shared) {
    let lost = connection.offer(report.line(masks), now);
    shared.counters.dropped_reports.fetch_add(lost, Ordering::Relaxed);
}
