//! The embed thread: it owns the backbone.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::adapt::Adapting;
use super::{Daemon, GLANCE, ms};
use crate::clock;
use crate::embed::Embedder;
use crate::mailbox::{Mailbox, Taken};
use crate::stats::CameraState;
use crate::types::report::Latency;
use crate::types::{Features, Frame};

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

/// Serves every camera in turn.
pub(super) fn run(
    mut embedder: Embedder,
    mailbox: &Mailbox<Frame>,
    trackers: &[Sender<Embedded>],
    spare: &Receiver<Features>,
    daemon: &Daemon,
) {
    let mut missing: Vec<Missing> = daemon.cameras.iter().map(|_| Missing::default()).collect();
    let mut adapting = Adapting::new(daemon, embedder.grid(), &embedder.grids());
    loop {
        adapting.review(&mut embedder, daemon);
        let (slot, mut frame) = match mailbox.take(GLANCE) {
            Taken::Item { slot, item } => (slot, item),
            Taken::TimedOut => continue,
            Taken::Closed => break,
        };
        let (camera, missing) = (&daemon.cameras[slot], &mut missing[slot]);
        if !adapting.takes(slot, frame.meta.captured_at.mono_ns) {
            camera.stats.dropped.fetch_add(1, Relaxed);
            camera.stats.skipped.fetch_add(1, Relaxed);
            missing.dropped += frame.meta.dropped + 1;
            continue;
        }
        let taken = clock::now().mono_ns;
        let mut features = spare.try_recv().unwrap_or_else(|_| embedder.empty_features());
        match embedder.follow(slot, &frame.pixels, &mut features) {
            Ok(times) => {
                if missing.failures_in_a_row >= MOST_FAILURES {
                    log::info!("camera {}: its frames can be read again", camera.name);
                    camera.heart.set_missing(false);
                    camera.stats.set_state(CameraState::Streaming, Instant::now());
                }
                frame.meta.dropped += missing.dropped;
                *missing = Missing::default();
                let latency = Latency {
                    queue: taken.saturating_sub(frame.meta.captured_at.mono_ns) as f32 * 1e-6,
                    preprocess: ms(times.preprocess),
                    embed: ms(times.embed),
                    ..Latency::default()
                };
                adapting.spent(times.preprocess + times.embed);
                camera.stats.record_embedded(times.computed);
                if trackers[slot].send(Embedded { frame, features, latency }).is_err() {
                    break;
                }
            }
            Err(error) => {
                camera.stats.dropped.fetch_add(1, Relaxed);
                if missing.failures_in_a_row == 0 {
                    log::error!("camera {}: frame {}: {error}", camera.name, frame.meta.seq);
                }
                missing.failures_in_a_row += 1;
                missing.dropped += frame.meta.dropped + 1;
                if missing.failures_in_a_row >= MOST_FAILURES {
                    // As good as no camera, for whoever reads its tracks and for the watchdog.
                    camera.heart.set_missing(true);
                    camera.stats.set_state(CameraState::Lost(error.to_string()), Instant::now());
                }
            }
        }
    }
}
