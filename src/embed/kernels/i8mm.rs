//! 64-bit Arm with products of 8-bit matrices: two rows of eight numbers times two columns of eight, an instruction.
//! Inline assembly, since the intrinsics are not stable.
//!
//! The instruction wants both sides in pairs, of rows and of columns. Neither side lies so, and to bring two registers
//! together for each tile costs half of what it costs to multiply them. So both are paired once, on the stack, a part
//! of the depth after the other, and tiles do nothing but load and multiply.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::mem::MaybeUninit;

use super::{Kernel, LaneSet, Left, PANEL, Right, Set};

/// Rows of a tile: of eight columns, half a panel, they take half of the registers for sums.
const ROWS: usize = 8;
/// Rows and depth that are paired at once: with a panel they fit in 32 KiB, the smallest of first caches.
const MOST_ROWS: usize = 64;
const MOST_DEPTH: usize = 384;

pub struct I8mm(());

impl I8mm {
    pub fn new() -> Option<I8mm> {
        is_aarch64_feature_detected!("i8mm").then_some(I8mm(()))
    }
}

impl Kernel for I8mm {
    fn name(&self) -> &'static str {
        "i8mm"
    }

    fn rows_together(&self) -> usize {
        ROWS
    }

    fn lanes(&self) -> LaneSet {
        LaneSet(Set::Neon)
    }

    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        // SAFETY: `new` found the instructions.
        unsafe { multiply(left, right, out, stride) }
    }
}

/// Sixteen bytes: eight numbers each of two rows, or of two columns.
type Pair = uint8x16_t;

#[target_feature(enable = "neon,i8mm")]
fn multiply(left: Left, right: Right, out: &mut [i32], stride: usize) {
    let mut rows = [const { MaybeUninit::uninit() }; MOST_ROWS * MOST_DEPTH / 16];
    let mut columns = [const { MaybeUninit::uninit() }; PANEL * MOST_DEPTH / 16];
    for row in (0..left.rows).step_by(MOST_ROWS) {
        let count = MOST_ROWS.min(left.rows - row).next_multiple_of(ROWS);
        for k in (0..right.depth).step_by(MOST_DEPTH) {
            let depth = MOST_DEPTH.min(right.depth - k);
            let rows = pair_rows(&left.bytes[row * left.stride + k..], left.stride, count, depth, &mut rows);
            for panel in 0..right.panel_count() {
                let numbers = &right.panels[panel * PANEL * right.depth..][k * PANEL..][..depth * PANEL];
                let columns = pair_columns(numbers, &mut columns);
                for (at, rows) in rows.chunks_exact(ROWS * depth / 16).enumerate() {
                    for (half, columns) in columns.chunks_exact(PANEL / 2 * depth / 16).enumerate() {
                        let out = &mut out[(row + at * ROWS) * stride + panel * PANEL + half * PANEL / 2..];
                        tile(rows, columns, out, stride, k > 0);
                    }
                }
            }
        }
    }
}

/// Rows, `stride` apart, to (rows / 8, depth / 8, 4 pairs).
#[inline]
#[target_feature(enable = "neon")]
fn pair_rows<'p>(from: &[u8], stride: usize, rows: usize, depth: usize, to: &'p mut [MaybeUninit<Pair>]) -> &'p [Pair] {
    let to = &mut to[..rows * depth / 16];
    for (tile, to) in to.chunks_exact_mut(ROWS * depth / 16).enumerate() {
        for pair in 0..ROWS / 2 {
            let row = |r| from[(tile * ROWS + 2 * pair + r) * stride..][..depth].as_chunks::<16>().0;
            for ((first, second), to) in row(0).iter().zip(row(1)).zip(to.as_chunks_mut::<ROWS>().0) {
                // SAFETY: the 16 bytes of each are there.
                let (first, second) = unsafe { (vld1q_u8(first.as_ptr()), vld1q_u8(second.as_ptr())) };
                let (first, second) = (vreinterpretq_u64_u8(first), vreinterpretq_u64_u8(second));
                to[pair].write(vreinterpretq_u8_u64(vzip1q_u64(first, second)));
                to[ROWS / 2 + pair].write(vreinterpretq_u8_u64(vzip2q_u64(first, second)));
            }
        }
    }
    // SAFETY: the loops above wrote every pair.
    unsafe { &*(&raw const *to as *const [Pair]) }
}

