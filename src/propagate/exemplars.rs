//! What an object is known by wherever it is: single patches of it, and of what is not it, out of the frame in which it was
//! tagged and out of later ones in which it was surely seen.
//!
//! A whole frame tells where things were; these tell what they look like. They are few, so that looking for an object costs
//! little, and so that they can be kept in a file.

use super::PropagateConfig;
use super::affinity::{self, Kernel, Keys};
use crate::types::{Exemplars, Features, PatchGrid};

/// An object's exemplars, laid out for matching.
#[derive(Clone, Debug)]
pub struct ExemplarKeys {
    /// In one row.
    keys: Keys,
    labels: Vec<f32>,
    /// Of those that are not the object, the ones that look as it does: a twin's, say.
    lookalikes: Vec<usize>,
    /// The first so many are kept for good.
    given: usize,
    /// Patches that the object had when it was tagged, as a share of the frame's.
    share: f32,
}

/// What an object's patches are compared with beside its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// All that is not the object.
    All,
    /// What looks as it does left out: that tells nothing of what is known to be it by where it is.
    Unlike,
}

/// What is not the object and has such a cosine to a patch of it looks as it does. In 16 real videos, of what is around an object one
/// patch has so much at most, and of its mirror image nearly all.
const LOOKALIKE: f32 = 0.85;
/// Patches of the object that are taken from the frame of its tag, at most; at its edge; of what is around it, half of them
/// what is most like it and half what is least like the others.
const GIVEN_OBJECT: usize = 64;
const GIVEN_EDGE: usize = 32;
const GIVEN_AROUND: usize = 128;
/// Patches that are learnt later, at most, of the object and of what is not it.
const LEARNT_OBJECT: usize = 64;
const LEARNT_AROUND: usize = 128;

impl ExemplarKeys {
    /// Those of a frame, or of a part of it, in which an object's labels are `labels`, (rows * cols); the whole frame would have
    /// `patches`.
    pub fn of(kernel: &dyn Kernel, frame: &Keys, labels: &[f32], patches: f32) -> ExemplarKeys {
        let object = mostly(labels);
        let least = object.iter().map(|patch| labels[*patch]).fold(1.0, f32::min);
        let edge: Vec<usize> = (0..labels.len()).filter(|p| labels[*p] > 0.0 && labels[*p] < least).collect();
        let mut around: Vec<usize> = (0..labels.len()).filter(|patch| labels[*patch] == 0.0).collect();
        let likeness = affinity::likeness(kernel, frame, &object, frame);
        around.sort_by(|a, b| likeness[*b].total_cmp(&likeness[*a]));
        let hard = around.len().min(GIVEN_AROUND / 2);
        let share = labels.iter().sum::<f32>() / patches;
        let mut patches = diverse(kernel, frame, &object, &[], GIVEN_OBJECT);
        patches.extend(edge.iter().step_by(edge.len().div_ceil(GIVEN_EDGE).max(1)));
        patches.extend(&around[..hard]);
        patches.extend(diverse(kernel, frame, &around[hard..], &around[..hard], GIVEN_AROUND / 2));
        let labels = patches.iter().map(|patch| labels[*patch]).collect();
        ExemplarKeys::lay_out(frame.gather(&patches), labels, patches.len(), share)
    }

    pub fn new(exemplars: &Exemplars) -> ExemplarKeys {
        let Exemplars { patches, labels, given, share } = exemplars;
        ExemplarKeys::lay_out(Keys::new(patches), labels.clone(), *given, *share)
    }

    /// What is learnt later never looks as the object does: the first `given` tell.
    fn lay_out(keys: Keys, labels: Vec<f32>, given: usize, share: f32) -> ExemplarKeys {
        let own: Vec<usize> = mostly(&labels[..given]);
        let row = |patch: usize| keys.features().row(patch);
        let cosine = |a: usize, b: usize| row(a).iter().zip(row(b)).map(|(a, b)| a * b).sum::<f32>();
        let is_like = |patch: &usize| labels[*patch] == 0.0 && own.iter().any(|own| cosine(*patch, *own) >= LOOKALIKE);
        let lookalikes = (0..given).filter(is_like).collect();
        ExemplarKeys { keys, labels, lookalikes, given, share }
    }

    pub fn exemplars(&self) -> Exemplars {
        let patches = self.keys.features().clone();
        Exemplars { patches, labels: self.labels.clone(), given: self.given, share: self.share }
    }

