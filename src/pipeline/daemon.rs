//! The daemon's handle: what commands do, and how the daemon is.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded, unbounded};

use super::track::{Tracker, Visit};
use super::warnings::Unread;
use crate::clock;
use crate::config::Config;
use crate::embed::{BackboneSpec, Running};
use crate::notify::Heart;
use crate::propagate::seed::SeedError;
use crate::serve::Controller;
use crate::snapshot;
use crate::state::{Gallery, State, TrackIds};
use crate::stats::{CameraState, CameraStats, CpuMeter, resident_bytes};
use crate::track::{Session, TagError};
use crate::types::command::{BudgetStatus, ClientStatus, ErrorCode, ModelStatus, SandboxStatus, Status};
use crate::types::report::{Track, TrackId};
use crate::types::{Answer, Command, CommandError, Exemplars, Seed, View};

/// How long a command waits for the thread that it visits.
pub(super) const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// One camera, as seen by whoever commands it.
pub(super) struct Camera {
    pub(super) name: String,
    pub(super) visits: Sender<Visit>,
    pub(super) stats: Arc<CameraStats>,
    /// Beats with each report, for the watchdog.
    pub(super) heart: Heart,
    /// The part of its next frame to look at.
    pub(super) gaze: Arc<Mutex<View>>,
}

/// What a camera's session has learnt of objects of the gallery.
pub(super) type Learnt = (String, Vec<(TrackId, Exemplars)>);

/// The daemon's handle: carries out commands, and tells how it is.
pub struct Daemon {
    pub(super) cameras: Vec<Camera>,
    pub(super) ids: Arc<TrackIds>,
    pub(super) gallery: Mutex<Gallery>,
    /// What sessions tell of what they have learnt.
    pub(super) learnt: (Sender<Learnt>, Receiver<Learnt>),
    model: ModelStatus,
    /// What the embed thread last told of who computes.
    running: Mutex<Running>,
    boot_id: String,
    started: Instant,
    config: Mutex<Config>,
    /// Where `reload` reads from.
    config_path: Option<PathBuf>,
    clients: OnceLock<Box<dyn Fn() -> ClientStatus + Send + Sync>>,
    /// What the process has denied itself; unset where nobody asked it to.
    pub(super) sandbox: OnceLock<SandboxStatus>,
    cpu: Mutex<CpuMeter>,
    /// What of the file is not in force since it was last read again.
    pub(super) unread: Mutex<Option<Unread>>,
    pub(super) stop: AtomicBool,
    /// How often the configuration was read again.
    pub(super) reloads: AtomicU64,
    /// What the embed thread last told of the budget, and since when that level has been in force.
    budget: Mutex<Option<(BudgetStatus, Instant)>>,
}

impl Daemon {
    /// The handle, and for each camera where its thread is visited.
    pub(super) fn new(
        config: Config,
        config_path: Option<PathBuf>,
        model: &BackboneSpec,
        running: Running,
        state: State,
        mut hearts: impl FnMut() -> Heart,
    ) -> (Daemon, Vec<Receiver<Visit>>) {
        let now = Instant::now();
        let (mut cameras, mut visits) = (Vec::new(), Vec::new());
        for camera in &config.camera {
            let (sender, receiver) = bounded(16);
            visits.push(receiver);
            let stats = Arc::new(CameraStats::new(now));
            cameras.push(Camera {
                name: camera.name.clone(),
                visits: sender,
                stats,
                heart: hearts(),
                gaze: Arc::default(),
            });
        }
        let daemon = Daemon {
            cameras,
            ids: Arc::new(state.ids),
            gallery: Mutex::new(state.gallery),
            learnt: unbounded(),
            model: model_status(model),
            running: Mutex::new(running),
            boot_id: boot_id(),
            started: now,
            config: Mutex::new(config),
            config_path,
            clients: OnceLock::new(),
            sandbox: OnceLock::new(),
            cpu: Mutex::new(CpuMeter::new(thread::available_parallelism().map_or(1, usize::from))),
            unread: Mutex::new(None),
            stop: AtomicBool::new(false),
            reloads: AtomicU64::new(0),
            budget: Mutex::new(None),
        };
        (daemon, visits)
    }

    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Tells how many clients there are, once there is a server that knows.
    pub fn set_clients(&self, clients: impl Fn() -> ClientStatus + Send + Sync + 'static) {
        let _ = self.clients.set(Box::new(clients));
    }

    /// Tells what the process has denied itself.
    pub fn set_sandbox(&self, sandbox: SandboxStatus) {
        let _ = self.sandbox.set(sandbox);
    }

