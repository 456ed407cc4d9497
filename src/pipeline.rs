//! The steps joined into a running daemon. The only file that starts threads.
//!
//! ```text
//! capture (one a camera) -> mailbox -> embed (one) -> channel(1) -> track (one a camera) -> sinks
//! ```
//!
//! Frames are lost only at the mailbox, where the newest wins, and at a slow sink. Commands visit the thread
//! that owns what they ask about, between two frames.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded, never, select};

use crate::capture::reopen::{Event, Reopening, State};
use crate::capture::{CameraConfig, Pace};
use crate::clock;
use crate::config::Config;
use crate::embed::{Backbone, BackboneSpec, Embedder};
use crate::mailbox::{Mailbox, Taken};
use crate::notify::Heart;
use crate::propagate::seed::SeedError;
use crate::serve::{Controller, Sink};
use crate::snapshot;
use crate::state::TrackIds;
use crate::stats::{CameraState, CameraStats, resident_bytes};
use crate::track::{Session, TagError};
use crate::types::command::{ClientStatus, ErrorCode, ModelStatus, Status};
use crate::types::report::{Latency, TrackId, TrackReport};
use crate::types::{Answer, Command, CommandError, Features, Frame, PatchGrid, Seed};

/// How often a waiting thread looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(100);
/// How long a command waits for the thread that it visits.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);
/// Frames in a row that cannot be embedded after which a camera counts as lost.
const MOST_FAILURES: u64 = 10;

/// A frame on its way from the backbone to its camera's session.
struct Embedded {
    frame: Frame,
    features: Features,
    latency: Latency,
}

/// What a command does on the thread that owns the session.
type Visit = Box<dyn FnOnce(&mut Tracker) + Send>;

/// One camera, as seen by whoever commands it.
struct Camera {
    name: String,
    visits: Sender<Visit>,
    stats: Arc<CameraStats>,
    /// Beats with each report, for the watchdog.
    heart: Heart,
}

/// The daemon's handle: carries out commands, and tells how it is.
pub struct Daemon {
    cameras: Vec<Camera>,
    ids: TrackIds,
    model: ModelStatus,
    boot_id: String,
    started: Instant,
    config: Mutex<Config>,
    /// Where `reload` reads from.
    config_path: Option<PathBuf>,
    clients: OnceLock<Box<dyn Fn() -> ClientStatus + Send + Sync>>,
    stop: AtomicBool,
}

/// Running threads, in flow order.
pub struct Pipeline {
    daemon: Arc<Daemon>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads will own, made before the sinks are, because the sinks' server wants the [`Daemon`].
pub struct Prepared {
    daemon: Arc<Daemon>,
    backbone: Box<dyn Backbone>,
    grid: PatchGrid,
    visits: Vec<Receiver<Visit>>,
}

impl Prepared {
    /// Makes the daemon's handle for the cameras of `config`. `hearts` is asked for one heart a camera.
    pub fn new(
        config: Config,
        config_path: Option<PathBuf>,
        backbone: Box<dyn Backbone>,
        grid: PatchGrid,
        ids: TrackIds,
        mut hearts: impl FnMut() -> Heart,
    ) -> Prepared {
        let now = Instant::now();
        let (mut cameras, mut visits) = (Vec::new(), Vec::new());
        for camera in &config.camera {
            let (sender, receiver) = bounded(16);
            visits.push(receiver);
            let stats = Arc::new(CameraStats::new(now));
            cameras.push(Camera { name: camera.name.clone(), visits: sender, stats, heart: hearts() });
        }
        let daemon = Daemon {
            cameras,
            ids,
            model: model_status(backbone.spec()),
            boot_id: boot_id(),
            started: now,
            config: Mutex::new(config),
            config_path,
            clients: OnceLock::new(),
            stop: AtomicBool::new(false),
        };
        Prepared { daemon: Arc::new(daemon), backbone, grid, visits }
    }

    pub fn daemon(&self) -> Arc<Daemon> {
        self.daemon.clone()
    }