    /// Patches that the object had when it was tagged, counted in those of a frame of `patches`.
    pub fn size(&self, patches: f32) -> f32 {
        self.share * patches
    }

    /// For each of `patches` of `frame`, the cosine to the most similar patch of the object, and to the most similar one of
    /// `others`; -1 without any.
    pub fn contrast(&self, kernel: &dyn Kernel, frame: &Keys, patches: &[usize], others: Others) -> Vec<(f32, f32)> {
        let is_among =
            |patch| self.labels[patch] == 0.0 && (others == Others::All || !self.lookalikes.contains(&patch));
        affinity::contrast(kernel, frame, patches, &self.keys, &self.labels, is_among)
    }

    /// For each patch of `frame`, the cosine to the most similar patch of the object; -1 without any.
    pub fn likeness(&self, kernel: &dyn Kernel, frame: &Keys) -> Vec<f32> {
        affinity::likeness(kernel, &self.keys, &mostly(&self.labels), frame)
    }

    /// The mean over the patches of the object of the cosine to the most similar one of another object.
    pub fn resemblance(&self, kernel: &dyn Kernel, other: &ExemplarKeys) -> f32 {
        let own = mostly(&self.labels);
        let likeness = other.likeness(kernel, &self.keys);
        own.iter().map(|patch| likeness[*patch]).sum::<f32>() / own.len().max(1) as f32
    }

    /// Whether something that is not the object looks as it does.
    pub fn has_lookalikes(&self) -> bool {
        !self.lookalikes.is_empty()
    }

    /// Without those of what is not the object and whose cosine to the most similar patch of the object is at least `least`.
    pub fn without_lookalikes(&self, kernel: &dyn Kernel, least: f32) -> ExemplarKeys {
        let likeness = self.likeness(kernel, &self.keys);
        let kept = |patch: &usize| self.labels[*patch] > 0.0 || likeness[*patch] < least;
        let kept: Vec<usize> = (0..self.labels.len()).filter(kept).collect();
        let labels = kept.iter().map(|patch| self.labels[*patch]).collect();
        let given = kept.iter().filter(|patch| **patch < self.given).count();
        ExemplarKeys { keys: self.keys.gather(&kept), labels, lookalikes: Vec::new(), given, share: self.share }
    }

    /// The labels of `patches` of `frame`: means over those of the most similar exemplars, weighed as matches in frames are.
    pub fn label(&self, kernel: &dyn Kernel, frame: &Keys, patches: &[usize], rule: &PropagateConfig) -> Vec<f32> {
        let matches = affinity::search_everywhere(kernel, frame, patches, &self.keys, rule.top_k);
        let mut weights = Vec::new();
        let label = |i: usize| {
            affinity::weigh(matches.found(i), rule.temperature, &mut weights);
            matches.found(i).zip(&weights).map(|(m, w)| w * self.labels[m.patch as usize]).sum()
        };
        (0..patches.len()).map(label).collect()
    }

    /// Takes in patches with their labels; those of 0 are not the object. What was learnt first is forgotten where there is
    /// too much of its sort.
    pub fn learn(&mut self, patches: &Features, labels: &[f32]) {
        let dim = patches.dim;
        let mut data = self.keys.features().data.clone();
        for (row, label) in patches.data.chunks_exact(dim).zip(labels) {
            let of_object = *label > 0.0;
            let most = if of_object { LEARNT_OBJECT } else { LEARNT_AROUND };
            let learnt: Vec<usize> =
                (self.given..self.labels.len()).filter(|i| (self.labels[*i] > 0.0) == of_object).collect();
            if learnt.len() >= most {
                self.labels.remove(learnt[0]);
                data.drain(learnt[0] * dim..(learnt[0] + 1) * dim);
            }
            data.extend_from_slice(row);
            self.labels.push(*label);
        }
        let grid = PatchGrid { rows: 1, cols: self.labels.len(), patch: patches.grid.patch };
        self.keys.pack(&Features::new(grid, dim, data));
    }
}

/// The patches that are mostly the object's; where none is, those that are most so.
pub fn mostly(labels: &[f32]) -> Vec<usize> {
    let least = labels.iter().copied().fold(0.0, f32::max).min(0.5);
    (0..labels.len()).filter(|patch| labels[*patch] > 0.0 && labels[*patch] >= least).collect()
}

