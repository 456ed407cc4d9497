//! A report as the bytes of its line, made once for all clients.

use std::cell::OnceCell;
use std::sync::Arc;

use super::wire::{MAX_LINE_OUT, ServerLine, Tracks};
use crate::types::report::Latency;
use crate::types::{TrackReport, TrackState};

/// A line's bytes, its newline included, shared between the clients that it goes to.
pub type Line = Arc<[u8]>;

/// A report, and its lines with and without masks once somebody wants them.
pub struct EncodedReport {
    report: Arc<TrackReport>,
    boxes: OnceCell<Option<Line>>,
    masks: OnceCell<Option<Line>>,
}

impl EncodedReport {
    pub fn new(report: &Arc<TrackReport>) -> EncodedReport {
        EncodedReport { report: finite(report), boxes: OnceCell::new(), masks: OnceCell::new() }
    }

    pub fn camera(&self) -> &str {
        &self.report.camera
    }

    /// Whether it tells of a track that is gone for good, which no other report will.
    pub fn tells_removal(&self) -> bool {
        self.report.tracks.iter().any(|track| track.state == TrackState::Removed)
    }

    /// The same report as a state to begin with: tracks that are gone are no part of it. `None` when it has none.
    pub fn without_removed(&self) -> Option<EncodedReport> {
        self.tells_removal().then(|| {
            let mut report = TrackReport::clone(&self.report);
            report.tracks.retain(|track| track.state != TrackState::Removed);
            EncodedReport::new(&Arc::new(report))
        })
    }

    /// The report's line; `None` when even without masks it is longer than [`MAX_LINE_OUT`].
    pub fn line(&self, masks: bool) -> Option<Line> {
        let cell = if masks { &self.masks } else { &self.boxes };
        cell.get_or_init(|| self.encode(masks)).clone()
    }

    fn encode(&self, masks: bool) -> Option<Line> {
        let has_masks = self.report.tracks.iter().any(|track| track.mask.is_some());
        if masks && !has_masks {
            return self.line(false);
        }
        if masks {
            let line = ServerLine::Tracks(Tracks { report: self.report.clone(), masks_dropped: false }).to_bytes();
            if line.len() <= MAX_LINE_OUT {
                return Some(line.into());
            }
        }
        let mut report = TrackReport::clone(&self.report);
        report.tracks.iter_mut().for_each(|track| track.mask = None);
        let line = ServerLine::Tracks(Tracks { report: Arc::new(report), masks_dropped: masks }).to_bytes();
        (line.len() <= MAX_LINE_OUT).then(|| line.into())
    }
}

/// JSON has no word for a number that is not finite, and a `null` would break the promise that a field which
/// is there has its type: such places become absent, or 0.
fn finite(report: &Arc<TrackReport>) -> Arc<TrackReport> {
    let is_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    let Latency { queue, preprocess, embed, propagate, track, total } = report.latency_ms;
    let latency_good = is_finite(&[queue, preprocess, embed, propagate, track, total]);
    let tracks_good = report.tracks.iter().all(|track| {
        track.score.is_finite()
            && is_finite(&track.velocity)
            && track.bounds.is_none_or(|bounds| is_finite(&bounds))
            && track.centroid.is_none_or(|centroid| is_finite(&centroid))
    });
    if latency_good && tracks_good {
        return report.clone();
    }
    let repair = |value: f32| if value.is_finite() { value } else { 0.0 };
    let mut report = TrackReport::clone(report);
    report.latency_ms = Latency {
        queue: repair(queue),
        preprocess: repair(preprocess),
        embed: repair(embed),
        propagate: repair(propagate),
        track: repair(track),
        total: repair(total),
    };
    for track in &mut report.tracks {
        track.score = repair(track.score);
        track.velocity = track.velocity.map(repair);
        track.bounds = track.bounds.filter(|bounds| is_finite(bounds));
        track.centroid = track.centroid.filter(|centroid| is_finite(centroid));
    }
    Arc::new(report)
}
