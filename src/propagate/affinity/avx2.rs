//! 256-bit vectors: four queries against sixteen keys at a time in eight accumulators.

use std::arch::x86_64::*;

use super::{BLOCK, Kernel, Products, TILE};

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

    fn products(
        &self,
        queries: &[f32],
        dim: usize,
        keys: &[f32],
        stride: usize,
        thresholds: &[f32; TILE],
        products: &mut Products,
    ) {
        assert!(dim > 0 && queries.len() >= TILE * dim && keys.len() >= (dim - 1) * stride + BLOCK);
        products.above = [0; TILE];
        for first in (0..TILE).step_by(4) {
            for lane in (0..BLOCK).step_by(16) {
                // SAFETY: `new` saw AVX2 and FMA, and the lengths that the kernel reads were checked just above.
                unsafe {
                    let (queries, keys) = (queries.as_ptr().add(first * dim), keys.as_ptr().add(lane));
                    quarter(queries, dim, keys, stride, (first, lane), thresholds, products);
                }
            }
        }
    }
}

/// # Safety
/// The CPU has AVX2 and FMA; `queries` holds 4 * dim values, and `keys` holds 16 from each of dim rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn quarter(
    queries: *const f32,
    dim: usize,
    keys: *const f32,
    stride: usize,
    (first, lane): (usize, usize),
    thresholds: &[f32; TILE],
    products: &mut Products,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; 4];
    for d in 0..dim {
        // SAFETY: d < dim, so that each read stays in the lengths that the caller vouches for.
        unsafe {
            let key = keys.add(d * stride);
            let (low, high) = (_mm256_loadu_ps(key), _mm256_loadu_ps(key.add(8)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let query = _mm256_set1_ps(*queries.add(i * dim + d));
                sum[0] = _mm256_fmadd_ps(query, low, sum[0]);
                sum[1] = _mm256_fmadd_ps(query, high, sum[1]);
            }
        }
    }
    for (i, sum) in sums.iter().enumerate() {
        let threshold = _mm256_set1_ps(thresholds[first + i]);
        for (half, sum) in sum.iter().enumerate() {
            let at = lane + 8 * half;
            let bits = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(*sum, threshold)) as u32;
            products.above[first + i] |= bits << at;
            // SAFETY: a row of `values` holds BLOCK = 32 values, and `at` is at most 24.
            unsafe { _mm256_storeu_ps(products.values[first + i].as_mut_ptr().add(at), *sum) };
        }
    }
}
