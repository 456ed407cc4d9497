//! What attention's queries and values are made into, to be sides of products.

use super::PANEL;
use super::aligned::bytes_of_mut;
use super::lanes::{LANES, Lanes, Pass, RAISE};
use super::passes::{CENTRE, LEVELS, STEP};

/// Packs rows of bytes as the columns of a right matrix.
pub struct PackColumns<'a> {
    /// (columns, depth), a multiple of 16 of them, and of 64.
    pub bytes: &'a [u8],
    pub depth: usize,
    /// (panels, depth / 4, 16, 4)
    pub panels: &'a mut [i8],
    /// (columns)
    pub sums: &'a mut [i32],
}

impl Pass for PackColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let PackColumns { bytes, depth, panels, sums } = self;
        let columns = bytes.chunks_exact(PANEL * depth).zip(sums.chunks_exact_mut(PANEL));
        for (panel, (bytes, sums)) in panels.chunks_exact_mut(PANEL * depth).zip(columns) {
            for (at, to) in bytes_of_mut(panel).chunks_exact_mut(PANEL * STEP).enumerate() {
                let mut rows = [L::splat(0.0); LANES];
                for (row, from) in rows.iter_mut().zip(bytes.chunks_exact(depth)) {
                    *row = L::load_bytes(&from[at * STEP..]);
                }
                for (fours, to) in L::transpose(rows).into_iter().zip(to.chunks_exact_mut(STEP)) {
                    fours.store_bytes(to, 0);
                }
            }
            for (sum, bytes) in sums.iter_mut().zip(bytes.chunks_exact(depth)) {
                *sum = 0;
                for byte in bytes {
                    *sum += i32::from(byte.cast_signed());
                }
            }
        }
    }
}

/// Quantizes values, each column with a scale of its own, as the rows of a left matrix.
pub struct QuantizeValues<'a> {
    /// (rows, width), a multiple of 16.
    pub input: &'a [f32],
    pub width: usize,
    pub rows: usize,
    /// (width, keys), a multiple of 64; behind the rows are zeros.
    pub out: &'a mut [u8],
    pub keys: usize,
    pub encoding: u8,
    /// (width): what a column's numbers are to be multiplied with,
    pub scales: &'a mut [f32],
    /// and what their product with weights that are [`CENTRE`] less lacks.
    pub offsets: &'a mut [f32],
}

impl Pass for QuantizeValues<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let QuantizeValues { input, width, rows, out, keys, encoding, scales, offsets } = self;
        for at in (0..width).step_by(LANES) {
            let mut most = L::splat(0.0);
            for row in 0..rows {
                most = most.max(L::load(&input[row * width + at..]).abs());
            }
            let scale = most.mul(L::splat(1.0 / LEVELS)).max(L::splat(f32::MIN_POSITIVE));
            let inverse = L::splat(1.0).div(scale);
            let mut sum = L::splat(0.0);
            for key in (0..keys).step_by(STEP) {
                let mut fours = [L::splat(0.0); LANES];
                for (i, packed) in fours.iter_mut().enumerate() {
                    let mut four = [L::splat(0.0); 4];
                    for (row, number) in (key + 4 * i..rows).zip(&mut four) {
                        *number = L::load(&input[row * width + at..]).mul(inverse);
                        sum = sum.add(number.add(L::splat(RAISE)).sub(L::splat(RAISE)));
                    }
                    *packed = L::pack(four);
                }
                for (i, row) in L::transpose(fours).into_iter().enumerate() {
                    row.store_bytes(&mut out[(at + i) * keys + key..], encoding);
                }
            }
            scale.store(&mut scales[at..]);
            sum.mul(scale).mul(L::splat(CENTRE)).store(&mut offsets[at..]);
        }
    }
}
