//! Plain Rust that the compiler vectorises for whatever it is built for: NEON on 64-bit ARM, SSE2 on x86-64.

use super::{BLOCK, Kernel, Products, TILE};

pub struct Portable;

/// Four vectors of four lanes for each of two queries fit the registers of NEON, and of SSE2.
const LANES: usize = 16;
const QUERIES: usize = 2;

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn products(
        &self,
        queries: &[f32],
        dim: usize,
        keys: &[f32],
        stride: usize,
        thresholds: &[f32; TILE],
        products: &mut Products,
    ) {
        for first in (0..TILE).step_by(QUERIES) {
            let (a, b) = (&queries[first * dim..][..dim], &queries[(first + 1) * dim..][..dim]);
            for lane in (0..BLOCK).step_by(LANES) {
                let mut sums = [[0.0f32; LANES]; QUERIES];
                for ((key_row, &a), &b) in keys[lane..].chunks(stride).zip(a).zip(b) {
                    let Some(key) = key_row.first_chunk::<LANES>() else { break };
                    for j in 0..LANES {
                        sums[0][j] = fused(a, key[j], sums[0][j]);
                        sums[1][j] = fused(b, key[j], sums[1][j]);
                    }
                }
                for (i, sum) in sums.iter().enumerate() {
                    products.values[first + i][lane..lane + LANES].copy_from_slice(sum);
                }
            }
        }
        for ((values, threshold), above) in products.values.iter().zip(thresholds).zip(&mut products.above) {
            *above = values.iter().enumerate().map(|(j, v)| u32::from(v > threshold) << j).sum();
        }
    }
}

/// `a * b + c`, fused where that is one instruction and not a call into the maths library.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}
