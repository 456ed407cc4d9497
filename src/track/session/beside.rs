//! Looking for an object beside what looks as it does and is not it: its twin, say.

use super::object::Object;
use super::seek::{Bar, Sight, largest};
use super::{ALIKE, Session};
use crate::propagate::exemplars::ExemplarKeys;
use crate::track::distractors::Distractors;
use crate::track::lookalikes::Expected;
use crate::types::TrackId;

/// What is known not to be an object, and is no less similar to it than it usually is itself, by so much: that looks as it does.
const LOOKALIKE: f32 = 2.0 * ALIKE;

impl Session {
    /// Looks for an object that was not found for what it is: what looks as it does may be another. Where all that looked so when it
    /// went out of sight is still there, what looks so beside that is the object. Returns where those are now, too.
    pub(super) fn look_beside(
        &self,
        object: &Object,
        exemplars: &ExemplarKeys,
        bar: &Bar,
        rivals: &[TrackId],
    ) -> (Sight, Option<Distractors>) {
        let known = object.distractors.clone();
        let Some(usual) = object.usual_similarity else { return (Sight::Nowhere, known) };
        let alike = self.alike(object.id, usual, exemplars);
        if alike.is_empty() {
            return (Sight::Nowhere, known);
        }
        // In another scene, or in a part of this one, nothing tells which of them were there before.
        let is_told = self.sees_all() && (known.is_some() || !object.displaced);
        let Some(gone_from) = object.gone_from.filter(|_| is_told) else { return (Sight::Ambiguous, known) };
        let place = |labels: &Vec<f32>| self.place_of(labels, gone_from.radius);
        let places: Vec<Expected> = alike.iter().filter_map(place).collect();
        let mut distractors = known.unwrap_or_else(|| Distractors::of(&places, &gone_from));
        if !distractors.follow(&places) {
            return (Sight::Ambiguous, Some(distractors));
        }
        // What it is known not to be tells it from the background still, and not from those.
        let exemplars = self.memory.without_lookalikes(exemplars, usual - LOOKALIKE);
        let labels = self.memory.look_everywhere(&exemplars);
        let mut parts = labels.map(|labels| self.free(object.id, labels, &exemplars)).unwrap_or_default();
        parts.retain(|part| place(part).is_some_and(|place| !distractors.cover(&place)));
        let sight = largest(parts).map(|labels| self.judge(object.id, labels, &exemplars, bar, rivals));
        let found = sight.filter(|sight| matches!(sight, Sight::Found { .. }));
        (found.unwrap_or(Sight::Ambiguous), Some(distractors))
    }

    /// What is as similar to an object's exemplars as it usually is, and no less to something that is known not to be it: the labels
    /// of each such part of the newest frame.
    fn alike(&self, id: TrackId, usual: f32, exemplars: &ExemplarKeys) -> Vec<Vec<f32>> {
        let labels = self.memory.alike(exemplars, usual - ALIKE);
        let mut parts = labels.map(|labels| self.free(id, labels, exemplars)).unwrap_or_default();
        parts.retain(|part| {
            let patches: Vec<usize> = (0..part.len()).filter(|patch| part[*patch] > 0.0).collect();
            let contrast = self.memory.contrast(exemplars, &self.sample(&patches));
            contrast.is_some_and(|(_, margin)| margin > -ALIKE)
        });
        parts
    }

    /// Where the patches with labels are in the newest frame, which is looked at whole; of a radius of at least `least` pixels.
    fn place_of(&self, labels: &[f32], least: f64) -> Option<Expected> {
        let (meta, grid) = (self.recent.back()?, self.memory.grid());
        let (across, down) = (meta.width as f64 / grid.cols as f64, meta.height as f64 / grid.rows as f64);
        let (mut mass, mut moments) = (0.0, [0.0; 2]);
        for (patch, label) in labels.iter().enumerate().filter(|(_, label)| **label > 0.0) {
            let label = f64::from(*label);
            mass += label;
            moments[0] += label * ((patch % grid.cols) as f64 + 0.5) * across;
            moments[1] += label * ((patch / grid.cols) as f64 + 0.5) * down;
        }
        let radius = (mass * across * down / std::f64::consts::PI).sqrt().max(least);
        (mass > 0.0).then(|| Expected { centre: moments.map(|moment| moment / mass), radius })
    }
}
