//! 512-bit vectors and the products of bytes of VNNI: a whole tile against a whole block in sixteen accumulators.

use std::arch::x86_64::*;

use super::keys::QUAD;
use super::{BLOCK, Kernel, TILE, scalar};

pub struct Avx512(());

impl Avx512 {
    pub fn new() -> Option<Avx512> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")).then_some(Avx512(()))
    }
}

impl Kernel for Avx512 {
    fn name(&self) -> &'static str {
        "avx512vnni"
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
        // SAFETY: `new` saw AVX-512F and VNNI, and the lengths that the kernel reads were checked just above.
        unsafe { tile(queries.as_ptr(), quads, starts, keys.as_ptr(), cols, scales, bars) }
    }

    fn cosine(&self, a: &[f32], b: &[f32]) -> f32 {
        // SAFETY: `new` saw AVX-512F.
        unsafe { cosine(a, b) }
    }
}

/// # Safety
/// The CPU has AVX-512F and VNNI; `queries` holds quads * TILE * QUAD bytes, and `keys` holds BLOCK * QUAD from each
/// of `quads` lines of cols * QUAD.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn tile(
    queries: *const i8,
    quads: usize,
    starts: &[i32; TILE],
    keys: *const u8,
    cols: usize,
    scales: &[f32; BLOCK],
    bars: &[f32; TILE],
) -> [u32; TILE] {
    let mut sums = starts.map(|start| [_mm512_set1_epi32(start); 2]);
    for quad in 0..quads {
        // SAFETY: quad < quads, so that each read stays in the lengths that the caller vouches for.
        unsafe {
            let key = keys.add(quad * cols * QUAD);
            let (low, high) = (_mm512_loadu_si512(key.cast()), _mm512_loadu_si512(key.add(64).cast()));
            let tile = queries.add(quad * TILE * QUAD).cast::<i32>();
            for (i, sum) in sums.iter_mut().enumerate() {
                let query = _mm512_set1_epi32(tile.add(i).read_unaligned());
                sum[0] = _mm512_dpbusd_epi32(sum[0], low, query);
                sum[1] = _mm512_dpbusd_epi32(sum[1], high, query);
            }
        }
    }
    // SAFETY: there are BLOCK = 32 scales.
    let scales = unsafe { [_mm512_loadu_ps(scales.as_ptr()), _mm512_loadu_ps(scales.as_ptr().add(16))] };
    let mut above = [0; TILE];
    for ((above, sum), bar) in above.iter_mut().zip(&sums).zip(bars) {
        let bar = _mm512_set1_ps(*bar);
        let is_above = |half: usize| {
            let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[half]), scales[half]);
            u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, bar))
        };
        *above = is_above(0) | is_above(1) << 16;
    }
    above
}

#[target_feature(enable = "avx512f")]
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    let mut sums = [_mm512_setzero_ps(); 2];
    for (a, b) in a.iter().zip(b) {
        for (half, sum) in sums.iter_mut().enumerate() {
            // SAFETY: a chunk holds 32 values.
            let (a, b) =
                unsafe { (_mm512_loadu_ps(a.as_ptr().add(16 * half)), _mm512_loadu_ps(b.as_ptr().add(16 * half))) };
            *sum = _mm512_fmadd_ps(a, b, *sum);
        }
    }
    _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) + scalar::cosine(a_rest, b_rest)
}
