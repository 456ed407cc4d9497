//! The nearest neighbours of every patch within its window: the one expensive part of propagation.
//!
//! The full matrix of similarities is never formed. Queries are taken in tiles of [`TILE`] neighbours in a
//! row, against blocks of [`BLOCK`] keys in a row of a memory frame; a block of products lives in registers
//! until the few that beat a query's k-th best so far are kept. [`scalar`] is the oracle.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
pub mod scalar;

use std::ops::Range;

use super::Window;
use crate::types::{Features, PatchGrid};

/// Queries in a tile: neighbours in one row of the grid.
pub const TILE: usize = 8;
/// Keys in a block: neighbours in one row of the grid.
pub const BLOCK: usize = 32;

/// Inner products of a tile of queries with a block of keys.
pub trait Kernel: Send + Sync {
    /// For `TRACE` logs and benchmarks.
    fn name(&self) -> &'static str;

    /// `queries` are (TILE, dim). `keys` is (dim, stride) from the block's first column on, and holds at least
    /// `(dim - 1) * stride + BLOCK` values. Sets bit `j` of `above[i]` where product (i, j) is greater than
    /// `thresholds[i]`, and fills the rows of `products` in which one is; the others may be left as they were.
    fn products(
        &self,
        queries: &[f32],
        dim: usize,
        keys: &[f32],
        stride: usize,
        thresholds: &[f32; TILE],
        products: &mut Products,
    );
}

/// What a [`Kernel`] yields.
pub struct Products {
    /// (TILE, BLOCK)
    pub values: [[f32; BLOCK]; TILE],
    /// Which values are above their query's threshold, a bit each.
    pub above: [u32; TILE],
}

/// The fastest kernel that this CPU runs.
pub fn kernel() -> Box<dyn Kernel> {
    kernels().remove(0)
}

/// Every kernel that this CPU runs, the fastest first; the last is the portable one.
pub fn kernels() -> Vec<Box<dyn Kernel>> {
    let mut all: Vec<Box<dyn Kernel>> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(kernel) = avx512::Avx512::new() {
            all.push(Box::new(kernel));
        }
        if let Some(kernel) = avx2::Avx2::new() {
            all.push(Box::new(kernel));
        }
    }
    all.push(Box::new(portable::Portable));
    all
}

/// Embeddings laid out for matching: each row of the grid transposed, so that neighbouring columns lie side
/// by side, and padded with zeros so that a block may begin at any column.
#[derive(Clone, Debug)]
pub struct Keys {
    pub grid: PatchGrid,
    pub dim: usize,
    stride: usize,
    /// (rows, dim, stride)
    data: Vec<f32>,
}

impl Keys {
    pub fn new(features: &Features) -> Keys {
        let mut keys = Keys { grid: features.grid, dim: features.dim, stride: 0, data: Vec::new() };
        keys.pack(features);
        keys
    }

    /// Takes the embeddings of another frame, into the memory of the old ones.
    pub fn pack(&mut self, features: &Features) {
        let (grid, dim) = (features.grid, features.dim);
        self.grid = grid;
        self.dim = dim;
        self.stride = grid.cols.next_multiple_of(16) + BLOCK;
        self.data.clear();
        self.data.resize(grid.rows * dim * self.stride, 0.0);
        for (row, panel) in self.data.chunks_exact_mut(dim * self.stride).enumerate() {
            let source = &features.data[row * grid.cols * dim..(row + 1) * grid.cols * dim];
            // Eight columns at a time: whole cache lines are written while the source lines stay in the L1 cache.
            for first in (0..grid.cols).step_by(8) {
                let columns = first..(first + 8).min(grid.cols);
                for d in 0..dim {
                    for col in columns.clone() {
                        panel[d * self.stride + col] = source[col * dim + d];
                    }
                }
            }
        }
    }

    /// The embeddings again, as they were packed.
    pub fn unpack(&self) -> Features {
        let mut features = Features::zeros(self.grid, self.dim);
        for (patch, row) in features.data.chunks_exact_mut(self.dim).enumerate() {
            self.unpack_patch(patch, row);
        }
        features
    }

    /// The embedding of one patch, (dim).
    pub fn unpack_patch(&self, patch: usize, out: &mut [f32]) {
        let panel = self.block(patch / self.grid.cols, patch % self.grid.cols);
        out.iter_mut().zip(panel.iter().step_by(self.stride)).for_each(|(v, key)| *v = *key);
    }

    /// Row `row` of the grid from column `col` on, (dim, stride).
    fn block(&self, row: usize, col: usize) -> &[f32] {
        &self.data[row * self.dim * self.stride + col..(row + 1) * self.dim * self.stride]
    }
}

