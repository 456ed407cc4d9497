//! Embeddings and labels of some patches carried over to others.

use super::Plane;
use crate::types::{Features, PatchGrid, View};

/// Where in a frame an object is, in shares of its sides, is told by labels of at least this.
const SURE: f32 = 0.3;
/// Places that are so near to one another, in patches, are the same.
pub(super) const SAME: f32 = 0.01;

/// Patches of a part of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Patches {
    pub(super) grid: PatchGrid,
    pub(super) view: View,
}

/// Cells that divide a part of a frame's side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) cells: usize,
    /// A share of the frame's side, as is `length`.
    pub(super) from: f32,
    pub(super) length: f32,
}

impl Patches {
    /// Its width, axis 0, or its height.
    pub(super) fn side(&self, axis: usize) -> Side {
        let Patches { grid, view } = *self;
        match axis {
            0 => Side { cells: grid.cols, from: view.left, length: view.width },
            _ => Side { cells: grid.rows, from: view.top, length: view.height },
        }
    }

    /// The middle of labels, [across, down] in shares of the frame's sides; `None` where there is none that is sure.
    pub(super) fn centre<'p>(&self, planes: impl Iterator<Item = &'p Plane>) -> Option<[f32; 2]> {
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
pub(super) struct Resampling {
    from: Patches,
    to: Patches,
    down: Vec<Parts>,
    across: Vec<Parts>,
}

/// The cells along a side that make up one of the others, and by how much; the parts sum to 1, or to less where a cell lies partly
/// outside.
type Parts = Vec<(usize, f32)>;

impl Resampling {
    pub(super) fn new(from: Patches, to: Patches) -> Resampling {
        let [across, down] = [0, 1].map(|axis| parts(from.side(axis), to.side(axis)));
        Resampling { from, to, down, across }
    }

    /// Embeddings, normalised again.
    pub(super) fn features(&self, from: &Features) -> Features {
        let mut to = Features { view: self.to.view, ..Features::zeros(self.to.grid, from.dim) };
        self.values(&from.data, from.dim, &mut to.data);
        to.normalise();
        to
    }

    /// One object's labels, (rows * cols).
    pub(super) fn labels(&self, from: &[f32]) -> Plane {
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
    use super::super::super::affinity::tests::random_features;
    use super::*;
    use proptest::prelude::*;

    fn grid(rows: usize, cols: usize) -> PatchGrid {
        PatchGrid { rows, cols, patch: 16 }
    }

    fn whole(grid: PatchGrid) -> Patches {
        Patches { grid, view: View::WHOLE }
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
}
