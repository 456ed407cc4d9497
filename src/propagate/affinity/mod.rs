//! The nearest neighbours of every patch within its window: the one expensive part of propagation.
//!
//! The full matrix of similarities is never formed. Queries are taken in tiles of [`TILE`] that are near to one
//! another, against blocks of [`BLOCK`] keys in a row of a memory frame. Both are rounded to bytes, and their integer
//! products tell which pairs may beat the query's k-th best so far, by a bound on what the rounding can have changed.
//! Only these few are computed in floats, and kept or not by that: so what is found is what floats find. [`scalar`] is
//! the oracle.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod keys;
mod matches;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse2;

use std::ops::Range;

pub use keys::{Keys, Tiles};
pub use matches::{Match, Matches};

use super::Window;
use crate::types::PatchGrid;

/// Queries in a tile.
pub const TILE: usize = 8;
/// Keys in a block: neighbours in one row of the grid.
pub const BLOCK: usize = 32;

/// Products of a tile of queries with a block of keys, and of single pairs.
pub trait Kernel: Send + Sync {
    /// For `TRACE` logs and benchmarks.
    fn name(&self) -> &'static str;

    /// Sets bit `j` of the `i`-th number where query `i` and key `j` are above `bars[i]`: the sum of `starts[i]` and of
    /// their integer product, as a float, times `scales[j]`. `queries` are (quads, TILE, QUAD). `keys` are (quads,
    /// cols, QUAD) from the block's first column on, at most 127, and hold BLOCK keys from the last line's first on.
    fn above(
        &self,
        queries: &[i8],
        starts: &[i32; TILE],
        keys: &[u8],
        cols: usize,
        scales: &[f32; BLOCK],
        bars: &[f32; TILE],
    ) -> [u32; TILE];

    /// The inner product of two embeddings, (dim).
    fn cosine(&self, a: &[f32], b: &[f32]) -> f32;
}

/// The fastest kernel that this CPU runs.
pub fn kernel() -> Box<dyn Kernel> {
    kernels().remove(0)
}

/// Every kernel that this CPU runs, the fastest first; the last is the oracle.
pub fn kernels() -> Vec<Box<dyn Kernel>> {
    let mut all: Vec<Box<dyn Kernel>> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(kernel) = avx512::Avx512::new() {
            all.push(Box::new(kernel));
        }
        for kernel in [avx2::Avx2::with_vnni(), avx2::Avx2::new()].into_iter().flatten() {
            all.push(Box::new(kernel));
        }
        all.push(Box::new(sse2::Sse2));
    }
    #[cfg(target_arch = "aarch64")]
    for kernel in [neon::Neon::with_dot_product(), neon::Neon::new()].into_iter().flatten() {
        all.push(Box::new(kernel));
    }
    all.push(Box::new(scalar::Scalar));
    all
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

/// Offers every key of `frames` within reach to every query of `tiles`, which are of `queries`, in the place of its
/// patch. `frames` pairs a frame with the number that its matches bear; it is fastest where those come first that are
/// most alike.
///
/// # Panics
/// When the frames' grids or dimensions are not the queries'.
pub fn search(
    kernel: &dyn Kernel,
    queries: &Keys,
    tiles: &Tiles,
    frames: &[(u32, &Keys)],
    reach: Reach,
    matches: &mut Matches,
) {
    assert!(frames.iter().all(|(_, keys)| keys.grid() == queries.grid()), "queries and keys are of one model");
    let floors: Vec<f32> =
        tiles.patches.iter().map(|patch| floor(kernel, queries, *patch, frames, reach, matches)).collect();
    let sides = |query: usize| Side { place: tiles.patches[query], floor: floors[query] };
    for &(frame, keys) in frames {
        scan(kernel, queries, tiles, (frame, keys), reach, |_| true, sides, matches);
    }
}

