//! A frame's way through this step: preprocessing, then the backbone.

use std::time::{Duration, Instant};

use super::prepare::Preparer;
use super::{Backbone, EmbedError, Running};
use crate::types::{Features, InputTensor, PatchGrid, PixelBuf};

/// A backbone with the preprocessing for one grid at a time. The picture between the two goes along with the features.
pub struct Embedder {
    backbone: Box<dyn Backbone>,
    grid: PatchGrid,
    preparer: Preparer,
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
        let preparer = preparer(backbone.as_ref(), grid);
        Embedder { backbone, grid, preparer }
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
            self.preparer = preparer(self.backbone.as_ref(), grid);
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

    /// As [`Backbone::running`].
    pub fn running(&self) -> Running {
        self.backbone.running()
    }

    /// Takes nothing over from a camera's earlier frames.
    pub fn forget(&mut self, camera: usize) {
        self.backbone.forget(camera);
    }

    /// Embeds one picture: the part of it that `out.view` says. `out` may have been of another grid.
    ///
    /// # Errors
    /// When it cannot be decoded, or the model fails.
    pub fn embed(&mut self, pixels: &PixelBuf, out: &mut Features) -> Result<EmbedTimes, EmbedError> {
        self.run(pixels, out, |backbone, input, out| backbone.embed(input, out).map(|()| 1.0))
    }

    /// Embeds the next frame of a camera, or the part of it that `out.view` says.
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
        let prepared: Vec<Result<(), EmbedError>> = (frames.iter().zip(&mut inputs).zip(&mut *outs))
            .map(|(((_, pixels), input), out)| {
                out.noisy = self.preparer.run(pixels, out.view, input)?;
                Ok(())
            })
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
            out.noisy = self.preparer.run(pixels, out.view, &mut input)?;
            let prepared = Instant::now();
            let computed = embed(self.backbone.as_mut(), &input, out)?;
            Ok(EmbedTimes { preprocess: prepared - start, embed: prepared.elapsed(), computed })
        })();
        out.picture = input;
        result
    }
}

fn preparer(backbone: &dyn Backbone, grid: PatchGrid) -> Preparer {
    Preparer::new(grid, backbone.spec().mean, backbone.spec().std)
}

#[cfg(test)]
mod tests {
    use super::super::{BackboneSpec, Preprocessor};
    use super::*;
    use crate::types::PixelFormat;

    const GRID: PatchGrid = PatchGrid { rows: 2, cols: 3, patch: 16 };

    /// Embeds nothing.
    struct Blind(BackboneSpec);

    impl Backbone for Blind {
        fn spec(&self) -> &BackboneSpec {
            &self.0
        }

        fn embed(&mut self, _input: &InputTensor, _out: &mut Features) -> Result<(), EmbedError> {
            Ok(())
        }
    }

    fn embedder() -> Embedder {
        let spec = BackboneSpec {
            name: "blind".into(),
            family: "none".into(),
            sha256: "0".repeat(64),
            features: "0".repeat(64),
            grids: vec![GRID],
            dim: 1,
            mean: [0.5; 3],
            std: [0.5; 3],
            probe_cosine: 1.0,
        };
        Embedder::new(Box::new(Blind(spec)), GRID)
    }

    #[test]
    fn noise_is_taken_out_whichever_way_a_frame_comes() {
        let picture = |light: u32, dark: u32| {
            // Grey, and each pixel a little lighter or darker; which, follows from its place as if by chance.
            let level = |i: u32| if i.wrapping_mul(2_654_435_761) >> 31 == 0 { light } else { dark } as u8;
            let rgb = (0..48 * 32).flat_map(|i| [level(i); 3]).collect();
            PixelBuf::packed(PixelFormat::Rgb3, 48, 32, rgb).unwrap()
        };
        let spread = |features: &Features| {
            let values = &features.picture.data;
            values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32
        };
        let mut embedder = embedder();
        for (pixels, smoothed) in [(picture(168, 88), true), (picture(130, 126), false)] {
            let mut raw = InputTensor::default();
            Preprocessor::new(48, 32, [0.5; 3], [0.5; 3]).run(&pixels, &mut raw).unwrap();
            let raw = Features { picture: raw, ..embedder.empty_features() };
            let mut outs = vec![embedder.empty_features(); 4];
            embedder.embed(&pixels, &mut outs[0]).unwrap();
            embedder.follow(0, &pixels, &mut outs[1]).unwrap();
            let together = embedder.follow_together(&[(0, &pixels), (1, &pixels)], &mut outs[2..]);
            assert!(together.iter().all(Result::is_ok));
            for out in &outs {
                assert_eq!(out.picture, outs[0].picture);
                if smoothed {
                    assert!(spread(out) < 0.25 * spread(&raw), "{} {}", spread(out), spread(&raw));
                } else {
                    assert_eq!(out.picture, raw.picture);
                }
            }
        }
    }
}
