//! What becomes of a product's sums. A kernel that can hands them over in registers, tile by tile; for the others they are
//! set aside, some columns at a time, and a pass takes them on.

use super::lanes::{LANES, Lanes, Pass};
use super::passes::{LEAST, gelu};

/// Takes sums to what they are for. Implementations must be `#[inline(always)]`, and so must what they call: see [`Pass`].
pub trait Epilogue {
    /// Takes the sums of `R` rows from `row` on and of `P` vectors of columns from `column` on, as floats.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "of kernels here, that of AVX-512 alone hands sums over")
    )]
    fn tile<L: Lanes, const R: usize, const P: usize>(&mut self, row: usize, column: usize, sums: &[[L; P]; R]);

    /// Takes the sums of all rows and of `columns` columns from `from` on: (rows, columns).
    fn set_aside<L: Lanes>(&mut self, from: usize, columns: usize, sums: &[i32]);
}

/// Every [`Epilogue`] that there is: which kernel takes it is known when the program runs.
pub enum To<'a> {
    Floats(Floats<'a>),
    Scores(Scores<'a>),
    Gathered(Gathered<'a>),
}

/// Takes sums that were set aside to what they are for.
pub struct Finish<'a, 't> {
    /// (rows, columns)
    pub sums: &'a [i32],
    pub columns: usize,
    /// The first of the columns.
    pub from: usize,
    pub to: &'a mut To<'t>,
}

impl Pass for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Finish { sums, columns, from, to } = self;
        match to {
            To::Floats(to) => to.set_aside::<L>(from, columns, sums),
            To::Scores(to) => to.set_aside::<L>(from, columns, sums),
            To::Gathered(to) => to.set_aside::<L>(from, columns, sums),
        }
    }
}

/// What becomes of a product's floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    Store,
    /// GELU with the error function.
    Gelu,
    /// Adds to what `out` holds.
    Add,
}

/// What becomes of a product's sums: `then((sum + lift) * row's scale * column's scale + bias)`.
pub struct Floats<'a> {
    /// (rows)
    pub row_scales: &'a [f32],
    /// (columns)
    pub column_scales: &'a [f32],
    /// (columns)
    pub bias: &'a [f32],
    /// (columns), with [`Then::Add`]: what the sums lack, where a row's bytes are [spread](Span) unevenly.
    pub lift: Option<&'a [f32]>,
    pub then: Then,
    /// Rows of floats, the n-th from `n * stride` on.
    pub out: &'a mut [f32],
    pub stride: usize,
}

impl Epilogue for Floats<'_> {
    #[inline(always)]
    fn tile<L: Lanes, const R: usize, const P: usize>(&mut self, row: usize, column: usize, sums: &[[L; P]; R]) {
        match (self.then, self.lift) {
            (Then::Store, _) => self.tile_as::<L, Store, R, P>(row, column, sums),
            (Then::Gelu, _) => self.tile_as::<L, Gelu, R, P>(row, column, sums),
            (Then::Add, None) => self.tile_as::<L, Add, R, P>(row, column, sums),
            (Then::Add, Some(_)) => self.tile_as::<L, Lifted, R, P>(row, column, sums),
        }
    }

    #[inline(always)]
    fn set_aside<L: Lanes>(&mut self, from: usize, columns: usize, sums: &[i32]) {
        match (self.then, self.lift) {
            (Then::Store, _) => self.set_aside_as::<L, Store>(from, columns, sums),
            (Then::Gelu, _) => self.set_aside_as::<L, Gelu>(from, columns, sums),
            (Then::Add, None) => self.set_aside_as::<L, Add>(from, columns, sums),
            (Then::Add, Some(_)) => self.set_aside_as::<L, Lifted>(from, columns, sums),
        }
    }
}

