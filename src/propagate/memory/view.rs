//! The memory on another grid, for a camera whose frames are embedded at another input size from now on, or of another part of the
//! frame.
//!
//! Embeddings and labels are resampled, so that every object is followed on. What was not looked at before has no embedding, which
//! is alike to nothing. The frame in which an object was tagged is kept as it was, too, and each change begins from it: however
//! often the size changes, a reference is blurred once at most, and not at all on the grid of the tag.
//!
//! Where a part of the frame is looked at, so is a part of the frame of the tag: that in which the object has the place that it has
//! now. Else it would be left behind, out of sight.
//!
//! Measured, and left out: to embed the newest frame at both sizes, and to follow on from it alone. It is as good on the
//! way down, and worse on the way up, since the frames before it are lost (mean IoU on four sequences of DAVIS 0.73
//! against 0.80). To have the labels at the change for a new reference loses the objects.

use super::{Cohort, Keys, Plane, Propagator};
use crate::types::{Features, PatchGrid, View};

/// Where in a frame an object is, in shares of its sides, is told by labels of at least this.
const SURE: f32 = 0.3;
/// Places that are so near to one another, in patches, are the same.
const SAME: f32 = 0.01;

impl Propagator {
    /// Goes over to another grid, and to another part of the frame. Objects keep their keys, and their labels stay where they are in
    /// the picture; what of them lies outside is forgotten, but for the frame of the tag.
    pub fn change_view(&mut self, grid: PatchGrid, view: View) {
        let (from, to) = (Patches { grid: self.grid, view: self.view }, Patches { grid, view });
        if from == to {
            return;
        }
        let resampling = Resampling::new(from, to);
        for frame in &mut self.context {
            frame.keys.pack(&resampling.features(frame.keys.features()));
            frame.known = frame.known.intersection(&view);
        }
        self.newest = self.newest.take().map(|newest| resampling.features(&newest));
        self.scene = self.scene.take().map(|scene| Keys::new(&resampling.features(scene.features())));
        for cohort in &mut self.cohorts {
            let place = cohort.place(from, to);
            let tagged = cohort.tagged.take().unwrap_or_else(|| cohort.reference.clone());
            let home = Patches { grid: tagged.grid(), view: cohort.home };
            let from_home = Resampling::new(home, place);
            for object in &mut cohort.objects {
                let labels = object.tagged.take().unwrap_or_else(|| std::mem::take(&mut object.reference));
                object.context.iter_mut().for_each(|plane| *plane = resampling.labels(plane));
                if home == place {
                    object.reference = labels;
                } else {
                    object.reference = from_home.labels(&labels);
                    object.tagged = Some(labels);
                }
            }
            if home == place {
                cohort.reference = tagged;
            } else {
                cohort.reference = Keys::new(&from_home.features(tagged.features()));
                cohort.tagged = Some(tagged);
            }
        }
        (self.grid, self.view) = (grid, view);
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
        let home = Patches { grid: self.tagged.as_ref().unwrap_or(&self.reference).grid(), view: self.home };
        let was = home.centre(self.objects.iter().map(|object| object.tagged.as_ref().unwrap_or(&object.reference)));
        let is = from.centre(self.objects.iter().filter_map(|object| object.context.back()));
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

/// Patches of a part of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Patches {
    grid: PatchGrid,
    view: View,
}

/// Cells that divide a part of a frame's side.
#[derive(Clone, Copy, Debug)]
struct Side {
    cells: usize,
    /// A share of the frame's side, as is `length`.
    from: f32,
    length: f32,
}

impl Patches {
    /// Its width, axis 0, or its height.
    fn side(&self, axis: usize) -> Side {
        let Patches { grid, view } = *self;
        match axis {
            0 => Side { cells: grid.cols, from: view.left, length: view.width },
            _ => Side { cells: grid.rows, from: view.top, length: view.height },
        }
    }

    /// The middle of labels, [across, down] in shares of the frame's sides; `None` where there is none that is sure.
    fn centre<'p>(&self, planes: impl Iterator<Item = &'p Plane>) -> Option<[f32; 2]> {
        let [mut mass, mut across, mut down] = [0.0; 3];
        for plane in planes {
            for (patch, label) in plane.iter().enumerate().filter(|(_, label)| **label >= SURE) {
                mass += label;
                across += label * ((patch % self.grid.cols) as f32 + 0.5);
                down += label * ((patch / self.grid.cols) as f32 + 0.5);
            }
        }
        let [x, y] = [self.side(0), self.side(1)];
        let share = |side: Side, sum: f32| side.from + sum / mass * side.length / side.cells as f32;
        (mass > 0.0).then(|| [share(x, across), share(y, down)])
    }
}

