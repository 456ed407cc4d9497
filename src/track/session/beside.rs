//! Looking for an object beside what looks as it does and is not it: its twin, say.

use super::object::Object;
use super::seek::{Bar, Sight, labelled, largest};
use super::{ALIKE, Session, seconds};
use crate::propagate::exemplars::{ExemplarKeys, Others};
use crate::track::distractors::Distractors;
use crate::track::lookalikes::Expected;
use crate::types::TrackId;

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
        let alike = self.alike(usual, exemplars);
        if alike.is_empty() {
            return (Sight::Nowhere, known);
        }
        // In another scene, or in a part of this one, nothing tells which of them were there before.
        let is_told = self.sees_all() && (known.is_some() || !object.displaced);
        let Some(gone_from) = object.gone_from.filter(|_| is_told) else { return (Sight::Ambiguous, known) };
        let now = self.recent.back().map_or(0.0, seconds);
        let place = |labels: &Vec<f32>| self.place_of(labels, gone_from.radius);
        let places: Vec<Expected> = alike.iter().filter_map(place).collect();
        let mut distractors = known.unwrap_or_else(|| Distractors::of(&places, &gone_from, now));
        if !distractors.follow(&places, now) {
            return (Sight::Ambiguous, Some(distractors));
        }
        // What it is known not to be tells it from the background still, and not from those.
        let exemplars = self.memory.without_lookalikes(exemplars, usual - 2.0 * ALIKE);
        let labels = self.memory.look_everywhere(&exemplars);
        let mut parts = labels.map(|labels| self.free(object.id, labels, &exemplars)).unwrap_or_default();
        parts.retain(|part| place(part).is_some_and(|place| !distractors.cover(&place)));
        // What looks the same and is out of sight as well is not what comes if it can be what has come to where that was.
        let is_elsewhere = |rival: &TrackId| {
            let theirs = self.objects.iter().find(|object| object.id == *rival).and_then(|object| object.gone_from);
            theirs.is_some_and(|theirs| distractors.cover(&theirs) && !theirs.touches(&gone_from))
        };
        let rivals: Vec<TrackId> = rivals.iter().copied().filter(|rival| !is_elsewhere(rival)).collect();
        let sight = largest(parts).map(|labels| self.judge(object.id, labels, &exemplars, bar, &rivals));
        let found = sight.filter(|sight| matches!(sight, Sight::Found { .. }));
        (found.unwrap_or(Sight::Ambiguous), Some(distractors))
    }

    /// What is about as similar to an object's exemplars as it usually is, and not much more to something that is known not to be it: the
    /// labels of each such part of the newest frame.
    fn alike(&self, usual: f32, exemplars: &ExemplarKeys) -> Vec<Vec<f32>> {
        let labels = self.memory.alike(exemplars, usual - ALIKE);
        let mut parts = labels.map(|labels| self.parts(&labels, exemplars)).unwrap_or_default();
        parts.retain(|part| {
            let contrast = self.memory.contrast(exemplars, &self.sample(&labelled(part)), Others::All);
            contrast.is_some_and(|(_, margin)| margin > -ALIKE)
        });
        parts
    }
}
