//! A linear layer in 8-bit integers: what it loses, and what smoothing wins back.
//!
//! Some inputs of a layer are far larger than the others, and a token's scale is theirs. Dividing each input by a number
//! and multiplying its row of the weights with the same number changes nothing in floats, and moves the difficulty from
//! the activations to the weights ("SmoothQuant", arXiv 2211.10438).

use ndarray::{Array2, ArrayView1, Axis};

/// Largest magnitude of an 8-bit integer here: the range is symmetric.
pub const LEVELS: f32 = 127.0;
/// How much of an input's size goes into the weights; 0 is no smoothing.
const EXPONENTS: [f32; 4] = [0.35, 0.5, 0.65, 0.8];
/// Smoothing that costs a pass over the activations must take away this share of the error to be worth it.
const WORTH_A_PASS: f64 = 0.2;

/// Weights in 8 bits, with a scale for each output.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Weights {
    /// (inputs, outputs)
    pub rounded: Array2<i8>,
    /// (outputs)
    pub scales: Vec<f32>,
}

impl Int8Weights {
    /// Rounds weights, (inputs, outputs), each row multiplied by its number of `smoothing` first.
    pub fn of(weights: &Array2<f32>, smoothing: Option<&[f32]>) -> Int8Weights {
        let mut weights = weights.to_owned();
        if let Some(by) = smoothing {
            weights.rows_mut().into_iter().zip(by).for_each(|(mut row, by)| row *= *by);
        }
        let largest = |column: ArrayView1<'_, f32>| column.fold(0.0f32, |most, v| most.max(v.abs()));
        let scales: Vec<f32> =
            weights.columns().into_iter().map(|column| (largest(column) / LEVELS).max(f32::MIN_POSITIVE)).collect();
        for mut row in weights.rows_mut() {
            row.iter_mut().zip(&scales).for_each(|(v, scale)| *v = (*v / scale).round());
        }
        Int8Weights { rounded: weights.mapv(|v| v as i8), scales }
    }
}

/// Rounds activations, (tokens, inputs), to 8 bits with a scale for each token; whole numbers, and the scales.
fn quantize_rows(activations: &Array2<f32>) -> (Array2<f32>, Vec<f32>) {
    let mut whole = activations.to_owned();
    let scales = whole.rows_mut().into_iter().map(|mut row| {
        let scale = (row.fold(0.0f32, |most, v| most.max(v.abs())) / LEVELS).max(f32::MIN_POSITIVE);
        row.mapv_inplace(|v| (v / scale).round());
        scale
    });
    let scales = scales.collect();
    (whole, scales)
}

/// How a layer is best smoothed.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothing {
    /// 0 where it is not.
    pub exponent: f32,
    /// What each input is divided by.
    pub by: Option<Vec<f32>>,
    /// Of the layer's output in 8 bits: the length of its error relative to its own.
    pub error: f64,
}

/// Finds the smoothing that leaves the smallest error in the layer's output, for activations (tokens, inputs) and
/// weights (inputs, outputs).
pub fn smoothed(activations: &Array2<f32>, weights: &Array2<f32>, free: bool) -> Smoothing {
    let exact = activations.dot(weights);
    let mut best = Smoothing { exponent: 0.0, by: None, error: error(activations, weights, &exact, None) };
    let plain = best.error;
    let largest = |lane: ArrayView1<'_, f32>| lane.fold(0.0f32, |most, v| most.max(v.abs()));
    let inputs: Vec<f32> = activations.axis_iter(Axis(1)).map(largest).collect();
    let rows: Vec<f32> = weights.axis_iter(Axis(0)).map(largest).collect();
    for exponent in EXPONENTS {
        let by: Vec<f32> = inputs.iter().zip(&rows).map(|(input, row)| factor(*input, *row, exponent)).collect();
        let error = error(activations, weights, &exact, Some(&by));
        if error < best.error {
            best = Smoothing { exponent, by: Some(by), error };
        }
    }
    if !free && best.error > plain * (1.0 - WORTH_A_PASS) {
        return Smoothing { exponent: 0.0, by: None, error: plain };
    }
    best
}

