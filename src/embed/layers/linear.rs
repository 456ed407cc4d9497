//! A linear layer with what surrounds it: LayerNorm before; bias, GELU or a residual after.

use super::workers::{Scratch, Workers};
use crate::embed::blocks::{Before, Matrix, NormWeights};
use crate::embed::kernels::epilogues::{Floats, Then, To};
use crate::embed::kernels::passes::{self, LEVELS, Norm, NormRows, QuantizeRows, Span};
use crate::embed::kernels::{Aligned, DEPTH_STEP, Engaged, Left, Panels, ROW_STEP};

/// Rows that are worked on together: they stay in the second cache while the weights pass by.
pub const ROWS: usize = 64;

/// Most numbers that a product sums up: so many of the largest magnitude fit into 32 bits.
const MOST_INPUTS: usize = 1 << 17;

impl NormWeights {
    pub fn view(&self) -> Norm<'_> {
        Norm { gamma: &self.gamma, beta: &self.beta, epsilon: self.epsilon }
    }

    /// Whether it takes rows of so many numbers.
    pub fn fits(&self, width: usize) -> bool {
        self.gamma.len() == width && self.beta.len() == width && width.is_multiple_of(ROW_STEP)
    }

    /// Normalises rows, (rows, width), in place.
    pub fn run(&self, workers: &Workers, rows: &mut [f32]) {
        let width = self.gamma.len();
        workers.share(rows, workers.rows_a_part(rows.len() / width, ROWS) * width, |_, rows, engaged, scratch| {
            engaged.run(NormRows { rows, norm: self.view(), row: scratch.row.at_least(width) });
        });
    }
}

/// `before(input) * weights * scales + bias`, in floats.
pub struct Linear {
    pub before: Before,
    /// (inputs, outputs)
    pub weights: Panels,
    /// (outputs): what a whole number of the weights stands for, a LayerScale that follows included.
    pub scales: Vec<f32>,
    /// (outputs), LayerScale included
    pub bias: Vec<f32>,
    pub inputs: usize,
}

impl Linear {
    /// In 8 bits, each output in steps of its own; whole numbers that are small enough stay as they are. `None` where the sides
    /// are no multiples of 16, or sums would not fit into 32 bits.
    pub fn pack(before: Before, matrix: Matrix) -> Option<Linear> {
        let Matrix { weights, inputs, mut scales, bias } = matrix;
        let outputs = scales.len();
        let whole = inputs.is_multiple_of(ROW_STEP) && outputs.is_multiple_of(ROW_STEP);
        if !whole || inputs == 0 || inputs > MOST_INPUTS || outputs == 0 {
            return None;
        }
        let mut largest = vec![0.0f32; outputs];
        let mut whole = vec![true; outputs];
        for row in weights.chunks_exact(outputs) {
            largest.iter_mut().zip(row).for_each(|(most, v)| *most = most.max(v.abs()));
            whole.iter_mut().zip(row).for_each(|(whole, v)| *whole &= v.trunc() == *v);
        }
        let step = |(most, whole): (&f32, &bool)| match *whole && *most <= LEVELS {
            true => 1.0,
            false => (most / LEVELS).max(f32::MIN_POSITIVE),
        };
        let steps: Vec<f32> = largest.iter().zip(&whole).map(step).collect();
        let mut numbers = Vec::with_capacity(weights.len());
        for row in weights.chunks_exact(outputs) {
            numbers.extend(row.iter().zip(&steps).map(|(v, step)| (v / step).round() as i8));
        }
        scales.iter_mut().zip(&steps).for_each(|(scale, step)| *scale *= step);
        let weights = Panels::pack(&numbers, inputs, outputs);
        Some(Linear { before, weights, scales, bias, inputs })
    }

    pub fn outputs(&self) -> usize {
        self.scales.len()
    }