impl Floats<'_> {
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "of kernels here, that of AVX-512 alone hands sums over")
    )]
    #[inline(always)]
    fn tile_as<L: Lanes, O: Outcome, const R: usize, const P: usize>(
        &mut self,
        row: usize,
        column: usize,
        sums: &[[L; P]; R],
    ) {
        let [column_scales, bias, lift] = self.of_columns(column, P * LANES);
        let row_scales = &self.row_scales[row..][..R];
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(row + r) * self.stride + column..][..P * LANES];
            let scale = L::splat(row_scales[r]);
            for (p, sums) in sums.iter().enumerate() {
                let at = p * LANES;
                let constants = [&column_scales[at..], &bias[at..], &lift[at..]];
                O::finish(*sums, scale, constants, &mut out[at..]);
            }
        }
    }
}

impl<'a> Floats<'a> {
    #[inline(always)]
    fn set_aside_as<L: Lanes, O: Outcome>(&mut self, from: usize, columns: usize, sums: &[i32]) {
        let [column_scales, bias, lift] = self.of_columns(from, columns);
        let row_scales = &self.row_scales[..sums.len() / columns];
        for ((row, sums), row_scale) in sums.chunks_exact(columns).enumerate().zip(row_scales) {
            let scale = L::splat(*row_scale);
            let out = self.out[row * self.stride + from..][..columns].chunks_exact_mut(LANES);
            let scales = column_scales.chunks_exact(LANES);
            let constants = scales.zip(bias.chunks_exact(LANES)).zip(lift.chunks_exact(LANES));
            for ((sums, out), ((column_scales, bias), lift)) in sums.chunks_exact(LANES).zip(out).zip(constants) {
                O::finish(L::load_i32(sums), scale, [column_scales, bias, lift], out);
            }
        }
    }

    /// Scales, bias and lift of some columns; something, where there is no lift.
    #[inline(always)]
    fn of_columns(&self, from: usize, count: usize) -> [&'a [f32]; 3] {
        let Floats { column_scales, bias, lift, .. } = *self;
        let lift = lift.unwrap_or(bias);
        [&column_scales[from..][..count], &bias[from..][..count], &lift[from..][..count]]
    }
}

/// Each way to finish as a type: a closure would be compiled without the lanes' instructions.
trait Outcome {
    /// Takes a vector's sums with the constants of its columns to `out`.
    fn finish<L: Lanes>(sums: L, scale: L, constants: [&[f32]; 3], out: &mut [f32]);
}

#[inline(always)]
fn value<L: Lanes>(sums: L, scale: L, [column_scales, bias, _]: [&[f32]; 3]) -> L {
    sums.mul_add(scale.mul(L::load(column_scales)), L::load(bias))
}

struct Store;
struct Gelu;
struct Add;
struct Lifted;

impl Outcome for Store {
    #[inline(always)]
    fn finish<L: Lanes>(sums: L, scale: L, constants: [&[f32]; 3], out: &mut [f32]) {
        value(sums, scale, constants).store(out);
    }
}

impl Outcome for Gelu {
    #[inline(always)]
    fn finish<L: Lanes>(sums: L, scale: L, constants: [&[f32]; 3], out: &mut [f32]) {
        gelu(value(sums, scale, constants)).store(out);
    }
}

impl Outcome for Add {
    #[inline(always)]
    fn finish<L: Lanes>(sums: L, scale: L, constants: [&[f32]; 3], out: &mut [f32]) {
        value(sums, scale, constants).add(L::load(out)).store(out);
    }
}

impl Outcome for Lifted {
    #[inline(always)]
    fn finish<L: Lanes>(sums: L, scale: L, constants: [&[f32]; 3], out: &mut [f32]) {
        Add::finish(sums.add(L::load(constants[2])), scale, constants, out);
    }
}

/// Attention's scores, rows of keys and columns of queries: sums times the keys' scales, and the largest of each query.
pub struct Scores<'a> {
    /// (keys)
    pub key_scales: &'a [f32],
    /// (keys, queries)
    pub out: &'a mut [f32],
    /// (queries), [`LEAST`] before.
    pub most: &'a mut [f32],
}

