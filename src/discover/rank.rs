//! Which regions are worth proposing, and the best of them that are not one another.

use super::Proposal;
use super::centred::Centred;
use super::regions::regions;
use crate::types::PatchGrid;

/// The fewest patches of a proposal: fewer bear too little evidence. The largest is half the frame.
const LEAST_PATCHES: usize = 8;

/// How far around a region counts as its surroundings, in patches, square.
const SURROUNDINGS: usize = 3;

/// Two boxes with an intersection over union of this and more are taken for one object.
const SAME_BOX: f32 = 0.5;

/// A region that may be proposed.
pub(super) struct Candidate {
    pub(super) patches: Vec<u32>,
    /// Column, row, columns, rows.
    pub(super) bounds: [usize; 4],
    /// Half the distance between the means of its embeddings and of its surroundings', in [0, 1].
    pub(super) contrast: f32,
    /// Its share of the frame's patches, in [0, 1].
    pub(super) share: f32,
    /// Its patches that lie on the frame's edge.
    pub(super) at_edge: usize,
}

impl Candidate {
    /// How its box is high for its width, 1 at most.
    pub(super) fn upright(&self) -> f32 {
        (self.bounds[3] as f32 / self.bounds[2] as f32).min(1.0)
    }
}

/// All regions of a size that an object may have.
pub(super) fn candidates(features: &Centred) -> Vec<Candidate> {
    let PatchGrid { rows, cols, .. } = features.grid;
    let count = features.grid.len();
    let mut found = Vec::new();
    // (rows * cols): for each patch the number of the last region that it is in, or in the surroundings of
    let (mut inside, mut around) = (vec![0u32; count], vec![0u32; count]);
    let regions = regions(features);
    for (number, patches) in (1..).zip(regions.iter()) {
        if patches.len() < LEAST_PATCHES || 2 * patches.len() > count {
            continue;
        }
        patches.iter().for_each(|patch| inside[*patch as usize] = number);
        let mut surroundings = Vec::new();
        let (mut left, mut top, mut right, mut bottom) = (cols, rows, 0, 0);
        let mut at_edge = 0;
        for patch in patches {
            let (row, col) = (*patch as usize / cols, *patch as usize % cols);
            (left, right) = (left.min(col), right.max(col + 1));
            (top, bottom) = (top.min(row), bottom.max(row + 1));
            at_edge += usize::from(row == 0 || col == 0 || row + 1 == rows || col + 1 == cols);
            for y in row.saturating_sub(SURROUNDINGS)..(row + SURROUNDINGS + 1).min(rows) {
                for x in col.saturating_sub(SURROUNDINGS)..(col + SURROUNDINGS + 1).min(cols) {
                    let other = y * cols + x;
                    if inside[other] != number && around[other] != number {
                        around[other] = number;
                        surroundings.push(other);
                    }
                }
            }
        }
        // In the grid's order, so that rounding does not depend on how the region came about.
        surroundings.sort_unstable();
        let within = features.mean(patches.iter().map(|patch| *patch as usize));
        let without = features.mean(surroundings.into_iter());
        let squares: f64 = within.iter().zip(&without).map(|(a, b)| (a - b).powi(2)).sum();
        found.push(Candidate {
            patches: patches.to_vec(),
            bounds: [left, top, right - left, bottom - top],
            contrast: (squares.sqrt() / 2.0).min(1.0) as f32,
            share: patches.len() as f32 / count as f32,
            at_edge,
        });
    }
    found
}

/// The best candidates by `score`, `limit` at most, leaving out those whose box is that of a better one; of equal
/// scores, the larger region, which came about later.
pub(super) fn best(
    grid: PatchGrid,
    candidates: Vec<Candidate>,
    score: impl Fn(&Candidate) -> f32,
    limit: usize,
) -> Vec<Proposal> {
    // What has the contrast of rounding alone is nothing.
    let mut scored: Vec<(f32, Candidate)> =
        candidates.into_iter().map(|c| (score(&c), c)).filter(|(score, _)| *score > 1e-3).collect();
    scored.reverse();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut proposals: Vec<Proposal> = Vec::new();
    for (score, candidate) in scored {
        if proposals.len() == limit {
            break;
        }
        if proposals.iter().any(|p| overlap(p.bounds, candidate.bounds) >= SAME_BOX) {
            continue;
        }
        let mut patches = vec![false; grid.len()];
        candidate.patches.iter().for_each(|patch| patches[*patch as usize] = true);
        proposals.push(Proposal { grid, patches, bounds: candidate.bounds, score: score.min(1.0) });
    }
    proposals
}

/// Intersection over union of two boxes of x, y, width, height, neither of them empty.
pub(super) fn overlap(a: [usize; 4], b: [usize; 4]) -> f32 {
    let side = |axis: usize| {
        let end = (a[axis] + a[axis + 2]).min(b[axis] + b[axis + 2]);
        end.saturating_sub(a[axis].max(b[axis]))
    };
    let both = side(0) * side(1);
    both as f32 / (a[2] * a[3] + b[2] * b[3] - both) as f32
}