    /// Starts every thread. `sinks` is called once for each camera.
    pub fn start(self, sinks: impl Fn() -> Vec<Box<dyn Sink>>) -> Pipeline {
        let Prepared { daemon, backbone, grid, visits } = self;
        let config = daemon.config();
        let dim = backbone.spec().dim;
        let count = daemon.cameras.len();
        let mailbox =
            Arc::new(Mailbox::new(count, |newer: &mut Frame, older| newer.meta.dropped += older.meta.dropped + 1));
        let (spare_in, spare_out) = bounded::<Features>(2 * count);
        let (mut to_trackers, mut trackers) = (Vec::new(), Vec::new());
        for (index, visits) in visits.into_iter().enumerate() {
            let (sender, receiver) = bounded::<Embedded>(1);
            to_trackers.push(sender);
            let tracker = Tracker {
                session: Session::new(config.propagation().clone(), config.track.clone(), grid, dim),
                frame: None,
                report: None,
                camera_lost: false,
                sinks: sinks(),
                stats: daemon.cameras[index].stats.clone(),
                heart: daemon.cameras[index].heart.clone(),
            };
            let (spare, name) = (spare_in.clone(), daemon.cameras[index].name.clone());
            trackers.push(spawn(format!("track-{name}"), move || tracker.run(&receiver, &visits, &spare)));
        }
        let embedder = Embedder::new(backbone, grid);
        let (from, owner) = (mailbox.clone(), daemon.clone());
        let embed = spawn("embed".into(), move || embed(embedder, &from, &to_trackers, &spare_out, &owner));
        let mut threads: Vec<JoinHandle<()>> = config
            .camera
            .iter()
            .enumerate()
            .map(|(slot, camera)| {
                let (camera, mailbox, daemon) = (camera.clone(), mailbox.clone(), daemon.clone());
                spawn(format!("capture-{}", camera.name), move || capture(&camera, slot, &mailbox, &daemon))
            })
            .collect();
        threads.push(embed);
        threads.extend(trackers);
        Pipeline { daemon, threads }
    }
}

impl Pipeline {
    pub fn daemon(&self) -> &Arc<Daemon> {
        &self.daemon
    }

    /// Stops capture, lets what is under way flow out, and joins the threads in flow order; gives up on what
    /// has not ended by `at_most`. Returns whether all ended.
    pub fn stop(self, at_most: Duration) -> bool {
        self.daemon.stop.store(true, Relaxed);
        let deadline = Instant::now() + at_most;
        self.threads.into_iter().all(|thread| {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            thread.is_finished() && thread.join().is_ok()
        })
    }
}

impl Daemon {
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Tells how many clients there are, once there is a server that knows.
    pub fn set_clients(&self, clients: impl Fn() -> ClientStatus + Send + Sync + 'static) {
        let _ = self.clients.set(Box::new(clients));
    }

    /// The configuration that is in force.
    pub fn config(&self) -> Config {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Name and frame size of each camera; zeros for one that has not been open yet.
    pub fn cameras(&self) -> Vec<(String, [usize; 2])> {
        self.cameras.iter().map(|camera| (camera.name.clone(), camera.stats.size())).collect()
    }

    /// Whether every camera was a recording that has been played to its end.
    pub fn ended(&self) -> bool {
        self.cameras.iter().all(|camera| camera.stats.state() == CameraState::Ended)
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        let status = self.status();
        let cameras: Vec<String> = status
            .cameras
            .iter()
            .map(|c| {
                let total = c.stages.iter().find(|s| s.stage == "total");
                let (median, p99) = total.map_or((0.0, 0.0), |s| (s.median_ms, s.p99_ms));
                format!(
                    "{}: {}, {:.1} fps, {} tracks, {median:.0} ms (p99 {p99:.0}), {} dropped, {} reopened",
                    c.name, c.state, c.fps, c.tracks, c.dropped, c.reopened
                )
            })
            .collect();
        format!(
            "{}; {} clients; {:.0} MB resident",
            cameras.join("; "),
            status.clients.connected,
            status.memory_bytes as f64 / 1e6
        )
    }

    pub fn status(&self) -> Status {
        let now = Instant::now();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            uptime_s: now.saturating_duration_since(self.started).as_secs_f64(),
            model: self.model.clone(),
            cameras: self.cameras.iter().map(|camera| camera.stats.status(&camera.name, now)).collect(),
            clients: self.clients.get().map(|clients| clients()).unwrap_or_default(),
            memory_bytes: resident_bytes(),
        }
    }

