use ndarray::{Array2, ArrayView5};

use super::{Extractor, Model};
use crate::embed::{EmbedError, Preprocessor};
use crate::types::{InputTensor, PatchGrid, PixelBuf};

/// A patch's pixels as its features: what there is to go by without any network, trained or not.
pub struct Pixels {
    grid: PatchGrid,
    preprocessor: Preprocessor,
    input: InputTensor,
}

impl Pixels {
    /// Of pictures made ready as for a model.
    pub fn new(model: &Model) -> Pixels {
        let spec = model.spec();
        let grid = spec.grids[0];
        let preprocessor = Preprocessor::new(grid.input_width(), grid.input_height(), spec.mean, spec.std);
        Pixels { grid, preprocessor, input: InputTensor::default() }
    }
}

impl Extractor for Pixels {
    fn name(&self) -> String {
        "pixels".into()
    }

    fn sha256(&self) -> String {
        String::new()
    }

    fn grid(&self) -> PatchGrid {
        self.grid
    }

    fn dim(&self) -> usize {
        3 * self.grid.patch * self.grid.patch
    }

    fn embed(&mut self, picture: &PixelBuf) -> Result<Array2<f32>, EmbedError> {
        self.preprocessor.run(picture, &mut self.input)?;
        let PatchGrid { rows, cols, patch } = self.grid;
        // (channel, row, y, column, x) to (row, column, channel, y, x)
        let pixels =
            ArrayView5::from_shape((3, rows, patch, cols, patch), &self.input.data).expect("a grid of patches");
        let patches = pixels.permuted_axes([1, 3, 0, 2, 4]);
        let data: Vec<f32> = patches.iter().copied().collect();
        Ok(Array2::from_shape_vec((self.grid.len(), self.dim()), data).expect("whole rows"))
    }
}
