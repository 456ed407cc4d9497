//! Where each patch of one picture lies in another, from the pictures alone.

use crate::types::{InputTensor, PatchGrid};

/// Cells along a side of a patch: pictures are compared at this density.
pub(super) const CELLS: usize = 4;

/// How far a patch is looked for, in cells, each way: 2.5 patches.
pub(super) const REACH: usize = 10;

/// Cells beyond a patch on each side that are compared with it: a patch alone is too often a piece of an edge.
const MARGIN: usize = 2;

const SIDE: usize = CELLS + 2 * MARGIN;

/// A picture in cells, its edges continued outwards so that no comparison leaves it.
pub(super) struct Cells {
    /// Cells with those beyond the edges.
    width: usize,
    beyond: usize,
    /// (rows * CELLS + 2 * beyond, width, 3)
    data: Vec<f32>,
}

impl Cells {
    /// Means of `picture` over cells, continued by `beyond` cells; `None` where it does not have the size of the grid.
    fn new(grid: PatchGrid, picture: &InputTensor, beyond: usize) -> Option<Cells> {
        let (width, height) = (grid.input_width(), grid.input_height());
        if (picture.width, picture.height) != (width, height) || picture.data.len() != 3 * width * height {
            return None;
        }
        let (across, down) = (grid.cols * CELLS, grid.rows * CELLS);
        // A cell of a patch whose side is no multiple of CELLS shares its outermost pixels with the next.
        let pixels = |cell: usize| cell * grid.patch / CELLS..((cell + 1) * grid.patch).div_ceil(CELLS);
        let mut means = vec![0f32; across * down * 3];
        for (plane, channel) in picture.data.chunks_exact(width * height).enumerate() {
            for row in 0..down {
                for col in 0..across {
                    let (ys, xs) = (pixels(row), pixels(col));
                    let area = (ys.len() * xs.len()) as f32;
                    let sum: f32 = ys.map(|y| channel[y * width..][xs.clone()].iter().sum::<f32>()).sum();
                    means[(row * across + col) * 3 + plane] = sum / area;
                }
            }
        }
        let padded = across + 2 * beyond;
        let mut data = Vec::with_capacity(padded * (down + 2 * beyond) * 3);
        let clamped = |at: usize, size: usize| at.saturating_sub(beyond).min(size - 1);
        for row in 0..down + 2 * beyond {
            for col in 0..padded {
                let from = (clamped(row, down) * across + clamped(col, across)) * 3;
                data.extend_from_slice(&means[from..from + 3]);
            }
        }
        Some(Cells { width: padded, beyond, data })
    }

    /// The cells around a patch, moved by `by` (x, y), one row after the other: 3 * SIDE numbers each.
    fn window(&self, patch: (usize, usize), by: [isize; 2]) -> impl Iterator<Item = &[f32]> {
        let start = |at: usize, by: isize| (at * CELLS + self.beyond - MARGIN).wrapping_add_signed(by);
        let (row, col) = (start(patch.0, by[1]), start(patch.1, by[0]));
        (row..row + SIDE).map(move |row| &self.data[(row * self.width + col) * 3..][..SIDE * 3])
    }
}

/// Two pictures to compare.
pub(super) struct Pictures {
    grid: PatchGrid,
    one: Cells,
    other: Cells,
}

/// Where a patch of one picture agrees best with the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match {
    /// x, y in cells, between cells by a parabola through the neighbours' differences.
    pub(super) shift: [f32; 2],
    /// How fast the difference grows away from it along the axis on which it grows less: 0 on a plain or along an edge.
    pub(super) certainty: f32,
    /// The difference there, at whole cells.
    pub(super) difference: f32,
}

impl Pictures {
    /// `None` unless both pictures have the size of the grid.
    pub(super) fn new(grid: PatchGrid, one: &InputTensor, other: &InputTensor) -> Option<Pictures> {
        // One cell more than the reach, for the parabola at its end.
        let beyond = MARGIN + REACH + 1;
        Some(Pictures { grid, one: Cells::new(grid, one, MARGIN)?, other: Cells::new(grid, other, beyond)? })
    }

    /// The variance of the first picture's cells, all channels together: what a mean squared difference is measured by.
    pub(super) fn variance(&self) -> f32 {
        let count = (self.one.data.len() / 3).max(1) as f64;
        let mut variance = 0.0;
        for channel in 0..3 {
            let values = || self.one.data.iter().skip(channel).step_by(3).map(|v| f64::from(*v));
            let mean = values().sum::<f64>() / count;
            variance += values().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        }
        variance as f32
    }

    /// Whether what is compared of `patch` lies as much inside the other picture, moved by `shift` cells (x, y), as it
    /// does inside its own, to half a cell: what came in at an edge is nowhere in the other, which does not mean that
    /// it moved.
    pub(super) fn seen_in_both(&self, patch: usize, shift: [f64; 2]) -> bool {
        let seen = |at: usize, cells: usize, by: f64| {
            let start = (at * CELLS) as f64 - MARGIN as f64;
            let beyond = |start: f64| [(-start).max(0.0), (start + SIDE as f64 - (cells * CELLS) as f64).max(0.0)];
            beyond(start).iter().zip(beyond(start + by)).all(|(own, other)| (own - other).abs() <= 0.5)
        };
        let PatchGrid { rows, cols, .. } = self.grid;
        seen(patch % cols, cols, shift[0]) && seen(patch / cols, rows, shift[1])
    }

    /// Mean squared difference around `patch`, all channels together, when the other picture is moved by `by` cells (x,
    /// y), [`REACH`] + 1 each way at most.
    pub(super) fn difference(&self, patch: usize, by: [isize; 2]) -> f32 {
        let at = (patch / self.grid.cols, patch % self.grid.cols);
        let mut sum = 0.0;
        for (a, b) in self.one.window(at, [0, 0]).zip(self.other.window(at, by)) {
            // By columns, so that a vector's lanes add up apart.
            let mut lanes = [0f32; 8];
            for (x, y) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
                for lane in 0..8 {
                    lanes[lane] += (x[lane] - y[lane]) * (x[lane] - y[lane]);
                }
            }
            sum += lanes.iter().sum::<f32>();
        }
        sum / (SIDE * SIDE) as f32
    }

    /// Looks for `patch` everywhere within reach; of equal differences, where it moved least, then the first by rows.
    pub(super) fn best(&self, patch: usize) -> Match {
        let reach = REACH as isize;
        let (mut least, mut at) = (self.difference(patch, [0, 0]), [0, 0]);
        for y in -reach..=reach {
            for x in -reach..=reach {
                let difference = self.difference(patch, [x, y]);
                let nearer = x * x + y * y < at[0] * at[0] + at[1] * at[1];
                if difference < least || (difference == least && nearer) {
                    (least, at) = (difference, [x, y]);
                }
            }
        }
        let mut found = Match { shift: at.map(|v| v as f32), certainty: f32::INFINITY, difference: least };
        for axis in 0..2 {
            let [before, after] = [-1, 1].map(|step| {
                let mut by = at;
                by[axis] += step;
                self.difference(patch, by)
            });
            let bend = (before + after - 2.0 * least).max(0.0);
            if bend > 0.0 {
                found.shift[axis] += (0.5 * (before - after) / bend).clamp(-0.5, 0.5);
            }
            found.certainty = found.certainty.min(bend);
        }
        found
    }
}
