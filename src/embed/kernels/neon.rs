//! 64-bit Arm: NEON, which all of them have.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::lanes::{CENTRED, LANES, Lanes, Pass};
use super::weights::WEIGHTS;
use super::{Kernel, LaneSet, Left, PANEL, Right, Set};

/// Rows of a tile: sums of 16 columns are eight registers for each, which leaves as many for what is multiplied.
const ROWS: usize = 2;

pub struct Neon;

impl Kernel for Neon {
    fn name(&self) -> &'static str {
        "neon"
    }

    fn lanes(&self) -> LaneSet {
        LaneSet(Set::Neon)
    }

    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        // SAFETY: every processor for which this is compiled has the instructions.
        unsafe { multiply(left, right, out, stride) }
    }
}

#[target_feature(enable = "neon")]
fn multiply(left: Left, right: Right, out: &mut [i32], stride: usize) {
    for panel in 0..right.panel_count() {
        let numbers = &right.panels[panel * PANEL * right.depth..][..PANEL * right.depth];
        for row in (0..left.rows).step_by(ROWS) {
            // The last one may be without a second: there is room for it.
            let rows = from_fn(|r| &left.bytes[(row + r) * left.stride..][..right.depth]);
            for (r, sums) in tile(rows, numbers).into_iter().enumerate() {
                let out = &mut out[(row + r) * stride + panel * PANEL..][..PANEL];
                // SAFETY: the 16 numbers are there.
                unsafe { store(sums, out.as_mut_ptr()) }
            }
        }
    }
}

/// Stores a row's sums of 16 columns.
///
/// # Safety
/// `to` is of 16 numbers.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn store([a, b, c, d]: [int32x4_t; 4], to: *mut i32) {
    // SAFETY: as the caller says.
    unsafe { vst1q_s32_x4(to, int32x4x4_t(a, b, c, d)) }
}

/// Four columns times both rows: eight numbers of each column, four in register `$p` and four in `$q`, times eight of
/// each row, v0 and v1 or v2 and v3. Two sums are kept of each column, since what is added to them are two, of 32 bits.
macro_rules! four_columns {
    ($p:literal, $q:literal, $a:tt $b:tt, $c:tt $d:tt) => {
        // Braces keep each instruction on its line.
        concat! {
            "smull v8.8h, ", $p, ".8b, v0.8b\n",
            "smull2 v9.8h, ", $p, ".16b, v0.16b\n",
            "smull v10.8h, ", $p, ".8b, v2.8b\n",
            "smull2 v11.8h, ", $p, ".16b, v2.16b\n",
            "smlal v8.8h, ", $q, ".8b, v1.8b\n",
            "smlal2 v9.8h, ", $q, ".16b, v1.16b\n",
            "smlal v10.8h, ", $q, ".8b, v3.8b\n",
            "smlal2 v11.8h, ", $q, ".16b, v3.16b\n",
            "sadalp ", $a, ".4s, v8.8h\n",
            "sadalp ", $b, ".4s, v9.8h\n",
            "sadalp ", $c, ".4s, v10.8h\n",
            "sadalp ", $d, ".4s, v11.8h\n",
        }
    };
}

/// Rows times a panel. In assembly, since a compiler that sees v0 to v3 repeat themselves has better ideas, and runs
/// out of registers over them.
#[inline]
#[target_feature(enable = "neon")]
fn tile(rows: [&[u8]; ROWS], panel: &[i8]) -> [[int32x4_t; 4]; ROWS] {
    let mut sums = [[[vdupq_n_s32(0); 2]; 4]; ROWS];
    // SAFETY: the rows are as deep as the panel, a multiple of 64, and nothing beyond that depth is loaded.
    unsafe {
        asm!(
            "2:",
            "ld1r {{v0.4s}}, [{row0}], #4",
            "ld1r {{v1.4s}}, [{row0}], #4",
            "ld1r {{v2.4s}}, [{row1}], #4",
            "ld1r {{v3.4s}}, [{row1}], #4",
            "ldp q4, q5, [{panel}]",
            "ldp q6, q7, [{panel}, #64]",
            four_columns!("v4", "v6", "v16" "v17", "v24" "v25"),
            four_columns!("v5", "v7", "v18" "v19", "v26" "v27"),
            "ldp q4, q5, [{panel}, #32]",
            "ldp q6, q7, [{panel}, #96]",
            four_columns!("v4", "v6", "v20" "v21", "v28" "v29"),
            four_columns!("v5", "v7", "v22" "v23", "v30" "v31"),
            "add {panel}, {panel}, #128",
            "cmp {panel}, {end}",
            "b.ne 2b",
            row0 = inout(reg) rows[0].as_ptr() => _,
            row1 = inout(reg) rows[1].as_ptr() => _,
            panel = inout(reg) panel.as_ptr() => _,
            end = in(reg) panel.as_ptr_range().end,
            inout("v16") sums[0][0][0], inout("v17") sums[0][0][1],
            inout("v18") sums[0][1][0], inout("v19") sums[0][1][1],
            inout("v20") sums[0][2][0], inout("v21") sums[0][2][1],
            inout("v22") sums[0][3][0], inout("v23") sums[0][3][1],
            inout("v24") sums[1][0][0], inout("v25") sums[1][0][1],
            inout("v26") sums[1][1][0], inout("v27") sums[1][1][1],
            inout("v28") sums[1][2][0], inout("v29") sums[1][2][1],
            inout("v30") sums[1][3][0], inout("v31") sums[1][3][1],
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
            out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            options(nostack, readonly),
        );
    }
    sums.map(|sums| from_fn(|quad| vpaddq_s32(sums[quad][0], sums[quad][1])))
}

