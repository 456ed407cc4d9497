//! x86-64 with AVX-VNNI, AVX-512's dot product in registers of half the width: what small processors without AVX-512 have,
//! Intel's N100 among them.

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::{Kernel, LaneSet, Left, PANEL, Right};

/// Rows of a tile: 12 accumulators, half a panel each, two registers of columns and a row's numbers are 15 of 16.
const ROWS: usize = 6;

pub struct AvxVnni(Avx2);

impl AvxVnni {
    pub fn new() -> Option<AvxVnni> {
        is_x86_feature_detected!("avxvnni").then(Avx2::new)?.map(AvxVnni)
    }
}

impl Kernel for AvxVnni {
    fn name(&self) -> &'static str {
        "avxvnni"
    }

    // As AVX-512's: signed numbers are stored 128 larger.
    fn encoding(&self) -> u8 {
        0x80
    }

    fn depth_step(&self) -> usize {
        4
    }

    fn lanes(&self) -> LaneSet {
        self.0.lanes()
    }

    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        // SAFETY: `new` found the instructions; the caller promises the sizes.
        unsafe { multiply(left, right, out, stride) }
    }
}

#[target_feature(enable = "avx2,avxvnni")]
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
                    4 => tile::<4>(left, row, part, out, stride),
                    5 => tile::<5>(left, row, part, out, stride),
                    _ => tile::<ROWS>(left, row, part, out, stride),
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,avxvnni")]
unsafe fn tile<const R: usize>(left: Left, row: usize, right: Right, out: &mut [i32], stride: usize) {
    // SAFETY: `R` rows from `row` on and a panel are there, each `depth` deep, as the caller promises.
    unsafe {
        // What numbers that are 128 larger add is taken away where a sum starts.
        let start: [__m256i; 2] = std::array::from_fn(|half| {
            let sums = _mm256_loadu_si256(right.sums.as_ptr().add(half * 8).cast());
            _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32::<7>(sums))
        });
        let mut sums = [start; R];
        let rows: [*const u8; R] = std::array::from_fn(|r| left.bytes.as_ptr().add((row + r) * left.stride));
        for k in (0..right.depth).step_by(4) {
            let columns: [__m256i; 2] =
                std::array::from_fn(|half| _mm256_loadu_si256(right.panels.as_ptr().add(k * PANEL + half * 32).cast()));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let numbers = _mm256_set1_epi32(row.add(k).cast::<i32>().read_unaligned());
                for (sum, columns) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_dpbusd_avx_epi32(*sum, numbers, columns);
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
