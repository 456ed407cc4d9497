//! The embed thread: it owns the backbone.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::adapt::Adapting;
use super::daemon::Camera;
use super::{Daemon, GLANCE, ms};
use crate::clock;
use crate::embed::{EmbedError, Embedder};
use crate::mailbox::{Mailbox, Taken};
use crate::stats::CameraState;
use crate::types::report::Latency;
use crate::types::{Features, Frame, PixelBuf};

/// Frames in a row that cannot be embedded after which a camera counts as lost.
const MOST_FAILURES: u64 = 10;

/// A frame on its way from the backbone to its camera's session.
pub(super) struct Embedded {
    pub(super) frame: Frame,
    pub(super) features: Features,
    pub(super) latency: Latency,
}

/// What of a camera's frames was not embedded since the last that was.
#[derive(Default)]
struct Missing {
    failures_in_a_row: u64,
    /// Frames that are missing by now, skipped or failed, those lost before them counted.
    dropped: u64,
}

/// Serves every camera in turn, or all that wait together where the configuration says so.
pub(super) fn run(
    mut embedder: Embedder,
    mailbox: &Mailbox<Frame>,
    trackers: &[Sender<Embedded>],
    spare: &Receiver<Features>,
    daemon: &Daemon,
) {
    let model = daemon.config().model.clone();
    // What reuse keeps is each camera's own.
    let together = model.together && model.execution().reuse.is_none();
    let mut missing: Vec<Missing> = daemon.cameras.iter().map(|_| Missing::default()).collect();
    let mut adapting = Adapting::new(daemon, &mut embedder);
    let mut running = daemon.running();
    let mut frames: Vec<(usize, Frame)> = Vec::new();
    let mut features: Vec<Features> = Vec::new();
    loop {
        adapting.review(&mut embedder, daemon);
        match mailbox.take(GLANCE) {
            Taken::Item { slot, item } => {
                frames.push((slot, item));
                if together {
                    mailbox.take_others(slot, &mut frames);
                }
            }
            Taken::TimedOut => continue,
            Taken::Closed => break,
        }
        frames.retain(|(slot, frame)| {
            let takes = adapting.takes(*slot, frame.meta.captured_at.mono_ns);
            if !takes {
                let stats = &daemon.cameras[*slot].stats;
                stats.dropped.fetch_add(1, Relaxed);
                stats.skipped.fetch_add(1, Relaxed);
                missing[*slot].dropped += frame.meta.dropped + 1;
            }
            takes
        });
        if frames.is_empty() {
            continue;
        }
        let taken = clock::now().mono_ns;
        features.extend(frames.iter().map(|_| spare.try_recv().unwrap_or_else(|_| embedder.empty_features())));
        for (features, (slot, _)) in features.iter_mut().zip(&frames) {
            features.view = *daemon.cameras[*slot].gaze.lock().unwrap_or_else(PoisonError::into_inner);
        }
        let pictures: Vec<(usize, &PixelBuf)> = frames.iter().map(|(slot, frame)| (*slot, &frame.pixels)).collect();
        let results = embedder.follow_together(&pictures, &mut features);
        if embedder.running() != running {
            running = embedder.running();
            daemon.set_running(running.clone());
        }
        // Frames that are embedded together are told the same times. A camera whose frames cannot be read is no load.
        if let Some(times) = results.iter().flatten().next() {
            adapting.spent(times.preprocess + times.embed);
        }
        for (((slot, mut frame), features), result) in frames.drain(..).zip(features.drain(..)).zip(results) {
            let (camera, missing) = (&daemon.cameras[slot], &mut missing[slot]);
            match result {
                Ok(times) => {
                    missing.ended(camera);
                    frame.meta.dropped += missing.dropped;
                    *missing = Missing::default();
                    let latency = Latency {
                        queue: taken.saturating_sub(frame.meta.captured_at.mono_ns) as f32 * 1e-6,
                        preprocess: ms(times.preprocess),
                        embed: ms(times.embed),
                        ..Latency::default()
                    };
                    camera.stats.record_embedded(times.computed);
                    if trackers[slot].send(Embedded { frame, features, latency }).is_err() {
                        return;
                    }
                }
                Err(error) => missing.failed(camera, &frame, &error),
            }
        }
    }
}

impl Missing {
    /// A frame could be embedded.
    fn ended(&self, camera: &Camera) {
        if self.failures_in_a_row >= MOST_FAILURES {
            log::info!("camera {}: its frames can be read again", camera.name);
            camera.heart.set_missing(false);
            camera.stats.set_state(CameraState::Streaming, Instant::now());
        }
    }

    /// A frame could not.
    fn failed(&mut self, camera: &Camera, frame: &Frame, error: &EmbedError) {
        camera.stats.dropped.fetch_add(1, Relaxed);
        if self.failures_in_a_row == 0 {
            log::error!("camera {}: frame {}: {error}", camera.name, frame.meta.seq);
        }
        self.failures_in_a_row += 1;
        self.dropped += frame.meta.dropped + 1;
        if self.failures_in_a_row >= MOST_FAILURES {
            // As good as no camera, for whoever reads its tracks and for the watchdog.
            camera.heart.set_missing(true);
            camera.stats.set_state(CameraState::Lost(error.to_string()), Instant::now());
        }
    }
}
