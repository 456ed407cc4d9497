//! Where in the camera's frame labels lie.

use super::object::Object;
use super::seek::labelled;
use super::{Session, key, seconds};
use crate::propagate::exemplars::ExemplarKeys;
use crate::track::lookalikes::Expected;
use crate::types::FrameMeta;

impl Session {
    /// Where the centres of patches lie, x and y in pixels of the frame, of which a part may be looked at.
    pub(super) fn places(&self, meta: &FrameMeta) -> impl Fn(usize) -> [f64; 2] + use<> {
        let grid = self.memory.grid();
        let [left, top, width, height] = self.memory.view().pixels(meta.width, meta.height).map(|v| v as f64);
        let (across, down) = (width / grid.cols as f64, height / grid.rows as f64);
        move |patch| {
            let (row, col) = (patch / grid.cols, patch % grid.cols);
            [left + (col as f64 + 0.5) * across, top + (row as f64 + 0.5) * down]
        }
    }

    /// Where the patches with labels are in the newest frame; of a radius of at least `least` pixels.
    pub(super) fn place_of(&self, labels: &[f32], least: f64) -> Option<Expected> {
        let meta = self.recent.back()?;
        let places = self.places(meta);
        let (mut mass, mut moments) = (0.0, [0.0; 2]);
        for patch in labelled(labels) {
            let (label, place) = (f64::from(labels[patch]), places(patch));
            mass += label;
            moments.iter_mut().zip(place).for_each(|(moment, place)| *moment += label * place);
        }
        let area = (meta.width * meta.height) as f64 / f64::from(self.memory.patches_in_frame());
        let radius = (mass * area / std::f64::consts::PI).sqrt().max(least);
        (mass > 0.0).then(|| Expected { centre: moments.map(|moment| moment / mass), radius })
    }

    /// Whether the labels of an object that was out of sight are elsewhere than it was, and may be on what looks as it does.
    pub(super) fn is_astray(&self, object: &Object) -> bool {
        let key = key(object.id);
        let has_lookalikes = self.memory.exemplars(key).is_some_and(ExemplarKeys::has_lookalikes);
        let labels = self.memory.labels(key).filter(|_| has_lookalikes && object.last_place.is_none());
        labels.is_some_and(|labels| !self.is_in_place(object, labels))
    }

    /// Whether what has `labels` is where an object is expected, or was when it was last seen.
    pub(super) fn is_in_place(&self, object: &Object, labels: &[f32]) -> bool {
        let now = self.recent.back().map_or(0.0, seconds);
        let place = object.expected(now).or(object.gone_from);
        place.is_some_and(|place| self.place_of(labels, place.radius).is_some_and(|here| here.touches(&place)))
    }
}
