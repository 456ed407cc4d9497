//! A daemon that is too slow lowers its input size or skips frames, says so, and comes back when it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tagalong::capture::{CameraConfig, SourceKind};
use tagalong::config::Config;
use tagalong::embed::{Backbone, BackboneSpec, EmbedError};
use tagalong::notify::Heart;
use tagalong::pipeline::{Daemon, Pipeline, Prepared};
use tagalong::serve::{Controller, Sink, SinkError};
use tagalong::state::State;
use tagalong::types::command::{BudgetReason, BudgetStatus};
use tagalong::types::{Command, Features, InputTensor, PatchGrid, Seed, TrackReport};

const PATIENCE: Duration = Duration::from_secs(60);
/// The second one cannot be used.
const GRIDS: [PatchGrid; 3] = [
    PatchGrid { rows: 12, cols: 16, patch: 8 },
    PatchGrid { rows: 9, cols: 12, patch: 8 },
    PatchGrid { rows: 6, cols: 8, patch: 8 },
];

/// Takes a time for each patch.
struct Slow {
    spec: BackboneSpec,
    patch_us: Arc<AtomicU64>,
    /// Whether it computes for so long, or only waits.
    computes: bool,
}

impl Backbone for Slow {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn prepare(&mut self, grid: PatchGrid) -> Result<(), EmbedError> {
        if grid == GRIDS[1] { Err(EmbedError::Runtime("not this one".into())) } else { Ok(()) }
    }

    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError> {
        assert_eq!((out.grid.input_width(), out.grid.input_height()), (input.width, input.height));
        let time = Duration::from_micros(self.patch_us.load(Relaxed) * out.grid.len() as u64);
        let start = Instant::now();
        if self.computes {
            while start.elapsed() < time {}
        } else {
            std::thread::sleep(time);
        }
        for (patch, row) in out.data.chunks_exact_mut(4).enumerate() {
            let (x, y) = (patch % out.grid.cols * 8, patch / out.grid.cols * 8);
            row.iter_mut().enumerate().for_each(|(d, v)| *v = input.data[(y + d) * input.width + x + d] - 0.4);
        }
        out.normalise();
        Ok(())
    }
}

/// Passes every report on.
struct Pass(Sender<Arc<TrackReport>>);

impl Sink for Pass {
    fn send(&mut self, report: &Arc<TrackReport>) -> Result<(), SinkError> {
        let _ = self.0.send(report.clone());
        Ok(())
    }

    fn flush(&mut self, _at_most: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

struct Running {
    daemon: Arc<Daemon>,
    pipeline: Pipeline,
    reports: Receiver<Arc<TrackReport>>,
    patch_us: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
    file: std::path::PathBuf,
}

impl Running {
    fn start(budget: &str, computes: bool) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tagalong.toml");
        std::fs::write(&file, budget).unwrap();
        let mut config = Config::load(&file).unwrap();
        config.camera = vec![CameraConfig {
            source: SourceKind::Synthetic,
            width: 160,
            height: 120,
            fps: 50.0,
            ..config.camera[0].clone()
        }];
        let spec = BackboneSpec {
            name: "slow".into(),
            family: "test".into(),
            sha256: String::new(),
            features: String::new(),
            grids: GRIDS.to_vec(),
            dim: 4,
            mean: [0.0; 3],
            std: [1.0; 3],
            probe_cosine: 1.0,
        };
        let patch_us = Arc::new(AtomicU64::new(10));
        let backbone = Box::new(Slow { spec, patch_us: patch_us.clone(), computes });
        let path = Some(file.clone());
        let prepared = Prepared::new(config, path, backbone, GRIDS[0], State::ephemeral(), Heart::default);
        let daemon = prepared.daemon();
        let (sender, reports) = unbounded();
        let pipeline = prepared.start(|| vec![Box::new(Pass(sender.clone())) as Box<dyn Sink>]);
        Running { daemon, pipeline, reports, patch_us, _folder: folder, file }
    }

    /// Waits until the budget stands as wanted, while reports are read; returns it and the newest report.
    fn wait(&self, what: &str, wanted: impl Fn(&BudgetStatus) -> bool) -> (BudgetStatus, Arc<TrackReport>) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = self.reports.recv_deadline(deadline).expect("the report comes");
        loop {
            let report = self.reports.recv_deadline(deadline).expect("the report comes");
            // What was skipped or overwritten is counted, and nothing else is missing.
            assert_eq!(report.dropped, report.seq - last.seq - 1, "{report:?}");
            last = report;
            let status = self.daemon.status().budget.expect("there is a budget");
            if wanted(&status) {
                return (status, last);
            }
            assert!(Instant::now() < deadline, "{what} does not come: {status:?}");
        }
    }
}

