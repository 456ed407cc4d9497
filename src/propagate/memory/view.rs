//! The memory on another grid, for a camera whose frames are embedded at another input size from now on, or of another part of the
//! frame.
//!
//! Embeddings and labels are resampled, so that every object is followed on. What was not looked at before has no embedding, which
//! is alike to nothing. Every frame is kept as it came, too, and each change begins from that: however often the size changes, it is
//! blurred once at most, and not at all on the patches that it came on.
//!
//! Where a part of the frame is looked at, so is a part of the frame of the tag: that in which the object has the place that it has
//! now. Else it would be left behind, out of sight.
//!
//! Measured, and left out: to embed the newest frame at both sizes, and to follow on from it alone. It is as good on the
//! way down, and worse on the way up, since the frames before it are lost (mean IoU on four sequences of DAVIS 0.73
//! against 0.80). To have the labels at the change for a new reference loses the objects.

use std::ops::Deref;

use super::resample::{Patches, Resampling, SAME};
use super::{Cohort, Keys, Plane, Propagator};
use crate::types::{PatchGrid, View};

/// What can be carried over to other patches.
pub(super) trait Resample {
    fn resampled(&self, resampling: &Resampling) -> Self;
}

impl Resample for Keys {
    fn resampled(&self, resampling: &Resampling) -> Keys {
        Keys::new(&resampling.features(self.features()))
    }
}

impl Resample for Plane {
    fn resampled(&self, resampling: &Resampling) -> Plane {
        resampling.labels(self)
    }
}

/// What lies on patches, and how it was on those that it came on, where they were others.
#[derive(Clone)]
pub(super) struct Placed<T> {
    on: Patches,
    now: T,
    came: Option<(Patches, T)>,
}

impl<T: Resample> Placed<T> {
    pub(super) fn new(on: Patches, now: T) -> Placed<T> {
        Placed { on, now, came: None }
    }

    /// Says what it is on its patches.
    pub(super) fn set(&mut self, now: T) {
        (self.now, self.came) = (now, None);
    }

    pub(super) fn into_inner(self) -> T {
        self.now
    }

    /// The part of the frame that is known of it.
    pub(super) fn known(&self) -> View {
        self.home().view.intersection(&self.on.view)
    }

    /// The patches that it came on.
    fn home(&self) -> Patches {
        self.came.as_ref().map_or(self.on, |(home, _)| *home)
    }

    /// What it was on those.
    fn at_home(&self) -> &T {
        self.came.as_ref().map_or(&self.now, |(_, came)| came)
    }

    /// Carries it over to other patches.
    fn put(&mut self, to: Patches) {
        if to == self.on {
            return;
        }
        let home = self.home();
        if to == home {
            self.now = self.came.take().expect("it came on other patches").1;
        } else {
            let now = self.at_home().resampled(&Resampling::new(home, to));
            let before = std::mem::replace(&mut self.now, now);
            self.came = self.came.take().or(Some((home, before)));
        }
        self.on = to;
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.now
    }
}

impl Propagator {
    /// Goes over to another grid, and to another part of the frame. Objects keep their keys, and their labels stay where they are in
    /// the picture; what of them lies outside is out of sight until it is looked at again.
    pub fn change_view(&mut self, grid: PatchGrid, view: View) {
        let (from, to) = (self.patches(), Patches { grid, view });
        if from == to {
            return;
        }
        self.context.iter_mut().for_each(|frame| frame.keys.put(to));
        self.scene.iter_mut().for_each(|scene| scene.put(to));
        for cohort in &mut self.cohorts {
            let place = cohort.place(from, to);
            cohort.reference.put(place);
            for object in &mut cohort.objects {
                object.reference.put(place);
                object.context.iter_mut().for_each(|plane| plane.put(to));
            }
        }
        (self.grid, self.view) = (grid, view);
    }

    /// What is looked at.
    pub(super) fn patches(&self) -> Patches {
        Patches { grid: self.grid, view: self.view }
    }

    /// The part of the frame that is looked at.
    pub fn view(&self) -> View {
        self.view
    }

