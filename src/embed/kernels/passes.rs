//! The float work around products, over any [`Lanes`].
//!
//! Sides of matrices are multiples of 16 here. Numbers that are quantized have a scale, the largest magnitude by 127: that
//! of their token, or for values that attention weighs, that of their dimension.

use std::f32::consts::LOG2_E;

use super::aligned::bytes_of_mut;
use super::lanes::{LANES, Lanes, Pass, RAISE};

/// Largest magnitude of a signed byte here: the range is symmetric.
pub const LEVELS: f32 = 127.0;
/// Largest of an unsigned byte: what the largest weight of attention becomes.
pub const WEIGHT_LEVELS: f32 = 255.0;
/// Steps of a weight's logarithm to the base of 2: with 256 of them a byte's weights are all within reach, and one is 2.5%
/// of a weight, less than what the rounding of queries and keys is worth.
pub const WEIGHT_STEPS: f32 = 28.0;
/// Numbers that are stored as bytes at once.
pub const STEP: usize = 4 * LANES;

/// LayerNorm's constants.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// (width)
    pub gamma: &'a [f32],
    /// (width)
    pub beta: &'a [f32],
    pub epsilon: f32,
}

/// What is done to a row before it is quantized.
#[derive(Clone, Copy)]
pub enum Before<'a> {
    Nothing,
    Norm(Norm<'a>),
    /// Multiplies each number with one of these: (width)
    Factors(&'a [f32]),
}

/// What a row's bytes are spread over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Span {
    /// From the largest magnitude below 0 to the same above it: a byte's number times the scale is what it stands for.
    Even,
    /// From this, which is below 0 and no number of the row, to the largest number: a byte's number and [`LEVELS`] more,
    /// times the scale, and this.
    From(f32),
}

/// Quantizes rows of floats.
pub struct QuantizeRows<'a> {
    /// (rows, width), as many as there are scales.
    pub input: &'a [f32],
    pub width: usize,
    pub before: Before<'a>,
    pub span: Span,
    /// (rows, stride): bytes up to the width rounded up to 64 are written.
    pub out: &'a mut [u8],
    pub stride: usize,
    pub encoding: u8,
    /// (rows): what a byte's number is to be multiplied with.
    pub scales: &'a mut [f32],
    /// At least the width, rounded up to 64.
    pub row: &'a mut [f32],
}

impl Pass for QuantizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let QuantizeRows { input, width, before, span, out, stride, encoding, scales, row } = self;
        let padded = width.next_multiple_of(STEP);
        let row = &mut row[..padded];
        row[width..].fill(0.0);
        let mut found = [[0.0; 2]; TOGETHER];
        let rows = scales.len();
        for r in 0..rows {
            let row_at = |r: usize| &input[r * width..][..width];
            let from = row_at(r);
            let numbers = match before {
                Before::Nothing if width == padded => from,
                Before::Nothing => {
                    row[..width].copy_from_slice(from);
                    &*row
                }
                Before::Norm(norm) => {
                    if r % TOGETHER == 0 {
                        let last = rows - 1;
                        let next =
                            [row_at(r), row_at(last.min(r + 1)), row_at(last.min(r + 2)), row_at(last.min(r + 3))];
                        found = moments::<L>(next, norm.epsilon);
                    }
                    normalise::<L>(from, norm, found[r % TOGETHER], &mut row[..width]);
                    &*row
                }
                Before::Factors(factors) => {
                    scale::<L>(from, factors, &mut row[..width]);
                    &*row
                }
            };
            let (scale, inverse, offset) = match span {
                Span::Even => {
                    let scale = (largest_magnitude::<L>(numbers) / LEVELS).max(f32::MIN_POSITIVE);
                    (scale, 1.0 / scale, 0.0)
                }
                Span::From(least) => {
                    let scale = (largest::<L>(numbers) - least) / (2.0 * LEVELS);
                    (scale, 1.0 / scale, -least / scale - LEVELS)
                }
            };
            scales[r] = scale;
            let (inverse, offset) = (L::splat(inverse), L::splat(offset));
            for (from, to) in numbers.chunks_exact(STEP).zip(out[r * stride..][..padded].chunks_exact_mut(STEP)) {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| &from[i * LANES..]);
                let four = [
                    L::load(a).mul_add(inverse, offset),
                    L::load(b).mul_add(inverse, offset),
                    L::load(c).mul_add(inverse, offset),
                    L::load(d).mul_add(inverse, offset),
                ];
                L::store_signed(four, to, encoding);
            }
        }
    }
}

