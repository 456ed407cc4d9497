//! A server with a fake controller in a folder of its own, and a client that sends and reads raw lines.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tagalong::serve::{
    Access, Activated, Controller, Hello, HelloCamera, ServeConfig, ServeError, Server, Sink, TracksSink,
};
use tagalong::types::command::{
    BudgetReason, BudgetStatus, CameraStatus, ClientStatus, Confinement, ErrorCode, GalleryObject, ListedTrack,
    ModelStatus, SandboxStatus, StageStatus, Status,
};
use tagalong::types::mask::Mask;
use tagalong::types::report::{Latency, Reason, Track};
use tagalong::types::{Answer, Command, CommandError, Seed, TrackId, TrackReport, TrackState};

/// Long enough for a machine that is busy with other things; nothing waits for it that goes well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a server as the daemon does.
pub fn serve(
    config: &ServeConfig,
    controller: Arc<dyn Controller>,
    activated: Activated,
) -> Result<Server, ServeError> {
    Server::start(config, hello(), controller, &Access::of(config)?, activated)
}

pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub controller: Arc<FakeController>,
    pub server: Server,
}

impl Fixture {
    pub fn start() -> Fixture {
        Fixture::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ServeConfig)) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let controller = Arc::new(FakeController::default());
        let server = serve(&config, controller.clone(), Activated::default()).unwrap();
        Fixture { folder, controller, server }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn sink(&self) -> TracksSink {
        self.server.sink()
    }

    pub fn send(&self, report: TrackReport) {
        self.sink().send(&Arc::new(report)).unwrap();
    }

    pub fn tracks(&self) -> RawClient {
        RawClient::connect(&self.path("tracks.sock"))
    }

    pub fn control(&self) -> RawClient {
        RawClient::connect(&self.path("control.sock"))
    }
}

pub fn config(folder: &Path) -> ServeConfig {
    ServeConfig {
        directory: folder.to_owned(),
        tracks_mode: "0660".into(),
        control_mode: "0600".into(),
        tracks_group: String::new(),
        tracks_allow: Vec::new(),
        control_allow: Vec::new(),
        control_group: String::new(),
        max_clients: 200,
        queue: 8,
        write_timeout_ms: 20_000,
    }
}

/// Two cameras, `front` and `rear`; the second was never opened.
pub fn hello() -> Hello {
    let camera = |name: &str, size| HelloCamera { name: name.into(), size, model: "fake".into() };
    Hello::new("9.9.9", "b00t", vec![camera("front", Some([640, 480])), camera("rear", None)])
}

/// A report of two tracks; the first has a mask.
pub fn report(camera: &str, seq: u64) -> TrackReport {
    let mask = Mask::from_fn(640, 480, |x, y| (100..160).contains(&x) && (50..90).contains(&y));
    TrackReport {
        camera: camera.into(),
        seq,
        dropped: 1,
        t_mono_ns: 1_000_000 * seq,
        t_real_ns: 1_700_000_000_000_000_000 + 1_000_000 * seq,
        size: [640, 480],
        latency_ms: Latency { queue: 0.5, preprocess: 1.0, embed: 20.25, propagate: 3.0, track: 0.25, total: 25.0 },
        tracks: vec![
            Track { mask: Some(mask.to_coco()), ..track(1, TrackState::Tracked, Reason::Seen) },
            Track {
                bounds: None,
                centroid: None,
                area: 0,
                since_seen: 4,
                ..track(2, TrackState::Lost, Reason::Unseen)
            },
        ],
    }
}

pub fn track(id: u64, state: TrackState, reason: Reason) -> Track {
    Track {
        id: TrackId(id),
        name: format!("object {id}"),
        state,
        reason,
        score: 0.875,
        bounds: Some([100.0, 50.0, 60.0, 40.0]),
        centroid: Some([130.0, 70.0]),
        area: 2400,
        velocity: [1.5, -2.0],
        age: 100,
        since_seen: 0,
        mask: None,
    }
}