    /// Whether its parts fit one another.
    pub fn fits(&self) -> bool {
        let Linear { before, weights, scales, bias, inputs } = self;
        let (inputs, outputs) = (*inputs, scales.len());
        let before = match before {
            Before::Nothing => true,
            Before::Norm(norm) => norm.fits(inputs),
            Before::Factors(factors) => factors.len() == inputs,
        };
        before
            && (1..=MOST_INPUTS).contains(&inputs)
            && inputs.is_multiple_of(ROW_STEP)
            && outputs > 0
            && (weights.columns(), bias.len()) == (outputs, outputs)
            && weights.depth() == inputs.next_multiple_of(DEPTH_STEP)
    }

    /// (rows, inputs) to (rows, outputs).
    pub fn run(&self, workers: &Workers, input: &[f32], then: Then, out: &mut [f32]) {
        let (inputs, outputs) = (self.inputs, self.outputs());
        let rows = input.len() / inputs;
        let each = workers.rows_a_part(rows, ROWS);
        workers.share(out, each * outputs, |index, out, engaged, scratch| {
            let Scratch { left, scales, sums, row, .. } = scratch;
            let input = &input[index * each * inputs..][..out.len() / outputs * inputs];
            let left = self.quantize(engaged, input, Span::Even, left, scales, row);
            self.multiply(engaged, left, scales, sums, then, out);
        });
    }

    /// The input, (rows, inputs), as bytes, normalised before.
    pub fn quantize<'b>(
        &self,
        engaged: &Engaged,
        input: &[f32],
        span: Span,
        left: &'b mut Aligned<u8>,
        scales: &mut Aligned<f32>,
        row: &mut Aligned<f32>,
    ) -> Left<'b> {
        let rows = input.len() / self.inputs;
        let bytes = left.at_least(rows.next_multiple_of(ROW_STEP) * self.weights.depth());
        self.quantize_rows(engaged, input, span, bytes, scales.at_least(rows), row);
        Left { bytes, stride: self.weights.depth(), rows }
    }

    /// As [`Linear::quantize`], evenly, of rows that `make` fills one by one: what was just written is in the first cache.
    pub fn quantize_each<'b>(
        &self,
        engaged: &Engaged,
        rows: usize,
        make: impl Fn(usize, &mut [f32]),
        left: &'b mut Aligned<u8>,
        scales: &mut Aligned<f32>,
        [made, row]: [&mut Aligned<f32>; 2],
    ) -> Left<'b> {
        let stride = self.weights.depth();
        let bytes = left.at_least(rows.next_multiple_of(ROW_STEP) * stride);
        let made = made.at_least(self.inputs);
        for (r, (bytes, scale)) in bytes.chunks_exact_mut(stride).zip(scales.at_least(rows).chunks_mut(1)).enumerate() {
            make(r, made);
            self.quantize_rows(engaged, made, Span::Even, bytes, scale, row);
        }
        Left { bytes, stride, rows }
    }

    /// Rows of inputs to as many of bytes, and to a scale of each.
    fn quantize_rows(
        &self,
        engaged: &Engaged,
        input: &[f32],
        span: Span,
        bytes: &mut [u8],
        scales: &mut [f32],
        row: &mut Aligned<f32>,
    ) {
        let stride = self.weights.depth();
        engaged.run(QuantizeRows {
            input,
            width: self.inputs,
            before: match &self.before {
                Before::Nothing => passes::Before::Nothing,
                Before::Norm(norm) => passes::Before::Norm(norm.view()),
                Before::Factors(factors) => passes::Before::Factors(factors),
            },
            span,
            out: bytes,
            stride,
            encoding: engaged.encoding(),
            scales,
            row: row.at_least(stride),
        });
    }

    /// The products of all columns to `out`, (rows, outputs).
    pub fn multiply(
        &self,
        engaged: &Engaged,
        left: Left,
        row_scales: &[f32],
        sums: &mut Aligned<i32>,
        then: Then,
        out: &mut [f32],
    ) {
        let stride = self.outputs();
        let (column_scales, bias) = (&self.scales, &self.bias);
        let floats = Floats { row_scales, column_scales, bias, lift: None, then, out, stride };
        engaged.multiply_to(left, self.weights.all(), sums, To::Floats(floats));
    }
}
