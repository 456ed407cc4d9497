//! Embeddings relative to those of their frame.

use crate::types::{Features, PatchGrid};

/// Embeddings less their mean, made unit vectors again. Without it all patches of a frame are much alike, since what
/// the whole picture is stands in each of them.
pub(super) struct Centred {
    pub(super) grid: PatchGrid,
    pub(super) dim: usize,
    /// (rows * cols, dim), L2-normalised rows; zeros where a patch was as the mean is, or not finite.
    data: Vec<f32>,
}

impl Centred {
    /// Of no patch, where the embeddings are not as many as the grid's.
    pub(super) fn new(features: &Features) -> Centred {
        let Features { grid, dim, .. } = *features;
        if dim == 0 || features.data.len() != grid.len() * dim {
            return Centred { grid: PatchGrid { rows: 0, cols: 0, ..grid }, dim, data: Vec::new() };
        }
        let mut mean = vec![0f64; dim];
        let finite = |row: &&[f32]| row.iter().all(|v| v.is_finite());
        for row in features.data.chunks_exact(dim).filter(finite) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v));
        }
        let counted = features.data.chunks_exact(dim).filter(finite).count().max(1);
        mean.iter_mut().for_each(|m| *m /= counted as f64);
        let mut data = features.data.clone();
        for row in data.chunks_exact_mut(dim) {
            let squares: f64 = row.iter().zip(&mean).map(|(v, m)| (f64::from(*v) - m).powi(2)).sum();
            // What rounding leaves of equal patches is no direction, and what is not finite is none either.
            if squares > 1e-10 && squares.is_finite() {
                row.iter_mut().zip(&mean).for_each(|(v, m)| *v = ((f64::from(*v) - m) / squares.sqrt()) as f32);
            } else {
                row.fill(0.0);
            }
        }
        Centred { grid, dim, data }
    }

    pub(super) fn row(&self, patch: usize) -> &[f32] {
        &self.data[patch * self.dim..(patch + 1) * self.dim]
    }

    /// The mean of some patches' rows: (dim); zeros of none.
    pub(super) fn mean(&self, patches: impl Iterator<Item = usize>) -> Vec<f64> {
        let mut sum = vec![0f64; self.dim];
        let mut count = 0usize;
        for patch in patches {
            sum.iter_mut().zip(self.row(patch)).for_each(|(s, v)| *s += f64::from(*v));
            count += 1;
        }
        sum.iter_mut().for_each(|s| *s /= count.max(1) as f64);
        sum
    }
}