/// Remembers names in a map, as the daemon would; some names make it slow, or worse.
#[derive(Default)]
pub struct FakeController {
    pub executed: AtomicU64,
    pub commands: Mutex<Vec<Command>>,
    /// A `reload` lasts until this is released.
    pub reload_gate: Mutex<()>,
}

impl Controller for FakeController {
    fn execute(&self, command: Command) -> Result<Answer, CommandError> {
        let count = self.executed.fetch_add(1, Ordering::SeqCst) + 1;
        self.commands.lock().unwrap_or_else(|e| e.into_inner()).push(command.clone());
        match command {
            Command::Tag { camera, seed, name, seq, save: _ } => {
                let bounds = match seed {
                    Seed::Box(bounds) => bounds,
                    Seed::Point([x, y]) => [x - 5.0, y - 5.0, 10.0, 10.0],
                    Seed::Mask(mask) => mask.bounds().unwrap().map(|v| v as f32),
                };
                let name = name.unwrap_or_else(|| format!("object {count}"));
                let track = Track { name, bounds: Some(bounds), ..track(count, TrackState::Tentative, Reason::Tagged) };
                Ok(Answer::Tagged { camera: camera.unwrap_or("front".into()), seq: seq.unwrap_or(7), track })
            }
            Command::Recognise { camera, name } => {
                let track = Track { name, ..track(count, TrackState::Tentative, Reason::Recognised) };
                Ok(Answer::Tagged { camera: camera.unwrap_or("front".into()), seq: 7, track })
            }
            Command::Accept { id, name, save: _ } => {
                let name = name.unwrap_or_else(|| format!("object-{id}"));
                let track = Track { name, ..track(id.0, TrackState::Tentative, Reason::Tagged) };
                Ok(Answer::Tagged { camera: "front".into(), seq: 7, track })
            }
            Command::GalleryExport { name } => Ok(Answer::Exported { name, object_base64: "b2JqZWN0".into() }),
            Command::GalleryForget { name } => {
                Err(CommandError::new(ErrorCode::GalleryUnknown, format!("the gallery has nothing called {name:?}")))
            }
            Command::Save { .. }
            | Command::Gallery
            | Command::GalleryRename { .. }
            | Command::GalleryMerge { .. }
            | Command::GalleryImport { .. } => Ok(Answer::Gallery { gallery: vec![known()] }),
            Command::Untag { id: TrackId(404) } => {
                Err(CommandError::new(ErrorCode::TrackUnknown, "there is no track 404; `list` gives those there are"))
            }
            Command::Untag { id: TrackId(666) } => panic!("asked to"),
            Command::Untag { id } => Ok(Answer::Removed { removed: vec![id] }),
            Command::Rename { id, name } => Ok(Answer::Renamed { track: id, name }),
            Command::Reset { .. } => Ok(Answer::Removed { removed: vec![TrackId(1), TrackId(2)] }),
            Command::List { .. } => Ok(Answer::Listed { tracks: vec![listed()] }),
            Command::Status => Ok(Answer::Status(Box::new(status()))),
            Command::Snapshot { camera } => Ok(Answer::Snapshot {
                // A camera of this name has pictures too large for a line.
                jpeg_base64: if camera.as_deref() == Some("rear") { "A".repeat(1 << 20) } else { "/9j/2Q==".into() },
                camera: camera.unwrap_or("front".into()),
                seq: 7,
                size: [640, 480],
            }),
            Command::Reload => {
                let _gate = self.reload_gate.lock();
                Ok(Answer::Reloaded {
                    applied: vec!["track.min_score".into()],
                    restart_needed: vec!["model.manifest".into()],
                })
            }
        }
    }
}

