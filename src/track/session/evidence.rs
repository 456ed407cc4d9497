//! What speaks for an object where its labels are.

use std::ops::RangeInclusive;

use super::object::Object;
use super::{Session, key};
use crate::propagate::exemplars::{ExemplarKeys, Others};
use crate::track::evidence::Evidence;

/// Patches of an object that are compared with its exemplars, at most and at least, and those of all objects
/// together: so many objects cost no more than some.
const SAMPLES: RangeInclusive<usize> = 8..=32;
const SAMPLES_OF_ALL: usize = 256;

impl Session {
    /// What speaks for an object's labels in the newest frame. What looks the same elsewhere tells nothing of what is where it should be.
    pub(super) fn evidence_of(&self, object: &Object) -> Evidence {
        let key = key(object.id);
        match (self.memory.labels(key), self.memory.exemplars(key)) {
            (Some(labels), Some(exemplars)) => {
                let others = if self.is_in_place(object, labels) { Others::Unlike } else { Others::All };
                self.evidence(labels, exemplars, object.usual_similarity, others)
            }
            _ => Evidence::default(),
        }
    }

    /// What speaks for labels in the newest frame, of an object with these exemplars and this usual similarity to them.
    pub(super) fn evidence(
        &self,
        labels: &[f32],
        exemplars: &ExemplarKeys,
        usual: Option<f32>,
        others: Others,
    ) -> Evidence {
        let (sum, squares) = labels.iter().fold((0.0f32, 0.0f32), |(s, q), l| (s + l, q + l * l));
        // Patches that are the object's for the most part; where it has none, those that are most its own.
        let peak = labels.iter().copied().fold(0.0, f32::max);
        if sum <= 0.0 || peak < 0.2 {
            return Evidence::default();
        }
        let patches: Vec<usize> = (0..labels.len()).filter(|p| labels[*p] >= 0.5f32.min(peak)).collect();
        let (similarity, margin) =
            self.memory.contrast(exemplars, &self.sample(&patches), others).unwrap_or((0.0, 0.0));
        let size_ratio = sum / exemplars.size(self.memory.patches_in_frame()).max(1e-6);
        let wanted = Evidence::wanted(usual);
        Evidence { label_mass: squares / sum, similarity, margin, size_ratio, wanted }
    }

    /// Those of an object's patches that are compared with exemplars.
    pub(super) fn sample(&self, patches: &[usize]) -> Vec<usize> {
        let samples = (SAMPLES_OF_ALL / self.objects.len().max(1)).clamp(*SAMPLES.start(), *SAMPLES.end());
        patches.iter().copied().step_by(patches.len().div_ceil(samples).max(1)).collect()
    }
}
