//! One side of a picture against one side of the patch grid.

use std::ops::Range;

use crate::types::LabelField;

/// One side of the picture, cut into cells: what lies between the centres of two neighbouring patches, or
/// outside the outermost centres. There is one cell more than there are patches.
#[derive(Default)]
pub struct Axis {
    pub patches: usize,
    /// (cells + 1): first pixel of each cell.
    pub starts: Vec<usize>,
    /// (pixels): weight of the patch before the pixel.
    pub low: Vec<f32>,
    /// (pixels): weight of the patch after it.
    pub high: Vec<f32>,
}

impl Axis {
    pub fn new(patches: usize, patch: usize, pixels: usize) -> Axis {
        let mut axis = Axis { patches, starts: Vec::new(), low: Vec::new(), high: Vec::new() };
        for i in 0..pixels {
            let pixel = nearest(i, pixels, patches * patch);
            let (before, after, low, high) = bilinear(pixel, patches, patch);
            let cell = match before {
                0 if pixel * 2 + 1 < patch => 0,
                _ if before == after => patches,
                _ => before + 1,
            };
            // The pixels come in order, and so do their cells.
            while axis.starts.len() <= cell {
                axis.starts.push(i);
            }
            axis.low.push(low);
            axis.high.push(high);
        }
        axis.starts.resize(patches + 2, pixels);
        axis
    }

    /// The pixels of a cell.
    pub fn pixels(&self, cell: usize) -> Range<usize> {
        self.starts[cell]..self.starts[cell + 1]
    }

    /// The patches before and after a cell; the same one twice outside the outermost centres.
    pub fn patches(&self, cell: usize) -> (usize, usize) {
        (cell.saturating_sub(1), cell.min(self.patches - 1))
    }

    /// A row of patches of a plane, interpolated at the pixels of some cells.
    pub fn interpolate(&self, field: &LabelField, plane: usize, row: usize, cells: Range<usize>, out: &mut [f32]) {
        let x0 = self.starts[cells.start];
        for cell in cells {
            let (left, right) = self.patches(cell);
            let [left, right] = [left, right].map(|col| field.row(row * self.patches + col)[plane]);
            let xs = self.pixels(cell);
            let weights = self.low[xs.clone()].iter().zip(&self.high[xs.clone()]);
            for (out, (low, high)) in out[xs.start - x0..xs.end - x0].iter_mut().zip(weights) {
                *out = left * low + right * high;
            }
        }
    }
}

/// The pixel of `source` that pixel `index` of `target` pixels takes, as OpenCV's `INTER_NEAREST` chooses it: in
/// double precision, through the inverse of the ratio.
pub fn nearest(index: usize, target: usize, source: usize) -> usize {
    let scale = 1.0 / (target as f64 / source as f64);
    ((index as f64 * scale).floor() as usize).min(source - 1)
}

/// The two patches between whose centres a pixel of the input lies, and how much each of them weighs.
pub fn bilinear(pixel: usize, patches: usize, patch: usize) -> (usize, usize, f32, f32) {
    let position = (pixel as f64 + 0.5) / patch as f64 - 0.5;
    if position < 0.0 {
        return (0, 0, 1.0, 0.0);
    }
    let low = position as usize;
    if low + 1 >= patches {
        return (patches - 1, patches - 1, 1.0, 0.0);
    }
    let toward_high = (position - low as f64) as f32;
    (low, low + 1, 1.0 - toward_high, toward_high)
}