fn factor(input: f32, row: f32, exponent: f32) -> f32 {
    let factor = input.powf(exponent) / row.powf(1.0 - exponent);
    // An input or a row of zeros needs no factor.
    if factor.is_finite() && factor > 0.0 { factor.clamp(1e-4, 1e4) } else { 1.0 }
}

/// The error of the product in 8 bits, relative to the exact one.
fn error(activations: &Array2<f32>, weights: &Array2<f32>, exact: &Array2<f32>, smoothing: Option<&[f32]>) -> f64 {
    let mut input = activations.to_owned();
    if let Some(by) = smoothing {
        input.rows_mut().into_iter().for_each(|mut row| row.iter_mut().zip(by).for_each(|(v, by)| *v /= by));
    }
    let (whole, of_tokens) = quantize_rows(&input);
    let Int8Weights { rounded, scales } = Int8Weights::of(weights, smoothing);
    let mut product = whole.dot(&rounded.mapv(f32::from));
    for (mut row, of_token) in product.rows_mut().into_iter().zip(of_tokens) {
        row.iter_mut().zip(&scales).for_each(|(v, scale)| *v *= of_token * scale);
    }
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let difference = squares(&mut product.iter().zip(exact).map(|(a, b)| a - b));
    let length = squares(&mut exact.iter().copied());
    if length > 0.0 { (difference / length).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 that look random.
    fn matrix(rows: usize, cols: usize, seed: u32) -> Array2<f32> {
        Array2::from_shape_fn((rows, cols), |(row, col)| {
            let value = ((row * 131 + col) as u32 ^ seed).wrapping_mul(0x7feb_352d);
            let value = (value ^ (value >> 15)).wrapping_mul(0x846c_a68b);
            (value >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        })
    }

    #[test]
    fn weights_are_rounded_to_half_a_step() {
        let weights = matrix(20, 7, 1) * 0.3;
        let by: Vec<f32> = (0..20).map(|i| 0.5 + i as f32).collect();
        for smoothing in [None, Some(&by[..])] {
            let Int8Weights { rounded, scales } = Int8Weights::of(&weights, smoothing);
            for ((row, col), value) in weights.indexed_iter() {
                let value = value * smoothing.map_or(1.0, |by| by[row]);
                let error = (f32::from(rounded[[row, col]]) * scales[col] - value).abs();
                assert!(error <= 0.501 * scales[col], "({row}, {col}): {error} of {}", scales[col]);
            }
            let full = |col: usize| rounded.column(col).iter().any(|v| v.unsigned_abs() == 127);
            assert!((0..7).all(full), "every output uses the whole range");
        }
    }

    #[test]
    fn smoothing_takes_outliers_out_of_the_activations() {
        let mut activations = matrix(64, 32, 2);
        activations.column_mut(5).mapv_inplace(|v| v * 80.0);
        let weights = matrix(32, 16, 3);
        let free = smoothed(&activations, &weights, true);
        let exact = activations.dot(&weights);
        let plain = error(&activations, &weights, &exact, None);
        assert!(free.error < 0.5 * plain, "{} of {plain}", free.error);
        let by = free.by.expect("it is smoothed");
        assert!(by[5] > 3.0 * by[6], "what is large is divided by more: {} and {}", by[5], by[6]);
        // The error that is told is that of what would be computed.
        assert_eq!(error(&activations, &weights, &exact, Some(&by)), free.error);
    }

    #[test]
    fn smoothing_that_wins_little_is_not_worth_a_pass() {
        let (activations, weights) = (matrix(64, 32, 4), matrix(32, 16, 5));
        let costly = smoothed(&activations, &weights, false);
        assert_eq!((costly.by, costly.exponent), (None, 0.0));
        assert!(costly.error > 0.0 && costly.error < 0.02, "{}", costly.error);
    }

    #[test]
    fn zeros_stay_zeros() {
        let (mut activations, mut weights) = (matrix(8, 6, 6), matrix(6, 4, 7));
        activations.row_mut(2).fill(0.0);
        activations.column_mut(1).fill(0.0);
        weights.row_mut(3).fill(0.0);
        weights.column_mut(0).fill(0.0);
        let found = smoothed(&activations, &weights, true);
        assert!(found.error.is_finite() && found.error < 0.05, "{}", found.error);
        let none = smoothed(&Array2::zeros((8, 6)), &weights, true);
        assert_eq!(none.error, 0.0);
    }
}
