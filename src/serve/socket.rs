//! The server as the pipeline sees it: started, handed reports, stopped.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::encode::Line;
use super::event_loop::{EventLoop, Limits};
use super::listeners::{Activated, Listeners, ServeError};
use super::peers::Access;
use super::wire::Hello;
use super::{Controller, ServeConfig, Sink, SinkError, workers};
use crate::types::TrackReport;
use crate::types::command::ClientStatus;

/// Reports that may wait for the event loop to take them. It takes all of them at once, many times a second.
const MAX_WAITING: usize = 256;

/// File descriptors that clients leave to the rest of the daemon, for cameras and files to be opened again.
const RESERVED_FILES: u64 = 128;

/// How long a server that is simply dropped tries to send what is queued.
const DROP_GRACE: Duration = Duration::from_millis(100);

/// Serves the two sockets until it is shut down or dropped.
pub struct Server {
    shared: Arc<Shared>,
    event_loop: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the sockets, or takes over those that the service manager passed, and starts to serve.
    ///
    /// # Errors
    /// When a socket cannot be opened as configured.
    pub fn start(
        config: &ServeConfig,
        hello: Hello,
        controller: Arc<dyn Controller>,
        access: &Access,
        activated: Activated,
    ) -> Result<Server, ServeError> {
        let listeners = Listeners::open(&config.directory, access, activated)?;
        let (wake, woken) = UnixStream::pair().map_err(ServeError::Start)?;
        wake.set_nonblocking(true).map_err(ServeError::Start)?;
        woken.set_nonblocking(true).map_err(ServeError::Start)?;
        let shared = Arc::new(Shared::new(wake));
        let jobs = workers::start(controller, &shared).map_err(ServeError::Start)?;
        let limits = Limits {
            clients: affordable_clients(config.max_clients),
            queue: config.queue,
            write_timeout: Duration::from_millis(config.write_timeout_ms),
        };
        let theirs = shared.clone();
        let event_loop = std::thread::Builder::new()
            .name("serve".into())
            .spawn(move || EventLoop::new(theirs, woken, listeners, hello, jobs, limits).run())
            .map_err(ServeError::Start)?;
        Ok(Server { shared, event_loop: Some(event_loop) })
    }

    /// A sink that hands reports to every client of `tracks.sock`. There may be several, one for each camera.
    pub fn sink(&self) -> TracksSink {
        TracksSink { shared: self.shared.clone() }
    }

    /// What clients that come from now on are greeted with. Only cameras that it names can be subscribed to, and
    /// have a state to begin with.
    pub fn set_hello(&self, hello: Hello) {
        self.shared.change(|inbox| inbox.hello = Some(hello));
    }

    /// How many clients there are, and what they lost.
    pub fn clients(&self) -> ClientStatus {
        self.shared.counters.status()
    }

    /// Sends what is queued and what is being carried out, for `at_most` this long; then closes every client
    /// and removes the socket files that were made.
    pub fn shutdown(mut self, at_most: Duration) {
        self.stop(at_most);
    }

    fn stop(&mut self, at_most: Duration) {
        let Some(event_loop) = self.event_loop.take() else { return };
        self.shared.change(|inbox| inbox.stop_by = Some(Instant::now() + at_most));
        if event_loop.join().is_err() {
            log::error!("the thread that serves the sockets panicked");
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("clients", &self.clients()).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(DROP_GRACE);
    }
}

/// Hands reports to the clients of `tracks.sock`.
#[derive(Clone)]
pub struct TracksSink {
    shared: Arc<Shared>,
}

impl Sink for TracksSink {
    /// # Errors
    /// [`SinkError::Closed`] when the server was shut down, or its thread died.
    fn send(&mut self, report: &Arc<TrackReport>) -> Result<(), SinkError> {
        self.shared.change(|inbox| {
            inbox.drained = false;
            inbox.reports.push_back(report.clone());
            if inbox.reports.len() > MAX_WAITING
                && let Some(oldest) = inbox.reports.pop_front()
            {
                *inbox.lost.entry(oldest.camera.clone()).or_default() += 1;
            }
            if inbox.closed { Err(SinkError::Closed) } else { Ok(()) }
        })
    }

