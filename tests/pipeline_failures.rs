//! A camera whose frames cannot be embedded is a lost camera, and each of its frames is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tagalong::capture::{CameraConfig, SourceKind};
use tagalong::config::Config;
use tagalong::embed::{Backbone, BackboneSpec, EmbedError};
use tagalong::notify::Watchdog;
use tagalong::pipeline::{Daemon, Prepared};
use tagalong::serve::{Controller, Sink, SinkError};
use tagalong::state::State;
use tagalong::types::command::ErrorCode;
use tagalong::types::{Command, Features, InputTensor, PatchGrid, Seed, TrackReport, TrackState};

const PATIENCE: Duration = Duration::from_secs(60);

/// Fails for as long as it is told to.
struct Moody {
    spec: BackboneSpec,
    fails: Arc<AtomicBool>,
}

impl Backbone for Moody {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError> {
        if self.fails.load(Relaxed) {
            return Err(EmbedError::Runtime("it is in a mood".into()));
        }
        out.data.iter_mut().zip(&input.data).for_each(|(out, pixel)| *out = pixel - 0.4);
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

fn next(reports: &Receiver<Arc<TrackReport>>, wanted: impl Fn(&TrackReport) -> bool) -> Arc<TrackReport> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = reports.recv_deadline(deadline).expect("the report comes");
        if wanted(&report) {
            return report;
        }
    }
}

fn wait_for_state(daemon: &Daemon, state: &str) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let camera = daemon.status().cameras.remove(0);
        if camera.state == state {
            return camera.problem;
        }
        assert!(Instant::now() < deadline, "the camera is {} and not {state}", camera.state);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn frames_that_cannot_be_embedded_are_told_as_a_loss_and_counted() {
    let mut config = Config::builtin();
    config.camera = vec![CameraConfig {
        source: SourceKind::Synthetic,
        width: 160,
        height: 120,
        fps: 100.0,
        ..config.camera[0].clone()
    }];
    let grid = PatchGrid { rows: 6, cols: 8, patch: 8 };
    let spec = BackboneSpec {
        name: "moody".into(),
        family: "test".into(),
        sha256: String::new(),
        features: String::new(),
        grids: vec![grid],
        dim: 4,
        mean: [0.0; 3],
        std: [1.0; 3],
        probe_cosine: 1.0,
    };
    let (fails, limit) = (Arc::new(AtomicBool::new(false)), Duration::from_secs(4));
    let mut watchdog = Watchdog::new(limit, Instant::now());
    let backbone = Box::new(Moody { spec, fails: fails.clone() });
    let prepared = Prepared::new(config, None, backbone, grid, State::ephemeral(), || watchdog.add_heart());
    let daemon = prepared.daemon();
    let (sender, reports) = unbounded();
    let running = prepared.start(|| vec![Box::new(Pass(sender.clone())) as Box<dyn Sink>]);
    let tag = || {
        let seed = Seed::Box([20.0, 20.0, 40.0, 40.0]);
        daemon.execute(Command::Tag { camera: None, seed, name: None, seq: None, save: false })
    };
    next(&reports, |report| report.seq >= 3);
    tag().unwrap();

    fails.store(true, Relaxed);
    let problem = wait_for_state(&daemon, "lost").expect("a lost camera has a problem");
    assert!(problem.contains("it is in a mood"), "{problem}");
    let lost = next(&reports, |report| report.tracks.iter().any(|track| track.state == TrackState::Lost));
    assert!(lost.tracks[0].since_seen > 0, "{lost:?}");
    assert_eq!(tag().unwrap_err().code, ErrorCode::CameraNoFrame);
    // The service manager is told that all is well but for a camera: to start afresh would not mend it.
    assert!(watchdog.due(Instant::now() + limit));
    assert!(watchdog.due(Instant::now() + 2 * limit));
    // What a command changes is told though no frame comes.
    let removed = daemon.execute(Command::Untag { id: lost.tracks[0].id });
    removed.unwrap();
    next(&reports, |report| report.tracks.iter().any(|track| track.state == TrackState::Removed));

    fails.store(false, Relaxed);
    assert_eq!(wait_for_state(&daemon, "streaming"), None);
    let back = next(&reports, |report| report.seq > lost.seq);
    assert!(back.dropped >= 10, "{back:?}");
    assert_eq!(back.dropped, back.seq - lost.seq - 1);
    assert!(back.tracks.is_empty(), "{back:?}");
    assert!(running.stop(Duration::from_secs(5)));
}
