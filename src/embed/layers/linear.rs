//! A linear layer with what surrounds it: LayerNorm before; bias, GELU or a residual after.

use super::workers::{Scratch, Workers};
use crate::embed::kernels::passes::{self, Finish, Norm, NormRows, QuantizeRows, Then};
use crate::embed::kernels::{Aligned, DEPTH_STEP, Engaged, Left, PANEL, Panels, ROW_STEP};

/// Rows that are worked on together: they stay in the second cache while the weights pass by.
pub const ROWS: usize = 64;
/// Columns of a product before its floats are made: the sums stay near, and a product is long enough to be worth its start.
pub const COLUMNS: usize = 128;

/// Most numbers that a product sums up: so many of the largest magnitude fit into 32 bits.
pub const MOST_INPUTS: usize = 1 << 17;

/// LayerNorm's constants.
#[derive(Clone, Debug, PartialEq)]
pub struct NormWeights {
    /// (width)
    pub gamma: Vec<f32>,
    /// (width)
    pub beta: Vec<f32>,
    pub epsilon: f32,
}

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

/// What is done to a layer's input.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Before {
    #[default]
    Nothing,
    Norm(NormWeights),
    /// Multiplies each input with one of these: (inputs)
    Factors(Vec<f32>),
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
            let rows = out.len() / outputs;
            let input = &input[index * each * inputs..][..rows * inputs];
            self.part(engaged, scratch, input, inputs, then, out);
        });
    }

    /// Rows of `input`, each `stride` after the last, to `out`, (rows, outputs).
    pub fn part(
        &self,
        engaged: &Engaged,
        scratch: &mut Scratch,
        input: &[f32],
        stride: usize,
        then: Then,
        out: &mut [f32],
    ) {
        let Scratch { left, scales, sums, row, .. } = scratch;
        let rows = out.len() / self.outputs();
        let left = self.quantize(engaged, (input, stride), rows, left, scales, row);
        self.multiply(engaged, left, scales, sums, then, out);
    }

    /// The input as bytes, normalised before.
    pub fn quantize<'b>(
        &self,
        engaged: &Engaged,
        (input, input_stride): (&[f32], usize),
        rows: usize,
        left: &'b mut Aligned<u8>,
        scales: &mut Aligned<f32>,
        row: &mut Aligned<f32>,
    ) -> Left<'b> {
        let stride = self.weights.depth();
        let padded = rows.next_multiple_of(16);
        let bytes = left.at_least(padded * stride);
        engaged.run(QuantizeRows {
            input,
            input_stride,
            width: self.inputs,
            rows,
            before: match &self.before {
                Before::Nothing => passes::Before::Nothing,
                Before::Norm(norm) => passes::Before::Norm(norm.view()),
                Before::Factors(factors) => passes::Before::Factors(factors),
            },
            out: bytes,
            stride,
            encoding: engaged.encoding(),
            scales: scales.at_least(padded),
            row: row.at_least(stride),
        });
        Left { bytes, stride, rows }
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
        let outputs = self.outputs();
        for from in (0..outputs).step_by(COLUMNS) {
            let columns = COLUMNS.min(outputs - from);
            let sums = sums.at_least(left.rows.next_multiple_of(16) * columns);
            let right = self.weights.part(from / PANEL, (from + columns).div_ceil(PANEL));
            engaged.multiply(left, right, sums, columns);
            engaged.run(Finish {
                sums,
                columns,
                rows: left.rows,
                row_scales,
                column_scales: &self.scales[from..from + columns],
                bias: &self.bias[from..from + columns],
                then,
                out: &mut out[from..],
                stride: outputs,
            });
        }
    }
}
