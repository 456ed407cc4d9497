//! One object that is followed: what is known of it beside its labels.

use super::seconds;
use crate::track::TrackConfig;
use crate::track::distractors::Distractors;
use crate::track::life::{Life, Sighting};
use crate::track::lookalikes::Expected;
use crate::types::report::Track;
use crate::types::{FrameMeta, Mask, TrackId, TrackState};

/// How fast the velocity follows what is seen, a frame.
const VELOCITY_RATE: f64 = 0.4;
/// Seconds for which what covers another that looks the same, or is covered by it, is trusted to go on as it went.
const COAST: f64 = 1.0;

/// A tagged object.
pub(super) struct Object {
    pub(super) id: TrackId,
    pub(super) name: String,
    pub(super) life: Life,
    /// The IoU that its mask is expected to have, in [0, 1].
    pub(super) score: f32,
    pub(super) mask: Mask,
    /// Where its centre was last seen: seconds; x, y in pixels.
    pub(super) last_place: Option<(f64, [f64; 2])>,
    /// x, y in pixels a second.
    pub(super) velocity: [f64; 2],
    /// Of a disc of its area, where it was last placed, in pixels.
    pub(super) radius: f64,
    /// The sum of its labels, where it last neither covered another that looks the same nor was covered by it.
    pub(super) mass: f32,
    /// Since when it has covered another that looks the same, or has been covered by it, in seconds.
    pub(super) touching: Option<f64>,
    /// Whether that took so long that it may be the other by now.
    pub(super) confused: bool,
    /// Whether the camera has shown another scene since it was surely seen: then only what is surely it is taken for it.
    pub(super) displaced: bool,
    /// Whether its labels are elsewhere than it was, and may be on what looks as it does: then it is looked for, too.
    pub(super) astray: bool,
    /// How often in a row it has been found since.
    pub(super) looks: u32,
    /// How similar it is to its exemplars where it scores as well as what is found again must; `None` before it did.
    pub(super) usual_similarity: Option<f32>,
    /// Where it was last, since it has not been seen.
    pub(super) gone_from: Option<Expected>,
    /// What looks as it does and is not it, since it has not been seen.
    pub(super) distractors: Option<Distractors>,
    /// Whether what it is known by is to outlive it, and has changed since it was last asked for.
    pub(super) kept: Option<Changed>,
}

/// Whether something has changed.
pub(super) type Changed = bool;

impl Object {
    /// One that begins in a frame.
    pub(super) fn new(id: TrackId, name: String, meta: &FrameMeta) -> Object {
        Object {
            id,
            name,
            life: Life::new(seconds(meta), 0.0),
            score: 1.0,
            mask: Mask::empty(meta.width, meta.height),
            last_place: None,
            velocity: [0.0; 2],
            radius: 0.0,
            mass: 0.0,
            touching: None,
            confused: false,
            displaced: false,
            astray: false,
            looks: 0,
            usual_similarity: None,
            gone_from: None,
            distractors: None,
            kept: None,
        }
    }

    /// It is where its mask is, whatever was before.
    pub(super) fn settle(&mut self, time: f64) {
        self.last_place = self.mask.centroid().map(|centre| (time, centre));
        self.radius = (self.mask.area() as f64 / std::f64::consts::PI).sqrt();
    }

    /// Follows the centre while it is seen; what is not seen has no place.
    pub(super) fn place(&mut self, sighting: &Sighting) {
        let centre = self.mask.centroid().filter(|_| sighting.seen);
        if self.touching.is_some() && !self.confused {
            // Of two that look the same and cover one another, each gets the nearer part of what is seen: it is not there.
            if centre.is_none() {
                (self.mask, self.score) = (Mask::empty(self.mask.width, self.mask.height), 0.0);
            }
            return;
        }
        let Some(centre) = centre else {
            self.hide();
            return;
        };
        (self.gone_from, self.distractors) = (None, None);
        self.radius = (self.mask.area() as f64 / std::f64::consts::PI).sqrt();
        if let Some((then, place)) = self.last_place.filter(|(then, _)| sighting.time > *then) {
            for axis in 0..2 {
                let now = (centre[axis] - place[axis]) / (sighting.time - then);
                self.velocity[axis] += VELOCITY_RATE * (now - self.velocity[axis]);
            }
        }
        self.last_place = Some((sighting.time, centre));
    }

    /// Where it goes on to, from where it was seen last.
    pub(super) fn expected(&self, time: f64) -> Option<Expected> {
        let (then, place) = self.last_place?;
        let centre = std::array::from_fn(|axis| place[axis] + self.velocity[axis] * (time - then));
        Some(Expected { centre, radius: self.radius })
    }

    /// Takes in whether it covers another that looks the same or is covered by it, at `now` in seconds.
    pub(super) fn touch(&mut self, now: Option<f64>) {
        self.touching = now.map(|now| self.touching.unwrap_or(now));
        self.confused |= self.touching.zip(now).is_some_and(|(since, now)| now - since > COAST);
    }

    /// Whether what its labels are on is likely enough to be it.
    pub(super) fn is_recognisable(&self, config: &TrackConfig) -> bool {
        self.score >= config.min_score && !self.displaced && !self.astray
    }

    /// Whether nobody has tagged it.
    pub(super) fn is_proposal(&self) -> bool {
        self.life.state == TrackState::Proposal
    }

    /// Nothing of the object is seen.
    pub(super) fn hide(&mut self) {
        self.mask = Mask::empty(self.mask.width, self.mask.height);
        self.score = 0.0;
        let gone_from = self.last_place.take().map(|(_, centre)| Expected { centre, radius: self.radius });
        self.gone_from = gone_from.or(self.gone_from);
        self.velocity = [0.0; 2];
    }

    pub(super) fn track(&self) -> Track {
        Track {
            id: self.id,
            name: self.name.clone(),
            state: self.life.state,
            reason: self.life.reason,
            score: self.score,
            bounds: self.mask.bounds().map(|b| b.map(|v| v as f32)),
            centroid: self.mask.centroid().map(|c| c.map(|v| v as f32)),
            area: self.mask.area() as u64,
            velocity: self.velocity.map(|v| v as f32),
            age: self.life.age,
            since_seen: self.life.since_seen,
            mask: (!self.mask.is_empty()).then(|| self.mask.to_coco()),
        }
    }
}