impl Epilogue for Scores<'_> {
    #[inline(always)]
    fn tile<L: Lanes, const R: usize, const P: usize>(&mut self, row: usize, column: usize, sums: &[[L; P]; R]) {
        let queries = self.most.len();
        let most = &mut self.most[column..][..P * LANES];
        let key_scales = &self.key_scales[row..][..R];
        for p in 0..P {
            let mut largest = L::load(&most[p * LANES..]);
            for (r, sums) in sums.iter().enumerate() {
                let score = sums[p].mul(L::splat(key_scales[r]));
                score.store(&mut self.out[(row + r) * queries + column + p * LANES..]);
                largest = largest.max(score);
            }
            largest.store(&mut most[p * LANES..]);
        }
    }

    #[inline(always)]
    fn set_aside<L: Lanes>(&mut self, from: usize, columns: usize, sums: &[i32]) {
        let queries = self.most.len();
        for at in (0..columns).step_by(LANES) {
            // Of every fourth key each, so that none waits for the one before.
            let [mut a, mut b, mut c, mut d] = [L::splat(LEAST); 4];
            let rows = sums.chunks_exact(columns).zip(self.out.chunks_exact_mut(queries));
            for ((sums, out), scale) in rows.zip(self.key_scales) {
                let score = L::load_i32(&sums[at..]).mul(L::splat(*scale));
                score.store(&mut out[from + at..]);
                (a, b, c, d) = (b, c, d, a.max(score));
            }
            a.max(b).max(c.max(d)).store(&mut self.most[from + at..]);
        }
    }
}

/// A block's weighted values, rows of a value's numbers and columns of queries: added to those of earlier blocks.
pub struct Gathered<'a> {
    /// (queries): what those are to be multiplied with,
    pub keep: &'a [f32],
    /// and these.
    pub gain: &'a [f32],
    /// (width), of the block's values,
    pub scales: &'a [f32],
    /// and what comes back of the 128 that weights are stored less.
    pub offsets: &'a [f32],
    /// (width, queries)
    pub out: &'a mut [f32],
}

impl Epilogue for Gathered<'_> {
    #[inline(always)]
    fn tile<L: Lanes, const R: usize, const P: usize>(&mut self, row: usize, column: usize, sums: &[[L; P]; R]) {
        let queries = self.keep.len();
        let (scales, offsets) = (&self.scales[row..][..R], &self.offsets[row..][..R]);
        let (keep, gain) = (&self.keep[column..][..P * LANES], &self.gain[column..][..P * LANES]);
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(row + r) * queries + column..][..P * LANES];
            for (p, sums) in sums.iter().enumerate() {
                let at = p * LANES;
                let factors = [L::load(&keep[at..]), L::load(&gain[at..])];
                gather(*sums, factors, [scales[r], offsets[r]], &mut out[at..]);
            }
        }
    }

    #[inline(always)]
    fn set_aside<L: Lanes>(&mut self, from: usize, columns: usize, sums: &[i32]) {
        let queries = self.keep.len();
        for at in (0..columns).step_by(LANES) {
            let column = from + at;
            let factors = [L::load(&self.keep[column..]), L::load(&self.gain[column..])];
            let rows = sums.chunks_exact(columns).zip(self.out.chunks_exact_mut(queries));
            for ((sums, out), (scale, offset)) in rows.zip(self.scales.iter().zip(self.offsets)) {
                gather(L::load_i32(&sums[at..]), factors, [*scale, *offset], &mut out[column..]);
            }
        }
    }
}

#[inline(always)]
fn gather<L: Lanes>(sums: L, [keep, gain]: [L; 2], [scale, offset]: [f32; 2], out: &mut [f32]) {
    let block = sums.mul_add(L::splat(scale), L::splat(offset));
    L::load(out).mul_add(keep, block.mul(gain)).store(out);
}
