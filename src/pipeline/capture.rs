//! The capture thread: it owns a camera.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{Daemon, GLANCE};
use crate::capture::reopen::{Event, Reopening, State};
use crate::capture::{CameraConfig, Pace};
use crate::mailbox::Mailbox;
use crate::stats::{CameraState, CameraStats};
use crate::types::Frame;

/// Frames of one camera into the mailbox, through losses and returns.
pub(super) fn run(config: &CameraConfig, slot: usize, mailbox: &Mailbox<Frame>, daemon: &Daemon) {
    let stats = &daemon.cameras[slot].stats;
    let mut source = Reopening::camera(config.clone(), Pace::Live);
    while !daemon.stop.load(Relaxed) {
        match source.next(Instant::now() + GLANCE) {
            Some(Event::Frame(frame)) => {
                stats.captured.fetch_add(1, Relaxed);
                stats.offered.fetch_add(1 + frame.meta.dropped, Relaxed);
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