/// So many of `patches` of a frame, each the one that is least like those before it and like `others`.
pub fn diverse(kernel: &dyn Kernel, frame: &Keys, patches: &[usize], others: &[usize], count: usize) -> Vec<usize> {
    if patches.len() <= count {
        return patches.to_vec();
    }
    let features = frame.features();
    let cosine = |a: usize, b: usize| kernel.cosine(features.row(a), features.row(b));
    let nearest = |patch: &usize| others.iter().map(|other| cosine(*patch, *other)).fold(f32::NEG_INFINITY, f32::max);
    let mut nearest: Vec<f32> = patches.iter().map(nearest).collect();
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let next = (0..patches.len()).min_by(|a, b| nearest[*a].total_cmp(&nearest[*b])).expect("there are more");
        chosen.push(patches[next]);
        nearest[next] = f32::INFINITY;
        for (near, patch) in nearest.iter_mut().zip(patches) {
            *near = near.max(cosine(*patch, patches[next]));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::affinity::{kernel, tests::random_features};
    use super::*;

    const GRID: PatchGrid = PatchGrid { rows: 12, cols: 16, patch: 16 };
    const DIM: usize = 12;

    fn frame(seed: u64) -> Keys {
        Keys::new(&random_features(GRID, DIM, seed))
    }

    /// Of a block of 3x4 patches at the upper left, half at its right edge.
    fn labels() -> Vec<f32> {
        let label = |row, col| {
            if row >= 3 || col > 4 {
                0.0
            } else if col == 4 {
                0.25
            } else {
                1.0
            }
        };
        (0..GRID.len()).map(|patch| label(patch / GRID.cols, patch % GRID.cols)).collect()
    }

    #[test]
    fn of_a_frame_all_of_the_object_is_kept_and_as_much_as_there_is_room_for_of_the_rest() {
        let frame = frame(1);
        let exemplars = ExemplarKeys::of(kernel().as_ref(), &frame, &labels(), GRID.len() as f32);
        let count = |wanted: fn(f32) -> bool| exemplars.labels.iter().filter(|label| wanted(**label)).count();
        assert_eq!(count(|label| label == 1.0), 12);
        assert_eq!(count(|label| label == 0.25), 3);
        assert_eq!(count(|label| label == 0.0), GIVEN_AROUND);
        let mut rows: Vec<&[f32]> = exemplars.keys.features().data.chunks_exact(DIM).collect();
        assert_eq!((rows.len(), exemplars.given), (12 + 3 + GIVEN_AROUND, rows.len()));
        rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
        rows.dedup();
        assert_eq!(rows.len(), exemplars.given, "none is kept twice");
        // What is most like the object and not it is among them: the object's own patches have their likeness to that.
        let inside: Vec<usize> = (0..GRID.len()).filter(|patch| labels()[*patch] == 1.0).collect();
        let all = affinity::contrast(kernel().as_ref(), &frame, &inside, &frame, &labels(), |p| labels()[p] == 0.0);
        let kept = exemplars.contrast(kernel().as_ref(), &frame, &inside, Others::All);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
        assert!(kept.iter().zip(&all).all(|(kept, all)| close(kept.0, all.0) && kept.0 > 0.999));
        let largest = |all: &[(f32, f32)]| all.iter().map(|(_, outside)| *outside).fold(-1.0, f32::max);
        assert!(close(largest(&kept), largest(&all)), "{} {}", largest(&kept), largest(&all));
    }

    #[test]
    fn what_was_learnt_first_goes_first_and_what_was_given_stays() {
        let frame = frame(1);
        let mut exemplars = ExemplarKeys::of(kernel().as_ref(), &frame, &labels(), GRID.len() as f32);
        let given = exemplars.keys.features().data.clone();
        for round in 0..60 {
            let patches = PatchGrid { rows: 1, cols: 8, patch: 16 };
            let labels = [1.0, 0.0, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0];
            exemplars.learn(&random_features(patches, DIM, 100 + round), &labels);
        }
        let learnt = &exemplars.labels[exemplars.given..];
        assert_eq!(learnt.iter().filter(|label| **label > 0.0).count(), LEARNT_OBJECT);
        assert_eq!(learnt.iter().filter(|label| **label == 0.0).count(), LEARNT_AROUND);
        let rows = &exemplars.keys.features().data;
        assert_eq!(&rows[..given.len()], given);
        // The newest is the last, and known to the bit.
        let newest = random_features(PatchGrid { rows: 1, cols: 8, patch: 16 }, DIM, 159);
        assert!(rows.ends_with(newest.row(7)));
        let contrast = exemplars.contrast(kernel().as_ref(), &Keys::new(&newest), &[0, 7], Others::All);
        assert!(contrast[0].0 > 0.999 && contrast[0].1 < 0.999 && contrast[1].1 > 0.999, "{contrast:?}");
    }

    /// A frame in which what looks as the object does, more or less, is at the lower right as well.
    fn frame_with_twin() -> Keys {
        let mut features = random_features(GRID, DIM, 1);
        let noise = random_features(GRID, DIM, 2);
        for (row, col) in (0..12).map(|i| (i / 4, i % 4)) {
            let (from, to) = (row * GRID.cols + col, (row + 8) * GRID.cols + col + 10);
            let share = 0.1 * (row * 4 + col) as f32;
            for d in 0..DIM {
                features.data[to * DIM + d] = features.data[from * DIM + d] + share * noise.data[to * DIM + d];
            }
        }
        features.normalise();
        Keys::new(&features)
    }

    #[test]
    fn what_is_not_the_object_and_looks_as_it_does_can_be_left_out() {
        let frame = frame_with_twin();
        let exemplars = ExemplarKeys::of(kernel().as_ref(), &frame, &labels(), GRID.len() as f32);
        let row = |i: usize| exemplars.keys.features().row(i);
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let of_object: Vec<usize> = (0..exemplars.labels.len()).filter(|i| exemplars.labels[*i] >= 0.5).collect();
        let is_like = |i: usize, least| of_object.iter().any(|own| cosine(row(i), row(*own)) >= least);
        let count =
            |least| (0..exemplars.labels.len()).filter(|i| exemplars.labels[*i] == 0.0 && is_like(*i, least)).count();
        assert!((3..12).contains(&count(LOOKALIKE)), "some of the twin are, and some are not: {}", count(LOOKALIKE));
        for least in [0.6, 0.97] {
            let left = exemplars.without_lookalikes(kernel().as_ref(), least);
            let is_kept = |i: &usize| exemplars.labels[*i] > 0.0 || !is_like(*i, least);
            let kept: Vec<usize> = (0..exemplars.labels.len()).filter(is_kept).collect();
            let gone = count(least);
            assert!((1..exemplars.given).contains(&gone) && gone != count(LOOKALIKE), "{gone} of {least}");
            assert_eq!(left.labels, kept.iter().map(|i| exemplars.labels[*i]).collect::<Vec<f32>>());
            assert_eq!(left.given, kept.len());
            assert!((0..kept.len()).all(|i| left.keys.features().row(i) == row(kept[i])));
            assert!(left.lookalikes.is_empty());
        }

        let object: Vec<usize> = (0..GRID.len()).filter(|patch| labels()[*patch] == 1.0).collect();
        let contrasts = |others| exemplars.contrast(kernel().as_ref(), &frame, &object, others);
        for ((all, unlike), patch) in contrasts(Others::All).iter().zip(contrasts(Others::Unlike)).zip(&object) {
            let own = frame.features().row(*patch);
            let nearest = |among: &dyn Fn(usize) -> bool| {
                let others = (0..exemplars.labels.len()).filter(|i| exemplars.labels[*i] == 0.0 && among(*i));
                others.map(|i| cosine(own, row(i))).fold(-1.0, f32::max)
            };
            assert!((all.1 - nearest(&|_| true)).abs() < 1e-5, "{patch}: {all:?}");
            assert!((unlike.1 - nearest(&|i| !is_like(i, LOOKALIKE))).abs() < 1e-5, "{patch}: {unlike:?}");
            assert_eq!(all.0, unlike.0);
        }
        // Read from a file they are the same.
        assert_eq!(ExemplarKeys::new(&exemplars.exemplars()).lookalikes, exemplars.lookalikes);
    }

    #[test]
    fn patches_that_are_least_alike_are_chosen() {
        // Three directions: the first of which has four patches, and another is known already.
        let mut features = Features::zeros(PatchGrid { rows: 1, cols: 7, patch: 16 }, 4);
        for (patch, axis) in [0, 0, 1, 0, 2, 0, 3].into_iter().enumerate() {
            features.data[patch * 4 + axis] = 1.0;
        }
        let keys = Keys::new(&features);
        let chosen = |others: &[usize], count| {
            let mut chosen = diverse(kernel().as_ref(), &keys, &[0, 1, 2, 3, 4, 5], others, count);
            chosen.sort_unstable();
            chosen
        };
        assert_eq!(chosen(&[6], 3), [0, 2, 4]);
        assert_eq!(chosen(&[4], 2), [0, 2]);
        assert_eq!(chosen(&[], 9), [0, 1, 2, 3, 4, 5]);
    }
}