    /// Reads the configuration again; what can change at once does, and a bad one changes nothing.
    pub fn reload(&self) -> Result<Answer, CommandError> {
        let invalid = |message: String| CommandError::new(ErrorCode::ConfigInvalid, message);
        let path = self.config_path.as_ref().ok_or_else(|| invalid("the daemon runs without a file".into()))?;
        let new = Config::load(path).map_err(|problems| invalid(problems.to_string()))?;
        let mut config = self.config();
        let changes = Config::changes(&config, &new);
        // What needs a restart stays as it runs, so that a second reload still names it.
        config.take_live(new);
        let (propagate, track) = (config.propagation().clone(), config.track.clone());
        let visited = self.cameras.iter().map(|camera| {
            let (propagate, track) = (propagate.clone(), track.clone());
            self.visit(camera, move |tracker| tracker.session.configure(propagate, track))
        });
        // One that is too busy is told of, and the others have it all the same: to reload again mends it.
        let visited: Vec<Result<(), CommandError>> = visited.collect();
        crate::logging::set_level(config.log.level.into());
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        match &changes.applied[..] {
            [] => log::info!("configuration read again: nothing that can change at once did"),
            applied => log::info!("configuration read again: applied {}", applied.join(", ")),
        }
        for key in &changes.restart_needed {
            log::warn!("{key} changed; it takes effect when the daemon is restarted");
        }
        visited.into_iter().collect::<Result<(), CommandError>>()?;
        Ok(Answer::Reloaded { applied: changes.applied, restart_needed: changes.restart_needed })
    }

    fn camera(&self, name: Option<&str>) -> Result<&Camera, CommandError> {
        let names = || self.cameras.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        match (name, &self.cameras[..]) {
            (None, [only]) => Ok(only),
            (None, _) => Err(CommandError::new(
                ErrorCode::CameraAmbiguous,
                format!("there are several cameras; name one of {}", names()),
            )),
            (Some(name), cameras) => cameras.iter().find(|camera| camera.name == name).ok_or_else(|| {
                CommandError::new(
                    ErrorCode::CameraUnknown,
                    format!("no camera is called {name:?}; there is {}", names()),
                )
            }),
        }
    }

    /// The camera of that name, or every camera.
    fn one_or_all(&self, name: Option<&str>) -> Result<Vec<&Camera>, CommandError> {
        match name {
            Some(_) => Ok(vec![self.camera(name)?]),
            None => Ok(self.cameras.iter().collect()),
        }
    }

    /// Lets `act` have the camera's tracker between two frames.
    fn visit<T: Send + 'static>(
        &self,
        camera: &Camera,
        act: impl FnOnce(&mut Tracker) -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let stopping = || CommandError::new(ErrorCode::Stopping, "the daemon is stopping");
        let busy = || CommandError::new(ErrorCode::Busy, format!("camera {} is too busy; try again", camera.name));
        let (sender, receiver) = bounded(1);
        // Taken by whoever comes first: the visit, or the one who has waited too long for it.
        let taken = Arc::new(AtomicBool::new(false));
        let visit_taken = taken.clone();
        let visit: Visit = Box::new(move |tracker| {
            if !visit_taken.swap(true, Relaxed) {
                let _ = sender.send(act(tracker));
            }
        });
        camera.visits.send_timeout(visit, COMMAND_PATIENCE).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => busy(),
            SendTimeoutError::Disconnected(_) => stopping(),
        })?;
        match receiver.recv_timeout(COMMAND_PATIENCE) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout) if !taken.swap(true, Relaxed) => Err(busy()),
            // It has begun: what comes of it is told.
            Err(RecvTimeoutError::Timeout) => receiver.recv().map_err(|_| stopping()),
            Err(RecvTimeoutError::Disconnected) => Err(stopping()),
        }
    }

    fn tag(
        &self,
        camera: Option<&str>,
        seed: Seed,
        name: Option<String>,
        seq: Option<u64>,
    ) -> Result<Answer, CommandError> {
        let camera = self.camera(camera)?;
        if let CameraState::Lost(problem) = camera.stats.state() {
            let message = format!("camera {} is lost ({problem}): there is no frame to tag on", camera.name);
            return Err(CommandError::new(ErrorCode::CameraNoFrame, message));
        }
        let id = self.ids.give().map_err(|error| CommandError::new(ErrorCode::StateUnwritable, error.to_string()))?;
        let name = name.unwrap_or_else(|| format!("object-{id}"));
        let tagged = self.visit(camera, move |tracker| {
            let track = tracker.session.tag(&seed, seq, id, name)?;
            let seq = tracker.report.as_ref().map_or(0, |report| report.seq);
            Ok((seq, track))
        })?;
        let (seq, track) = tagged.map_err(|error: TagError| CommandError::new(tag_code(&error), error.to_string()))?;
        log::info!("camera {}: tagged {} as track {}", camera.name, track.name, track.id);
        Ok(Answer::Tagged { camera: camera.name.clone(), seq, track })
    }

    /// Lets `act` try each camera's session in turn, until one knows the track.
    fn of_track(
        &self,
        id: TrackId,
        act: impl Fn(&mut Session) -> bool + Clone + Send + 'static,
    ) -> Result<(), CommandError> {
        for camera in &self.cameras {
            let act = act.clone();
            let visit = move |tracker: &mut Tracker| {
                let done = act(&mut tracker.session);
                tracker.tell_without_frame();
                done
            };
            if self.visit(camera, visit)? {
                return Ok(());
            }
        }
        Err(CommandError::new(ErrorCode::TrackUnknown, format!("there is no track {id}; `list` tells those there are")))
    }
}

