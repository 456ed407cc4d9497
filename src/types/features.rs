//! Patch embeddings of one frame.

use super::{InputTensor, PatchGrid, View};

/// Patch embeddings: one L2-normalised row for each patch, row-major over the grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    pub grid: PatchGrid,
    /// The part of the frame that the grid lies on.
    pub view: View,
    /// Length of one embedding.
    pub dim: usize,
    /// (rows * cols, dim), L2-normalised rows
    pub data: Vec<f32>,
    /// The picture that they are of, as the backbone saw it; of no size where nobody kept it.
    pub picture: InputTensor,
    /// Whether the picture had noise, which was taken out of it, and details with it.
    pub noisy: bool,
}

impl Features {
    /// Of a whole frame, the picture of which nobody kept.
    pub fn new(grid: PatchGrid, dim: usize, data: Vec<f32>) -> Features {
        Features { grid, view: View::WHOLE, dim, data, picture: InputTensor::default(), noisy: false }
    }

    /// All zeros.
    pub fn zeros(grid: PatchGrid, dim: usize) -> Features {
        Features::new(grid, dim, vec![0.0; grid.len() * dim])
    }

    /// The embeddings alone, without the picture.
    pub fn without_picture(&self) -> Features {
        Features { view: self.view, ..Features::new(self.grid, self.dim, self.data.clone()) }
    }

    /// The embedding of patch `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.dim..(index + 1) * self.dim]
    }

    /// Scales every row to unit length. A row of zeros, or one that is not finite, becomes zeros:
    /// it is then alike to nothing, instead of poisoning every comparison.
    pub fn normalise(&mut self) {
        for row in self.data.chunks_exact_mut(self.dim) {
            let norm = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
            if norm.is_finite() && norm > 1e-12 {
                let scale = (1.0 / norm) as f32;
                row.iter_mut().for_each(|v| *v *= scale);
            } else {
                row.fill(0.0);
            }
        }
    }
}