pub fn known() -> GalleryObject {
    GalleryObject {
        name: "mug".into(),
        model: "bundled".into(),
        exemplars: [64, 128],
        size: Some([640, 480]),
        tracks: [("front".to_owned(), TrackId(3))].into(),
        saved_ns: 1_767_225_600_000_000_000,
        changed_ns: 1_767_225_660_000_000_000,
        problem: Some("it was saved with another model".into()),
        remark: Some("it was saved from pictures of another size".into()),
    }
}

pub fn listed() -> ListedTrack {
    ListedTrack {
        camera: "front".into(),
        id: TrackId(3),
        name: "mug".into(),
        state: TrackState::Occluded,
        reason: Reason::Shrunk,
        score: 0.5,
        age: 10,
        since_seen: 2,
    }
}

pub fn status() -> Status {
    Status {
        version: "9.9.9".into(),
        boot_id: "b00t".into(),
        uptime_s: 12.5,
        model: ModelStatus {
            name: "fake".into(),
            family: "none".into(),
            sha256: "00".repeat(32),
            runtime: "cpu".into(),
            device: Some("Orin".into()),
            instead: Some("no Vulkan driver".into()),
            kernel: Some("dotprod".into()),
            probe_cosine: 0.9995,
        },
        budget: Some(BudgetStatus {
            target_fps: Some(15.0),
            cpu_share: Some(0.5),
            met: false,
            problem: Some("front reports 8.0 of 15.0 frames a second".into()),
            cpu: 0.25,
            input: [448, 336],
            configured_input: [640, 480],
            max_fps: Some(15.0),
            reason: BudgetReason::FpsMissed,
            since_s: 2.5,
        }),
        cameras: vec![CameraStatus {
            name: "front".into(),
            state: "lost".into(),
            problem: Some("/dev/video0 is gone".into()),
            since_s: 3.25,
            format: Some("YUYV 640x480 at 30 fps".into()),
            size: [640, 480],
            captured: 100,
            embedded: 90,
            reported: 89,
            dropped: 10,
            skipped: 4,
            computed: 0.25,
            reopened: 1,
            fps: 29.5,
            stages: vec![StageStatus { stage: "embed".into(), last_ms: 20.0, median_ms: 19.5, p99_ms: 31.0 }],
            tracks: 2,
        }],
        clients: ClientStatus { connected: 99, refused: 99, dropped_reports: 99 },
        memory_bytes: 123_456_789,
        cpu: Some(0.25),
        sandbox: Some(SandboxStatus {
            files: Confinement { confined: true, detail: "Landlock 6".into() },
            system_calls: Confinement { confined: false, detail: "none".into() },
        }),
        warnings: vec!["system calls are not confined: none".into()],
    }
}

/// Sends bytes and reads lines of JSON.
pub struct RawClient {
    pub reader: BufReader<UnixStream>,
}

impl RawClient {
    /// Connects, and leaves everything unread.
    pub fn connect(path: &Path) -> RawClient {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        RawClient { reader: BufReader::new(stream) }
    }

    /// The same after `hello`.
    pub fn greeted(mut self) -> RawClient {
        assert_eq!(self.read()["class"], "hello");
        self
    }

    pub fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub fn ask(&mut self, line: &str) -> Value {
        self.write(format!("{line}\n"));
        self.read()
    }

    /// The next line.
    pub fn read(&mut self) -> Value {
        self.read_or_end().expect("the connection goes on")
    }

    /// The next line, or `None` at the end.
    pub fn read_or_end(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => {
                assert!(line.ends_with('\n'), "half a line: {line:?}");
                assert!(line.starts_with("{\"class\":"), "{line}");
                assert!(!line.contains("null"), "{line}");
                Some(serde_json::from_str(&line).unwrap())
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether nothing comes within `wait`.
    pub fn is_silent(&mut self, wait: Duration) -> bool {
        self.stream().set_read_timeout(Some(wait)).unwrap();
        let silent = self.reader.fill_buf().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        self.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
