//! The memory on another grid, for a camera whose frames are embedded at another input size from now on.
//!
//! Embeddings and labels are resampled, so that every object is followed on. The frame in which an object was tagged is
//! kept as it was, too, and each change begins from it: however often the size changes, a reference is blurred once at
//! most, and not at all on the grid of the tag.
//!
//! Measured, and left out: to embed the newest frame at both sizes, and to follow on from it alone. It is as good on the
//! way down, and worse on the way up, since the frames before it are lost (mean IoU on four sequences of DAVIS 0.73
//! against 0.80). To have the labels at the change for a new reference loses the objects.

use super::{Keys, Plane, Propagator};
use crate::types::{Features, PatchGrid};

impl Propagator {
    /// Goes over to another grid. Objects keep their keys, and their labels stay where they are in the picture.
    pub fn regrid(&mut self, to: PatchGrid) {
        let from = self.grid;
        if from == to {
            return;
        }
        let resampling = Resampling::new(from, to);
        for frame in &mut self.context {
            frame.keys.pack(&resampling.features(frame.keys.features()));
        }
        self.newest = self.newest.take().map(|newest| resampling.features(&newest));
        self.scene = self.scene.take().map(|scene| Keys::new(&resampling.features(scene.features())));
        for cohort in &mut self.cohorts {
            let tagged = cohort.tagged.take().unwrap_or_else(|| cohort.reference.clone());
            let from_tagged = Resampling::new(tagged.grid(), to);
            for object in &mut cohort.objects {
                let labels = object.tagged.take().unwrap_or_else(|| std::mem::take(&mut object.reference));
                object.context.iter_mut().for_each(|plane| *plane = resampling.labels(plane));
                if tagged.grid() == to {
                    object.reference = labels;
                } else {
                    object.reference = from_tagged.labels(&labels);
                    object.tagged = Some(labels);
                }
            }
            if tagged.grid() == to {
                cohort.reference = tagged;
            } else {
                cohort.reference = Keys::new(&from_tagged.features(tagged.features()));
                cohort.tagged = Some(tagged);
            }
        }
        self.grid = to;
    }
}

/// How values of the patches of one grid become values of those of another.
struct Resampling {
    from: PatchGrid,
    to: PatchGrid,
    down: Vec<Parts>,
    across: Vec<Parts>,
}

/// The cells along a side that make up one of the other grid, and by how much; the parts sum to 1.
type Parts = Vec<(usize, f32)>;

impl Resampling {
    fn new(from: PatchGrid, to: PatchGrid) -> Resampling {
        Resampling { from, to, down: axis(from.rows, to.rows), across: axis(from.cols, to.cols) }
    }

    /// Embeddings, normalised again.
    fn features(&self, from: &Features) -> Features {
        let mut to = Features::zeros(self.to, from.dim);
        self.values(&from.data, from.dim, &mut to.data);
        to.normalise();
        to
    }

    /// One object's labels, (rows * cols).
    fn labels(&self, from: &[f32]) -> Plane {
        let mut to = vec![0.0; self.to.len()];
        self.values(from, 1, &mut to);
        to
    }

    /// (rows * cols, dim) to the same of the other grid. `to` is all zeros.
    fn values(&self, from: &[f32], dim: usize, to: &mut [f32]) {
        for (row, above) in self.down.iter().enumerate() {
            for (col, beside) in self.across.iter().enumerate() {
                let out = &mut to[(row * self.to.cols + col) * dim..][..dim];
                for (y, v) in above {
                    for (x, u) in beside {
                        let patch = &from[(y * self.from.cols + x) * dim..][..dim];
                        out.iter_mut().zip(patch).for_each(|(out, value)| *out += v * u * value);
                    }
                }
            }
        }
    }
}

/// What `to` cells along a side are made up of, where `from` cells were. Fewer cells are means of what they cover, so that
/// nothing small falls between them; more are interpolated linearly between centres.
fn axis(from: usize, to: usize) -> Vec<Parts> {
    let scale = from as f32 / to as f32;
    let cell = |i: usize| {
        if to < from {
            let (start, end) = (i as f32 * scale, (i + 1) as f32 * scale);
            let last = (end.ceil() as usize).min(from);
            let part = |j: usize| (j, (end.min(j as f32 + 1.0) - start.max(j as f32)).max(0.0) / scale);
            (start as usize..last).map(part).collect()
        } else {
            let centre = ((i as f32 + 0.5) * scale - 0.5).clamp(0.0, from as f32 - 1.0);
            let (left, right) = (centre as usize, (centre as usize + 1).min(from - 1));
            let part = centre - left as f32;
            vec![(left, 1.0 - part), (right, part)]
        }
    };
    (0..to).map(cell).collect()
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
            density: 1.0,
        };
        Propagator::new(config, grid, 8)
    }

    proptest! {
        /// A cell's parts are a mean, and their middle is the cell's own, but for what lies beyond the outermost centres.
        #[test]
        fn what_makes_up_a_cell_lies_around_it(from in 1usize..60, to in 1usize..60) {
            let cells = axis(from, to);
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
            let resampled = Resampling::new(from, to).labels(&labels);
            let share = |labels: &[f32]| labels.iter().sum::<f32>() / labels.len() as f32;
            let (before, after) = (share(&labels), share(&resampled));
            prop_assert!(from.len() == to.len() || (before - after).abs() < 1e-3, "{before} became {after}");
        }
    }

    #[test]
    fn embeddings_are_normalised_and_stay_in_their_place() {
        let from = random_features(grid(4, 6), 8, 1);
        let halved = Resampling::new(from.grid, grid(2, 3)).features(&from);
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
        let same = Resampling::new(from.grid, from.grid).features(&from);
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
            memory.regrid(to);
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
}