    /// Takes in what the process has used of the CPU. Called a few times a second.
    pub fn measure(&self) {
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        cpu.note(Instant::now(), clock::process_cpu_ns());
    }

    /// Takes in who computes.
    pub(super) fn set_running(&self, running: Running) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    pub(super) fn running(&self) -> Running {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn model(&self) -> ModelStatus {
        let running = self.running();
        let runtime = running.runtime().to_owned();
        let Running { device, kernel, instead } = running;
        ModelStatus { runtime, device, kernel, instead, ..self.model.clone() }
    }

    /// Takes in how the budget stands; `None` without one.
    pub(super) fn set_budget(&self, status: Option<BudgetStatus>, since: Instant) {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = status.map(|status| (status, since));
    }

    fn budget(&self, now: Instant) -> Option<BudgetStatus> {
        let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
        budget.as_ref().map(|(status, at)| BudgetStatus { since_s: since(*at), ..status.clone() })
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
        let budget = status.budget.map_or(String::new(), |budget| {
            let [width, height] = budget.input;
            let skipping = budget.max_fps.map_or(String::new(), |fps| format!(" and at most {fps:.1} fps"));
            let held = if budget.met { "met" } else { "missed" };
            format!("; budget {held} with input {width}x{height}{skipping}")
        });
        format!(
            "{}{budget}; {} clients; {:.0} MB resident",
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
            model: self.model(),
            budget: self.budget(now),
            cameras: self.cameras.iter().map(|camera| camera.stats.status(&camera.name, now)).collect(),
            clients: self.clients.get().map(|clients| clients()).unwrap_or_default(),
            memory_bytes: resident_bytes(),
            cpu: self.cpu.lock().unwrap_or_else(PoisonError::into_inner).share(),
            sandbox: self.sandbox.get().cloned(),
            warnings: self.warnings(),
        }
    }

    /// Reads the configuration again; what can change at once does, and a bad one changes nothing.
    pub fn reload(&self) -> Result<Answer, CommandError> {
        let result = self.read_again();
        let unread = match &result {
            Ok(Answer::Reloaded { restart_needed, .. }) if !restart_needed.is_empty() => {
                Some(Unread::Later(restart_needed.clone()))
            }
            Err(error) if error.code == ErrorCode::ConfigInvalid => Some(Unread::Invalid(error.message.clone())),
            _ => None,
        };
        *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = unread;
        result
    }

    fn read_again(&self) -> Result<Answer, CommandError> {
        let invalid = |message: String| CommandError::new(ErrorCode::ConfigInvalid, message);
        let path = self.config_path.as_ref().ok_or_else(|| invalid("the daemon runs without a file".into()))?;
        let new = Config::load(path).map_err(|problems| invalid(problems.to_string()))?;
        let mut config = self.config();
        let changes = Config::changes(&config, &new);
        // What needs a restart stays as it runs, so that a second reload still names it.
        config.take_live(new);
        let visited = self.cameras.iter().map(|camera| {
            let (propagate, track) = (config.propagation().clone(), config.track.clone());
            let discover = config.discover.clone();
            self.visit(camera, move |tracker| {
                tracker.session.configure(propagate, track);
                tracker.discovery.configure(discover);
            })
        });
        // One that is too busy is told of, and the others have it all the same: to reload again mends it.
        let visited: Vec<Result<(), CommandError>> = visited.collect();
        crate::logging::set_level(config.log.level.into());
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        self.reloads.fetch_add(1, Relaxed);
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
    pub(super) fn visit<T: Send + 'static>(
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
        save: bool,
    ) -> Result<Answer, CommandError> {
        let camera = self.camera_with_frames(camera)?;
        if let Some(name) = name.as_deref().filter(|_| save) {
            self.gallery().check_free(name)?;
        }
        let id = self.give_id()?;
        let name = name.unwrap_or_else(|| format!("object-{id}"));
        let answer = self.begin(camera, seq, move |session, seq| session.tag(&seed, seq, id, name.clone()))?;
        if save {
            self.save(id, None)?;
        }
        Ok(answer)
    }

    /// Makes a proposal a tag.
    fn accept(&self, id: TrackId, name: Option<String>, save: bool) -> Result<Answer, CommandError> {
        if let Some(name) = name.as_deref().filter(|_| save) {
            self.gallery().check_free(name)?;
        }
        for camera in &self.cameras {
            let name = name.clone();
            let accept = move |tracker: &mut Tracker| {
                let track = tracker.session.accept(id, name)?;
                Some((tracker.report.as_ref().map_or(0, |report| report.seq), track))
            };
            let Some((seq, track)) = self.visit(camera, accept)? else { continue };
            log::info!("camera {}: tagged what was proposed as {} as track {id}", camera.name, track.name);
            if save {
                self.save(id, None)?;
            }
            return Ok(Answer::Tagged { camera: camera.name.clone(), seq, track });
        }
        let message = format!("there is no proposal {id}; it may have been withdrawn: `list` tells those there are");
        Err(CommandError::new(ErrorCode::TrackUnknown, message))
    }

    /// Lets `begin` make a track in frame `seq` of a camera, or in the newest; where it wants more of the frame than was looked at, in
    /// the next one of which all is.
    pub(super) fn begin(
        &self,
        camera: &Camera,
        mut seq: Option<u64>,
        begin: impl Fn(&mut Session, Option<u64>) -> Result<Track, TagError> + Clone + Send + 'static,
    ) -> Result<Answer, CommandError> {
        let until = Instant::now() + COMMAND_PATIENCE;
        loop {
            let begin = begin.clone();
            let visit = move |tracker: &mut Tracker| {
                let track = begin(&mut tracker.session, seq)?;
                Ok((tracker.report.as_ref().map_or(0, |report| report.seq), track))
            };
            match self.visit(camera, visit)? {
                Err(TagError::NotLookedAt { .. }) if Instant::now() < until => {
                    seq = None;
                    thread::sleep(Duration::from_millis(10));
                }
                begun => return tagged(camera, begun),
            }
        }
    }

    pub(super) fn camera_with_frames(&self, name: Option<&str>) -> Result<&Camera, CommandError> {
        let camera = self.camera(name)?;
        match camera.stats.state() {
            CameraState::Lost(problem) => {
                let message = format!("camera {} is lost ({problem}): there is no frame to tag on", camera.name);
                Err(CommandError::new(ErrorCode::CameraNoFrame, message))
            }
            _ => Ok(camera),
        }
    }

    pub(super) fn give_id(&self) -> Result<TrackId, CommandError> {
        self.ids.give().map_err(|error| CommandError::new(ErrorCode::StateUnwritable, error.to_string()))
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
        Err(CommandError::new(ErrorCode::TrackUnknown, no_track(id)))
    }
}

impl Controller for Daemon {
    fn execute(&self, command: Command) -> Result<Answer, CommandError> {
        match command {
            Command::Tag { camera, seed, name, seq, save } => self.tag(camera.as_deref(), seed, name, seq, save),
            Command::Recognise { camera, name } => self.recognise(camera.as_deref(), &name),
            Command::Accept { id, name, save } => self.accept(id, name, save),
            Command::Save { id, name } => self.save(id, name),
            Command::Gallery
            | Command::GalleryRename { .. }
            | Command::GalleryMerge { .. }
            | Command::GalleryForget { .. }
            | Command::GalleryExport { .. }
            | Command::GalleryImport { .. } => self.change_gallery(command),
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

/// Who computes is told by the embed thread.
fn model_status(spec: &BackboneSpec) -> ModelStatus {
    ModelStatus {
        name: spec.name.clone(),
        family: spec.family.clone(),
        sha256: spec.sha256.clone(),
        runtime: String::new(),
        device: None,
        instead: None,
        kernel: None,
        probe_cosine: spec.probe_cosine,
    }
}

/// Differs from one start to the next.
fn boot_id() -> String {
    let now = clock::now();
    format!("{:x}-{:x}-{:x}", now.real_ns, now.mono_ns, std::process::id())
}

pub(super) fn no_track(id: TrackId) -> String {
    format!("there is no track {id}; `list` tells those there are")
}

/// Tells of a track that was begun, or why it was not.
fn tagged(camera: &Camera, begun: Result<(u64, Track), TagError>) -> Result<Answer, CommandError> {
    let (seq, track) = begun.map_err(|error| CommandError::new(tag_code(&error), error.to_string()))?;
    log::info!("camera {}: tagged {} as track {}", camera.name, track.name, track.id);
    Ok(Answer::Tagged { camera: camera.name.clone(), seq, track })
}

fn tag_code(error: &TagError) -> ErrorCode {
    match error {
        TagError::NoFrame => ErrorCode::CameraNoFrame,
        TagError::FrameGone { .. } | TagError::NotLookedAt { .. } => ErrorCode::TagFrameGone,
        TagError::TooMany { .. } => ErrorCode::TagTooMany,
        TagError::NotSeen { .. } => ErrorCode::GalleryNotSeen,
        TagError::Seed(SeedError::Size { .. }) => ErrorCode::FieldInvalid,
        TagError::Seed(_) => ErrorCode::TagEmpty,
    }
}
