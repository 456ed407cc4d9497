//! The rule as it is defined, one pair at a time: what every kernel is held to.

use super::{Match, Matches, Reach};
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
                    let cosine = queries.row(query).iter().zip(features.row(patch)).map(|(a, b)| a * b).sum();
                    matches.offer(query, Match { cosine, frame, patch: patch as u32 });
                }
            }
        }
    }
    matches
}