    /// How many patches a whole frame would have, at the size that they have now.
    pub fn patches_in_frame(&self) -> f32 {
        self.grid.len() as f32 / self.view.area()
    }
}

impl Cohort {
    /// The part of the reference frame that is like `to`, a part of the newest frame on which everything was on `from`: where that
    /// is not all of it, the one in which the objects have the same place, so many whole patches off.
    fn place(&self, from: Patches, to: Patches) -> Patches {
        if to.view == View::WHOLE {
            return to;
        }
        let home = self.reference.home();
        let was = home.centre(self.objects.iter().map(|object| object.reference.at_home()));
        let is = from.centre(self.objects.iter().filter_map(|object| object.context.back().map(Deref::deref)));
        let (Some(was), Some(is)) = (was, is) else { return to };
        let [left, top] = std::array::from_fn(|axis| {
            let (home, place) = (home.side(axis), to.side(axis));
            let from = place.from + was[axis] - is[axis];
            let patch = place.length / place.cells as f32;
            // Where the patches are as large as those of the tag, theirs are not blurred.
            let same = (home.length / home.cells as f32 / patch - 1.0).abs() * home.cells as f32 <= SAME;
            if same { home.from + ((from - home.from) / patch).round() * patch } else { from }
        });
        Patches { view: View { left, top, ..to.view }, ..to }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ObjectKey;
    use super::super::affinity::tests::random_features;
    use super::*;
    use crate::propagate::{PropagateConfig, SeedRule, Window};
    use crate::types::Features;

    fn grid(rows: usize, cols: usize) -> PatchGrid {
        PatchGrid { rows, cols, patch: 16 }
    }

    fn memory(grid: PatchGrid) -> Propagator {
        let config = PropagateConfig {
            top_k: 3,
            context_frames: 3,
            radius: 3,
            window: Window::Square,
            temperature: 0.1,
            seed: SeedRule::Area,
            min_max: false,
            refine_radius: 0.0,
            refine_epsilon: 0.002,
            zoom: 1.0,
            density: 1.0,
        };
        Propagator::new(config, grid, 8)
    }

    #[test]
    fn the_frame_of_the_tag_comes_back_to_the_bit() {
        let home = grid(6, 8);
        let mut memory = memory(home);
        let labels: Vec<f32> = (0..home.len()).map(|i| (i % 5) as f32 / 4.0).collect();
        memory.step(&random_features(home, 8, 1));
        memory.add(ObjectKey(1), labels.clone(), 0);
        memory.step(&random_features(home, 8, 2));
        let (cohort, _) = memory.find(ObjectKey(1)).unwrap();
        let reference = cohort.reference.features().clone();
        for to in [grid(3, 4), grid(5, 7), grid(9, 12), home] {
            memory.change_view(to, View::WHOLE);
            assert_eq!((memory.grid(), memory.remembered(0).unwrap().grid), (to, to));
            assert_eq!(memory.remembered(1).unwrap().grid, to);
            assert_eq!(memory.labels(ObjectKey(1)).unwrap().len(), to.len());
            // It goes on with frames and objects of the grid that it has now.
            memory.step(&random_features(to, 8, 3));
            assert!(memory.add(ObjectKey(2), vec![0.5; to.len()], 1));
            assert_eq!(memory.look_everywhere(memory.exemplars(ObjectKey(1)).unwrap()).unwrap().len(), to.len());
        }
        let (cohort, object) = memory.find(ObjectKey(1)).unwrap();
        assert_eq!((cohort.reference.features().clone(), &*object.reference), (reference, &labels));
    }

    /// A part of a 12x16 grid, three quarters of it along each side, from this column and row on.
    fn part(col: usize, row: usize) -> View {
        View { left: col as f32 / 16.0, top: row as f32 / 12.0, width: 0.75, height: 0.75 }
    }

    /// The rows of the patches of a part.
    fn cut(features: &Features, col: usize, row: usize) -> Vec<f32> {
        let rows = (row..row + 9).flat_map(|y| (col..col + 12).map(move |x| y * 16 + x));
        rows.flat_map(|patch| features.row(patch).to_vec()).collect()
    }

    #[test]
    fn a_part_of_the_frame_keeps_its_patches_to_the_bit_and_knows_nothing_of_what_was_outside() {
        let home = grid(12, 16);
        let frames: Vec<Features> = (0..4).map(|seed| random_features(home, 8, seed)).collect();
        let mut memory = memory(home);
        frames[..3].iter().for_each(|frame| memory.step(frame));
        memory.change_view(grid(9, 12), part(2, 1));
        assert_eq!((memory.view(), memory.remembered(0).unwrap().view), (part(2, 1), part(2, 1)));
        assert_eq!(memory.remembered(1).unwrap().view, part(2, 1));
        let close = |a: &[f32], b: &[f32]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6));
        close(&memory.remembered(0).unwrap().data, &cut(&frames[2], 2, 1));
        close(&memory.remembered(1).unwrap().data, &cut(&frames[1], 2, 1));
        assert!((memory.patches_in_frame() - 192.0).abs() < 1e-3);
        assert_eq!((memory.known(0), memory.known(3)), (Some(part(2, 1)), None));
        // Two columns to the right: of a frame of which no more was looked at, those that come in are alike to nothing.
        let seen = Features { view: part(2, 1), ..Features::new(grid(9, 12), 8, cut(&frames[3], 2, 1)) };
        memory.step(&seen);
        memory.change_view(grid(9, 12), part(4, 1));
        let moved = memory.remembered(0).unwrap();
        let known = cut(&frames[3], 4, 1);
        for patch in 0..moved.grid.len() {
            let expected = if patch % 12 < 10 { &known[patch * 8..][..8] } else { &[0.0; 8] };
            close(moved.row(patch), expected);
        }
        close(&memory.remembered(1).unwrap().data, &cut(&frames[2], 4, 1));
        // Back where it was looked at, and however it went to and fro between, it is what it was.
        memory.change_view(home, View::WHOLE);
        memory.change_view(grid(5, 7), part(1, 2));
        memory.change_view(grid(9, 12), part(2, 1));
        assert_eq!(memory.remembered(0).unwrap(), seen);
        memory.change_view(home, View::WHOLE);
        assert_eq!(memory.remembered(1).unwrap(), frames[2].without_picture());
    }

    #[test]
    fn the_frame_of_the_tag_goes_along_with_the_object() {
        let home = grid(12, 16);
        let frame = random_features(home, 8, 1);
        let at = |col: usize| -> Vec<f32> {
            (0..home.len())
                .map(|p| f32::from((5..7).contains(&(p / 16)) && (col..col + 2).contains(&(p % 16))))
                .collect()
        };
        let mut memory = memory(home);
        memory.step(&frame);
        assert!(memory.add(ObjectKey(1), at(2), 0));
        memory.step(&random_features(home, 8, 2));
        memory.correct(ObjectKey(1), &at(7));
        memory.change_view(grid(9, 12), part(4, 1));
        // The object is five columns to the right of where it was tagged, and so is the part of the frame of the tag.
        let (cohort, object) = memory.find(ObjectKey(1)).unwrap();
        let marked: Vec<usize> = (0..108).filter(|patch| object.reference[*patch] > 0.5).collect();
        assert_eq!(marked, [4 * 12 + 3, 4 * 12 + 4, 5 * 12 + 3, 5 * 12 + 4]);
        for (patch, original) in [(marked[0], 5 * 16 + 2), (marked[3], 6 * 16 + 3)] {
            let row = cohort.reference.features().row(patch);
            assert!(row.iter().zip(frame.row(original)).all(|(a, b)| (a - b).abs() < 1e-6));
        }
        let (left, right) = (cohort.reference.features().row(0).to_vec(), cohort.reference.features().row(1));
        assert!(left.iter().all(|v| *v == 0.0) && right.iter().any(|v| *v != 0.0), "column -1 is outside of the frame");
        // On the way back it is what it was.
        memory.change_view(home, View::WHOLE);
        let (cohort, object) = memory.find(ObjectKey(1)).unwrap();
        assert_eq!((cohort.reference.features().clone(), &*object.reference), (frame.without_picture(), &at(2)));
        assert_eq!(memory.labels(ObjectKey(1)).unwrap(), at(7), "nothing of it was outside");
    }
}
