//! 128-bit vectors that every x86-64 processor has: four queries against eight keys at a time, in pairs of 16 bits.

use std::arch::x86_64::*;

use super::keys::QUAD;
use super::{BLOCK, Kernel, TILE, scalar};

pub struct Sse2;

impl Kernel for Sse2 {
    fn name(&self) -> &'static str {
        "sse2"
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
        let quads = queries.len() / (TILE * QUAD);
        assert!(quads > 0 && keys.len() >= ((quads - 1) * cols + BLOCK) * QUAD);
        let mut above = [0; TILE];
        for first in (0..TILE).step_by(4) {
            for lane in (0..BLOCK).step_by(8) {
                // SAFETY: the lengths that `sums` reads were checked just above.
                let sums =
                    unsafe { sums(queries.as_ptr().add(first * QUAD), quads, keys.as_ptr().add(lane * QUAD), cols) };
                for (i, pairs) in (first..).zip(sums) {
                    for (at, pairs) in [(lane, [pairs[0], pairs[1]]), (lane + 4, [pairs[2], pairs[3]])] {
                        above[i] |= compare(pairs, starts[i], &scales[at..at + 4], bars[i]) << at;
                    }
                }
            }
        }
        above
    }

    fn cosine(&self, a: &[f32], b: &[f32]) -> f32 {
        scalar::cosine_in_lanes(a, b)
    }
}

/// The sums of four queries with eight keys, two for each pair: of its first two coordinates in each quad and of the
/// last two.
///
/// # Safety
/// `queries` holds 4 * QUAD bytes in each of `quads` lines of TILE * QUAD, and `keys` holds 8 * QUAD in each of `quads`
/// lines of cols * QUAD.
unsafe fn sums(queries: *const i8, quads: usize, keys: *const u8, cols: usize) -> [[__m128i; 4]; 4] {
    // SAFETY: quad < quads, so that each read stays in the lengths that the caller vouches for.
    unsafe {
        let zero = _mm_setzero_si128();
        let mut sums = [[zero; 4]; 4];
        for quad in 0..quads {
            let key = keys.add(quad * cols * QUAD).cast::<__m128i>();
            let (low, high) = (_mm_loadu_si128(key), _mm_loadu_si128(key.add(1)));
            let keys = [
                _mm_unpacklo_epi8(low, zero),
                _mm_unpackhi_epi8(low, zero),
                _mm_unpacklo_epi8(high, zero),
                _mm_unpackhi_epi8(high, zero),
            ];
            let tile = queries.add(quad * TILE * QUAD).cast::<i32>();
            for (i, sums) in sums.iter_mut().enumerate() {
                // Each byte twice, and of the two the sign alone kept above the number: 16 bits of it.
                let query = _mm_set1_epi32(tile.add(i).read_unaligned());
                let query = _mm_srai_epi16::<8>(_mm_unpacklo_epi8(query, query));
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum = _mm_add_epi32(*sum, _mm_madd_epi16(key, query));
                }
            }
        }
        sums
    }
}

/// Which of four sums, times the scale of their key, are above the bar of their query.
fn compare([low, high]: [__m128i; 2], start: i32, scales: &[f32], bar: f32) -> u32 {
    // SAFETY: every x86-64 processor has SSE2, and there are four scales.
    unsafe {
        let (low, high) = (_mm_castsi128_ps(low), _mm_castsi128_ps(high));
        let first = _mm_castps_si128(_mm_shuffle_ps::<0b10_00_10_00>(low, high));
        let second = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(low, high));
        let sum = _mm_add_epi32(_mm_set1_epi32(start), _mm_add_epi32(first, second));
        let value = _mm_mul_ps(_mm_cvtepi32_ps(sum), _mm_loadu_ps(scales.as_ptr()));
        _mm_movemask_ps(_mm_cmpgt_ps(value, _mm_set1_ps(bar))) as u32
    }
}
