//! x86-64 with AVX-512 and its VNNI: four 8-bit products a lane and instruction.

use std::arch::x86_64::*;

use super::epilogues::{Epilogue, To};
use super::lanes::{CENTRED, LANES, Lanes, Pass};
use super::weights::WEIGHTS;
use super::{Aligned, Kernel, LaneSet, Left, PANEL, Right, Set};

/// Rows and panels of a tile: 24 accumulators, 4 panels and a row's numbers in 32 registers.
const ROWS: usize = 6;
const PANELS: usize = 4;

pub struct Avx512Vnni(());

impl Avx512Vnni {
    pub fn new() -> Option<Avx512Vnni> {
        supports_lanes().then_some(Avx512Vnni(()))
    }
}

/// Whether [`run`] may be called.
pub(super) fn supports_lanes() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vnni")
}

impl Kernel for Avx512Vnni {
    fn name(&self) -> &'static str {
        "avx512vnni"
    }

    // The instruction multiplies unsigned with signed numbers: signed ones are stored 128 larger, and what that adds is
    // taken away where a sum starts.
    fn encoding(&self) -> u8 {
        0x80
    }

    fn depth_step(&self) -> usize {
        4
    }

    fn lanes(&self) -> LaneSet {
        LaneSet(Set::Avx512)
    }

    unsafe fn multiply(&self, left: Left, right: Right, out: &mut [i32], stride: usize) {
        // SAFETY: `new` found the instructions; the caller promises the sizes.
        unsafe { multiply(left, right, &mut ToSums { out, stride }) }
    }

    // Sums never leave the registers.
    unsafe fn multiply_to(&self, left: Left, right: Right, _sums: &mut Aligned<i32>, to: &mut To) {
        // SAFETY: as above.
        unsafe {
            match to {
                To::Floats(to) => multiply(left, right, &mut ToEpilogue(to)),
                To::Scores(to) => multiply(left, right, &mut ToEpilogue(to)),
                To::Gathered(to) => multiply(left, right, &mut ToEpilogue(to)),
            }
        }
    }
}

/// Takes a tile's sums out of the registers.
trait Drain {
    /// Sums of `R` rows from `row` on and of `P` panels from `panel` on.
    ///
    /// # Safety
    /// The rows and panels are those of the product that it was made for, and the processor has the instructions.
    unsafe fn drain<const R: usize, const P: usize>(&mut self, row: usize, panel: usize, sums: [[__m512i; P]; R]);
}

struct ToSums<'a> {
    out: &'a mut [i32],
    stride: usize,
}

impl Drain for ToSums<'_> {
    #[inline(always)]
    unsafe fn drain<const R: usize, const P: usize>(&mut self, row: usize, panel: usize, sums: [[__m512i; P]; R]) {
        for (r, sums) in sums.iter().enumerate() {
            for (p, sum) in sums.iter().enumerate() {
                // SAFETY: the place is there, as the caller promises.
                unsafe {
                    let out = self.out.as_mut_ptr().add((row + r) * self.stride + (panel + p) * PANEL);
                    _mm512_storeu_si512(out.cast(), *sum);
                }
            }
        }
    }
}

struct ToEpilogue<'a, E>(&'a mut E);

impl<E: Epilogue> Drain for ToEpilogue<'_, E> {
    #[inline(always)]
    unsafe fn drain<const R: usize, const P: usize>(&mut self, row: usize, panel: usize, sums: [[__m512i; P]; R]) {
        let mut floats = [[Zmm::splat(0.0); P]; R];
        for (floats, sums) in floats.iter_mut().zip(&sums) {
            for (float, sum) in floats.iter_mut().zip(sums) {
                // SAFETY: the caller has the instructions.
                *float = Zmm(unsafe { _mm512_cvtepi32_ps(*sum) });
            }
        }
        self.0.tile(row, panel * PANEL, &floats);
    }
}

/// Each strip of panels stays in the first cache while the rows pass by.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
unsafe fn multiply(left: Left, right: Right, to: &mut impl Drain) {
    let panels = right.panel_count();
    for panel in (0..panels).step_by(PANELS) {
        // SAFETY: the sizes are those of the caller's promise.
        unsafe {
            match panels - panel {
                1 => strip::<1>(left, right, panel, to),
                2 => strip::<2>(left, right, panel, to),
                3 => strip::<3>(left, right, panel, to),
                _ => strip::<PANELS>(left, right, panel, to),
            }
        }
    }
}

