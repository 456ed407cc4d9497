//! Position embeddings at another input size than the one they were trained at.
//!
//! All families stretch the trained grid by bicubic interpolation, which works along one axis and then along the
//! other: positions at (rows, cols) are A(rows) P A(cols)^T, with one small matrix an axis. They differ in how far
//! apart the samples are taken, in the cubic and at the borders.

use crate::resample::{antialiased, plain};

/// How a trained grid is stretched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resampling {
    /// PyTorch's `bicubic` by a factor of (n + 0.1) / trained: DINO, iBOT, DINOv2 without registers. On the trained
    /// grid itself, nothing is done.
    Offset,
    /// PyTorch's `bicubic` to a size: MAE.
    Plain,
    /// PyTorch's `bicubic` to a size with `antialias`, which is another cubic as well: timm, DINOv2 with registers.
    Antialiased,
}

/// Position embeddings of patches.
#[derive(Clone, Debug, PartialEq)]
pub struct Positions {
    /// (grid * grid, dim), row-major
    pub data: Vec<f32>,
    /// Side of the grid that `data` is for.
    pub grid: usize,
    /// `None` where the positions of a smaller grid are the first ones of a larger.
    resampling: Option<Resampling>,
}

impl Positions {
    /// Those of a checkpoint: (grid * grid, dim).
    pub fn trained(data: Vec<f32>, grid: usize, resampling: Resampling) -> Positions {
        Positions { data, grid, resampling: Some(resampling) }
    }

    /// Sines and cosines of places in metres, as Scale-MAE has them: half of the dimensions for the column, half for
    /// the row; of each, sines and then cosines, at frequencies from 1 down to 1/10000.
    pub fn computed(dim: usize, grid: usize, metres_a_pixel: f32) -> Positions {
        let waves = |place: usize| {
            let place = place as f64 * f64::from(metres_a_pixel);
            let quarter = dim / 4;
            let angle = move |i: usize| place / 10_000f64.powf(i as f64 / quarter as f64);
            (0..quarter).map(move |i| angle(i).sin()).chain((0..quarter).map(move |i| angle(i).cos()))
        };
        let mut data = Vec::with_capacity(grid * grid * dim);
        for row in 0..grid {
            for col in 0..grid {
                data.extend(waves(col).chain(waves(row)).map(|value| value as f32));
            }
        }
        Positions { data, grid, resampling: None }
    }

    /// Whether trained positions, (1, 1 + grid * grid, dim), are sines and cosines of places that were never trained.
    pub fn are_computed(positions: &[f32], shape: Option<Vec<usize>>) -> bool {
        let Some([1, count, dim]) = shape.as_deref() else {
            return false;
        };
        let grid = count.saturating_sub(1).isqrt();
        if grid * grid + 1 != *count || !dim.is_multiple_of(4) || positions.len() != count * dim {
            return false;
        }
        let computed = Positions::computed(*dim, grid, 1.0);
        positions[*dim..].iter().zip(&computed.data).all(|(a, b)| (a - b).abs() < 1e-3)
    }

    /// The matrices that stretch the grid over (rows, cols): (rows, grid) and (cols, grid).
    pub fn matrices(&self, rows: usize, cols: usize) -> [Vec<f32>; 2] {
        let native = rows == self.grid && cols == self.grid;
        [rows, cols].map(|length| match self.resampling {
            None => identity(length, self.grid),
            Some(Resampling::Offset) if native => identity(length, self.grid),
            Some(Resampling::Offset) => plain(length, self.grid, self.grid as f64 / (length as f64 + 0.1)),
            Some(Resampling::Plain) => plain(length, self.grid, self.grid as f64 / length as f64),
            Some(Resampling::Antialiased) => antialiased(length, self.grid),
        })
    }

    /// Positions on a grid of (rows, cols): (rows * cols, dim).
    pub fn stretched(&self, rows: usize, cols: usize) -> Vec<f32> {
        let grid = self.grid;
        let dim = self.data.len() / (grid * grid);
        let [down, across] = self.matrices(rows, cols);
        let mut stretched = Vec::with_capacity(rows * cols * dim);
        for row in 0..rows {
            // (grid, dim): the columns of this row
            let mut columns = vec![0.0f32; grid * dim];
            for from in (0..grid).filter(|from| down[row * grid + from] != 0.0) {
                let weight = down[row * grid + from];
                let line = &self.data[from * grid * dim..(from + 1) * grid * dim];
                columns.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * value);
            }
            for col in 0..cols {
                let mut patch = vec![0.0f32; dim];
                for from in (0..grid).filter(|from| across[col * grid + from] != 0.0) {
                    let weight = across[col * grid + from];
                    let values = &columns[from * dim..(from + 1) * dim];
                    patch.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
                }
                stretched.extend(patch);
            }
        }
        stretched
    }
}

/// The first `length` of `grid`: (length, grid).
fn identity(length: usize, grid: usize) -> Vec<f32> {
    (0..length * grid).map(|i| if i / grid == i % grid { 1.0 } else { 0.0 }).collect()
}
