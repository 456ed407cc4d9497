//! 64-bit Arm: a tile against eight keys at a time in sixteen accumulators, with the dot product where there is one,
//! else in pairs of 16 bits.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::keys::QUAD;
use super::{BLOCK, Kernel, TILE, scalar};

pub struct Neon {
    dot_product: bool,
}

impl Neon {
    pub fn new() -> Option<Neon> {
        is_aarch64_feature_detected!("neon").then_some(Neon { dot_product: false })
    }

    pub fn with_dot_product() -> Option<Neon> {
        let dot_product = is_aarch64_feature_detected!("dotprod");
        Neon::new().filter(|_| dot_product).map(|_| Neon { dot_product })
    }
}

impl Kernel for Neon {
    fn name(&self) -> &'static str {
        if self.dot_product { "dotprod" } else { "neon" }
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
        for lane in (0..BLOCK).step_by(8) {
            // SAFETY: `new` saw NEON, and `with_dot_product` the dot product; the lengths that the kernel reads were
            // checked just above.
            let bits = unsafe {
                let keys = keys.as_ptr().add(lane * QUAD).cast::<i8>();
                let sums = if self.dot_product {
                    sums_by_dot_product(queries.as_ptr(), quads, starts, keys, cols)
                } else {
                    sums(queries.as_ptr(), quads, starts, keys, cols)
                };
                compare(&sums, &scales[lane..lane + 8], bars)
            };
            above.iter_mut().zip(bits).for_each(|(above, bits)| *above |= bits << lane);
        }
        above
    }

    fn cosine(&self, a: &[f32], b: &[f32]) -> f32 {
        scalar::cosine_in_lanes(a, b)
    }
}

/// # Safety
/// The CPU has NEON; `queries` holds `quads` lines of TILE * QUAD bytes, and `keys` holds 8 * QUAD in each of `quads`
/// lines of cols * QUAD.
#[target_feature(enable = "neon")]
unsafe fn sums(
    queries: *const i8,
    quads: usize,
    starts: &[i32; TILE],
    keys: *const i8,
    cols: usize,
) -> [[int32x4_t; 2]; TILE] {
    // SAFETY: as the caller vouches.
    unsafe {
        add_up(queries, quads, starts, keys, cols, |sum, key, query| {
            let low = vmull_s8(vget_low_s8(key), vget_low_s8(query));
            // Seven bits, so that pairs of products fit.
            vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(key, query)))
        })
    }
}

/// # Safety
/// As of `sums`, and the CPU has the dot product.
#[target_feature(enable = "neon,dotprod")]
unsafe fn sums_by_dot_product(
    queries: *const i8,
    quads: usize,
    starts: &[i32; TILE],
    keys: *const i8,
    cols: usize,
) -> [[int32x4_t; 2]; TILE] {
    // SAFETY: as the caller vouches.
    unsafe {
        add_up(queries, quads, starts, keys, cols, |mut sum, key, query| {
            // The intrinsic is not stable.
            asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sum, in(vreg) key, in(vreg) query,
                options(pure, nomem, nostack, preserves_flags));
            sum
        })
    }
}

/// # Safety
/// As of `sums`.
#[inline(always)]
unsafe fn add_up(
    queries: *const i8,
    quads: usize,
    starts: &[i32; TILE],
    keys: *const i8,
    cols: usize,
    add: impl Fn(int32x4_t, int8x16_t, int8x16_t) -> int32x4_t,
) -> [[int32x4_t; 2]; TILE] {
    // SAFETY: quad < quads, so that each read stays in the lengths that the caller vouches for.
    unsafe {
        let mut sums = starts.map(|start| [vdupq_n_s32(start); 2]);
        for quad in 0..quads {
            let key = keys.add(quad * cols * QUAD);
            let (low, high) = (vld1q_s8(key), vld1q_s8(key.add(16)));
            let tile = queries.add(quad * TILE * QUAD).cast::<i32>();
            for (i, sum) in sums.iter_mut().enumerate() {
                let query = vreinterpretq_s8_s32(vdupq_n_s32(tile.add(i).read_unaligned()));
                sum[0] = add(sum[0], low, query);
                sum[1] = add(sum[1], high, query);
            }
        }
        sums
    }
}

/// Which sums, times the scale of their key, are above the bar of their query. `scales` are 8.
#[target_feature(enable = "neon")]
fn compare(sums: &[[int32x4_t; 2]; TILE], scales: &[f32], bars: &[f32; TILE]) -> [u32; TILE] {
    let mut above = [0; TILE];
    for ((above, sums), bar) in above.iter_mut().zip(sums).zip(bars) {
        for (half, sum) in sums.iter().enumerate() {
            // SAFETY: there are eight scales, and four bits.
            unsafe {
                let value = vmulq_f32(vcvtq_f32_s32(*sum), vld1q_f32(scales[4 * half..].as_ptr()));
                let bits = vandq_u32(vcgtq_f32(value, vdupq_n_f32(*bar)), vld1q_u32([1, 2, 4, 8].as_ptr()));
                *above |= vaddvq_u32(bits) << (4 * half);
            }
        }
    }
    above
}