/// What the k-th best match of a patch is at least: that of its own place, and of its neighbours in the row, in all
/// frames. What moves little is bounded by that before anything is searched.
fn floor(
    kernel: &dyn Kernel,
    queries: &Keys,
    patch: usize,
    frames: &[(u32, &Keys)],
    reach: Reach,
    matches: &Matches,
) -> f32 {
    let k = matches.k;
    if matches.threshold(patch) > f32::NEG_INFINITY || frames.is_empty() {
        return f32::NEG_INFINITY;
    }
    let (cols, col) = (queries.grid().cols, patch % queries.grid().cols);
    let width = k.div_ceil(frames.len()).min(cols);
    let first = col.saturating_sub(width / 2).min(cols - width);
    if first + reach.radius < col || first + width > col + reach.radius + 1 {
        return f32::NEG_INFINITY;
    }
    let place = patch - col + first..patch - col + first + width;
    let query = queries.features().row(patch);
    let cosine = |(frame, patch): (&Keys, usize)| kernel.cosine(query, frame.features().row(patch));
    let mut cosines: Vec<f32> =
        frames.iter().flat_map(|(_, keys)| place.clone().map(move |patch| (*keys, patch))).map(cosine).collect();
    if cosines.len() < k {
        return f32::NEG_INFINITY;
    }
    *cosines.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// The best `k` matches among all of `keys` of each of `patches` of `queries`, in their order. They bear the frame
/// number 0.
pub fn search_everywhere(kernel: &dyn Kernel, queries: &Keys, patches: &[usize], keys: &Keys, k: usize) -> Matches {
    among(kernel, queries, patches, keys, |_| true, k)
}

/// For each patch of `keys`, the cosine to the most similar of the patches `patches` of `others`; -1 without any.
pub fn likeness(kernel: &dyn Kernel, others: &Keys, patches: &[usize], keys: &Keys) -> Vec<f32> {
    let everything: Vec<usize> = (0..keys.grid().len()).collect();
    let best = among(kernel, keys, &everything, &others.gather(patches), |_| true, 1);
    best.data.iter().map(|best| best.cosine.max(-1.0)).collect()
}

/// For each of `patches` of `queries`, the cosine of its best match among the patches of `keys` with labels of
/// at least 0.5, and among those that `others` takes; -1 where there are none. `labels` are (rows * cols).
pub fn contrast(
    kernel: &dyn Kernel,
    queries: &Keys,
    patches: &[usize],
    keys: &Keys,
    labels: &[f32],
    others: impl Fn(usize) -> bool,
) -> Vec<(f32, f32)> {
    // An object so small that no patch is half its own is compared by those that are most so.
    let least = labels.iter().copied().fold(0.0, f32::max).min(0.5);
    let object: Vec<usize> =
        (0..labels.len()).filter(|patch| labels[*patch] > 0.0 && labels[*patch] >= least).collect();
    let inside = search_everywhere(kernel, queries, patches, &keys.gather(&object), 1);
    let outside = among(kernel, queries, patches, keys, others, 1);
    inside.data.iter().zip(&outside.data).map(|(a, b)| (a.cosine.max(-1.0), b.cosine.max(-1.0))).collect()
}

/// Weights exp(cosine / temperature), scaled to sum to 1. `matches` are in order, the best first.
pub fn weigh<'m>(matches: impl Iterator<Item = &'m Match>, temperature: f32, weights: &mut Vec<f32>) {
    let mut cosines = matches.map(|m| m.cosine).peekable();
    weights.clear();
    let Some(best) = cosines.peek().copied() else { return };
    weights.extend(cosines.map(|cosine| ((cosine - best) / temperature).exp()));
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);
}

/// Strikes from `candidates`, (rows * cols), the patches of `keys` whose matches would stay as they are if those of
/// `offered` were offered to them: those that are surely less similar to each than to the least of their matches.
pub fn keep_improvable(kernel: &dyn Kernel, offered: &Tiles, keys: &Keys, matches: &Matches, candidates: &mut [bool]) {
    let (grid, error) = (keys.grid(), offered.error());
    // A scale of zero makes nothing of a product.
    let mut scales = vec![0.0; grid.len() + BLOCK];
    let mut improvable = vec![false; grid.len()];
    for patch in (0..grid.len()).filter(|patch| candidates[*patch]) {
        match keys.scale_over(patch, matches.threshold(patch), error) {
            Some(scale) => scales[patch] = scale,
            None => improvable[patch] = true,
        }
    }
    for tile in 0..offered.patches.len().div_ceil(TILE) {
        let (bars, (queries, starts)) = (offered.plain_bars(tile), offered.tile(tile));
        for (row, improvable) in improvable.chunks_exact_mut(grid.cols).enumerate() {
            for (first, improvable) in (0..grid.cols).step_by(BLOCK).zip(improvable.chunks_mut(BLOCK)) {
                let scales =
                    scales[row * grid.cols + first..].first_chunk().expect("there is a block more than patches");
                if *scales == [0.0; BLOCK] {
                    continue;
                }
                let above = kernel.above(queries, starts, keys.block(row, first), grid.cols, scales, &bars);
                let any = above.iter().fold(0, |any, above| any | above);
                improvable.iter_mut().enumerate().for_each(|(j, improvable)| *improvable |= any >> j & 1 == 1);
            }
        }
    }
    candidates.iter_mut().zip(improvable).for_each(|(candidate, improvable)| *candidate &= improvable);
}