/// A patch of a memory frame, as similar to a query as `cosine` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    pub cosine: f32,
    /// Which of the frames that were searched.
    pub frame: u32,
    /// Which patch of it.
    pub patch: u32,
}

impl Match {
    /// Less similar than anything.
    pub const NONE: Match = Match { cosine: f32::NEG_INFINITY, frame: u32::MAX, patch: u32::MAX };
}

/// The best matches of every query, best first; unfilled places hold [`Match::NONE`].
#[derive(Clone, Debug, Default)]
pub struct Matches {
    pub k: usize,
    /// (queries, k)
    pub data: Vec<Match>,
}

impl Matches {
    pub fn reset(&mut self, queries: usize, k: usize) {
        self.k = k;
        self.data.clear();
        self.data.resize(queries * k, Match::NONE);
    }

    pub fn of(&self, query: usize) -> &[Match] {
        &self.data[query * self.k..(query + 1) * self.k]
    }

    fn threshold(&self, query: usize) -> f32 {
        self.data[(query + 1) * self.k - 1].cosine
    }

    /// Keeps `candidate` if it beats the query's k-th best; of equals, the first seen stays.
    pub fn offer(&mut self, query: usize, candidate: Match) {
        let best = &mut self.data[query * self.k..(query + 1) * self.k];
        let Some(last) = best.last() else { return };
        if candidate.cosine > last.cosine {
            let mut at = best.len() - 1;
            while at > 0 && best[at - 1].cosine < candidate.cosine {
                best[at] = best[at - 1];
                at -= 1;
            }
            best[at] = candidate;
        }
    }
}

/// Which keys a query may match: those within `radius` patches of its own place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    pub radius: usize,
    pub window: Window,
}

impl Reach {
    /// How many columns to each side are within reach `rows` rows away; `None` when none is.
    pub fn columns_at(self, rows: usize) -> Option<usize> {
        match self.window {
            _ if rows > self.radius => None,
            Window::Square => Some(self.radius),
            Window::Circle => Some((self.radius * self.radius - rows * rows).isqrt()),
        }
    }
}

