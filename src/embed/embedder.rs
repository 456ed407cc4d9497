//! A frame's way through this step: preprocessing, then the backbone.

use std::time::{Duration, Instant};

use super::{Backbone, BackboneSpec, EmbedError, Preprocessor};
use crate::types::{Features, InputTensor, PatchGrid, PixelBuf};

/// A backbone with the preprocessing for one grid at a time. The picture between the two goes along with the features.
pub struct Embedder {
    backbone: Box<dyn Backbone>,
    grid: PatchGrid,
    preprocessor: Preprocessor,
}

/// How long the two parts took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EmbedTimes {
    pub preprocess: Duration,
    pub embed: Duration,
    /// The share of the tokens that were computed; the others were taken over from earlier frames.
    pub computed: f32,
}

impl Embedder {
    pub fn new(backbone: Box<dyn Backbone>, grid: PatchGrid) -> Embedder {
        let preprocessor = preprocessor(backbone.spec(), grid);
        Embedder { backbone, grid, preprocessor }
    }

    pub fn grid(&self) -> PatchGrid {
        self.grid
    }

    /// Those that the backbone was made for.
    pub fn grids(&self) -> Vec<PatchGrid> {
        self.backbone.spec().grids.clone()
    }

    /// Embeds on another grid from now on: one that the backbone was made for, or, where its network can be stretched, any. The
    /// first time it is made ready, which may take as long as many frames.
    ///
    /// # Errors
    /// When the model cannot be run on it; the grid then stays as it is.
    pub fn change_grid(&mut self, grid: PatchGrid) -> Result<(), EmbedError> {
        if grid != self.grid {
            self.backbone.prepare(grid)?;
            self.preprocessor = preprocessor(self.backbone.spec(), grid);
            self.grid = grid;
        }
        Ok(())
    }

    /// Length of one embedding.
    pub fn dim(&self) -> usize {
        self.backbone.spec().dim
    }

    /// As [`Backbone::operations`], of a frame.
    pub fn operations(&self) -> Option<u64> {
        self.backbone.operations(self.grid)
    }

    /// Features of the right shape, all zeros.
    pub fn empty_features(&self) -> Features {
        Features::zeros(self.grid, self.dim())
    }

    /// Takes nothing over from a camera's earlier frames.
    pub fn forget(&mut self, camera: usize) {
        self.backbone.forget(camera);
    }

    /// Embeds one picture. `out` may have been of another grid.
    ///
    /// # Errors
    /// When it cannot be decoded, or the model fails.
    pub fn embed(&mut self, pixels: &PixelBuf, out: &mut Features) -> Result<EmbedTimes, EmbedError> {
        self.run(pixels, out, |backbone, input, out| backbone.embed(input, out).map(|()| 1.0))
    }

    /// Embeds the next frame of a camera.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    pub fn follow(&mut self, camera: usize, pixels: &PixelBuf, out: &mut Features) -> Result<EmbedTimes, EmbedError> {
        self.run(pixels, out, |backbone, input, out| backbone.follow(camera, input, out))
    }

    /// Embeds the next frames of several cameras, in one pass where there are more than one; of one, as
    /// [`Embedder::follow`]. Each waits for all, so that all are told the same times; one that cannot be decoded is left out.
    pub fn follow_together(
        &mut self,
        frames: &[(usize, &PixelBuf)],
        outs: &mut [Features],
    ) -> Vec<Result<EmbedTimes, EmbedError>> {
        assert_eq!(frames.len(), outs.len(), "features for each frame");
        if let ([(camera, pixels)], [out]) = (frames, &mut *outs) {
            return vec![self.follow(*camera, pixels, out)];
        }
        let mut inputs: Vec<InputTensor> = outs.iter_mut().map(|out| std::mem::take(&mut out.picture)).collect();
        let (grid, dim) = (self.grid, self.dim());
        let start = Instant::now();
        let prepared: Vec<Result<(), EmbedError>> = (frames.iter().zip(&mut inputs))
            .map(|((_, pixels), input)| Ok(self.preprocessor.run(pixels, input)?))
            .collect();
        let preprocess = start.elapsed();
        let start = Instant::now();
        let mut readable: Vec<(&InputTensor, &mut Features)> = (inputs.iter().zip(&mut *outs).zip(&prepared))
            .filter(|(_, prepared)| prepared.is_ok())
            .map(|((input, out), _)| {
                (out.grid, out.dim) = (grid, dim);
                out.data.resize(grid.len() * dim, 0.0);
                (input, out)
            })
            .collect();
        let failure = self.backbone.embed_together(&mut readable).err().map(|error| error.to_string());
        let embed = start.elapsed();
        outs.iter_mut().zip(inputs).for_each(|(out, input)| out.picture = input);
        let embedded = |()| match &failure {
            Some(failure) => Err(EmbedError::Together(failure.clone())),
            None => Ok(EmbedTimes { preprocess, embed, computed: 1.0 }),
        };
        prepared.into_iter().map(|prepared| prepared.and_then(embedded)).collect()
    }

    fn run(
        &mut self,
        pixels: &PixelBuf,
        out: &mut Features,
        embed: impl FnOnce(&mut dyn Backbone, &InputTensor, &mut Features) -> Result<f32, EmbedError>,
    ) -> Result<EmbedTimes, EmbedError> {
        let start = Instant::now();
        let dim = self.dim();
        (out.grid, out.dim) = (self.grid, dim);
        out.data.resize(self.grid.len() * dim, 0.0);
        let mut input = std::mem::take(&mut out.picture);
        let result = (|| {
            self.preprocessor.run(pixels, &mut input)?;
            let prepared = Instant::now();
            let computed = embed(self.backbone.as_mut(), &input, out)?;
            Ok(EmbedTimes { preprocess: prepared - start, embed: prepared.elapsed(), computed })
        })();
        out.picture = input;
        result
    }
}

fn preprocessor(spec: &BackboneSpec, grid: PatchGrid) -> Preprocessor {
    Preprocessor::new(grid.input_width(), grid.input_height(), spec.mean, spec.std)
}
