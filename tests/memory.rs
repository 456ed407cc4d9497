//! The daemon's memory stays flat: after 1,000 frames, 10,000 more take less than 1 MB.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use tagalong::capture::{CameraConfig, SourceKind};
use tagalong::config::Config;
use tagalong::embed::{Backbone, BackboneSpec, EmbedError};
use tagalong::notify::Heart;
use tagalong::pipeline::Prepared;
use tagalong::serve::{Access, Activated, Controller, Hello, Server, Sink, SinkError};
use tagalong::state::State;
use tagalong::stats::resident_bytes;
use tagalong::types::{Command, Features, InputTensor, PatchGrid, Seed, TrackReport};

/// Means of the colours of each patch: cheap, so that many frames pass in little time.
struct Means(BackboneSpec);

impl Backbone for Means {
    fn spec(&self) -> &BackboneSpec {
        &self.0
    }

    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError> {
        let grid = self.0.grids[0];
        for patch in 0..grid.len() {
            let (row, col) = (patch / grid.cols * grid.patch, patch % grid.cols * grid.patch);
            for d in 0..4 {
                let at = (d % 3) * input.width * input.height + (row + d) * input.width + col + d;
                out.data[patch * 4 + d] = input.data[at] - 0.4;
            }
        }
        out.normalise();
        Ok(())
    }
}

/// Passes on how many reports there were.
struct Count(Sender<u64>, u64);

impl Sink for Count {
    fn send(&mut self, _report: &Arc<TrackReport>) -> Result<(), SinkError> {
        self.1 += 1;
        let _ = self.0.try_send(self.1);
        Ok(())
    }

    fn flush(&mut self, _at_most: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn memory_is_flat_over_ten_thousand_frames() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::builtin();
    config.camera = vec![CameraConfig {
        name: "scene".into(),
        source: SourceKind::Synthetic,
        format: "YUYV".into(),
        width: 160,
        height: 120,
        fps: 1000.0,
        timeout_ms: 30_000,
        ..config.camera[0].clone()
    }];
    config.serve.directory = folder.path().into();
    let serve = config.serve.clone();
    let grid = PatchGrid { rows: 15, cols: 20, patch: 8 };
    let spec = BackboneSpec {
        name: "means".into(),
        family: "test".into(),
        sha256: String::new(),
        features: String::new(),
        grids: vec![grid],
        dim: 4,
        mean: [0.0; 3],
        std: [1.0; 3],
        probe_cosine: 1.0,
    };
    let prepared = Prepared::new(config, None, Box::new(Means(spec)), grid, State::ephemeral(), Heart::default);
    let daemon = prepared.daemon();
    let hello = Hello::new("test", daemon.boot_id(), Vec::new());
    let server =
        Server::start(&serve, hello, daemon.clone(), &Access::of(&serve).unwrap(), Activated::default()).unwrap();
    let (sender, counted) = bounded(1);
    let running = prepared.start(|| vec![Box::new(server.sink()) as Box<dyn Sink>, Box::new(Count(sender.clone(), 0))]);
    // One client that reads, and one that never does.
    let path = folder.path().join("tracks.sock");
    let mut reader = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let _idle = std::os::unix::net::UnixStream::connect(&path).unwrap();
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));

    let deadline = Instant::now() + Duration::from_secs(300);
    let wait_for = |frames: u64| {
        while counted.recv_timeout(Duration::from_secs(30)).expect("reports keep coming") < frames {
            assert!(Instant::now() < deadline, "{frames} frames take too long");
        }
    };
    wait_for(10);
    for corner in [20.0, 60.0, 100.0] {
        let seed = Seed::Box([corner, corner / 2.0, 32.0, 32.0]);
        daemon.execute(Command::Tag { camera: None, seed, name: None, seq: None, save: false }).unwrap();
    }
    wait_for(1_000);
    let before = resident_bytes();
    wait_for(11_000);
    let after = resident_bytes();
    println!("resident: {before} bytes after 1,000 frames, {after} after 11,000");
    assert!(after < before + 1_000_000, "{before} bytes grew to {after}");
    assert!(running.stop(Duration::from_secs(5)));
}
