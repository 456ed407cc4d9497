//! The stretch of label planes to [0, 1].

use std::ops::Range;

use super::axis::Axis;
use crate::types::{LabelField, PatchGrid};

/// How a plane's values are stretched: (v - min) / range.
#[derive(Clone, Copy)]
pub struct Stretch {
    pub min: f32,
    pub range: f32,
    /// More than rounding can change a stretched value.
    pub rounding: f32,
}

impl Stretch {
    /// Labels as they are, in [0, 1].
    pub const NONE: Stretch = Stretch { min: 0.0, range: 1.0, rounding: 2e-6 };

    pub fn apply(self, v: f32) -> f32 {
        (v - self.min) / self.range
    }
}

/// Finds how planes stretch: from the smallest and largest value of each, upsampled to the model's input.
#[derive(Default)]
pub struct Extremes {
    grid: Option<PatchGrid>,
    /// The model's input, cut into cells.
    across: Axis,
    down: Axis,
    /// (instances + 1): first and one past the last row and column of patches with labels.
    extents: Vec<[Range<usize>; 2]>,
    /// (columns of pixels between the extent's): rows of the plane above and below, interpolated across.
    above: Vec<f32>,
    below: Vec<f32>,
    least: Vec<f32>,
    most: Vec<f32>,
}

impl Extremes {
    /// How each plane of `field` stretches to [0, 1]: (instances + 1), added to `out`.
    pub fn stretch(&mut self, field: &LabelField, out: &mut Vec<Stretch>) {
        let grid = field.grid;
        if self.grid != Some(grid) {
            self.across = Axis::new(grid.cols, grid.patch, grid.input_width());
            self.down = Axis::new(grid.rows, grid.patch, grid.input_height());
            self.grid = Some(grid);
        }
        self.extents.clear();
        self.extents.resize(field.instances + 1, [grid.rows..0, grid.cols..0]);
        for patch in 0..grid.len() {
            let (row, col) = (patch / grid.cols, patch % grid.cols);
            let occupied = field.row(patch).iter().zip(&mut self.extents).filter(|(label, _)| **label != 0.0);
            for (_, [rows, cols]) in occupied {
                *rows = rows.start.min(row)..row + 1;
                *cols = cols.start.min(col)..cols.end.max(col + 1);
            }
        }
        out.extend((0..=field.instances).map(|plane| {
            let (min, max) = self.of(field, plane);
            if max > 0.0 && max > min {
                let range = max - min;
                Stretch { min, range, rounding: 1e-6 * (1.0 + max / range) }
            } else {
                Stretch::NONE
            }
        }));
    }

    /// The smallest and largest value of a plane.
    fn of(&mut self, field: &LabelField, plane: usize) -> (f32, f32) {
        let [rows, cols] = self.extents[plane].clone();
        if rows.is_empty() {
            return (0.0, 0.0);
        }
        // Patches reach into the cells on both sides of their centre.
        let (columns, lines) = (cols.start..cols.end + 1, rows.start..rows.end + 1);
        let x0 = self.across.starts[columns.start];
        let width = self.across.starts[columns.end] - x0;
        for buffer in [&mut self.above, &mut self.below, &mut self.least, &mut self.most] {
            buffer.resize(width, 0.0);
        }
        // Beyond them the plane is 0.
        let whole = rows == (0..field.grid.rows) && cols == (0..field.grid.cols);
        let (low, high) = if whole { (f32::INFINITY, f32::NEG_INFINITY) } else { (0.0, 0.0) };
        self.least.fill(low);
        self.most.fill(high);
        for line in lines {
            let (top, bottom) = self.down.patches(line);
            self.across.interpolate(field, plane, top, columns.clone(), &mut self.above);
            self.across.interpolate(field, plane, bottom, columns.clone(), &mut self.below);
            for y in self.down.pixels(line) {
                let (up, down) = (self.down.low[y], self.down.high[y]);
                let sides = self.above.iter().zip(&self.below);
                for ((least, most), (above, below)) in self.least.iter_mut().zip(&mut self.most).zip(sides) {
                    let v = above * up + below * down;
                    *least = if v < *least { v } else { *least };
                    *most = if v > *most { v } else { *most };
                }
            }
        }
        (
            self.least.iter().copied().fold(f32::INFINITY, f32::min),
            self.most.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        )
    }
}
