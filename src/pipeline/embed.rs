//! The embed thread: it owns the backbone.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

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

/// What of a camera's frames could not be embedded since the last that could.
#[derive(Default)]
struct Failures {
    in_a_row: u64,
    /// Frames that are missing by now, those lost before them counted.
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
        match embedder.embed(&frame.pixels, &mut features) {
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
