use ndarray::Array2;

use super::Extractor;
use crate::embed::{Backbone, BackboneSpec, EmbedError, Preprocessor, TractBackbone};
use crate::types::{InputTensor, PatchGrid, PixelBuf};

/// A model, at the first of its input sizes.
pub struct Model {
    backbone: TractBackbone,
    preprocessor: Preprocessor,
    input: InputTensor,
}

impl Model {
    pub fn new(backbone: TractBackbone) -> Model {
        let spec = backbone.spec();
        let grid = spec.grids[0];
        let preprocessor = Preprocessor::new(grid.input_width(), grid.input_height(), spec.mean, spec.std);
        Model { backbone, preprocessor, input: InputTensor::default() }
    }
}

impl Model {
    pub fn spec(&self) -> &BackboneSpec {
        self.backbone.spec()
    }
}

impl Extractor for Model {
    fn name(&self) -> String {
        self.backbone.spec().name.clone()
    }

    fn sha256(&self) -> String {
        self.backbone.spec().sha256.clone()
    }

    fn grid(&self) -> PatchGrid {
        self.backbone.spec().grids[0]
    }

    fn dim(&self) -> usize {
        self.backbone.spec().dim
    }

    fn embed(&mut self, picture: &PixelBuf) -> Result<Array2<f32>, EmbedError> {
        self.preprocessor.run(picture, &mut self.input)?;
        let mut rows = Array2::zeros((self.grid().len(), self.dim()));
        self.backbone.embed_unnormalised(&self.input, rows.as_slice_mut().expect("in one piece"))?;
        Ok(rows)
    }
}