/// Rows whose moments are found at once, so that none waits for another's sums.
const TOGETHER: usize = 4;

/// The mean of each row, and the inverse of its spread.
#[inline(always)]
fn moments<L: Lanes>(rows: [&[f32]; TOGETHER], epsilon: f32) -> [[f32; 2]; TOGETHER] {
    let width = rows[0].len();
    let mut sums = [L::splat(0.0); TOGETHER];
    for at in (0..width).step_by(LANES) {
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum = sum.add(L::load(&row[at..]));
        }
    }
    let mut means = [0.0; TOGETHER];
    for (mean, sum) in means.iter_mut().zip(sums) {
        *mean = sum.sum() / width as f32;
    }
    let mut squares = [L::splat(0.0); TOGETHER];
    for at in (0..width).step_by(LANES) {
        for ((sum, row), mean) in squares.iter_mut().zip(&rows).zip(means) {
            let centred = L::load(&row[at..]).sub(L::splat(mean));
            *sum = centred.mul_add(centred, *sum);
        }
    }
    let mut moments = [[0.0; 2]; TOGETHER];
    for ((moments, squares), mean) in moments.iter_mut().zip(squares).zip(means) {
        *moments = [mean, 1.0 / (squares.sum() / width as f32 + epsilon).sqrt()];
    }
    moments
}

/// LayerNorm of one row with its moments.
#[inline(always)]
fn normalise<L: Lanes>(from: &[f32], norm: Norm, [mean, inverse]: [f32; 2], to: &mut [f32]) {
    let (mean, inverse) = (L::splat(mean), L::splat(inverse));
    let constants = norm.gamma.chunks_exact(LANES).zip(norm.beta.chunks_exact(LANES));
    for ((from, to), (gamma, beta)) in from.chunks_exact(LANES).zip(to.chunks_exact_mut(LANES)).zip(constants) {
        L::load(from).sub(mean).mul(inverse).mul_add(L::load(gamma), L::load(beta)).store(to);
    }
}

/// Takes the parts of a row into four results, so that none waits for another, and joins them.
#[inline(always)]
fn fold<L: Lanes>(row: &[f32], take: impl Fn(L, L) -> L, join: impl Fn(L, L) -> L) -> L {
    let [mut a, mut b, mut c, mut d] = [L::splat(0.0); 4];
    let (fours, rest) = row.as_chunks::<STEP>();
    for four in fours {
        a = take(a, L::load(&four[..LANES]));
        b = take(b, L::load(&four[LANES..]));
        c = take(c, L::load(&four[2 * LANES..]));
        d = take(d, L::load(&four[3 * LANES..]));
    }
    for part in rest.chunks_exact(LANES) {
        a = take(a, L::load(part));
    }
    join(join(a, b), join(c, d))
}

/// The largest magnitude of a row.
#[inline(always)]
fn largest_magnitude<L: Lanes>(row: &[f32]) -> f32 {
    fold(row, |most: L, part| most.max(part.abs()), L::max).largest()
}

/// The largest number of a row, 0 at least.
#[inline(always)]
fn largest<L: Lanes>(row: &[f32]) -> f32 {
    fold(row, L::max, L::max).largest()
}

#[inline(always)]
fn scale<L: Lanes>(from: &[f32], factors: &[f32], to: &mut [f32]) {
    let parts = from.chunks_exact(LANES).zip(factors.chunks_exact(LANES));
    for ((from, factors), to) in parts.zip(to.chunks_exact_mut(LANES)) {
        L::load(from).mul(L::load(factors)).store(to);
    }
}

/// LayerNorm of rows, in place.
pub struct NormRows<'a> {
    /// (rows, width)
    pub rows: &'a mut [f32],
    pub norm: Norm<'a>,
    /// At least the width.
    pub row: &'a mut [f32],
}

impl Pass for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.norm.gamma.len();
        let row = &mut self.row[..width];
        for from in self.rows.chunks_exact_mut(width) {
            let [found, ..] = moments::<L>([&*from; TOGETHER], self.norm.epsilon);
            normalise::<L>(from, self.norm, found, row);
            from.copy_from_slice(row);
        }
    }
}