/// Runs a pass with these instructions.
pub(super) fn run<P: Pass>(pass: P) -> P::Output {
    pass.run::<Quad>()
}

#[derive(Clone, Copy)]
struct Quad([float32x4_t; 4]);

impl Quad {
    #[inline(always)]
    fn map(self, f: impl Fn(float32x4_t) -> float32x4_t) -> Self {
        Quad(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Quad(from_fn(|i| f(self.0[i], other.0[i])))
    }

    /// All lanes to one register.
    #[inline(always)]
    fn join(self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> float32x4_t {
        let [a, b, c, d] = self.0;
        f(f(a, b), f(c, d))
    }
}

// SAFETY of the blocks below: the instructions are there wherever this is compiled, and loads and stores stay within
// slices whose length was checked.
impl Lanes for Quad {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Quad([vdupq_n_f32(value); 4]) }
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = from[..LANES].as_ptr();
        // SAFETY: see above.
        unsafe { Quad(from_fn(|i| vld1q_f32(from.add(4 * i)))) }
    }

    #[inline(always)]
    fn load_i32(from: &[i32]) -> Self {
        let from = from[..LANES].as_ptr();
        // SAFETY: see above.
        unsafe { Quad(from_fn(|i| vcvtq_f32_s32(vld1q_s32(from.add(4 * i))))) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = to[..LANES].as_mut_ptr();
        // SAFETY: see above.
        unsafe {
            for (i, four) in self.0.into_iter().enumerate() {
                vst1q_f32(to.add(4 * i), four);
            }
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { self.zip(other, |a, b| vaddq_f32(a, b)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { self.zip(other, |a, b| vsubq_f32(a, b)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { self.zip(other, |a, b| vmulq_f32(a, b)) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { self.zip(other, |a, b| vdivq_f32(a, b)) }
    }

    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        // SAFETY: see above.
        unsafe { Quad(from_fn(|i| vfmaq_f32(plus.0[i], self.0[i], by.0[i]))) }
    }

    // Of a number and none (NaN), these give the number, as other instruction sets do where it comes second.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { self.zip(other, |a, b| vminnmq_f32(a, b)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { self.zip(other, |a, b| vmaxnmq_f32(a, b)) }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        unsafe { self.map(|a| vabsq_f32(a)) }
    }

    #[inline(always)]
    fn scale(self, raised: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            self.zip(raised, |value, raised| {
                let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(raised));
                vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(value), exponent))
            })
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe { vaddvq_f32(self.join(|a, b| vaddq_f32(a, b))) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see above.
        unsafe { vmaxnmvq_f32(self.join(|a, b| vmaxnmq_f32(a, b))) }
    }

    #[inline(always)]
    fn store_signed(four: [Self; 4], to: &mut [u8], encoding: u8) {
        // SAFETY: see above.
        unsafe {
            for (bytes, to) in signed(four).into_iter().zip(to[..4 * LANES].as_chunks_mut::<LANES>().0) {
                store_bytes(bytes, to, encoding);
            }
        }
    }

    #[inline(always)]
    fn pack(four: [Self; 4]) -> Self {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = signed(four);
            let [low, high] = [vzip1q_u8(a, b), vzip2q_u8(a, b)].map(|pairs| vreinterpretq_u16_u8(pairs));
            let [low2, high2] = [vzip1q_u8(c, d), vzip2q_u8(c, d)].map(|pairs| vreinterpretq_u16_u8(pairs));
            let fours =
                [vzip1q_u16(low, low2), vzip2q_u16(low, low2), vzip1q_u16(high, high2), vzip2q_u16(high, high2)];
            Quad(fours.map(|four| vreinterpretq_f32_u16(four)))
        }
    }

    #[inline(always)]
    fn load_bytes(from: &[u8]) -> Self {
        let from = from[..4 * LANES].as_ptr();
        // SAFETY: see above.
        unsafe { Quad(from_fn(|i| vreinterpretq_f32_u8(vld1q_u8(from.add(16 * i))))) }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], encoding: u8) {
        // SAFETY: see above.
        unsafe {
            for (four, to) in self.0.into_iter().zip(to[..4 * LANES].as_chunks_mut::<LANES>().0) {
                store_bytes(vreinterpretq_u8_f32(four), to, encoding);
            }
        }
    }

    /// In 16 bits, which hold 256 weights of 255.
    type Totals = [uint16x8_t; 2];

    #[inline(always)]
    fn no_totals() -> Self::Totals {
        // SAFETY: see above.
        unsafe { [vdupq_n_u16(0); 2] }
    }

    #[inline(always)]
    fn store_totals(totals: Self::Totals, to: &mut [i32]) {
        for (totals, to) in totals.into_iter().zip(to[..LANES].as_chunks_mut::<{ LANES / 2 }>().0) {
            // SAFETY: see above.
            unsafe {
                vst1q_s32(to.as_mut_ptr(), vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(totals))));
                vst1q_s32(to.as_mut_ptr().add(4), vreinterpretq_s32_u32(vmovl_high_u16(totals)));
            }
        }
    }

    #[inline(always)]
    fn store_weights(levels: [Self; 4], to: &mut [u8], mut totals: Self::Totals) -> Self::Totals {
        // SAFETY: see above.
        unsafe {
            let mut levels = unsigned(levels);
            let quarters = WEIGHTS.as_chunks::<64>().0;
            let first = vld1q_u8_x4(quarters[0].as_ptr());
            let mut weights = levels.map(|level| vqtbl4q_u8(first, level));
            // A level that is not within a quarter of the table leaves its weight as it is.
            for quarter in &quarters[1..] {
                let quarter = vld1q_u8_x4(quarter.as_ptr());
                for (weight, level) in weights.iter_mut().zip(&mut levels) {
                    *level = vsubq_u8(*level, vdupq_n_u8(64));
                    *weight = vqtbx4q_u8(*weight, quarter, *level);
                }
            }
            for weight in weights {
                totals[0] = vaddw_u8(totals[0], vget_low_u8(weight));
                totals[1] = vaddw_high_u8(totals[1], weight);
            }
            let [a, b, c, d] = weights.map(|weight| veorq_u8(weight, vdupq_n_u8(CENTRED)));
            vst4q_u8(to[..4 * LANES].as_mut_ptr(), uint8x16x4_t(a, b, c, d));
        }
        totals
    }
}

