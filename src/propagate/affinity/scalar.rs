//! The rule and the products as they are defined, one pair at a time: what everything else is held to.

use super::keys::QUAD;
use super::{BLOCK, Kernel, Match, Matches, Reach, TILE};
use crate::types::Features;

/// The `k` best matches of every query among the patches of `frames` within reach.
pub fn search(queries: &Features, frames: &[(u32, &Features)], reach: Reach, k: usize) -> Matches {
    let grid = queries.grid;
    let mut matches = Matches::default();
    matches.reset(grid.len(), k);
    for query in 0..grid.len() {
        let (row, col) = (query / grid.cols, query % grid.cols);
        for &(frame, features) in frames {
            for patch in 0..grid.len() {
                let (dy, dx) = (row.abs_diff(patch / grid.cols), col.abs_diff(patch % grid.cols));
                if reach.columns_at(dy).is_some_and(|columns| dx <= columns) {
                    let cosine = cosine(queries.row(query), features.row(patch));
                    matches.offer(query, Match { cosine, frame, patch: patch as u32 });
                }
            }
        }
    }
    matches
}

/// Gives the bits that every other kernel must give; the kernel of processors that have none of their own.
pub struct Scalar;

impl Kernel for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn above(
        &self,
        queries: &[i8],
        starts: &[i32; TILE],
        keys: &[u8],
        cols: usize,
        scales: &[f32; BLOCK],
        bars: &[f32; TILE],
    ) -> [u32; TILE] {
        let mut above = [0; TILE];
        for i in 0..TILE {
            for j in 0..BLOCK {
                let query = queries.chunks_exact(QUAD).skip(i).step_by(TILE).flatten();
                let key = keys[j * QUAD..].chunks_exact(QUAD).step_by(cols).flatten();
                let product: i32 = query.zip(key).map(|(q, k)| i32::from(*q) * i32::from(*k)).sum();
                above[i] |= u32::from((starts[i] + product) as f32 * scales[j] > bars[i]) << j;
            }
        }
        above
    }

    fn cosine(&self, a: &[f32], b: &[f32]) -> f32 {
        cosine_in_lanes(a, b)
    }
}

/// The inner product of two embeddings, one coordinate after the other.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The same in sixteen sums, so that the compiler makes vectors of them whatever it is built for.
pub fn cosine_in_lanes(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for j in 0..LANES {
            sums[j] += a[j] * b[j];
        }
    }
    sums.iter().sum::<f32>() + cosine(a_rest, b_rest)
}