/// SwiGLU: SiLU of the gates' products times the values' products.
pub struct FinishGated<'a> {
    /// Gates and values: (rows, columns) each
    pub sums: [&'a [i32]; 2],
    pub columns: usize,
    pub rows: usize,
    /// (rows)
    pub row_scales: &'a [f32],
    /// Of gates and values: (columns) each
    pub column_scales: [&'a [f32]; 2],
    pub bias: [&'a [f32]; 2],
    pub out: &'a mut [f32],
    pub stride: usize,
}

impl Pass for FinishGated<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        for r in 0..self.rows {
            let scale = L::splat(self.row_scales[r]);
            let out = &mut self.out[r * self.stride..][..self.columns];
            for at in (0..self.columns).step_by(LANES) {
                let mut halves = [L::splat(0.0); 2];
                for (half, value) in halves.iter_mut().enumerate() {
                    let sums = L::load_i32(&self.sums[half][r * self.columns + at..]);
                    let column = L::load(&self.column_scales[half][at..]);
                    *value = sums.mul_add(scale.mul(column), L::load(&self.bias[half][at..]));
                }
                let [gate, value] = halves;
                // A gate of -88 is all but shut, and the exponential of what lies below is no float.
                let exponent = gate.mul(L::splat(-LOG2_E)).min(L::splat(EXP2_LIMIT));
                let sigmoid = L::splat(1.0).div(L::splat(1.0).add(exp2(exponent)));
                gate.mul(sigmoid).mul(value).store(&mut out[at..]);
            }
        }
    }
}

/// One block of keys of attention: scores to weights, and what was gathered of earlier blocks kept in proportion.
///
/// Queries lie side by side, so that none of what is done to each needs the lanes of a vector joined. A block's weights are
/// quantized relative to its own largest, so that a peak in one block does not round away a diffuse tail in another.
pub struct Softmax<'a> {
    /// (valid keys, queries), at most [`MAX_KEYS`]: what makes exponents of 2 with the queries' scales.
    pub scores: &'a [f32],
    /// (queries): the largest score of each.
    pub most: &'a [f32],
    /// (queries), positive: the scale of a query, times what makes of scores exponents of 2. A multiple of 16.
    pub query_scales: &'a [f32],
    /// The panels of a right matrix: (queries / 16, keys / 4, 16, 4), weights less 128. Keys that fill up get 0.
    pub weights: &'a mut [i8],
    /// (queries): the sums of the columns of `weights`.
    pub sums: &'a mut [i32],
    pub state: QueryState<'a>,
}

/// What is kept of each query from block to block: (queries).
pub struct QueryState<'a> {
    /// The largest exponent so far.
    pub largest: &'a mut [f32],
    /// The sum of weights so far, relative to it.
    pub total: &'a mut [f32],
    /// What the sums so far are to be multiplied with,
    pub keep: &'a mut [f32],
    /// and this block's.
    pub gain: &'a mut [f32],
}

/// The most keys of a block.
pub const MAX_KEYS: usize = 192;
/// Where no key was seen: less than any exponent that comes from a product, but finite, so that differences are numbers.
pub const LEAST: f32 = -1e30;
/// A level of which nothing comes.
const NO_LEVEL: f32 = -1000.0;
/// What a weight's byte is less than the weight.
pub const CENTRE: f32 = 128.0;