/// A panel, as deep as it is given, to (2 halves, depth / 8, 4 pairs).
#[inline]
#[target_feature(enable = "neon")]
fn pair_columns<'p>(panel: &[i8], to: &'p mut [MaybeUninit<Pair>]) -> &'p [Pair] {
    let to = &mut to[..panel.len() / 16];
    let (left, right) = to.split_at_mut(panel.len() / 32);
    let halves = left.as_chunks_mut::<4>().0.iter_mut().zip(right.as_chunks_mut::<4>().0);
    for (eights, (left, right)) in panel.as_chunks::<{ 8 * PANEL }>().0.iter().zip(halves) {
        // Of four columns each: four numbers, and the four below them.
        let (fours, below) = eights.as_chunks::<16>().0.split_at(4);
        for quad in 0..4 {
            // SAFETY: the 16 numbers of each are there.
            let (four, below) = unsafe { (vld1q_s8(fours[quad].as_ptr()), vld1q_s8(below[quad].as_ptr())) };
            let (four, below) = (vreinterpretq_u32_s8(four), vreinterpretq_u32_s8(below));
            let to = if quad < 2 { &mut left[2 * quad..] } else { &mut right[2 * (quad - 2)..] };
            to[0].write(vreinterpretq_u8_u32(vzip1q_u32(four, below)));
            to[1].write(vreinterpretq_u8_u32(vzip2q_u32(four, below)));
        }
    }
    // SAFETY: the loop above wrote every pair.
    unsafe { &*(&raw const *to as *const [Pair]) }
}

/// Eight rows times eight columns, (depth / 8, 4 pairs) each, to `out`, or added to what is there.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn tile(rows: &[Pair], columns: &[Pair], out: &mut [i32], stride: usize, add: bool) {
    assert_eq!(rows.len(), columns.len());
    // (4 pairs of rows, 4 pairs of columns, 2, 2)
    let mut sums = [[vdupq_n_s32(0); 4]; 4];
    // SAFETY: both sides are equally deep, a multiple of 16, and nothing beyond is loaded.
    unsafe {
        asm!(
            "2:",
            ".irp at, 0, 64",
            "ldp q0, q1, [{rows}, #\\at]",
            "ldp q4, q5, [{columns}, #\\at]",
            "smmla v16.4s, v0.16b, v4.16b",
            "smmla v20.4s, v1.16b, v4.16b",
            "ldp q2, q3, [{rows}, #\\at + 32]",
            "smmla v17.4s, v0.16b, v5.16b",
            "smmla v21.4s, v1.16b, v5.16b",
            "ldp q6, q7, [{columns}, #\\at + 32]",
            "smmla v24.4s, v2.16b, v4.16b",
            "smmla v28.4s, v3.16b, v4.16b",
            "smmla v25.4s, v2.16b, v5.16b",
            "smmla v29.4s, v3.16b, v5.16b",
            "smmla v18.4s, v0.16b, v6.16b",
            "smmla v22.4s, v1.16b, v6.16b",
            "smmla v19.4s, v0.16b, v7.16b",
            "smmla v23.4s, v1.16b, v7.16b",
            "smmla v26.4s, v2.16b, v6.16b",
            "smmla v30.4s, v3.16b, v6.16b",
            "smmla v27.4s, v2.16b, v7.16b",
            "smmla v31.4s, v3.16b, v7.16b",
            ".endr",
            "add {rows}, {rows}, #128",
            "add {columns}, {columns}, #128",
            "cmp {rows}, {end}",
            "b.ne 2b",
            rows = inout(reg) rows.as_ptr() => _,
            columns = inout(reg) columns.as_ptr() => _,
            end = in(reg) rows.as_ptr_range().end,
            inout("v16") sums[0][0], inout("v17") sums[0][1], inout("v18") sums[0][2], inout("v19") sums[0][3],
            inout("v20") sums[1][0], inout("v21") sums[1][1], inout("v22") sums[1][2], inout("v23") sums[1][3],
            inout("v24") sums[2][0], inout("v25") sums[2][1], inout("v26") sums[2][2], inout("v27") sums[2][3],
            inout("v28") sums[3][0], inout("v29") sums[3][1], inout("v30") sums[3][2], inout("v31") sums[3][3],
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            options(nostack, readonly),
        );
    }
    let out = out[..(ROWS - 1) * stride + PANEL / 2].as_mut_ptr();
    for (pair, sums) in sums.into_iter().enumerate() {
        let [a, b, c, d] = sums.map(|sums| vreinterpretq_s64_s32(sums));
        let rows = [[vzip1q_s64(a, b), vzip1q_s64(c, d)], [vzip2q_s64(a, b), vzip2q_s64(c, d)]];
        for (r, row) in rows.into_iter().enumerate() {
            for (quad, sums) in row.map(|sums| vreinterpretq_s32_s64(sums)).into_iter().enumerate() {
                // SAFETY: the last of these four numbers are the last of the slice above.
                unsafe {
                    let to = out.add((2 * pair + r) * stride + 4 * quad);
                    vst1q_s32(to, if add { vaddq_s32(sums, vld1q_s32(to)) } else { sums });
                }
            }
        }
    }
}
