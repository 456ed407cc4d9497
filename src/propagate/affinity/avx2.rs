//! 256-bit vectors: four queries against sixteen keys at a time in eight accumulators, with VNNI's products of bytes
//! where there are any, else in pairs of 16 bits.

use std::arch::x86_64::*;

use super::keys::QUAD;
use super::{BLOCK, Kernel, TILE, scalar};

pub struct Avx2 {
    vnni: bool,
}

impl Avx2 {
    pub fn new() -> Option<Avx2> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2 { vnni: false })
    }

    pub fn with_vnni() -> Option<Avx2> {
        let vnni = is_x86_feature_detected!("avxvnni");
        Avx2::new().filter(|_| vnni).map(|_| Avx2 { vnni })
    }
}

impl Kernel for Avx2 {
    fn name(&self) -> &'static str {
        if self.vnni { "avxvnni" } else { "avx2" }
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
            for lane in (0..BLOCK).step_by(16) {
                let (starts, bars) = (&starts[first..first + 4], &bars[first..first + 4]);
                // SAFETY: `new` saw AVX2 and FMA, and `with_vnni` VNNI; the lengths that the kernel reads were checked
                // just above.
                let quarter = unsafe {
                    let (queries, keys) = (queries.as_ptr().add(first * QUAD), keys.as_ptr().add(lane * QUAD));
                    let sums = if self.vnni {
                        sums_vnni(queries, quads, starts, keys, cols)
                    } else {
                        sums(queries, quads, starts, keys, cols)
                    };
                    compare(&sums, &scales[lane..lane + 16], bars)
                };
                above[first..first + 4].iter_mut().zip(quarter).for_each(|(above, bits)| *above |= bits << lane);
            }
        }
        above
    }

    fn cosine(&self, a: &[f32], b: &[f32]) -> f32 {
        // SAFETY: `new` saw AVX2 and FMA.
        unsafe { cosine(a, b) }
    }
}

/// # Safety
/// The CPU has AVX2; `queries` holds 4 * QUAD bytes in each of `quads` lines of TILE * QUAD, and `keys` holds 16 * QUAD
/// in each of `quads` lines of cols * QUAD. There are 4 `starts`.
#[target_feature(enable = "avx2")]
unsafe fn sums(queries: *const i8, quads: usize, starts: &[i32], keys: *const u8, cols: usize) -> [[__m256i; 2]; 4] {
    let ones = _mm256_set1_epi16(1);
    // SAFETY: as the caller vouches.
    unsafe {
        add_up(queries, quads, starts, keys, cols, |sum, key, query| {
            // Seven bits, so that nothing saturates.
            _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(key, query), ones))
        })
    }
}

/// # Safety
/// As of `sums`, and the CPU has AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn sums_vnni(
    queries: *const i8,
    quads: usize,
    starts: &[i32],
    keys: *const u8,
    cols: usize,
) -> [[__m256i; 2]; 4] {
    // SAFETY: as the caller vouches.
    unsafe { add_up(queries, quads, starts, keys, cols, |sum, key, query| _mm256_dpbusd_avx_epi32(sum, key, query)) }
}

/// # Safety
/// As of `sums`.
#[inline(always)]
unsafe fn add_up(
    queries: *const i8,
    quads: usize,
    starts: &[i32],
    keys: *const u8,
    cols: usize,
    add: impl Fn(__m256i, __m256i, __m256i) -> __m256i,
) -> [[__m256i; 2]; 4] {
    // SAFETY: quad < quads, so that each read stays in the lengths that the caller vouches for.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 2]; 4];
        for (sum, start) in sums.iter_mut().zip(starts) {
            *sum = [_mm256_set1_epi32(*start); 2];
        }
        for quad in 0..quads {
            let key = keys.add(quad * cols * QUAD);
            let (low, high) = (_mm256_loadu_si256(key.cast()), _mm256_loadu_si256(key.add(32).cast()));
            let tile = queries.add(quad * TILE * QUAD).cast::<i32>();
            for (i, sum) in sums.iter_mut().enumerate() {
                let query = _mm256_set1_epi32(tile.add(i).read_unaligned());
                sum[0] = add(sum[0], low, query);
                sum[1] = add(sum[1], high, query);
            }
        }
        sums
    }
}

/// Which sums, times the scale of their key, are above the bar of their query. `scales` are 16, `bars` 4.
#[target_feature(enable = "avx2")]
fn compare(sums: &[[__m256i; 2]; 4], scales: &[f32], bars: &[f32]) -> [u32; 4] {
    let mut above = [0; 4];
    for (half, scales) in scales.chunks_exact(8).enumerate() {
        // SAFETY: a chunk holds 8 values.
        let scales = unsafe { _mm256_loadu_ps(scales.as_ptr()) };
        for ((above, sum), bar) in above.iter_mut().zip(sums).zip(bars) {
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[half]), scales);
            let bits = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(value, _mm256_set1_ps(*bar)));
            *above |= (bits as u32) << (8 * half);
        }
    }
    above
}

#[target_feature(enable = "avx2,fma")]
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    let mut sums = [_mm256_setzero_ps(); 4];
    for (a, b) in a.iter().zip(b) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: a chunk holds 32 values.
            let (a, b) =
                unsafe { (_mm256_loadu_ps(a.as_ptr().add(8 * part)), _mm256_loadu_ps(b.as_ptr().add(8 * part))) };
            *sum = _mm256_fmadd_ps(a, b, *sum);
        }
    }
    let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum))) + scalar::cosine(a_rest, b_rest)
}