/// The best `k` matches of each of `patches` of `queries` among the patches of `keys` that `accept` takes.
fn among(
    kernel: &dyn Kernel,
    queries: &Keys,
    patches: &[usize],
    keys: &Keys,
    accept: impl Fn(usize) -> bool,
    k: usize,
) -> Matches {
    let mut matches = Matches::default();
    matches.reset(patches.len(), k);
    let everywhere = Reach { radius: usize::MAX, window: Window::Square };
    let n = keys.grid().len();
    let sides = |query: usize| {
        // The first keys from the query's own place on tell what is at least to be found.
        let (features, own) = (queries.features().row(patches[query]), patches[query].min(n));
        let first = (own..n).chain(0..own).filter(|key| accept(*key)).take(k);
        let cosines = first.map(|key| kernel.cosine(features, keys.features().row(key)));
        let (count, least) = cosines.fold((0, f32::INFINITY), |(count, least), v| (count + 1, v.min(least)));
        Side { place: query, floor: if count == k { least } else { f32::NEG_INFINITY } }
    };
    scan(kernel, queries, &Tiles::of(queries, patches), (0, keys), everywhere, &accept, sides, &mut matches);
    matches
}

/// Where a query's matches are kept, and what the k-th best of them is known to reach in the end.
#[derive(Clone, Copy)]
struct Side {
    place: usize,
    floor: f32,
}

/// Offers the keys of a frame within reach that `accept` takes to every query of `tiles`.
#[allow(clippy::too_many_arguments)] // Both sides of a comparison, and what is done with it.
fn scan(
    kernel: &dyn Kernel,
    queries: &Keys,
    tiles: &Tiles,
    (frame, keys): (u32, &Keys),
    reach: Reach,
    accept: impl Fn(usize) -> bool,
    side: impl Fn(usize) -> Side,
    matches: &mut Matches,
) {
    assert!(keys.dim() == queries.dim(), "queries and keys are of one model");
    let (grid, cols) = (keys.grid(), queries.grid().cols);
    for (tile, patches) in tiles.patches.chunks(TILE).enumerate() {
        let (rounded, starts) = tiles.tile(tile);
        // (TILE): row and column of each query, and where its matches are.
        let mut places = [(0, 0); TILE];
        let mut sides = [Side { place: 0, floor: f32::INFINITY }; TILE];
        for (i, patch) in patches.iter().enumerate() {
            (places[i], sides[i]) = ((patch / cols, patch % cols), side(tile * TILE + i));
        }
        let (places, sides) = (&places[..patches.len()], &sides[..patches.len()]);
        let top = places.iter().map(|place| place.0).min().unwrap_or(0);
        let bottom = places.iter().map(|place| place.0).max().unwrap_or(0);
        // Rows near the queries' come first: there are the best matches, most likely, and then less is kept in vain.
        let middle = top.min(grid.rows);
        let below = middle..bottom.saturating_add(reach.radius).saturating_add(1).min(grid.rows);
        let above = top.saturating_sub(reach.radius)..middle;
        for row in below.chain(above.rev()) {
            let spans = spans(places, row, reach, grid);
            let left = spans.iter().map(|span| span.start).min().unwrap_or(0);
            let right = spans.iter().map(|span| span.end).max().unwrap_or(0);
            for first in (left..right).step_by(BLOCK) {
                let mut bars = [f32::INFINITY; TILE];
                for (i, side) in sides.iter().enumerate() {
                    let threshold = matches.threshold(side.place).max(side.floor);
                    bars[i] = tiles.bar(tile * TILE + i, keys.row_error(row), threshold);
                }
                let (block, scales) = (keys.block(row, first), keys.scales(row, first));
                let above = kernel.above(rounded, starts, block, grid.cols, scales, &bars);
                for (i, side) in sides.iter().enumerate() {
                    let (from, to) = (spans[i].start.max(first) - first, spans[i].end.min(first + BLOCK));
                    let mut bits = above[i] & bits(from..to.saturating_sub(first));
                    while bits != 0 {
                        let key = row * grid.cols + first + bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        if accept(key) {
                            let cosine = kernel.cosine(queries.features().row(patches[i]), keys.features().row(key));
                            matches.offer(side.place, Match { cosine, frame, patch: key as u32 });
                        }
                    }
                }
            }
        }
    }
}

