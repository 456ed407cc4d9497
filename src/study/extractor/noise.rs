use ndarray::Array2;

use super::Extractor;
use crate::embed::EmbedError;
use crate::study::mix;
use crate::types::{PatchGrid, PixelBuf};

/// Features that know nothing of the picture: where they score is chance.
pub struct Noise {
    grid: PatchGrid,
    dim: usize,
    seed: u64,
    /// Pictures so far.
    pictures: u64,
}

impl Noise {
    pub fn new(grid: PatchGrid, dim: usize, seed: u64) -> Noise {
        Noise { grid, dim, seed, pictures: 0 }
    }
}

impl Extractor for Noise {
    fn name(&self) -> String {
        "noise".into()
    }

    fn sha256(&self) -> String {
        String::new()
    }

    fn grid(&self) -> PatchGrid {
        self.grid
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn embed(&mut self, _: &PixelBuf) -> Result<Array2<f32>, EmbedError> {
        self.pictures += 1;
        let mut at = 0;
        Ok(Array2::from_shape_simple_fn((self.grid.len(), self.dim), || {
            at += 1;
            (mix(&[self.seed, self.pictures, at]) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_again_and_another_in_each_picture() {
        let grid = PatchGrid { rows: 2, cols: 3, patch: 16 };
        let picture = PixelBuf::packed(crate::types::PixelFormat::Grey, 1, 1, vec![0]).unwrap();
        let [mut first, mut again] = [0, 1].map(|_| Noise::new(grid, 8, 5));
        let rows = first.embed(&picture).unwrap();
        assert_eq!(rows.dim(), (6, 8));
        assert_eq!(rows, again.embed(&picture).unwrap());
        assert_ne!(rows, again.embed(&picture).unwrap());
        assert!(rows.iter().all(|v| (-1.0..=1.0).contains(v)) && rows.mean().unwrap().abs() < 0.3);
    }
}
