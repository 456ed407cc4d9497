//! A frame made ready for a backbone: its size, its colours, and the noise taken out.
//!
//! Noise is told by each pixel having an error of its own. Where there are fewer pixels than the backbone takes, enlarging would give
//! that to its neighbours, and what is left would be taken for texture: noise is taken out before.

use super::Preprocessor;
use super::denoise::Denoiser;
use super::preprocess::PreprocessError;
use crate::types::{InputTensor, PatchGrid, PixelBuf, View};

/// Makes frames ready for one grid of a backbone. Its buffers are used again.
pub struct Preparer {
    preprocessor: Preprocessor,
    /// For what is enlarged, at the size that it has.
    unscaled: Preprocessor,
    denoiser: Denoiser,
    mean: [f32; 3],
    std: [f32; 3],
    small: InputTensor,
    /// (height, width, 3), the same in bytes
    rgb: Vec<u8>,
}

impl Preparer {
    /// For pictures normalised by `mean` and `std` of red, green, blue in [0, 1].
    pub fn new(grid: PatchGrid, mean: [f32; 3], std: [f32; 3]) -> Preparer {
        let (width, height) = (grid.input_width(), grid.input_height());
        Preparer {
            preprocessor: Preprocessor::new(width, height, mean, std),
            unscaled: Preprocessor::new(width, height, mean, std),
            denoiser: Denoiser::new(std),
            mean,
            std,
            small: InputTensor::default(),
            rgb: Vec::new(),
        }
    }

    /// Makes a part of a frame ready, in `out`, and returns whether it had noise.
    ///
    /// # Errors
    /// As [`Preprocessor::run`].
    pub fn run(&mut self, pixels: &PixelBuf, view: View, out: &mut InputTensor) -> Result<bool, PreprocessError> {
        let [_, _, width, height] = view.pixels(pixels.width, pixels.height);
        let [full_width, full_height] = self.preprocessor.size();
        if width * height >= full_width * full_height {
            self.preprocessor.run_part(pixels, view, out)?;
            return Ok(self.denoiser.run(out));
        }
        self.unscaled.set_size(width, height);
        self.unscaled.run_part(pixels, view, &mut self.small)?;
        let noisy = self.denoiser.run(&mut self.small);
        let area = width * height;
        self.rgb.resize(3 * area, 0);
        for (channel, values) in self.small.data.chunks_exact(area).enumerate() {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let bytes = self.rgb.iter_mut().skip(channel).step_by(3);
            bytes.zip(values).for_each(|(byte, value)| *byte = ((value * std + mean) * 255.0 + 0.5) as u8);
        }
        self.preprocessor.run_rgb(&self.rgb, width, height, out)?;
        Ok(noisy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PixelFormat;

    const GRID: PatchGrid = PatchGrid { rows: 12, cols: 16, patch: 16 };
    const PART: View = View { left: 0.25, top: 0.25, width: 0.5, height: 0.5 };

    fn preparer() -> Preparer {
        Preparer::new(GRID, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    }

    /// Boards of even colours, with noise of about so many levels.
    fn boards(noise: i32) -> PixelBuf {
        let mut state = 7u64;
        let bytes = (0..192 * 256 * 3).map(|i| {
            let (x, y, channel) = (i / 3 % 256, i / 3 / 256, i % 3);
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // A sum of eight even numbers is nearly normal; its deviation is 1.15 of a number's half width.
            let sum: i32 = (0..8).map(|byte| (state >> (8 * byte)) as i32 & 255).sum();
            let normal = f64::from(sum - 1020) / 209.0;
            let level = 60 + 70 * ((x / 37 + y / 29) % 3) + 10 * channel;
            (f64::from(level) + f64::from(noise) * normal).clamp(0.0, 255.0) as u8
        });
        PixelBuf::packed(PixelFormat::Rgb3, 256, 192, bytes.collect()).unwrap()
    }

    fn run(pixels: &PixelBuf, view: View, expected: bool) -> InputTensor {
        let mut out = InputTensor::default();
        let noisy = preparer().run(pixels, view, &mut out).unwrap();
        assert_eq!((out.width, out.height, noisy), (256, 192, expected));
        out
    }

    /// Root of the mean square.
    fn distance(a: &InputTensor, b: &InputTensor) -> f32 {
        let square: f32 = a.data.iter().zip(&b.data).map(|(a, b)| (a - b).powi(2)).sum();
        (square / a.data.len() as f32).sqrt()
    }

    #[test]
    fn a_part_without_noise_is_what_is_cut_out_and_enlarged() {
        let (clean, mut expected) = (boards(0), InputTensor::default());
        preparer().preprocessor.run_part(&clean, PART, &mut expected).unwrap();
        assert!(distance(&run(&clean, PART, false), &expected) < 1e-6);
    }

    #[test]
    fn noise_is_taken_out_of_a_part_as_of_the_whole() {
        let (clean, noisy) = (boards(0), boards(31));
        for view in [View::WHOLE, PART] {
            let mut untreated = InputTensor::default();
            preparer().preprocessor.run_part(&noisy, view, &mut untreated).unwrap();
            let expected = run(&clean, view, false);
            let (with, without) = (distance(&run(&noisy, view, true), &expected), distance(&untreated, &expected));
            assert!(with < 0.6 * without, "{view:?}: {with} of {without}");
        }
    }
}
