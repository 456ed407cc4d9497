//! The MLP of a block as one: what is inside never leaves the second cache.

use super::linear::{Linear, ROWS};
use super::workers::{Scratch, Workers};
use crate::embed::blocks::{self, Activation, Before};
use crate::embed::kernels::epilogues::{Floats, Then, To};
use crate::embed::kernels::passes::{FinishGated, LEVELS, Span};
use crate::embed::kernels::{Aligned, Engaged, Left, PANEL, PANELS_AT_ONCE};

/// GELU's least value, -0.16998, and what its polynomial may be off.
const GELU_LEAST: f32 = -0.1702;

/// Two linear layers with an activation between, and a residual around.
pub struct Mlp {
    /// Its norm is the block's.
    pub into: Linear,
    pub activation: Activation,
    /// A LayerScale is in its scales and bias.
    pub out: Linear,
    /// Where nothing comes between GELU and the bytes.
    lift: Option<Lift>,
}

/// GELU gives nothing below [`GELU_LEAST`]: bytes that are spread from there upwards are twice as fine. What `out` lacks then:
struct Lift {
    /// (outputs), of a product's sums,
    sums: Vec<f32>,
    /// and with that of the bias, the bias.
    bias: Vec<f32>,
}

impl Lift {
    fn of(out: &Linear) -> Lift {
        let (_, sums) = out.weights.parts();
        let least = out.scales.iter().zip(sums).map(|(scale, sum)| GELU_LEAST * scale * *sum as f32);
        Lift {
            sums: sums.iter().map(|sum| LEVELS * *sum as f32).collect(),
            bias: out.bias.iter().zip(least).map(|(bias, least)| bias + least).collect(),
        }
    }
}

impl Mlp {
    /// Its hidden numbers filled up to whole panels. `None` as of [`Linear::pack`].
    pub fn pack(block: blocks::Mlp) -> Option<Mlp> {
        let blocks::Mlp { norm, into, activation, factors, out } = block;
        let hidden = out.inputs;
        let filled = hidden.next_multiple_of(PANEL);
        let before = factors.map_or(Before::Nothing, |mut factors| {
            factors.resize(filled, 1.0);
            Before::Factors(factors)
        });
        let out = Linear::pack(before, out.deepened(filled))?;
        let into = Linear::pack(Before::Norm(norm), into.filled(hidden, filled))?;
        Some(Mlp::new(into, activation, out))
    }

    pub fn new(into: Linear, activation: Activation, out: Linear) -> Mlp {
        let lift = (activation == Activation::Gelu && out.before == Before::Nothing).then(|| Lift::of(&out));
        Mlp { into, activation, out, lift }
    }

    /// Whether its parts fit one another, and a residual stream of so many numbers a token.
    pub fn fits(&self, width: usize) -> bool {
        let hidden = match self.activation {
            Activation::Gelu => Some(self.out.inputs),
            Activation::SwiGlu => self.out.inputs.checked_mul(2),
        };
        self.into.fits()
            && self.out.fits()
            && hidden == Some(self.into.outputs())
            && (self.into.inputs, self.out.outputs()) == (width, width)
    }

    /// Adds to `residual`, (rows, width), what the MLP makes of it.
    pub fn run_on_residual(&self, workers: &Workers, residual: &mut [f32]) {
        let width = self.into.inputs;
        let each = workers.rows_a_part(residual.len() / width, ROWS);
        workers.share(residual, each * width, |_, rows, engaged, scratch| self.part(engaged, scratch, rows));
    }

    fn part(&self, engaged: &Engaged, scratch: &mut Scratch, residual: &mut [f32]) {
        let Scratch { left, second, scales, sums, floats, row, .. } = scratch;
        let (width, hidden) = (self.into.inputs, self.out.inputs);
        let rows = residual.len() / width;
        let normal = self.into.quantize(engaged, residual, Span::Even, left, scales, row);
        let inside = floats.at_least(rows * hidden);
        match self.activation {
            Activation::Gelu => self.into.multiply(engaged, normal, scales, sums, Then::Gelu, inside),
            Activation::SwiGlu => self.gated(engaged, normal, scales, sums, inside),
        }
        let span = if self.lift.is_some() { Span::From(GELU_LEAST) } else { Span::Even };
        let inside = self.out.quantize(engaged, inside, span, second, scales, row);
        let floats = Floats {
            row_scales: scales,
            column_scales: &self.out.scales,
            bias: self.lift.as_ref().map_or(&self.out.bias, |lift| &lift.bias),
            lift: self.lift.as_ref().map(|lift| &lift.sums[..]),
            then: Then::Add,
            out: residual,
            stride: width,
        };
        engaged.multiply_to(inside, self.out.weights.all(), sums, To::Floats(floats));
    }

    fn gated(&self, engaged: &Engaged, left: Left, row_scales: &[f32], sums: &mut Aligned<i32>, out: &mut [f32]) {
        const COLUMNS: usize = PANELS_AT_ONCE * PANEL;
        let hidden = self.out.inputs;
        for from in (0..hidden).step_by(COLUMNS) {
            let columns = COLUMNS.min(hidden - from);
            let length = left.rows.next_multiple_of(16) * columns;
            let (gates, values) = sums.at_least(2 * length).split_at_mut(length);
            for (at, sums) in [(from, &mut *gates), (from + hidden, &mut *values)] {
                let right = self.into.weights.part(at / PANEL, (at + columns).div_ceil(PANEL));
                engaged.multiply(left, right, sums, columns);
            }
            let [scales, bias] =
                [&self.into.scales, &self.into.bias].map(|of| [from, from + hidden].map(|at| &of[at..at + columns]));
            engaged.run(FinishGated {
                sums: [gates, values],
                columns,
                rows: left.rows,
                row_scales,
                column_scales: scales,
                bias,
                out: &mut out[from..],
                stride: hidden,
            });
        }
    }
}
