//! x86-64 with AVX2 and FMA.

use std::arch::x86_64::*;

use super::lanes::{CENTRED, LANES, Lanes, Pass, weights};
use super::{Kernel, LaneSet, Left, PANEL, Right, Set};

/// Rows of a tile: two registers of sums for each.
const ROWS: usize = 4;

pub struct Avx2(());

impl Avx2 {
    pub fn new() -> Option<Avx2> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
    }
}

impl Kernel for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn depth_step(&self) -> usize {
        4
    }

    fn lanes(&self) -> LaneSet {
        LaneSet(Set::Avx2)
    }

    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        // SAFETY: `new` found the instructions; the caller promises the sizes.
        unsafe { multiply(left, right, out, stride) }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn multiply(left: Left, right: Right, out: &mut [i32], stride: usize) {
    for panel in 0..right.panel_count() {
        let part = Right {
            panels: &right.panels[panel * PANEL * right.depth..(panel + 1) * PANEL * right.depth],
            sums: &right.sums[panel * PANEL..(panel + 1) * PANEL],
            depth: right.depth,
        };
        let out = &mut out[panel * PANEL..];
        for row in (0..left.rows).step_by(ROWS) {
            // SAFETY: the rows are there, as the caller promises.
            unsafe {
                match left.rows - row {
                    1 => tile::<1>(left, row, part, out, stride),
                    2 => tile::<2>(left, row, part, out, stride),
                    3 => tile::<3>(left, row, part, out, stride),
                    _ => tile::<ROWS>(left, row, part, out, stride),
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize>(left: Left, row: usize, right: Right, out: &mut [i32], stride: usize) {
    // SAFETY: `R` rows from `row` on and a panel are there, each `depth` deep, as the caller promises.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        let ones = _mm256_set1_epi16(1);
        let rows: [*const u8; R] = std::array::from_fn(|r| left.bytes.as_ptr().add((row + r) * left.stride));
        for k in (0..right.depth).step_by(4) {
            let columns: [__m256i; 2] =
                std::array::from_fn(|half| _mm256_loadu_si256(right.panels.as_ptr().add(k * PANEL + half * 32).cast()));
            // The instruction multiplies unsigned with signed bytes and adds pairs in 16 bits: magnitudes up to 128 times
            // numbers up to 127 fit.
            let magnitudes = columns.map(|columns| _mm256_abs_epi8(columns));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let numbers = _mm256_set1_epi32(row.add(k).cast::<i32>().read_unaligned());
                for ((sum, columns), magnitudes) in sums.iter_mut().zip(columns).zip(magnitudes) {
                    let pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(numbers, columns));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let out = out.as_mut_ptr().add((row + r) * stride);
            for (half, sum) in sums.iter().enumerate() {
                _mm256_storeu_si256(out.add(half * 8).cast(), *sum);
            }
        }
    }
}

/// Runs a pass with these instructions.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<P: Pass>(pass: P) -> P::Output {
    pass.run::<Ymm>()
}

#[derive(Clone, Copy)]
struct Ymm([__m256; 2]);

// SAFETY of the blocks below: lanes of this kind are used by passes that `run` runs, whose caller promises the
// instructions; loads and stores stay within slices whose length was checked.
impl Lanes for Ymm {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Ymm([_mm256_set1_ps(value); 2]) }
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = from[..LANES].as_ptr();
        // SAFETY: see above.
        unsafe { Ymm([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]) }
    }

    #[inline(always)]
    fn load_i32(from: &[i32]) -> Self {
        let from = from[..LANES].as_ptr();
        // SAFETY: see above.
        unsafe {
            let (low, high) = (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast()));
            Ymm([_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)])
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = to[..LANES].as_mut_ptr();
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(to, self.0[0]);
            _mm256_storeu_ps(to.add(8), self.0[1]);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm([_mm256_add_ps(self.0[0], other.0[0]), _mm256_add_ps(self.0[1], other.0[1])]) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm([_mm256_sub_ps(self.0[0], other.0[0]), _mm256_sub_ps(self.0[1], other.0[1])]) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm([_mm256_mul_ps(self.0[0], other.0[0]), _mm256_mul_ps(self.0[1], other.0[1])]) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm([_mm256_div_ps(self.0[0], other.0[0]), _mm256_div_ps(self.0[1], other.0[1])]) }
    }

    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm([_mm256_fmadd_ps(self.0[0], by.0[0], plus.0[0]), _mm256_fmadd_ps(self.0[1], by.0[1], plus.0[1])]) }
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm([_mm256_min_ps(self.0[0], other.0[0]), _mm256_min_ps(self.0[1], other.0[1])]) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Ymm([_mm256_max_ps(self.0[0], other.0[0]), _mm256_max_ps(self.0[1], other.0[1])]) }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Ymm([_mm256_andnot_ps(sign, self.0[0]), _mm256_andnot_ps(sign, self.0[1])])
        }
    }

    #[inline(always)]
    fn scale(self, raised: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let low = _mm256_slli_epi32::<23>(_mm256_castps_si256(raised.0[0]));
            let high = _mm256_slli_epi32::<23>(_mm256_castps_si256(raised.0[1]));
            Ymm([
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0[0]), low)),
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self.0[1]), high)),
            ])
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let eight = _mm256_add_ps(self.0[0], self.0[1]);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let eight = _mm256_max_ps(self.0[0], self.0[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn store_signed(four: [Self; 4], to: &mut [u8], encoding: u8) {
        for (pair, to) in four.as_chunks::<2>().0.iter().zip(to[..4 * LANES].as_chunks_mut::<{ 2 * LANES }>().0) {
            // SAFETY: see above.
            unsafe {
                let [low, high] = words(pair);
                store_in_order(_mm256_packs_epi16(low, high), to, encoding);
            }
        }
    }

    #[inline(always)]
    fn pack(four: [Self; 4]) -> Self {
        let [a, b, c, d] = four;
        let halves = [[Ymm([a.0[0], b.0[0]]), Ymm([c.0[0], d.0[0]])], [Ymm([a.0[1], b.0[1]]), Ymm([c.0[1], d.0[1]])]];
        // SAFETY: see above.
        unsafe {
            let ([low, high], [low2, high2]) = (words(&halves[0]), words(&halves[1]));
            let (first, second) = (_mm256_packs_epi16(low, high), _mm256_packs_epi16(low2, high2));
            Ymm([_mm256_castsi256_ps(side_by_side(first)), _mm256_castsi256_ps(side_by_side(second))])
        }
    }

    #[inline(always)]
    fn load_bytes(from: &[u8]) -> Self {
        let from = from[..4 * LANES].as_ptr();
        // SAFETY: see above.
        unsafe {
            let (low, high) = (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast()));
            Ymm([_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)])
        }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], encoding: u8) {
        for (half, to) in self.0.into_iter().zip(to[..4 * LANES].as_chunks_mut::<32>().0) {
            // SAFETY: see above.
            unsafe {
                let bytes = _mm256_xor_si256(_mm256_castps_si256(half), _mm256_set1_epi8(encoding.cast_signed()));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes);
            }
        }
    }

    type Totals = [__m256i; 2];

    #[inline(always)]
    fn no_totals() -> Self::Totals {
        // SAFETY: see above.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    fn store_totals(totals: Self::Totals, to: &mut [i32]) {
        for (totals, to) in totals.iter().zip(to[..LANES].as_chunks_mut::<{ LANES / 2 }>().0) {
            // SAFETY: see above.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), *totals) }
        }
    }

    #[inline(always)]
    fn store_weights(levels: [Self; 4], to: &mut [u8], mut totals: Self::Totals) -> Self::Totals {
        let [a, b, c, d] = weights(levels);
        let halves = [[Ymm([a.0[0], b.0[0]]), Ymm([c.0[0], d.0[0]])], [Ymm([a.0[1], b.0[1]]), Ymm([c.0[1], d.0[1]])]];
        for ((pair, to), total) in halves.iter().zip(to[..4 * LANES].as_chunks_mut::<32>().0).zip(&mut totals) {
            // SAFETY: see above.
            unsafe {
                let [low, high] = words(pair);
                let weights = side_by_side(_mm256_packus_epi16(low, high));
                let centred = _mm256_xor_si256(weights, _mm256_set1_epi8(CENTRED.cast_signed()));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), centred);
                let pairs = _mm256_maddubs_epi16(weights, _mm256_set1_epi8(1));
                *total = _mm256_add_epi32(*total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
        }
        totals
    }
}

/// Rounded to 16 bits, in the order in which packing leaves them.
#[inline(always)]
unsafe fn words(pair: &[Ymm; 2]) -> [__m256i; 2] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let [Ymm([a, b]), Ymm([c, d])] = *pair;
        [
            _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b)),
            _mm256_packs_epi32(_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d)),
        ]
    }
}

/// Packing leaves four lanes of each of the four packed in a half: those of a lane are put side by side.
#[inline(always)]
unsafe fn side_by_side(bytes: __m256i) -> __m256i {
    // SAFETY: the caller has the instructions.
    unsafe {
        let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(order))
    }
}

/// Packing works within halves: their fours of bytes are put back in order.
#[inline(always)]
unsafe fn store_in_order(bytes: __m256i, to: &mut [u8], encoding: u8) {
    // SAFETY: the caller has the instructions; 32 bytes are there.
    unsafe {
        let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8(encoding.cast_signed()));
        _mm256_storeu_si256(to[..32].as_mut_ptr().cast(), bytes);
    }
}