/// All rows times `P` panels from `panel` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
unsafe fn strip<const P: usize>(left: Left, right: Right, panel: usize, to: &mut impl Drain) {
    for row in (0..left.rows).step_by(ROWS) {
        // SAFETY: the rows are there, as the caller promises.
        unsafe {
            match left.rows - row {
                1 => tile::<1, P>(left, row, right, panel, to),
                2 => tile::<2, P>(left, row, right, panel, to),
                3 => tile::<3, P>(left, row, right, panel, to),
                4 => tile::<4, P>(left, row, right, panel, to),
                5 => tile::<5, P>(left, row, right, panel, to),
                _ => tile::<ROWS, P>(left, row, right, panel, to),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
unsafe fn tile<const R: usize, const P: usize>(
    left: Left,
    row: usize,
    right: Right,
    panel: usize,
    to: &mut impl Drain,
) {
    // SAFETY: `R` rows from `row` on and `P` panels are there, each `depth` deep, as the caller promises.
    unsafe {
        let start: [__m512i; P] = std::array::from_fn(|p| {
            let sums = _mm512_loadu_si512(right.sums.as_ptr().add((panel + p) * PANEL).cast());
            _mm512_mullo_epi32(sums, _mm512_set1_epi32(-128))
        });
        let mut sums = [start; R];
        let rows: [*const u8; R] = std::array::from_fn(|r| left.bytes.as_ptr().add((row + r) * left.stride));
        let panels: [*const i8; P] =
            std::array::from_fn(|p| right.panels.as_ptr().add((panel + p) * PANEL * right.depth));
        for k in (0..right.depth).step_by(4) {
            let columns: [__m512i; P] = std::array::from_fn(|p| _mm512_loadu_si512(panels[p].add(k * PANEL).cast()));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let numbers = _mm512_set1_epi32(row.add(k).cast::<i32>().read_unaligned());
                for (sum, columns) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbusd_epi32(*sum, numbers, columns);
                }
            }
        }
        to.drain(row, panel, sums);
    }
}

/// Runs a pass with these instructions.
///
/// # Safety
/// [`supports_lanes`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
pub(super) unsafe fn run<P: Pass>(pass: P) -> P::Output {
    pass.run::<Zmm>()
}

#[derive(Clone, Copy)]
struct Zmm(__m512);

// SAFETY of the blocks below: lanes of this kind are used by passes that `run` runs, whose caller promises the
// instructions; loads and stores stay within slices whose length was checked.
impl Lanes for Zmm {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_loadu_ps(from[..LANES].as_ptr())) }
    }

    #[inline(always)]
    fn load_i32(from: &[i32]) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_cvtepi32_ps(_mm512_loadu_si512(from[..LANES].as_ptr().cast()))) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to[..LANES].as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_div_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_fmadd_ps(self.0, by.0, plus.0)) }
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_min_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_max_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_abs_ps(self.0)) }
    }

    #[inline(always)]
    fn scale(self, raised: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(raised.0));
            Zmm(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), exponent)))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    fn store_signed(four: [Self; 4], to: &mut [u8], encoding: u8) {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = four;
            let (a, b) = (_mm512_cvtps_epi32(a.0), _mm512_cvtps_epi32(b.0));
            let (c, d) = (_mm512_cvtps_epi32(c.0), _mm512_cvtps_epi32(d.0));
            let bytes = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            store_in_order(bytes, to, encoding);
        }
    }

    #[inline(always)]
    fn pack(four: [Self; 4]) -> Self {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = four;
            let (a, b) = (_mm512_cvtps_epi32(a.0), _mm512_cvtps_epi32(b.0));
            let (c, d) = (_mm512_cvtps_epi32(c.0), _mm512_cvtps_epi32(d.0));
            let bytes = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            Zmm(_mm512_castsi512_ps(side_by_side(bytes)))
        }
    }

    #[inline(always)]
    fn load_bytes(from: &[u8]) -> Self {
        // SAFETY: see above.
        unsafe { Zmm(_mm512_castsi512_ps(_mm512_loadu_si512(from[..4 * LANES].as_ptr().cast()))) }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], encoding: u8) {
        // SAFETY: see above.
        unsafe {
            let bytes = _mm512_xor_si512(_mm512_castps_si512(self.0), _mm512_set1_epi8(encoding.cast_signed()));
            _mm512_storeu_si512(to[..4 * LANES].as_mut_ptr().cast(), bytes);
        }
    }

    #[inline(always)]
    fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
        let mut turned = rows;
        // SAFETY: see above.
        unsafe {
            // Of four rows each, four by four numbers in every quarter of a register are turned.
            let mut fours = rows;
            for at in [0, 4, 8, 12] {
                let [a, b, c, d] = [rows[at].0, rows[at + 1].0, rows[at + 2].0, rows[at + 3].0];
                let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (low2, high2) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                let [low, high, low2, high2] =
                    [_mm512_castps_pd(low), _mm512_castps_pd(high), _mm512_castps_pd(low2), _mm512_castps_pd(high2)];
                fours[at] = Zmm(_mm512_castpd_ps(_mm512_unpacklo_pd(low, low2)));
                fours[at + 1] = Zmm(_mm512_castpd_ps(_mm512_unpackhi_pd(low, low2)));
                fours[at + 2] = Zmm(_mm512_castpd_ps(_mm512_unpacklo_pd(high, high2)));
                fours[at + 3] = Zmm(_mm512_castpd_ps(_mm512_unpackhi_pd(high, high2)));
            }
            // Then the quarters, which are four by four too.
            for at in [0, 1, 2, 3] {
                let [a, b, c, d] = [fours[at].0, fours[at + 4].0, fours[at + 8].0, fours[at + 12].0];
                let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (even2, odd2) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                turned[at] = Zmm(_mm512_shuffle_f32x4::<0x88>(even, even2));
                turned[at + 4] = Zmm(_mm512_shuffle_f32x4::<0x88>(odd, odd2));
                turned[at + 8] = Zmm(_mm512_shuffle_f32x4::<0xdd>(even, even2));
                turned[at + 12] = Zmm(_mm512_shuffle_f32x4::<0xdd>(odd, odd2));
            }
        }
        turned
    }

    type Totals = __m512i;

    #[inline(always)]
    fn no_totals() -> Self::Totals {
        // SAFETY: see above.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn store_totals(totals: Self::Totals, to: &mut [i32]) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(to[..LANES].as_mut_ptr().cast(), totals) }
    }

    #[inline(always)]
    fn store_weights(levels: [Self; 4], to: &mut [u8], totals: Self::Totals) -> Self::Totals {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = levels;
            let (a, b) = (_mm512_cvtps_epi32(a.0), _mm512_cvtps_epi32(b.0));
            let (c, d) = (_mm512_cvtps_epi32(c.0), _mm512_cvtps_epi32(d.0));
            // Packing saturates: what lies below 0 becomes 0.
            let levels = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            let [t0, t1, t2, t3] = [0, 64, 128, 192].map(|at| WEIGHTS.as_ptr().add(at).cast::<__m512i>());
            let low = _mm512_permutex2var_epi8(t0.read_unaligned(), levels, t1.read_unaligned());
            let high = _mm512_permutex2var_epi8(t2.read_unaligned(), levels, t3.read_unaligned());
            let weights = _mm512_mask_blend_epi8(_mm512_movepi8_mask(levels), low, high);
            let weights = side_by_side(weights);
            let centred = _mm512_xor_si512(weights, _mm512_set1_epi8(CENTRED.cast_signed()));
            _mm512_storeu_si512(to[..4 * LANES].as_mut_ptr().cast(), centred);
            _mm512_dpbusd_epi32(totals, weights, _mm512_set1_epi8(1))
        }
    }
}

/// Packing leaves four lanes of each of the four packed in a quarter: those of a lane are put side by side.
#[inline(always)]
unsafe fn side_by_side(bytes: __m512i) -> __m512i {
    // SAFETY: the caller has the instructions.
    unsafe {
        let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(order))
    }
}

/// Packing works within quarters: their fours of bytes are put back in order.
#[inline(always)]
unsafe fn store_in_order(bytes: __m512i, to: &mut [u8], encoding: u8) {
    // SAFETY: the caller has the instructions; 64 bytes are there.
    unsafe {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let bytes = _mm512_permutexvar_epi32(order, bytes);
        let bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8(encoding.cast_signed()));
        _mm512_storeu_si512(to[..64].as_mut_ptr().cast(), bytes);
    }
}