/// Offers every key of `frames` within reach to every query, or to those that are `wanted`.
/// `matches` must have been reset to the number of queries; `frames` pairs a frame with the number that its
/// matches bear.
///
/// # Panics
/// When the frames' grids or dimensions are not the query's.
pub fn search(
    kernel: &dyn Kernel,
    queries: &Features,
    frames: &[(u32, &Keys)],
    reach: Reach,
    wanted: Option<&[bool]>,
    matches: &mut Matches,
) {
    let (grid, dim) = (queries.grid, queries.dim);
    let mut products = Products { values: [[0.0; BLOCK]; TILE], above: [0; TILE] };
    // (TILE, dim): the last tile of a row may be partly past its end.
    let mut padded = vec![0.0f32; TILE * dim];
    for &(frame, keys) in frames {
        assert!(keys.grid == grid && keys.dim == dim, "queries and keys are of one model");
        for row in 0..grid.rows {
            for key_row in row.saturating_sub(reach.radius)..(row + reach.radius + 1).min(grid.rows) {
                let Some(columns) = reach.columns_at(row.abs_diff(key_row)) else { continue };
                for first in (0..grid.cols).step_by(TILE) {
                    let count = TILE.min(grid.cols - first);
                    let query = row * grid.cols + first;
                    if wanted.is_some_and(|w| !w[query..query + count].contains(&true)) {
                        continue;
                    }
                    let source = &queries.data[query * dim..(query + count) * dim];
                    let tile = if count == TILE {
                        source
                    } else {
                        padded[..source.len()].copy_from_slice(source);
                        &padded
                    };
                    let left = first.saturating_sub(columns);
                    let right = (first + count + columns).min(grid.cols);
                    for start in (left..right).step_by(BLOCK) {
                        let mut thresholds = [f32::INFINITY; TILE];
                        for (i, threshold) in thresholds[..count].iter_mut().enumerate() {
                            *threshold = matches.threshold(query + i);
                        }
                        kernel.products(tile, dim, keys.block(key_row, start), keys.stride, &thresholds, &mut products);
                        for i in 0..count {
                            let col = first + i;
                            let lowest = col.saturating_sub(columns).max(start) - start;
                            let beyond = (col + columns + 1).min(grid.cols).min(start + BLOCK).saturating_sub(start);
                            if lowest >= beyond {
                                continue;
                            }
                            let mut bits = products.above[i] & (u32::MAX >> (BLOCK - (beyond - lowest))) << lowest;
                            while bits != 0 {
                                let j = bits.trailing_zeros() as usize;
                                bits &= bits - 1;
                                let patch = (key_row * grid.cols + start + j) as u32;
                                let cosine = products.values[i][j];
                                matches.offer(query + i, Match { cosine, frame, patch });
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The best `k` matches among all of `keys` of each of `patches` of `queries`, in their order. They bear the frame
/// number 0.
pub fn search_everywhere(kernel: &dyn Kernel, queries: &Features, patches: &[usize], keys: &Keys, k: usize) -> Matches {
    let mut matches = Matches::default();
    matches.reset(patches.len(), k);
    let gather = |patch: usize, query: &mut [f32]| query.copy_from_slice(queries.row(patch));
    compare(kernel, patches, gather, keys, |query, place, values| {
        for (patch, cosine) in place.zip(values) {
            matches.offer(query, Match { cosine: *cosine, frame: 0, patch: patch as u32 });
        }
    });
    matches
}

/// For each patch of `keys`, the cosine to the most similar of the patches `patches` of `others`.
pub fn likeness(kernel: &dyn Kernel, others: &Keys, patches: &[usize], keys: &Keys) -> Vec<f32> {
    let mut best = vec![-1.0f32; keys.grid.len()];
    let gather = |patch: usize, query: &mut [f32]| others.unpack_patch(patch, query);
    compare(kernel, patches, gather, keys, |_, place, values| {
        best[place].iter_mut().zip(values).for_each(|(best, value)| *best = best.max(*value));
    });
    best
}

/// For each of `patches` of `queries`, the cosine of its best match among the patches of `keys` with labels of
/// at least 0.5, and among those with labels of 0; -1 where there are none. `labels` are (rows * cols).
pub fn contrast(
    kernel: &dyn Kernel,
    queries: &Features,
    patches: &[usize],
    keys: &Keys,
    labels: &[f32],
) -> Vec<(f32, f32)> {
    let mut best = vec![(-1.0f32, -1.0f32); patches.len()];
    // An object so small that no patch is half its own is compared by those that are most so.
    let inside = labels.iter().copied().fold(0.0, f32::max).min(0.5);
    let gather = |patch: usize, query: &mut [f32]| query.copy_from_slice(queries.row(patch));
    compare(kernel, patches, gather, keys, |query, place, values| {
        let best = &mut best[query];
        for (label, value) in labels[place].iter().zip(values) {
            if *label > 0.0 && *label >= inside {
                best.0 = best.0.max(*value);
            } else if *label == 0.0 {
                best.1 = best.1.max(*value);
            }
        }
    });
    best
}

/// Compares each of `patches`, whose embeddings `gather` fetches, with all of `keys`. `visit` gets which of
/// `patches` it is, a range of neighbouring patches of `keys`, and the cosines to them.
fn compare(
    kernel: &dyn Kernel,
    patches: &[usize],
    gather: impl Fn(usize, &mut [f32]),
    keys: &Keys,
    mut visit: impl FnMut(usize, Range<usize>, &[f32]),
) {
    let (grid, dim) = (keys.grid, keys.dim);
    let mut products = Products { values: [[0.0; BLOCK]; TILE], above: [0; TILE] };
    // (TILE, dim)
    let mut tile = vec![0.0f32; TILE * dim];
    for (chunk, patches) in patches.chunks(TILE).enumerate() {
        for (query, patch) in tile.chunks_exact_mut(dim).zip(patches) {
            gather(*patch, query);
        }
        for row in 0..grid.rows {
            for start in (0..grid.cols).step_by(BLOCK) {
                let end = (start + BLOCK).min(grid.cols);
                kernel.products(
                    &tile,
                    dim,
                    keys.block(row, start),
                    keys.stride,
                    &[f32::NEG_INFINITY; TILE],
                    &mut products,
                );
                for (i, values) in products.values[..patches.len()].iter().enumerate() {
                    visit(chunk * TILE + i, row * grid.cols + start..row * grid.cols + end, &values[..end - start]);
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Unit rows from a small generator, so that a case is told by its seed.
    pub fn random_features(grid: PatchGrid, dim: usize, seed: u64) -> Features {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut features = Features::zeros(grid, dim);
        for v in &mut features.data {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *v = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        }
        features.normalise();
        features
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_kernel_finds_what_the_oracle_finds(
            rows in 1usize..9, cols in 1usize..70, dim in 1usize..40, radius in 0usize..40, circle: bool,
            k in 1usize..12, frames in 1usize..4, seed: u64, sparse: bool,
        ) {
            let grid = PatchGrid { rows, cols, patch: 16 };
            let queries = random_features(grid, dim, seed);
            let memory: Vec<Features> = (0..frames as u64).map(|i| random_features(grid, dim, seed ^ (i + 1))).collect();
            let keys: Vec<Keys> = memory.iter().map(Keys::new).collect();
            let numbered: Vec<(u32, &Keys)> = keys.iter().enumerate().map(|(i, k)| (i as u32 + 7, k)).collect();
            let plain: Vec<(u32, &Features)> = memory.iter().enumerate().map(|(i, f)| (i as u32 + 7, f)).collect();
            let reach = Reach { radius, window: if circle { Window::Circle } else { Window::Square } };
            let wanted: Vec<bool> = (0..grid.len()).map(|i| !sparse || (i + seed as usize % 7).is_multiple_of(13)).collect();
            let expected = scalar::search(&queries, &plain, reach, k);
            prop_assert_eq!(&keys[0].unpack(), &memory[0]);
            for kernel in kernels() {
                let mut found = Matches::default();
                found.reset(grid.len(), k);
                search(kernel.as_ref(), &queries, &numbered, reach, Some(&wanted), &mut found);
                for query in (0..grid.len()).filter(|q| wanted[*q]) {
                    for (a, b) in found.of(query).iter().zip(expected.of(query)) {
                        prop_assert!(a.cosine == b.cosine || (a.cosine - b.cosine).abs() < 1e-5,
                            "{}: query {query}: {a:?} but the oracle says {b:?}", kernel.name());
                        if *a != Match::NONE {
                            // Equal to rounding may stand in another order; each must really be as similar as it says.
                            let row = memory[a.frame as usize - 7].row(a.patch as usize);
                            let cosine: f32 = queries.row(query).iter().zip(row).map(|(x, y)| x * y).sum();
                            prop_assert!((cosine - a.cosine).abs() < 1e-5, "{}: {a:?} is really {cosine}", kernel.name());
                            let (dy, dx) = ((a.patch as usize / cols).abs_diff(query / cols), (a.patch as usize % cols).abs_diff(query % cols));
                            prop_assert!(reach.columns_at(dy).is_some_and(|c| dx <= c));
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chosen_patches_are_compared_with_the_whole_frame(
            rows in 1usize..6, cols in 1usize..70, dim in 1usize..40, k in 1usize..7, seed: u64,
            chosen in proptest::collection::vec(0usize..6 * 70, 0..20),
        ) {
            let grid = PatchGrid { rows, cols, patch: 16 };
            let (queries, frame) = (random_features(grid, dim, seed), random_features(grid, dim, seed ^ 1));
            let (query_keys, keys) = (Keys::new(&queries), Keys::new(&frame));
            let patches: Vec<usize> = chosen.iter().map(|patch| patch % grid.len()).collect();
            let labels: Vec<f32> = (0..grid.len()).map(|i| [0.0, 1.0, 0.3, 0.0][(i + seed as usize % 4) % 4]).collect();
            let cosine = |query: usize, patch: usize| -> f32 {
                queries.row(query).iter().zip(frame.row(patch)).map(|(a, b)| a * b).sum()
            };
            let best = |query: usize, of: &dyn Fn(f32) -> bool| {
                (0..grid.len()).filter(|p| of(labels[*p])).map(|p| cosine(query, p)).fold(-1.0, f32::max)
            };
            let least = labels.iter().copied().fold(0.0, f32::max).min(0.5);
            let expected = scalar::search(&queries, &[(0, &frame)], Reach { radius: 1 << 20, window: Window::Square }, k);
            for kernel in kernels() {
                let near = |a: f32, b: f32| a == b || (a - b).abs() < 1e-5;
                let found = search_everywhere(kernel.as_ref(), &queries, &patches, &keys, k);
                let contrasts = contrast(kernel.as_ref(), &queries, &patches, &keys, &labels);
                for (i, query) in patches.iter().enumerate() {
                    for (a, b) in found.of(i).iter().zip(expected.of(*query)) {
                        prop_assert!(near(a.cosine, b.cosine), "{}: {a:?}, but it is {b:?}", kernel.name());
                        prop_assert!(*a == Match::NONE || near(a.cosine, cosine(*query, a.patch as usize)));
                    }
                    let sides = (best(*query, &|l| l > 0.0 && l >= least), best(*query, &|l| l == 0.0));
                    prop_assert!(near(contrasts[i].0, sides.0) && near(contrasts[i].1, sides.1), "{}", kernel.name());
                }
                let likeness = likeness(kernel.as_ref(), &query_keys, &patches, &keys);
                for (patch, found) in likeness.into_iter().enumerate() {
                    let best = patches.iter().map(|query| cosine(*query, patch)).fold(-1.0, f32::max);
                    prop_assert!(near(found, best), "{}: {found}, but it is {best}", kernel.name());
                }
            }
        }
    }

    #[test]
    fn a_circle_reaches_less_far_in_its_corners() {
        let reach = Reach { radius: 5, window: Window::Circle };
        assert_eq!(
            (0..7).map(|r| reach.columns_at(r)).collect::<Vec<_>>(),
            [Some(5), Some(4), Some(4), Some(4), Some(3), Some(0), None]
        );
    }
}