impl Controller for Daemon {
    fn execute(&self, command: Command) -> Result<Answer, CommandError> {
        match command {
            Command::Tag { camera, seed, name, seq } => self.tag(camera.as_deref(), seed, name, seq),
            Command::Untag { id } => {
                self.of_track(id, move |session| session.untag(id))?;
                Ok(Answer::Removed { removed: vec![id] })
            }
            Command::Rename { id, name } => {
                let new = name.clone();
                self.of_track(id, move |session| session.rename(id, new.clone()))?;
                Ok(Answer::Renamed { track: id, name })
            }
            Command::Reset { camera } => {
                let mut removed = Vec::new();
                for camera in self.one_or_all(camera.as_deref())? {
                    let visit = |tracker: &mut Tracker| {
                        let removed = tracker.session.reset();
                        tracker.tell_without_frame();
                        removed
                    };
                    removed.extend(self.visit(camera, visit)?);
                }
                Ok(Answer::Removed { removed })
            }
            Command::List { camera } => {
                let mut tracks = Vec::new();
                for camera in self.one_or_all(camera.as_deref())? {
                    let name = camera.name.clone();
                    tracks.extend(self.visit(camera, move |tracker| tracker.session.list(&name))?);
                }
                Ok(Answer::Listed { tracks })
            }
            Command::Status => Ok(Answer::Status(Box::new(self.status()))),
            Command::Snapshot { camera } => {
                let camera = self.camera(camera.as_deref())?;
                let newest = self.visit(camera, |tracker| tracker.frame.clone().zip(tracker.report.clone()))?;
                let (frame, report) = newest.ok_or_else(|| {
                    CommandError::new(
                        ErrorCode::CameraNoFrame,
                        format!("camera {} has given no frame yet", camera.name),
                    )
                })?;
                snapshot::answer(&frame, &report)
            }
            Command::Reload => self.reload(),
        }
    }
}

/// One camera's session and all that hangs on it. Its thread owns it.
struct Tracker {
    session: Session,
    /// The newest frame and what was reported of it, for snapshots.
    frame: Option<Frame>,
    report: Option<Arc<TrackReport>>,
    camera_lost: bool,
    sinks: Vec<Box<dyn Sink>>,
    stats: Arc<CameraStats>,
    heart: Heart,
}