#[test]
fn a_missed_rate_lowers_the_input_and_tracks_go_on() {
    let budget = "[budget]\ntarget_fps = 25\nwindow_s = 0.2\nclimb_after_s = 1";
    let running = Running::start(budget, false);
    let (status, _) = running.wait("the first measurement", |status| status.met);
    assert_eq!((status.input, status.configured_input, status.target_fps), ([128, 96], [128, 96], Some(25.0)));
    assert_eq!((status.reason, status.cpu_share), (BudgetReason::Start, None));
    let seed = Seed::Box([20.0, 20.0, 60.0, 60.0]);
    let name = Some("cup".to_owned());
    running.daemon.execute(Command::Tag { camera: None, seed, name, seq: None, save: false }).unwrap();

    // 12 frames a second at the full size; the next one cannot be used; 40 at the one after that.
    running.patch_us.store(420, Relaxed);
    let (status, report) = running.wait("the smaller size", |status| status.input == [64, 48] && status.met);
    assert_eq!((status.configured_input, status.reason), ([128, 96], BudgetReason::FpsMissed));
    assert_eq!(report.tracks.iter().map(|track| track.name.as_str()).collect::<Vec<_>>(), ["cup"]);
    assert!(running.daemon.summary().contains("budget met with input 64x48"), "{}", running.daemon.summary());

    running.patch_us.store(10, Relaxed);
    let (status, report) = running.wait("the way back", |status| status.input == [128, 96]);
    assert_eq!((status.reason, status.max_fps), (BudgetReason::Room, None));
    assert_eq!(report.tracks.iter().map(|track| track.name.as_str()).collect::<Vec<_>>(), ["cup"]);
    assert!(running.pipeline.stop(Duration::from_secs(5)));
}

#[test]
fn too_much_cpu_skips_frames_until_a_reload_gives_more() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    // A frame takes 6 ms: at 50 a second 0.3 of a core, and a tenth of a core is allowed.
    let budget = format!("[budget]\ncpu_share = {}\nwindow_s = 0.5\nmin_input = \"96x128\"", 0.1 / cores);
    let running = Running::start(&budget, true);
    running.patch_us.store(31, Relaxed);
    let (status, _) = running.wait("a skipped frame", |status| status.max_fps.is_some());
    assert_eq!((status.input, status.reason), ([128, 96], BudgetReason::CpuExceeded));
    assert!(status.max_fps.unwrap() < 45.0, "{status:?}");
    let (_, report) = running.wait("a report after it", |status| status.since_s > 0.5);
    assert!(report.dropped > 0, "{report:?}");
    let camera = running.daemon.status().cameras.remove(0);
    assert!(camera.skipped > 0 && camera.skipped <= camera.dropped, "{camera:?}");

    std::fs::write(&running.file, "[budget]\ncpu_share = 1").unwrap();
    running.daemon.reload().unwrap();
    let (status, _) = running.wait("the new budget", |status| status.cpu_share == Some(1.0));
    assert_eq!((status.max_fps, status.reason), (None, BudgetReason::Start));
    std::fs::write(&running.file, "").unwrap();
    running.daemon.reload().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while running.daemon.status().budget.is_some() {
        assert!(Instant::now() < deadline, "the budget stays");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(running.pipeline.stop(Duration::from_secs(5)));
}

#[test]
fn nothing_is_measured_unless_something_is_to_be_held() {
    assert!(!Config::builtin().budget.is_set());
    let running = Running::start("", false);
    running.patch_us.store(1000, Relaxed);
    for _ in 0..10 {
        running.reports.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(running.daemon.status().budget, None);
    assert!(running.pipeline.stop(Duration::from_secs(5)));
}
