//! The patch embedding: each patch of the picture times the weights.

use std::sync::Arc;

use super::attention::Rows;
use super::linear::{Linear, ROWS};
use super::workers::{Scratch, Workers};
use crate::embed::blocks::{Before, Patches, stretched};
use crate::embed::kernels::ROW_STEP;
use crate::embed::kernels::epilogues::Then;

/// A convolution whose kernels lie side by side, as the product that it is.
pub struct PatchEmbedding {
    /// Side in pixels.
    pub patch: usize,
    pub channels: usize,
    /// (channels * patch * patch, rounded up to 16) to the embedding; without anything before.
    pub linear: Arc<Linear>,
    /// What is added to the tokens: prefix tokens and position embeddings, (tokens, outputs).
    pub added: Vec<f32>,
    /// Tokens before those of the patches.
    pub prefix: usize,
}

impl PatchEmbedding {
    /// `None` as of [`Linear::pack`].
    pub fn pack(block: Patches) -> Option<PatchEmbedding> {
        let Patches { patch, channels, matrix, added, prefix } = block;
        let filled = matrix.inputs.next_multiple_of(ROW_STEP);
        let linear = Arc::new(Linear::pack(Before::Nothing, matrix.deepened(filled))?);
        Some(PatchEmbedding { patch, channels, linear, added, prefix })
    }

    /// Tokens, those of the prefix counted.
    pub fn tokens(&self) -> usize {
        self.added.len() / self.linear.outputs()
    }

    /// The same embedding for another grid, [rows, columns].
    pub fn stretched(&self, from: [usize; 2], to: [usize; 2]) -> PatchEmbedding {
        let PatchEmbedding { patch, channels, linear, added, prefix } = self;
        let added = stretched(added, *prefix, linear.outputs(), from, to);
        PatchEmbedding { patch: *patch, channels: *channels, linear: Arc::clone(linear), added, prefix: *prefix }
    }

    /// A picture, (channels, height, width), to the tokens of `rows`, among which are all of the prefix: (rows, outputs).
    pub fn run(&self, workers: &Workers, picture: &[f32], [height, width]: [usize; 2], rows: Rows, out: &mut [f32]) {
        let PatchEmbedding { patch, linear, added, prefix, .. } = self;
        let (outputs, columns) = (linear.outputs(), width / patch);
        for (row, out) in out.chunks_exact_mut(outputs).enumerate() {
            out.copy_from_slice(&added[rows.token(row) * outputs..][..outputs]);
        }
        let patches = &mut out[prefix * outputs..];
        let each = workers.rows_a_part(patches.len() / outputs, ROWS);
        workers.share(patches, each * outputs, |index, out, engaged, scratch| {
            let Scratch { left, scales, sums, floats, row, .. } = scratch;
            let count = out.len() / outputs;
            let pixels = |r: usize, pixels: &mut [f32]| {
                let at = rows.token(prefix + index * each + r) - prefix;
                let corner = at / columns * patch * width + at % columns * patch;
                let lines = (0..self.channels).flat_map(|c| (0..*patch).map(move |y| c * height * width + y * width));
                for (line, to) in lines.zip(pixels.chunks_exact_mut(*patch)) {
                    to.copy_from_slice(&picture[corner + line..][..*patch]);
                }
                pixels[self.channels * patch * patch..].fill(0.0);
            };
            let left = linear.quantize_each(engaged, count, pixels, left, scales, [floats, row]);
            linear.multiply(engaged, left, scales, sums, Then::Add, out);
        });
    }
}