impl Tracker {
    fn run(mut self, frames: &Receiver<Embedded>, visits: &Receiver<Visit>, spare: &Sender<Features>) {
        // When every handle of the daemon is gone no visit can come, but frames still may.
        let no_visits = never();
        let mut visits = visits;
        loop {
            select! {
                recv(frames) -> embedded => match embedded {
                    Ok(embedded) => {
                        let features = self.follow(embedded);
                        let _ = spare.try_send(features);
                    }
                    Err(_) => break,
                },
                recv(visits) -> visit => match visit {
                    Ok(visit) => visit(&mut self),
                    Err(_) => visits = &no_visits,
                },
                default(GLANCE) => self.look_after_camera(),
            }
        }
        for sink in &mut self.sinks {
            if let Err(error) = sink.flush(Duration::from_millis(500)) {
                log::debug!("a sink was not flushed: {error}");
            }
        }
    }

    /// Takes one frame through the session, and reports.
    fn follow(&mut self, embedded: Embedded) -> Features {
        let Embedded { frame, features, mut latency } = embedded;
        let start = Instant::now();
        self.session.propagate(&features);
        let propagated = Instant::now();
        let mut report = self.session.observe(&frame.meta);
        latency.propagate = ms(propagated - start);
        latency.track = ms(propagated.elapsed());
        let now = clock::now().mono_ns;
        latency.total = now.saturating_sub(frame.meta.captured_at.mono_ns) as f32 * 1e-6;
        report.latency_ms = latency;
        self.camera_lost = false;
        self.stats.record(latency, Instant::now());
        self.heart.beat();
        self.frame = Some(frame);
        self.send(report);
        features
    }

    /// Tells of a lost camera, once.
    fn look_after_camera(&mut self) {
        if !self.camera_lost && matches!(self.stats.state(), CameraState::Lost(_)) {
            self.camera_lost = true;
            self.tell_without_frame();
        }
    }

    /// Reports the tracks of a lost camera: no frame will come to tell of them.
    fn tell_without_frame(&mut self) {
        if self.camera_lost
            && let Some(report) = self.session.camera_lost()
        {
            self.send(report);
        }
    }

    fn send(&mut self, report: TrackReport) {
        self.stats.tracks.store(self.session.len(), Relaxed);
        let report = Arc::new(report);
        self.sinks.retain_mut(|sink| match sink.send(&report) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("a sink is given up: {error}");
                false
            }
        });
        self.report = Some(report);
    }
}

/// The capture thread: frames of one camera into the mailbox, through losses and returns.
fn capture(config: &CameraConfig, slot: usize, mailbox: &Mailbox<Frame>, daemon: &Daemon) {
    let stats = &daemon.cameras[slot].stats;
    let mut source = Reopening::camera(config.clone(), Pace::Live);
    while !daemon.stop.load(Relaxed) {
        match source.next(Instant::now() + GLANCE) {
            Some(Event::Frame(frame)) => {
                stats.captured.fetch_add(1, Relaxed);
                stats.dropped.fetch_add(frame.meta.dropped + u64::from(mailbox.put(slot, frame)), Relaxed);
            }
            Some(Event::State(state)) => {
                let ended = state == State::Ended;
                daemon.cameras[slot].heart.set_missing(matches!(state, State::Lost { .. } | State::Ended));
                let (state, line) = describe(config, stats, state);
                if stats.set_state(state, Instant::now())
                    && let Some((level, line)) = line
                {
                    log::log!(level, "{line}");
                }
                stats.reopened.store(source.reopened(), Relaxed);
                if ended {
                    break;
                }
            }
            None => {}
        }
    }
    mailbox.close(slot);
}

/// A camera's new state, and the line that tells of it in the log. What it says of the stream is kept.
fn describe(config: &CameraConfig, stats: &CameraStats, state: State) -> (CameraState, Option<(log::Level, String)>) {
    let name = &config.name;
    match state {
        State::Waiting => (CameraState::Waiting, None),
        State::Streaming(format) => {
            let rate = format.fps.map_or(String::new(), |fps| format!(" at {fps:.1} frames a second"));
            let described = format!("{} {}x{}{rate}", format.pixels, format.width, format.height);
            let (level, unmet) = match format.unmet(config) {
                Some(asked) => (log::Level::Warn, format!(", and not {asked}, as was asked for")),
                None => (log::Level::Info, String::new()),
            };
            let line = format!("camera {name}: {} streams {described}{unmet}", format.source);
            stats.set_format(described, format.width, format.height);
            (CameraState::Streaming, Some((level, line)))
        }
        State::Lost { problem } => {
            let line = format!("camera {name}: {problem}; it is tried again until it gives frames");
            (CameraState::Lost(problem), Some((log::Level::Warn, line)))
        }
        State::Ended => {
            let line = format!("camera {name}: the recording has ended");
            (CameraState::Ended, Some((log::Level::Info, line)))
        }
    }
}

