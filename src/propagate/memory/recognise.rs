//! Knowing an object by what it looks like, wherever it is.

use super::{ObjectKey, Plane, Propagator};
use crate::propagate::affinity::{self, Keys};
use crate::propagate::exemplars::{ExemplarKeys, Others, diverse, mostly};

/// How many times as many patches as it had an object is looked for among.
pub(super) const SPREAD: usize = 4;
/// Patches of what is not the object that are looked at in a frame that is learnt from: those that are most like it.
const LOOKED_AT: usize = 24;
/// Patches that are learnt from one frame, at most, of the object and of what is not.
const LEARNT: usize = 8;
/// What is not the object and nearly as like it as it is itself has its look: to learn that as what it is not would unlearn it.
const OWN_LOOK: f32 = 0.05;
/// Patches of the object that are less like what is known of it are new.
const NEW: f32 = 0.75;

impl Propagator {
    /// Where in the newest frame an object may be, looked for everywhere by its exemplars alone: labels, (rows * cols), of
    /// what is most like it, four times as many patches as it had when it was tagged; what is left out gets no label.
    /// `None` without a frame.
    pub fn look_everywhere(&self, exemplars: &ExemplarKeys) -> Option<Plane> {
        let newest = &self.context.back()?.keys;
        let n = self.grid.len();
        let mut labels = vec![0.0; n];
        let count = ((SPREAD as f32 * exemplars.size(self.patches_in_frame())).ceil() as usize).clamp(1, n);
        let wanted = most(&exemplars.likeness(self.kernel.as_ref(), newest), count);
        let found = exemplars.label(self.kernel.as_ref(), newest, &wanted, &self.config);
        wanted.into_iter().zip(found).for_each(|(patch, label)| labels[patch] = label);
        Some(labels)
    }

    /// Where in the newest frame what is at least so similar to an object's exemplars is: 1 there, (rows * cols). `None` without a
    /// frame.
    pub fn alike(&self, exemplars: &ExemplarKeys, least: f32) -> Option<Plane> {
        let likeness = exemplars.likeness(self.kernel.as_ref(), &self.context.back()?.keys);
        Some(likeness.iter().map(|alike| if *alike >= least { 1.0 } else { 0.0 }).collect())
    }

    /// The patches of `frame` that are most like those of `source` which are mostly an object by their `labels`:
    /// four times as many.
    pub(super) fn most_alike(&self, source: &Keys, labels: &[f32], frame: &Keys) -> Vec<usize> {
        let inside = mostly(labels);
        let count = (SPREAD * inside.len()).min(self.grid.len());
        most(&affinity::likeness(self.kernel.as_ref(), source, &inside, frame), count)
    }

    /// How much patches of the newest frame are like an object, and how much more than they are like what is known not to
    /// be it: the mean over `patches` of the best cosine to the object's exemplars, and of that less the best cosine to
    /// `others`. `None` without a frame or patches.
    pub fn contrast(&self, exemplars: &ExemplarKeys, patches: &[usize], others: Others) -> Option<(f32, f32)> {
        let newest = &self.context.back()?.keys;
        let best = exemplars.contrast(self.kernel.as_ref(), newest, patches, others);
        let n = (!best.is_empty()).then_some(best.len() as f32)?;
        let similarity = best.iter().map(|(inside, _)| inside).sum::<f32>() / n;
        let margin = best.iter().map(|(inside, outside)| inside - outside).sum::<f32>() / n;
        Some((similarity, margin))
    }

    /// How similar two objects look: the mean over the exemplars of the one that are it of the best cosine to those of the other.
    pub fn resemblance(&self, one: &ExemplarKeys, other: &ExemplarKeys) -> f32 {
        one.resemblance(self.kernel.as_ref(), other)
    }

    /// An object's exemplars without those of what is not it that are at least so similar to those that are.
    pub fn without_lookalikes(&self, exemplars: &ExemplarKeys, least: f32) -> ExemplarKeys {
        exemplars.without_lookalikes(self.kernel.as_ref(), least)
    }

    /// Learns what an object looks like, and what is not it, from the newest frame, in which it is surely where its labels
    /// are: what of it is new, and what else would be taken for it. Returns whether there was anything to learn.
    pub fn study(&mut self, key: ObjectKey) -> bool {
        let Some((patches, labels)) = self.lessons(key).filter(|(_, labels)| !labels.is_empty()) else { return false };
        let object = self.find_mut(key);
        object.map(|object| object.exemplars.learn(patches.features(), &labels)).is_some()
    }

    /// What [`Propagator::study`] learns: patches, and their labels.
    fn lessons(&self, key: ObjectKey) -> Option<(Keys, Plane)> {
        let (newest, kernel) = (&self.context.back()?.keys, self.kernel.as_ref());
        let (labels, exemplars) = (self.labels(key)?, &self.find(key)?.1.exemplars);
        let likeness = exemplars.likeness(kernel, newest);
        let contrasted = |patches: Vec<usize>, accept: &dyn Fn((f32, f32)) -> bool| -> Vec<usize> {
            let contrasts = exemplars.contrast(kernel, newest, &patches, Others::All);
            let accepted = patches.into_iter().zip(contrasts).filter(|(_, contrast)| accept(*contrast));
            diverse(kernel, newest, &accepted.map(|(patch, _)| patch).collect::<Vec<usize>>(), &[], LEARNT)
        };
        let own: Vec<usize> = mostly(labels);
        let own_likeness = own.iter().map(|patch| likeness[*patch]).sum::<f32>() / own.len().max(1) as f32;
        let new = own.into_iter().filter(|patch| likeness[*patch] < NEW).collect();
        let mut learnt = contrasted(new, &|(inside, outside)| inside > outside);
        let around = |(patch, alike): (usize, &f32)| if labels[patch] == 0.0 { *alike } else { f32::NEG_INFINITY };
        let around: Vec<f32> = likeness.iter().enumerate().map(around).collect();
        let alike = most(&around, LOOKED_AT.min(around.len())).into_iter().filter(|patch| labels[*patch] == 0.0);
        learnt.extend(contrasted(alike.collect(), &|(inside, outside)| {
            inside > outside && inside < own_likeness - OWN_LOOK
        }));
        Some((newest.gather(&learnt), learnt.iter().map(|patch| labels[*patch]).collect()))
    }
}

/// The `count` patches with the largest values, in their order; some more where values are alike.
fn most(values: &[f32], count: usize) -> Vec<usize> {
    let Some(last) = count.checked_sub(1) else { return Vec::new() };
    let mut sorted = values.to_vec();
    let (_, least, _) = sorted.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
    (0..values.len()).filter(|patch| values[*patch] >= *least).collect()
}