impl Pass for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Softmax { scores, most, query_scales, weights, sums, state } = self;
        let queries = query_scales.len();
        let valid = scores.len() / queries;
        let panels = weights.chunks_exact_mut(weights.len() / queries * LANES);
        for ((at, panel), sums) in (0..queries).step_by(LANES).zip(panels).zip(sums.chunks_exact_mut(LANES)) {
            let query_scales = L::load(&query_scales[at..]);
            let largest = L::load(&most[at..]).mul(query_scales);
            let scores = &scores[at..];
            let scale = query_scales.mul(L::splat(WEIGHT_STEPS));
            let offset = L::splat(WEIGHT_LEVELS).sub(largest.mul(L::splat(WEIGHT_STEPS)));
            let mut totals = L::no_totals();
            let (weights, filling) = bytes_of_mut(panel).split_at_mut(valid.next_multiple_of(4) * LANES);
            let mut weights = weights.as_chunks_mut::<STEP>().0.iter_mut().enumerate();
            for (four, weights) in weights.by_ref().take(valid / 4) {
                let four = &scores[four * 4 * queries..];
                let levels = [
                    L::load(four).mul_add(scale, offset),
                    L::load(&four[queries..]).mul_add(scale, offset),
                    L::load(&four[2 * queries..]).mul_add(scale, offset),
                    L::load(&four[3 * queries..]).mul_add(scale, offset),
                ];
                totals = L::store_weights(levels, weights, totals);
            }
            if let Some((four, weights)) = weights.next() {
                let mut levels = [L::splat(NO_LEVEL); 4];
                for (level, key) in levels.iter_mut().zip(4 * four..valid) {
                    *level = L::load(&scores[key * queries..]).mul_add(scale, offset);
                }
                totals = L::store_weights(levels, weights, totals);
            }
            filling.fill(0);
            L::store_totals(totals, sums);
            let total = L::load_i32(sums);
            for sum in sums {
                *sum -= CENTRE as i32 * valid.next_multiple_of(4) as i32;
            }
            let before = L::load(&state.largest[at..]);
            let most = before.max(largest);
            let (keep, gain) = (exp2(before.sub(most)), exp2(largest.sub(most)));
            L::load(&state.total[at..]).mul(keep).add(total.mul(gain)).store(&mut state.total[at..]);
            most.store(&mut state.largest[at..]);
            keep.store(&mut state.keep[at..]);
            gain.store(&mut state.gain[at..]);
        }
    }
}

/// Divides what queries gathered by their totals, and turns it round: (width, queries) to (queries, width).
pub struct Divide<'a> {
    pub gathered: &'a [f32],
    /// (queries), a multiple of 16
    pub totals: &'a [f32],
    /// (queries, width)
    pub out: &'a mut [f32],
    pub width: usize,
}

impl Pass for Divide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Divide { gathered, totals, out, width } = self;
        for (at, out) in out.chunks_exact_mut(LANES * width).enumerate() {
            let inverse = L::splat(1.0).div(L::load(&totals[at * LANES..]));
            for column in (0..width).step_by(LANES) {
                let mut tile = [inverse; LANES];
                for (i, row) in tile.iter_mut().enumerate() {
                    *row = row.mul(L::load(&gathered[(column + i) * totals.len() + at * LANES..]));
                }
                for (out, query) in out.chunks_exact_mut(width).zip(L::transpose(tile)) {
                    query.store(&mut out[column..]);
                }
            }
        }
    }
}

/// x times the normal distribution's cumulative function, an odd polynomial in x within 4 standard deviations. Absolute
/// error at most 1.9e-4 there, and 4e-5 |x| beyond, where the function is all but constant.
#[inline(always)]
pub(super) fn gelu<L: Lanes>(x: L) -> L {
    const WITHIN: f32 = 4.0;
    // By iteratively reweighted least squares, for the smallest maximal error of x times the function.
    const TERMS: [f32; 7] =
        [0.397_883_3, -0.064_573_05, 0.008_772_361, -8.140_099e-4, 4.795_492_7e-5, -1.598_572_1e-6, 2.278_084e-8];
    let within = x.max(L::splat(-WITHIN)).min(L::splat(WITHIN));
    let square = within.mul(within);
    let mut sum = L::splat(TERMS[6]);
    for term in TERMS[..6].iter().rev() {
        sum = sum.mul_add(square, L::splat(*term));
    }
    x.mul(sum.mul_add(within, L::splat(0.5)))
}

/// The largest number that may be given to [`exp2`]: beyond, what it would give soon is no float.
const EXP2_LIMIT: f32 = 126.0;

/// 2 to the power of x, at most [`EXP2_LIMIT`], to 2e-6 of itself; from 2^-125 on downwards, that.
#[inline(always)]
pub(super) fn exp2<L: Lanes>(x: L) -> L {
    // The best by relative error on [-1/2, 1/2].
    const TERMS: [f32; 5] = [0.999_999_3, 0.693_121_8, 0.240_247_44, 0.055_917_9, 0.009_570_11];
    let x = x.max(L::splat(-125.0));
    let raised = x.add(L::splat(RAISE));
    let part = x.sub(raised.sub(L::splat(RAISE)));
    let mut sum = L::splat(TERMS[4]);
    for term in TERMS[..4].iter().rev() {
        sum = sum.mul_add(part, L::splat(*term));
    }
    sum.scale(raised)
}