/// Rounds 64 numbers in [-128, 127] to bytes.
#[inline]
#[target_feature(enable = "neon")]
fn signed(four: [Quad; 4]) -> [uint8x16_t; 4] {
    four.map(|Quad(part)| {
        let [a, b, c, d] = part.map(|numbers| vreinterpretq_s16_s32(vcvtnq_s32_f32(numbers)));
        // The lower halves are all there is to these numbers.
        let (low, high) = (vuzp1q_s16(a, b), vuzp1q_s16(c, d));
        vreinterpretq_u8_s8(vqmovn_high_s16(vqmovn_s16(low), high))
    })
}

/// Rounds 64 numbers to bytes; what lies below 0 becomes 0, what lies above 255 (and below 2^16) 255.
#[inline]
#[target_feature(enable = "neon")]
fn unsigned(four: [Quad; 4]) -> [uint8x16_t; 4] {
    four.map(|Quad(part)| {
        let [a, b, c, d] = part.map(|numbers| vreinterpretq_u16_u32(vcvtnq_u32_f32(numbers)));
        let (low, high) = (vuzp1q_u16(a, b), vuzp1q_u16(c, d));
        vqmovn_high_u16(vqmovn_u16(low), high)
    })
}

#[inline]
#[target_feature(enable = "neon")]
fn store_bytes(bytes: uint8x16_t, to: &mut [u8; 16], encoding: u8) {
    let bytes = veorq_u8(bytes, vdupq_n_u8(encoding));
    // SAFETY: the 16 bytes are there.
    unsafe { vst1q_u8(to.as_mut_ptr(), bytes) }
}
