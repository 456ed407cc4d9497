//! Whether the camera still shows what it showed before.
//!
//! What an object is taken for rests on where it was. Where a frame has nothing to do with those before it, because the camera was
//! carried away, covered, or switched to something else, that is worth nothing.

use super::Propagator;
use crate::propagate::affinity;

/// A frame's patches are compared with those of another in every so many rows and columns.
const SPARSE: usize = 3;

impl Propagator {
    /// How much of the newest frame goes on from the context frames before it: the mean over its patches of the best cosine
    /// within reach. `None` where nothing was followed into it.
    pub fn continuity(&self) -> Option<f32> {
        self.continuity
    }

    /// Remembers the frame before the newest one until [`Propagator::leave_scene`], as the scene that was. Returns false, and
    /// does nothing, where that frame is not remembered.
    pub fn remember_scene(&mut self) -> bool {
        let before = self.context.len().checked_sub(2);
        self.scene = before.map(|index| self.context[index].keys.clone());
        self.scene.is_some()
    }

    /// How much of the newest frame is like the scene that was: the mean over some of its patches of the best cosine, anywhere.
    /// `None` where none is remembered.
    pub fn likeness_to_scene(&self) -> Option<f32> {
        let (scene, newest) = (self.scene.as_ref()?, &self.context.back()?.keys);
        let (grid, all) = (self.grid, (0..self.grid.len()).collect::<Vec<usize>>());
        let is_compared =
            |patch: &usize| (patch / grid.cols).is_multiple_of(SPARSE) && (patch % grid.cols).is_multiple_of(SPARSE);
        let some: Vec<usize> = all.iter().copied().filter(is_compared).collect();
        let likeness = affinity::likeness(self.kernel.as_ref(), scene, &all, &newest.gather(&some));
        Some(likeness.iter().sum::<f32>() / likeness.len() as f32)
    }

    /// Forgets the scene that was.
    pub fn leave_scene(&mut self) {
        self.scene = None;
    }

    /// The mean over all patches of the best cosine among `matches`; `None` where a patch has no match. Those that match with
    /// nothing but what was not looked at before are not counted.
    pub(super) fn mean_best(matches: &affinity::Matches) -> Option<f32> {
        let queries = matches.data.len() / matches.k.max(1);
        let (sum, known) = (0..queries).try_fold((0.0, 0usize), |(sum, known), query| {
            let cosine = matches.found(query).next()?.cosine;
            Some((sum + cosine, known + usize::from(cosine != 0.0)))
        })?;
        (known > 0).then(|| sum / known as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::affinity::tests::random_features;
    use super::super::tests::{config, seed_labels};
    use super::super::{ObjectKey, Window};
    use super::*;
    use crate::types::{Features, PatchGrid, View};

    const GRID: PatchGrid = PatchGrid { rows: 7, cols: 11, patch: 16 };

    /// The mean over every third row's and column's patches, or over all, of the best cosine among the patches that are near.
    fn best(frame: &Features, other: &Features, every: usize, radius: usize) -> f32 {
        let place = |patch: usize| (patch / GRID.cols, patch % GRID.cols);
        let cosine = |a: usize, b: usize| frame.row(a).iter().zip(other.row(b)).map(|(a, b)| a * b).sum::<f32>();
        let is_near = |a: usize, b: usize| {
            let ((row, col), (other_row, other_col)) = (place(a), place(b));
            row.abs_diff(other_row) <= radius && col.abs_diff(other_col) <= radius
        };
        let of = |a: usize| {
            (0..GRID.len()).filter(|b| is_near(a, *b)).map(|b| cosine(a, b)).fold(f32::NEG_INFINITY, f32::max)
        };
        let patches =
            (0..GRID.len()).filter(|a| place(*a).0.is_multiple_of(every) && place(*a).1.is_multiple_of(every));
        let all: Vec<f32> = patches.map(of).collect();
        all.iter().sum::<f32>() / all.len() as f32
    }

    #[test]
    fn a_scene_is_compared_by_the_best_match_of_each_patch() {
        let frames: Vec<Features> = (0..4).map(|seed| random_features(GRID, 8, seed)).collect();
        let mut memory = Propagator::new(config(3, 4, 2, Window::Square), GRID, 8);
        memory.step(&frames[0]);
        assert_eq!((memory.continuity(), memory.remember_scene()), (None, false));
        memory.add(ObjectKey(1), seed_labels(GRID, 1), 0);
        memory.step(&frames[1]);
        assert_eq!(memory.continuity(), None, "no context frame is newer than the reference");
        memory.step(&frames[2]);
        let close = |a: Option<f32>, b: f32| assert!((a.unwrap() - b).abs() < 1e-5, "{a:?} {b}");
        close(memory.continuity(), best(&frames[2], &frames[1], 1, 2));
        assert_eq!(memory.likeness_to_scene(), None);
        assert!(memory.remember_scene());
        close(memory.likeness_to_scene(), best(&frames[2], &frames[1], 3, GRID.cols));
        memory.step(&frames[3]);
        close(memory.likeness_to_scene(), best(&frames[3], &frames[1], 3, GRID.cols));
        memory.step(&frames[1]);
        close(memory.likeness_to_scene(), 1.0);
        memory.change_view(PatchGrid { rows: 14, cols: 22, patch: 8 }, View::WHOLE);
        assert!(memory.likeness_to_scene().unwrap() > 0.9, "it goes over to another grid, too");
        memory.leave_scene();
        assert_eq!(memory.likeness_to_scene(), None);
    }
}
