//! The built-in scene through the daemon's pipeline, its objects tagged and scored against the exact masks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::demo::{Scene, Summary};
use super::exit::{Kind, failure};
use crate::capture::synthetic;
use crate::capture::{CameraConfig, SourceKind};
use crate::config::Config;
use crate::embed;
use crate::notify::Heart;
use crate::pipeline::{Daemon, Prepared};
use crate::serve::{Controller, Sink, SinkError};
use crate::shutdown::{self, Request};
use crate::state::State;
use crate::types::report::TrackReport;
use crate::types::{Answer, Command, Mask, Seed, TrackId};

/// Pixels of an object that must show before it is tagged, or before not finding it counts.
const IN_SIGHT: usize = 300;
/// How long the pipeline may take to give its next report.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the scene until its time is over or the user interrupts. `show` takes every report.
///
/// # Errors
/// When the pipeline does not come up, or `show` fails.
pub fn follow(scene: &Scene, show: &mut dyn FnMut(&TrackReport) -> anyhow::Result<()>) -> anyhow::Result<Summary> {
    let requests = shutdown::requests().context("signals cannot be received")?;
    let mut config = Config::builtin();
    let camera = CameraConfig {
        name: "scene".into(),
        source: SourceKind::Synthetic,
        format: "auto".into(),
        seed: scene.seed.into(),
        objects: scene.objects,
        ..config.camera[0].clone()
    };
    let CameraConfig { width, height, seed, objects, fps, .. } = camera;
    let options = synthetic::SceneOptions { width, height, seed, objects, fps, ..Default::default() };
    let truth = synthetic::Scene::new(options)?;
    config.camera = vec![camera];
    let backbone = embed::load(&config.model).map_err(|error| failure(Kind::Data, error))?;
    let grid = backbone.spec().grids[0];
    let prepared = Prepared::new(config, None, backbone, grid, State::ephemeral(), Heart::default);
    let daemon = prepared.daemon();
    let (sender, reports) = bounded(64);
    let running = prepared.start(|| vec![Box::new(ChannelSink(sender.clone())) as Box<dyn Sink>]);
    let followed = watch(scene, &truth, &daemon, &reports, &requests, show);
    running.stop(Duration::from_secs(3));
    followed
}

/// Takes reports, tags what has come into sight, and scores the rest.
fn watch(
    scene: &Scene,
    truth: &synthetic::Scene,
    daemon: &Daemon,
    reports: &Receiver<Arc<TrackReport>>,
    requests: &Receiver<Request>,
    show: &mut dyn FnMut(&TrackReport) -> anyhow::Result<()>,
) -> anyhow::Result<Summary> {
    let start = Instant::now();
    let mut summary = Summary::default();
    let mut tagged: BTreeMap<TrackId, usize> = BTreeMap::new();
    let (mut sum, mut count) = (0.0, 0u64);
    while scene.time.is_none_or(|time| start.elapsed() < time) && requests.try_recv().is_err() {
        let report = match reports.recv_timeout(PATIENCE) {
            Ok(report) => report,
            Err(RecvTimeoutError::Timeout) => return Err(failure(Kind::Internal, "the pipeline gives no reports")),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        summary.frames += 1;
        summary.dropped += report.dropped;
        let exact = truth.truth(report.seq);
        for track in &report.tracks {
            let Some(number) = tagged.get(&track.id) else { continue };
            let mask = exact.mask(*number);
            if mask.area() >= IN_SIGHT {
                let drawn = track.mask.as_ref().and_then(|rle| Mask::from_coco(rle).ok());
                sum += drawn.map_or(0.0, |drawn| drawn.iou(&mask));
                count += 1;
            }
        }
        for number in 1..=scene.objects {
            let mask = exact.mask(number);
            if mask.area() >= IN_SIGHT && !tagged.values().any(|known| *known == number) {
                let name = Some(format!("object {number}"));
                let seed = Seed::Mask(mask);
                // A frame that is not remembered any more, or an object that no patch shows enough of, has its
                // next chance with the next frame.
                let command = Command::Tag { camera: None, seed, name, seq: Some(report.seq), save: false };
                if let Ok(Answer::Tagged { track, .. }) = daemon.execute(command) {
                    tagged.insert(track.id, number);
                }
            }
        }
        show(&report)?;
    }
    summary.elapsed = start.elapsed();
    summary.mean_iou = if count > 0 { sum / count as f64 } else { 0.0 };
    Ok(summary)
}

/// Hands reports to the thread that shows them; one that it is too slow for is left out.
struct ChannelSink(Sender<Arc<TrackReport>>);

impl Sink for ChannelSink {
    fn send(&mut self, report: &Arc<TrackReport>) -> Result<(), SinkError> {
        match self.0.try_send(report.clone()) {
            Err(crossbeam_channel::TrySendError::Disconnected(_)) => Err(SinkError::Closed),
            _ => Ok(()),
        }
    }

    fn flush(&mut self, _at_most: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}