/// What of a camera's frames could not be embedded since the last that could.
#[derive(Default)]
struct Failures {
    in_a_row: u64,
    /// Frames that are missing by now, those lost before them counted.
    dropped: u64,
}

/// The embed thread: it owns the backbone, and serves every camera in turn.
fn embed(
    mut embedder: Embedder,
    mailbox: &Mailbox<Frame>,
    trackers: &[Sender<Embedded>],
    spare: &Receiver<Features>,
    daemon: &Daemon,
) {
    let mut failures: Vec<Failures> = daemon.cameras.iter().map(|_| Failures::default()).collect();
    loop {
        let (slot, mut frame) = match mailbox.take(GLANCE) {
            Taken::Item { slot, item } => (slot, item),
            Taken::TimedOut => continue,
            Taken::Closed => break,
        };
        let (camera, failures) = (&daemon.cameras[slot], &mut failures[slot]);
        let taken = clock::now().mono_ns;
        let mut features = spare.try_recv().unwrap_or_else(|_| embedder.empty_features());
        match embedder.follow(slot, &frame.pixels, &mut features) {
            Ok(times) => {
                if failures.in_a_row >= MOST_FAILURES {
                    log::info!("camera {}: its frames can be read again", camera.name);
                    camera.heart.set_missing(false);
                    camera.stats.set_state(CameraState::Streaming, Instant::now());
                }
                frame.meta.dropped += failures.dropped;
                *failures = Failures::default();
                let latency = Latency {
                    queue: taken.saturating_sub(frame.meta.captured_at.mono_ns) as f32 * 1e-6,
                    preprocess: ms(times.preprocess),
                    embed: ms(times.embed),
                    ..Latency::default()
                };
                camera.stats.embedded.fetch_add(1, Relaxed);
                if trackers[slot].send(Embedded { frame, features, latency }).is_err() {
                    break;
                }
            }
            Err(error) => {
                camera.stats.dropped.fetch_add(1, Relaxed);
                if failures.in_a_row == 0 {
                    log::error!("camera {}: frame {}: {error}", camera.name, frame.meta.seq);
                }
                failures.in_a_row += 1;
                failures.dropped += frame.meta.dropped + 1;
                if failures.in_a_row >= MOST_FAILURES {
                    // As good as no camera, for whoever reads its tracks and for the watchdog.
                    camera.heart.set_missing(true);
                    camera.stats.set_state(CameraState::Lost(error.to_string()), Instant::now());
                }
            }
        }
    }
}

/// Starts a named thread. One that panics ends the process: what it owned is in no known state, and the
/// service manager starts a fresh one.
fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let shown = name.clone();
    std::thread::Builder::new()
        .name(name.chars().take(15).collect())
        .spawn(move || {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                log::error!("the thread {shown} panicked; the daemon ends so that it can be started afresh");
                std::process::exit(70);
            }
        })
        .expect("the system has room for a few threads at start")
}

fn model_status(spec: &BackboneSpec) -> ModelStatus {
    ModelStatus {
        name: spec.name.clone(),
        family: spec.family.clone(),
        sha256: spec.sha256.clone(),
        runtime: "cpu".to_owned(),
        kernel: spec.kernel.clone(),
        probe_cosine: spec.probe_cosine,
    }
}

/// Differs from one start to the next.
fn boot_id() -> String {
    let now = clock::now();
    format!("{:x}-{:x}-{:x}", now.real_ns, now.mono_ns, std::process::id())
}

fn tag_code(error: &TagError) -> ErrorCode {
    match error {
        TagError::NoFrame => ErrorCode::CameraNoFrame,
        TagError::FrameGone { .. } => ErrorCode::TagFrameGone,
        TagError::TooMany { .. } => ErrorCode::TagTooMany,
        TagError::Seed(SeedError::Size { .. }) => ErrorCode::FieldInvalid,
        TagError::Seed(_) => ErrorCode::TagEmpty,
    }
}

fn ms(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1e3
}
