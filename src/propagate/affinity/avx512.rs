//! 512-bit vectors: a whole tile against a whole block in sixteen accumulators.

use std::arch::x86_64::*;

use super::{BLOCK, Kernel, Products, TILE};

pub struct Avx512(());

impl Avx512 {
    pub fn new() -> Option<Avx512> {
        is_x86_feature_detected!("avx512f").then_some(Avx512(()))
    }
}

impl Kernel for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
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
        // SAFETY: `new` saw AVX-512F, and the lengths that the kernel reads were checked just above.
        unsafe { tile(queries.as_ptr(), dim, keys.as_ptr(), stride, thresholds, products) }
    }
}

/// # Safety
/// The CPU has AVX-512F; `queries` holds TILE * dim values, and `keys` holds BLOCK from each of dim rows.
#[target_feature(enable = "avx512f")]
unsafe fn tile(
    queries: *const f32,
    dim: usize,
    keys: *const f32,
    stride: usize,
    thresholds: &[f32; TILE],
    products: &mut Products,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; TILE];
    for d in 0..dim {
        // SAFETY: d < dim, so that each read stays in the lengths that the caller vouches for.
        unsafe {
            let key = keys.add(d * stride);
            let (low, high) = (_mm512_loadu_ps(key), _mm512_loadu_ps(key.add(16)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let query = _mm512_set1_ps(*queries.add(i * dim + d));
                sum[0] = _mm512_fmadd_ps(query, low, sum[0]);
                sum[1] = _mm512_fmadd_ps(query, high, sum[1]);
            }
        }
    }
    for (i, sum) in sums.iter().enumerate() {
        let threshold = _mm512_set1_ps(thresholds[i]);
        let low = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sum[0], threshold);
        let high = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sum[1], threshold);
        products.above[i] = u32::from(low) | u32::from(high) << 16;
        if products.above[i] != 0 {
            let values = products.values[i].as_mut_ptr();
            // SAFETY: a row of `values` holds BLOCK = 32 values.
            unsafe {
                _mm512_storeu_ps(values, sum[0]);
                _mm512_storeu_ps(values.add(16), sum[1]);
            }
        }
    }
}