/// The columns of a row of keys that each query of a tile reaches from its row and column.
fn spans(places: &[(usize, usize)], row: usize, reach: Reach, keys: PatchGrid) -> [Range<usize>; TILE] {
    std::array::from_fn(|i| {
        let columns = places.get(i).and_then(|place| Some((place.1, reach.columns_at(row.abs_diff(place.0))?)));
        // An empty span lies at the end, where it is not the leftmost.
        let Some((col, columns)) = columns else { return keys.cols..0 };
        col.saturating_sub(columns)..col.saturating_add(columns).saturating_add(1).min(keys.cols)
    })
}

/// The bits of a range within a block.
fn bits(range: Range<usize>) -> u32 {
    let below = |end: usize| ((1u64 << end.min(BLOCK)) - 1) as u32;
    below(range.end) & !below(range.start)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::Features;
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
            let query_keys = Keys::new(&queries);
            let mut tiles = Tiles::default();
            tiles.pack(&query_keys, Some(&wanted));
            for kernel in kernels() {
                let mut found = Matches::default();
                found.reset(grid.len(), k);
                search(kernel.as_ref(), &query_keys, &tiles, &numbered, reach, &mut found);
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
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_kernel_gives_the_oracles_bits(quads in 1usize..50, cols in 1usize..70, extreme: bool, seed: u64) {
            let mut state = seed;
            let mut random = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u32
            };
            // All that is as large as can be, with one sign or with both.
            let [queries, keys] = if extreme { [[-127, 127], [0, 127]] } else { [[-127, -127], [0, 0]] };
            let mut between = |[least, most]: [i32; 2], span: u32| {
                if least == most { least + (random() % span) as i32 } else { [least, most][random() as usize % 2] }
            };
            let queries: Vec<i8> = (0..quads * TILE * keys::QUAD).map(|_| between(queries, 255) as i8).collect();
            let length = ((quads - 1) * cols + BLOCK) * keys::QUAD;
            let keys: Vec<u8> = (0..length).map(|_| between(keys, 128) as u8).collect();
            let starts: [i32; TILE] = std::array::from_fn(|_| between([0, 0], 2001) - 1000);
            let scales: [f32; BLOCK] = std::array::from_fn(|_| between([1, 1], 999) as f32 * 1e-3);
            // Each value in turn is a bar that it is not above, and then one that it is just above.
            for (i, j) in (0..TILE).flat_map(|i| [(i, 0), (i, 13), (i, BLOCK - 1)]) {
                let query = queries.chunks_exact(keys::QUAD).skip(i).step_by(TILE).flatten();
                let key = keys[j * keys::QUAD..].chunks_exact(keys::QUAD).step_by(cols).flatten();
                let product: i32 = query.zip(key).map(|(q, k)| i32::from(*q) * i32::from(*k)).sum();
                let value = (starts[i] + product) as f32 * scales[j];
                for (bar, is_above) in [(value, false), (value.next_down(), true)] {
                    let expected = scalar::Scalar.above(&queries, &starts, &keys, cols, &scales, &[bar; TILE]);
                    prop_assert_eq!(expected[i] >> j & 1 == 1, is_above);
                    for kernel in kernels() {
                        let found = kernel.above(&queries, &starts, &keys, cols, &scales, &[bar; TILE]);
                        prop_assert_eq!(found, expected, "{}", kernel.name());
                    }
                }
            }
            let mut embedding = || -> Vec<f32> {
                (0..quads * 3).map(|_| between([0, 0], 2001) as f32 * 1e-3 - 1.0).collect()
            };
            let (a, b) = (embedding(), embedding());
            let expected: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            for kernel in kernels() {
                let error = (f64::from(kernel.cosine(&a, &b)) - expected).abs();
                prop_assert!(error < 1e-5 * quads as f64, "{}: {error}", kernel.name());
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
                let found = search_everywhere(kernel.as_ref(), &query_keys, &patches, &keys, k);
                let contrasts = contrast(kernel.as_ref(), &query_keys, &patches, &keys, &labels, |p| labels[p] == 0.0);
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