/// How values of some patches become values of others.
struct Resampling {
    from: Patches,
    to: Patches,
    down: Vec<Parts>,
    across: Vec<Parts>,
}

/// The cells along a side that make up one of the others, and by how much; the parts sum to 1, or to less where a cell lies partly
/// outside.
type Parts = Vec<(usize, f32)>;

impl Resampling {
    fn new(from: Patches, to: Patches) -> Resampling {
        let [across, down] = [0, 1].map(|axis| parts(from.side(axis), to.side(axis)));
        Resampling { from, to, down, across }
    }

    /// Embeddings, normalised again.
    fn features(&self, from: &Features) -> Features {
        let mut to = Features { view: self.to.view, ..Features::zeros(self.to.grid, from.dim) };
        self.values(&from.data, from.dim, &mut to.data);
        to.normalise();
        to
    }

    /// One object's labels, (rows * cols).
    fn labels(&self, from: &[f32]) -> Plane {
        let mut to = vec![0.0; self.to.grid.len()];
        self.values(from, 1, &mut to);
        to
    }

    /// (rows * cols, dim) to the same of the others. `to` is all zeros.
    fn values(&self, from: &[f32], dim: usize, to: &mut [f32]) {
        for (row, above) in self.down.iter().enumerate() {
            for (col, beside) in self.across.iter().enumerate() {
                let out = &mut to[(row * self.to.grid.cols + col) * dim..][..dim];
                for (y, v) in above {
                    for (x, u) in beside {
                        let patch = &from[(y * self.from.grid.cols + x) * dim..][..dim];
                        out.iter_mut().zip(patch).for_each(|(out, value)| *out += v * u * value);
                    }
                }
            }
        }
    }
}