    /// # Errors
    /// [`SinkError::Closed`] when the server was shut down, or its thread died.
    fn flush(&mut self, at_most: Duration) -> Result<(), SinkError> {
        let inbox = self.shared.lock();
        let waiting = |inbox: &mut Inbox| !inbox.drained && !inbox.closed;
        let wait = self.shared.drained.wait_timeout_while(inbox, at_most, waiting);
        let (inbox, _) = wait.unwrap_or_else(PoisonError::into_inner);
        if inbox.closed { Err(SinkError::Closed) } else { Ok(()) }
    }
}

/// What the event loop shares with the threads that hand it work.
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    /// Signalled when `Inbox::drained` or `Inbox::closed` becomes true.
    drained: Condvar,
    /// A byte written here ends the event loop's wait.
    wake: UnixStream,
    /// Such a byte was written and not yet read.
    woken: AtomicBool,
    pub counters: Counters,
}

/// What waits for the event loop.
#[derive(Default)]
pub(super) struct Inbox {
    pub reports: VecDeque<Arc<TrackReport>>,
    /// Reports of each camera that did not fit.
    pub lost: BTreeMap<String, u64>,
    pub answers: Vec<Finished>,
    pub hello: Option<Hello>,
    /// The server is to stop, by this time at the latest.
    pub stop_by: Option<Instant>,
    /// Everything that was sent has gone to every client.
    drained: bool,
    /// The event loop has ended.
    closed: bool,
}

/// An answer or error, for the client that gave the command.
pub(super) struct Finished {
    pub client: u64,
    pub line: Line,
}

#[derive(Default)]
pub(super) struct Counters {
    pub connected: AtomicU64,
    pub refused: AtomicU64,
    pub dropped_reports: AtomicU64,
}

impl Counters {
    pub fn status(&self) -> ClientStatus {
        ClientStatus {
            connected: self.connected.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            dropped_reports: self.dropped_reports.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn new(wake: UnixStream) -> Shared {
        Shared {
            inbox: Mutex::new(Inbox { drained: true, ..Inbox::default() }),
            drained: Condvar::new(),
            wake,
            woken: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    /// Changes the inbox, and wakes the event loop to look at it.
    pub fn change<T>(&self, change: impl FnOnce(&mut Inbox) -> T) -> T {
        let result = change(&mut self.lock());
        if !self.woken.swap(true, Ordering::AcqRel) {
            // It fails only when the event loop has ended, or has a byte to read already.
            let _ = (&self.wake).write(&[0]);
        }
        result
    }

    /// Takes what waits. Called by the event loop after it has read the bytes that woke it.
    pub fn take(&self) -> Inbox {
        self.woken.store(false, Ordering::Release);
        let mut inbox = self.lock();
        let (drained, closed, stop_by) = (inbox.drained, inbox.closed, inbox.stop_by);
        std::mem::replace(&mut *inbox, Inbox { drained, closed, stop_by, ..Inbox::default() })
    }

    /// Notes that every client has got everything that [`Shared::take`] gave.
    pub fn note_drained(&self) {
        let mut inbox = self.lock();
        if !inbox.drained && inbox.reports.is_empty() {
            inbox.drained = true;
            self.drained.notify_all();
        }
    }

    /// Notes that the event loop has ended.
    pub fn note_closed(&self) {
        self.lock().closed = true;
        self.drained.notify_all();
    }

    /// Every change of the inbox is whole before anything in it could panic, so a poisoned lock is as good.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of `wanted` clients for each socket the process has file descriptors for. Its soft limit is raised
/// as far as that is allowed.
fn affordable_clients(wanted: usize) -> usize {
    let need = 2 * wanted as u64 + RESERVED_FILES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    if soft >= need {
        return wanted;
    }
    let raised = need.min(hard);
    let allowed = match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        Ok(()) => raised,
        Err(_) => soft,
    };
    let affordable = (allowed.saturating_sub(RESERVED_FILES) / 2).max(1) as usize;
    if affordable < wanted {
        log::warn!(
            "the limit of {allowed} open files allows {affordable} clients for each socket, not {wanted}; \
             raise LimitNOFILE= or `ulimit -n` to {need}"
        );
    }
    affordable.min(wanted)
}
