//! Sixteen floats at a time, for passes that are written once.

use super::passes::{WEIGHT_LEVELS, WEIGHT_STEPS, exp2};

/// Lanes of a vector.
pub const LANES: usize = 16;

/// What a level by its steps lacks of the logarithm of its weight: that of 255 becomes log2(255).
const LARGEST_EXPONENT: f32 = 7.994_353 - WEIGHT_LEVELS / WEIGHT_STEPS;

/// A number in [-2^21, 2^21] that is added to this is rounded to a whole one, ties to even, which then stands in the
/// lowest bits of the sum.
pub const RAISE: f32 = 12_582_912.0;

/// Sixteen floats, in whatever registers an instruction set has for them.
///
/// Slices that are loaded from or stored to hold at least as many numbers as are moved; shorter ones panic.
pub trait Lanes: Copy {
    fn splat(value: f32) -> Self;
    fn load(from: &[f32]) -> Self;
    /// Whole numbers as floats.
    fn load_i32(from: &[i32]) -> Self;
    fn store(self, to: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once or twice.
    fn mul_add(self, by: Self, plus: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// `self` times 2 to the power of the whole number that `raised` holds above [`RAISE`]; the result is a normal number.
    fn scale(self, raised: Self) -> Self;
    fn sum(self) -> f32;
    fn largest(self) -> f32;
    /// Rounds 64 numbers in [-128, 127], ties to even, and XORs `encoding` onto their bytes.
    fn store_signed(four: [Self; 4], to: &mut [u8], encoding: u8);
    /// Rounds four numbers of each lane, in [-128, 127], ties to even, and lays their bytes into it side by side.
    fn pack(four: [Self; 4]) -> Self;
    /// 64 bytes, four a lane.
    fn load_bytes(from: &[u8]) -> Self;
    /// The bytes of all lanes, `encoding` XORed onto each.
    fn store_bytes(self, to: &mut [u8], encoding: u8);
    /// Turns a matrix of 16 by 16 round.
    #[inline(always)]
    fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
        let mut numbers = [[0.0; LANES]; LANES];
        for (row, to) in rows.iter().zip(&mut numbers) {
            row.store(to);
        }
        let mut turned = rows;
        for (column, to) in turned.iter_mut().enumerate() {
            let mut row = [0.0; LANES];
            for (to, numbers) in row.iter_mut().zip(&numbers) {
                *to = numbers[column];
            }
            *to = Self::load(&row);
        }
        turned
    }
    /// Sums of each lane's weights, as [`Lanes::store_weights`] adds them up.
    type Totals: Copy;
    fn no_totals() -> Self::Totals;
    fn store_totals(totals: Self::Totals, to: &mut [i32]);
    /// Turns levels of attention's weights into weights: level 255 is the largest weight, 255, and each
    /// [`WEIGHT_STEPS`](super::passes::WEIGHT_STEPS) below halve it; from 0 on downwards it is nothing. What is stored is
    /// 128 less, of each lane its four side by side. The weights are added to `totals`, up to 256 of a lane.
    fn store_weights(levels: [Self; 4], to: &mut [u8], totals: Self::Totals) -> Self::Totals;
}

/// What is XORed onto a weight's byte so that its 0 to 255 become -128 to 127.
pub const CENTRED: u8 = 0x80;

/// Levels as weights, rounded to no whole number yet, for lanes that look up none.
#[inline(always)]
pub fn weights<L: Lanes>(levels: [L; 4]) -> [L; 4] {
    let mut weights = levels;
    for weight in &mut weights {
        *weight = exp2(weight.mul_add(L::splat(1.0 / WEIGHT_STEPS), L::splat(LARGEST_EXPONENT)));
    }
    weights
}

/// A computation over [`Lanes`], compiled for each instruction set. `run` and all that it calls must be
/// `#[inline(always)]`, or it is compiled without the instructions that it is for.
pub trait Pass {
    type Output;

    fn run<L: Lanes>(self) -> Self::Output;
}

/// Plain Rust, for processors of which nothing is known.
#[derive(Clone, Copy)]
pub struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Portable(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Portable([value; LANES])
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Portable(std::array::from_fn(|i| from[i]))
    }

    #[inline(always)]
    fn load_i32(from: &[i32]) -> Self {
        Portable(std::array::from_fn(|i| from[i] as f32))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..LANES].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    // Not `f32::mul_add`: without the instruction, that is a call for every number.
    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        self.mul(by).add(plus)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f32::abs)
    }

    #[inline(always)]
    fn scale(self, raised: Self) -> Self {
        self.zip(raised, |value, raised| f32::from_bits(value.to_bits().wrapping_add(raised.to_bits() << 23)))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.0.iter().sum()
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.0.iter().fold(f32::NEG_INFINITY, |most, v| most.max(*v))
    }

    #[inline(always)]
    fn store_signed(four: [Self; 4], to: &mut [u8], encoding: u8) {
        for (part, to) in four.iter().zip(to[..4 * LANES].chunks_exact_mut(LANES)) {
            part.0.iter().zip(to).for_each(|(v, to)| *to = (v.round_ties_even() as i8).cast_unsigned() ^ encoding);
        }
    }

    #[inline(always)]
    fn pack(four: [Self; 4]) -> Self {
        let byte = |part: Portable, lane: usize| (part.0[lane].round_ties_even() as i8).cast_unsigned();
        let [a, b, c, d] = four;
        let lane = |i| u32::from_le_bytes([byte(a, i), byte(b, i), byte(c, i), byte(d, i)]);
        Portable(std::array::from_fn(|i| f32::from_bits(lane(i))))
    }

    #[inline(always)]
    fn load_bytes(from: &[u8]) -> Self {
        let lanes = from[..4 * LANES].as_chunks::<4>().0;
        Portable(std::array::from_fn(|i| f32::from_bits(u32::from_le_bytes(lanes[i]))))
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], encoding: u8) {
        for (lane, to) in self.0.iter().zip(to[..4 * LANES].as_chunks_mut::<4>().0) {
            *to = lane.to_bits().to_le_bytes().map(|byte| byte ^ encoding);
        }
    }

    type Totals = [i32; LANES];

    #[inline(always)]
    fn no_totals() -> Self::Totals {
        [0; LANES]
    }

    #[inline(always)]
    fn store_totals(totals: Self::Totals, to: &mut [i32]) {
        to[..LANES].copy_from_slice(&totals);
    }

    #[inline(always)]
    fn store_weights(levels: [Self; 4], to: &mut [u8], mut totals: Self::Totals) -> Self::Totals {
        let weights = weights(levels);
        for (lane, (to, total)) in to.as_chunks_mut::<4>().0[..LANES].iter_mut().zip(&mut totals).enumerate() {
            for (to, weight) in to.iter_mut().zip(&weights) {
                let weight = weight.0[lane].round_ties_even() as u8;
                *to = weight ^ CENTRED;
                *total += i32::from(weight);
            }
        }
        totals
    }
}