/// What the cells of `to` are made up of, of those of `from`. Larger cells are means of what they cover, so that nothing small falls
/// between them; smaller ones are interpolated linearly between centres.
fn parts(from: Side, to: Side) -> Vec<Parts> {
    let cells = from.cells as f32;
    // In cells of `from`: where the first begins, and how long each is.
    let (mut first, mut length) =
        ((to.from - from.from) / from.length * cells, to.length / from.length * cells / to.cells as f32);
    if (length - 1.0).abs() * cells <= SAME && (first - first.round()).abs() <= SAME {
        // The same cells, so many further on: not to be blurred by what floats lose.
        (first, length) = (first.round(), 1.0);
    }
    let cell = |i: usize| -> Parts {
        if length > 1.0 {
            let (start, end) = (first + i as f32 * length, first + (i + 1) as f32 * length);
            let (inside, last) = (start.clamp(0.0, cells), end.clamp(0.0, cells).ceil() as usize);
            let part = |j: usize| (j, (end.min(j as f32 + 1.0) - start.max(j as f32)).max(0.0) / length);
            return (inside as usize..last).map(part).collect();
        }
        let centre = first + (i as f32 + 0.5) * length - 0.5;
        if centre < -0.5 || centre > cells - 0.5 {
            return Parts::new();
        }
        let centre = centre.clamp(0.0, cells - 1.0);
        let (left, part) = (centre as usize, centre.fract());
        let right = (part > 0.0).then_some((left + 1, part));
        std::iter::once((left, 1.0 - part)).chain(right).collect()
    };
    (0..to.cells).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ObjectKey;
    use super::super::affinity::tests::random_features;
    use super::*;
    use crate::propagate::{PropagateConfig, SeedRule, Window};
    use proptest::prelude::*;

    fn grid(rows: usize, cols: usize) -> PatchGrid {
        PatchGrid { rows, cols, patch: 16 }
    }

    fn whole(grid: PatchGrid) -> Patches {
        Patches { grid, view: View::WHOLE }
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

    proptest! {
        /// A cell's parts are a mean, and their middle is the cell's own, but for what lies beyond the outermost centres.
        #[test]
        fn what_makes_up_a_cell_lies_around_it(from in 1usize..60, to in 1usize..60) {
            let all = |cells: usize| Side { cells, from: 0.0, length: 1.0 };
            let cells = parts(all(from), all(to));
            prop_assert_eq!(cells.len(), to);
            for (i, parts) in cells.iter().enumerate() {
                prop_assert!(parts.iter().all(|(j, part)| *j < from && *part >= -1e-5), "{parts:?}");
                prop_assert!((parts.iter().map(|(_, part)| part).sum::<f32>() - 1.0).abs() < 1e-4, "{parts:?}");
                let middle: f32 = parts.iter().map(|(j, part)| (*j as f32 + 0.5) * part).sum();
                let expected = ((i as f32 + 0.5) * from as f32 / to as f32).clamp(0.5, from as f32 - 0.5);
                // A mean over whole and cut cells has its middle half a cell off at most.
                let off = if to < from { 0.5 } else { 1e-3 };
                prop_assert!((middle - expected).abs() <= off, "cell {i}: {middle} for {expected}");
            }
        }

        /// Labels keep their share of the picture when there are fewer patches.
        #[test]
        fn fewer_patches_keep_an_object_s_area(rows in 1usize..20, cols in 1usize..20, fewer in 1usize..20, seed: u64) {
            let (from, to) = (grid(rows, cols), grid(rows.min(fewer), cols.min(fewer)));
            let labels: Vec<f32> = (0..from.len() as u64).map(|i| (i.wrapping_mul(seed | 1) % 8) as f32 / 8.0).collect();
            let resampled = Resampling::new(whole(from), whole(to)).labels(&labels);
            let share = |labels: &[f32]| labels.iter().sum::<f32>() / labels.len() as f32;
            let (before, after) = (share(&labels), share(&resampled));
            prop_assert!(from.len() == to.len() || (before - after).abs() < 1e-3, "{before} became {after}");
        }
    }

    #[test]
    fn embeddings_are_normalised_and_stay_in_their_place() {
        let from = random_features(grid(4, 6), 8, 1);
        let halved = Resampling::new(whole(from.grid), whole(grid(2, 3))).features(&from);
        let mut expected = Features::zeros(grid(2, 3), 8);
        for patch in 0..6 {
            let (row, col) = (patch / 3 * 2, patch % 3 * 2);
            for d in 0..8 {
                let of = |y: usize, x: usize| from.row((row + y) * 6 + col + x)[d];
                expected.data[patch * 8 + d] = of(0, 0) + of(0, 1) + of(1, 0) + of(1, 1);
            }
        }
        expected.normalise();
        for (value, expected) in halved.data.iter().zip(&expected.data) {
            assert!((value - expected).abs() < 1e-5, "{value} for {expected}");
        }
        let same = Resampling::new(whole(from.grid), whole(from.grid)).features(&from);
        assert!(same.data.iter().zip(&from.data).all(|(a, b)| (a - b).abs() < 1e-6));
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
            assert_eq!((memory.grid(), memory.newest().unwrap().grid), (to, to));
            assert_eq!(memory.remembered(1).unwrap().grid, to);
            assert_eq!(memory.labels(ObjectKey(1)).unwrap().len(), to.len());
            // It goes on with frames and objects of the grid that it has now.
            memory.step(&random_features(to, 8, 3));
            assert!(memory.add(ObjectKey(2), vec![0.5; to.len()], 1));
            assert_eq!(memory.look_everywhere(memory.exemplars(ObjectKey(1)).unwrap()).unwrap().len(), to.len());
        }
        let (cohort, object) = memory.find(ObjectKey(1)).unwrap();
        assert!(cohort.tagged.is_none() && object.tagged.is_none());
        assert_eq!((cohort.reference.features().clone(), &object.reference), (reference, &labels));
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
        let frames: Vec<Features> = (0..3).map(|seed| random_features(home, 8, seed)).collect();
        let mut memory = memory(home);
        frames.iter().for_each(|frame| memory.step(frame));
        memory.change_view(grid(9, 12), part(2, 1));
        assert_eq!((memory.view(), memory.newest().unwrap().view), (part(2, 1), part(2, 1)));
        assert_eq!(memory.remembered(1).unwrap().view, part(2, 1));
        let close = |a: &[f32], b: &[f32]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6));
        close(&memory.newest().unwrap().data, &cut(&frames[2], 2, 1));
        close(&memory.remembered(1).unwrap().data, &cut(&frames[1], 2, 1));
        assert!((memory.patches_in_frame() - 192.0).abs() < 1e-3);
        assert_eq!((memory.known(0), memory.known(3)), (Some(part(2, 1)), None));
        // Three columns to the right: those that come in are alike to nothing.
        memory.change_view(grid(9, 12), part(4, 1));
        let moved = memory.newest().unwrap();
        let known = cut(&frames[2], 4, 1);
        for patch in 0..moved.grid.len() {
            let expected = if patch % 12 < 10 { &known[patch * 8..][..8] } else { &[0.0; 8] };
            close(moved.row(patch), expected);
        }
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
        assert_eq!((cohort.reference.features().clone(), object.reference.clone()), (frame.without_picture(), at(2)));
        assert_eq!(memory.labels(ObjectKey(1)).unwrap(), at(7), "nothing of it was outside");
    }
}
