//! The track thread: it owns a camera's session.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};

use super::discover::Discovery;
use super::embed::Embedded;
use super::gallery::resized;
use super::{GLANCE, ms};
use crate::clock;
use crate::notify::Heart;
use crate::serve::Sink;
use crate::stats::{CameraState, CameraStats};
use crate::track::Session;
use crate::types::report::TrackReport;
use crate::types::{Features, Frame, View};

/// What a command does on the thread that owns the session.
pub(super) type Visit = Box<dyn FnOnce(&mut Tracker) + Send>;

/// One camera's session and all that hangs on it. Its thread owns it.
pub(super) struct Tracker {
    pub(super) session: Session,
    pub(super) discovery: Discovery,
    /// What the gallery knew at the start, of pictures of which size; what is to be said of that is said once.
    pub(super) saved: Vec<(String, [usize; 2])>,
    /// The newest frame and what was reported of it, for snapshots.
    pub(super) frame: Option<Frame>,
    pub(super) report: Option<Arc<TrackReport>>,
    pub(super) camera_lost: bool,
    /// How many losses of the camera were told.
    pub(super) losses_told: u64,
    pub(super) sinks: Vec<Box<dyn Sink>>,
    pub(super) stats: Arc<CameraStats>,
    pub(super) heart: Heart,
    /// Where the embed thread looks up which part of the next frame to look at.
    pub(super) gaze: Arc<Mutex<View>>,
}

impl Tracker {
    pub(super) fn run(mut self, frames: &Receiver<Embedded>, visits: &Receiver<Visit>, spare: &Sender<Features>) {
        // When every handle of the daemon is gone no visit can come, but frames still may.
        let no_visits = never();
        let mut visits = visits;
        loop {
            select! {
                recv(frames) -> embedded => match embedded {
                    Ok(embedded) => {
                        let features = self.follow(embedded);
                        let _ = spare.try_send(features);
                    }
                    Err(_) => break,
                },
                recv(visits) -> visit => match visit {
                    Ok(visit) => {
                        visit(&mut self);
                        self.look_on();
                    }
                    Err(_) => visits = &no_visits,
                },
                default(GLANCE) => self.look_after_camera(),
            }
        }
        for sink in &mut self.sinks {
            if let Err(error) = sink.flush(Duration::from_millis(500)) {
                log::debug!("a sink was not flushed: {error}");
            }
        }
    }

    /// Takes one frame through the session, and reports.
    fn follow(&mut self, embedded: Embedded) -> Features {
        let Embedded { frame, features, mut latency } = embedded;
        self.tell_of_short_loss();
        let start = Instant::now();
        self.session.propagate(&features);
        let propagated = Instant::now();
        let mut report = self.session.observe(&frame.meta, &features.picture);
        report.tracks.extend(self.discovery.look(&mut self.session, &frame.meta, &features));
        latency.propagate = ms(propagated - start);
        latency.track = ms(propagated.elapsed());
        let now = clock::now().mono_ns;
        latency.total = now.saturating_sub(frame.meta.captured_at.mono_ns) as f32 * 1e-6;
        report.latency_ms = latency;
        self.camera_lost = false;
        for (name, saved) in self.saved.drain(..) {
            if let Some(remark) = resized(saved, [frame.meta.width, frame.meta.height], &frame.meta.camera) {
                log::warn!("the gallery's {name:?}: {remark}");
            }
        }
        self.stats.record(latency, Instant::now());
        self.heart.beat();
        self.frame = Some(frame);
        self.look_on();
        self.send(report);
        features
    }

    /// Says which part of the next frame to look at. What nobody tagged may be anywhere.
    fn look_on(&self) {
        let view = if self.discovery.looks() { View::WHOLE } else { self.session.gaze() };
        *self.gaze.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Pixels of the camera's pictures, width and height; `None` before the first.
    pub(super) fn size(&self) -> Option<[usize; 2]> {
        self.frame.as_ref().map(|frame| [frame.meta.width, frame.meta.height])
    }

    /// Tells of a lost camera, once.
    fn look_after_camera(&mut self) {
        if !self.camera_lost && matches!(self.stats.state(), CameraState::Lost(_)) {
            self.tell_of_loss();
        }
    }

    /// Tells of a camera that was lost and is back before anyone looked after it.
    fn tell_of_short_loss(&mut self) {
        if self.stats.losses() > self.losses_told && self.stats.state() == CameraState::Streaming {
            self.tell_of_loss();
        }
    }

    fn tell_of_loss(&mut self) {
        (self.camera_lost, self.losses_told) = (true, self.stats.losses());
        self.tell_without_frame();
    }

    /// Reports the tracks of a lost camera: no frame will come to tell of them.
    pub(super) fn tell_without_frame(&mut self) {
        if self.camera_lost
            && let Some(report) = self.session.camera_lost()
        {
            self.send(report);
        }
    }

    fn send(&mut self, report: TrackReport) {
        self.stats.tracks.store(self.session.len(), Relaxed);
        let report = Arc::new(report);
        self.sinks.retain_mut(|sink| match sink.send(&report) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("a sink is given up: {error}");
                false
            }
        });
        self.report = Some(report);
    }
}
