//! The layers against the same in plain floats, on every kernel that this processor has.

use super::attention::Tokens;
use super::*;
use crate::embed::blocks::{Activation, Before, NormWeights};
use crate::embed::kernels::{Kernel, Panels, supported};

/// A small generator, so that a failure repeats.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// In [-1, 1).
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn many(&mut self, count: usize, size: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * size).collect()
    }
}

/// A linear layer whose weights are whole numbers times a power of two, and the same weights as floats: (inputs, outputs).
pub fn linear(numbers: &mut Numbers, inputs: usize, outputs: usize, before: Before) -> (Linear, Vec<f32>) {
    let scale = (inputs as f32).sqrt().recip().log2().round().exp2() / 64.0;
    let whole: Vec<i8> = (0..inputs * outputs).map(|_| (numbers.next() * 127.0).round() as i8).collect();
    let floats = whole.iter().map(|v| f32::from(*v) * scale).collect();
    let weights = Panels::pack(&whole, inputs, outputs);
    let bias = numbers.many(outputs, 0.1);
    (Linear { before, weights, scales: vec![scale; outputs], bias, inputs }, floats)
}

pub fn norm(numbers: &mut Numbers, width: usize) -> NormWeights {
    let gamma = numbers.many(width, 0.3).iter().map(|v| 1.0 + v).collect();
    NormWeights { gamma, beta: numbers.many(width, 0.2), epsilon: 1e-6 }
}

/// LayerNorm, and a product with bias.
fn normed(norm: &NormWeights, rows: &[f32]) -> Vec<f32> {
    let width = norm.gamma.len();
    let each = |row: &[f32]| {
        let mean = row.iter().sum::<f32>() / width as f32;
        let spread = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / width as f32;
        let inverse = (spread + norm.epsilon).sqrt().recip();
        let scaled = |(i, v): (usize, &f32)| (v - mean) * inverse * norm.gamma[i] + norm.beta[i];
        row.iter().enumerate().map(scaled).collect::<Vec<f32>>()
    };
    rows.chunks_exact(width).flat_map(each).collect()
}

fn times(rows: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let (outputs, inputs) = (bias.len(), weights.len() / bias.len());
    let each = |row: &[f32]| {
        let sum = |o: usize| row.iter().enumerate().map(|(i, v)| v * weights[i * outputs + o]).sum::<f32>() + bias[o];
        (0..outputs).map(sum).collect::<Vec<f32>>()
    };
    rows.chunks_exact(inputs).flat_map(each).collect()
}

/// How far `got` is from `expected`, relative to what was changed of `before`.
fn error(got: &[f32], expected: &[f32], before: &[f32]) -> f32 {
    let length = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
    length(got, expected) / length(expected, before)
}

fn each_kernel(f: impl Fn(&'static dyn Kernel)) {
    supported().iter().for_each(|kernel| f(kernel.as_ref()));
}

/// Attention in plain floats, of `input` as it comes.
fn attended(sizes: AttentionSizes, qkv: &[f32], scale: f32) -> Vec<f32> {
    let AttentionSizes { heads, width, .. } = sizes;
    let dim = heads * width;
    let rows: Vec<&[f32]> = qkv.chunks_exact(3 * dim).collect();
    let mut out = vec![0.0; rows.len() * dim];
    for (t, row) in rows.iter().enumerate() {
        for head in 0..heads {
            let part = |row: &'_ [f32], of: usize| row[of * dim + head * width..][..width].to_vec();
            let query = part(row, 0);
            let score = |row: &&[f32]| query.iter().zip(part(row, 1)).map(|(a, b)| a * b).sum::<f32>() * scale;
            let scores: Vec<f32> = rows.iter().map(score).collect();
            let most = scores.iter().copied().fold(f32::MIN, f32::max);
            let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
            let total: f32 = weights.iter().sum();
            for (row, weight) in rows.iter().zip(weights) {
                let to = out[t * dim + head * width..][..width].iter_mut();
                to.zip(part(row, 2)).for_each(|(to, v)| *to += weight / total * v);
            }
        }
    }
    out
}

#[test]
fn attention_is_what_floats_make_of_it() {
    // Token counts about the sides of blocks and of groups of queries; sharpness from flat to peaked.
    let cases =
        [(1, 2, 16, 0.2), (31, 1, 64, 1.0), (64, 3, 64, 1.0), (65, 2, 80, 3.0), (300, 2, 32, 1.0), (530, 2, 64, 4.0)];
    each_kernel(|kernel| {
        for (tokens, heads, width, sharpness) in cases {
            let numbers = &mut Numbers(tokens as u64);
            let dim = heads * width;
            let norm = norm(numbers, dim);
            let (qkv, qkv_weights) = linear(numbers, dim, 3 * dim, Before::Norm(norm.clone()));
            let factors = numbers.many(dim, 0.5).iter().map(|v| 1.0 + v).collect::<Vec<f32>>();
            let (proj, proj_weights) = linear(numbers, dim, dim, Before::Factors(factors.clone()));
            let sizes = AttentionSizes { heads, width, used: width };
            let attention = Attention { sizes, qkv, scale: sharpness / (width as f32).sqrt(), proj };
            let before = numbers.many(tokens * dim, 1.0);
            let qkv = times(&normed(&norm, &before), &qkv_weights, &attention.qkv.bias);
            let gathered = attended(sizes, &qkv, attention.scale);
            let scaled: Vec<f32> = gathered.iter().zip(factors.iter().cycle()).map(|(v, by)| v * by).collect();
            let change = times(&scaled, &proj_weights, &attention.proj.bias);
            let expected: Vec<f32> = before.iter().zip(change).map(|(a, b)| a + b).collect();
            let workers = Workers::new(kernel, 1).unwrap();
            let mut got = before.clone();
            attention.run_on_residual(&workers, &mut Tokens::default(), &mut got);
            let error = error(&got, &expected, &before);
            assert!(error < 0.03, "{}: {tokens} tokens, {heads} x {width}: {error}", kernel.name());
        }
    });
}

/// Queries of zeros look at all tokens alike, and at nothing that only fills up a block.
#[test]
fn a_query_of_zeros_takes_the_mean() {
    let (tokens, width) = (65, 64);
    let sizes = AttentionSizes { heads: 1, width, used: width };
    let numbers = &mut Numbers(3);
    each_kernel(|kernel| {
        let numbers = &mut Numbers(numbers.0);
        let norm = norm(numbers, width);
        let (mut qkv, mut weights) = linear(numbers, width, 3 * width, Before::Norm(norm.clone()));
        qkv.scales[..width].fill(0.0);
        qkv.bias[..width].fill(0.0);
        weights.chunks_exact_mut(3 * width).for_each(|row| row[..width].fill(0.0));
        let (proj, proj_weights) = linear(numbers, width, width, Before::Nothing);
        let attention = Attention { sizes, qkv, scale: 0.125, proj };
        let before = numbers.many(tokens * width, 1.0);
        let qkv = times(&normed(&norm, &before), &weights, &attention.qkv.bias);
        let change = times(&attended(sizes, &qkv, 0.125), &proj_weights, &attention.proj.bias);
        let expected: Vec<f32> = before.iter().zip(change).map(|(a, b)| a + b).collect();
        let workers = Workers::new(kernel, 1).unwrap();
        let mut got = before.clone();
        attention.run_on_residual(&workers, &mut Tokens::default(), &mut got);
        let error = error(&got, &expected, &before);
        assert!(error < 0.03, "{}: {error}", kernel.name());
    });
}

/// A key that takes half of all attention must not round away the other half, which thousands share.
#[test]
fn a_diffuse_tail_beside_a_peak_is_kept() {
    let (tokens, width) = (1500, 64);
    let sizes = AttentionSizes { heads: 1, width, used: width };
    let numbers = &mut Numbers(7);
    let whole = |f: &dyn Fn(usize, usize) -> i8, outputs: usize| -> Vec<i8> {
        (0..width).flat_map(|i| (0..outputs).map(move |o| (i, o))).map(|(i, o)| f(i, o)).collect()
    };
    // Queries, keys and values are the input itself, times 2.
    let identity = whole(&|i, o| if o % width == i { 64 } else { 0 }, 3 * width);
    let qkv = Linear {
        before: Before::Nothing,
        weights: Panels::pack(&identity, width, 3 * width),
        scales: vec![1.0 / 32.0; 3 * width],
        bias: vec![0.0; 3 * width],
        inputs: width,
    };
    let identity = whole(&|i, o| if o == i { 64 } else { 0 }, width);
    let proj = Linear {
        before: Before::Nothing,
        weights: Panels::pack(&identity, width, width),
        scales: vec![1.0 / 64.0; width],
        bias: vec![0.0; width],
        inputs: width,
    };
    // All tokens are alike but for the first, which every token looks at 1500 times as much as at any other.
    let mut before = Vec::new();
    for token in 0..tokens {
        let mut row = numbers.many(width, 0.02);
        row[0] = 1.0;
        row[1] = if token == 0 { 1.0 } else { -1.0 };
        row[2] = if token == 0 { 3.0 } else { 0.0 };
        row[3] = if token == 0 { 0.0 } else { 0.5 };
        before.extend(row);
    }
    let as_floats: Vec<f32> = before.chunks_exact(width).flat_map(|row| [row; 3].concat()).map(|v| v * 2.0).collect();
    let lead = 4.0f32; // what the first token's score is ahead, before the scale, for the others
    let scale = (tokens as f32).ln() / lead;
    let attention = Attention { sizes, qkv, scale, proj };
    let gathered = attended(sizes, &as_floats, scale);
    let expected: Vec<f32> = before.iter().zip(&gathered).map(|(a, b)| a + b).collect();
    each_kernel(|kernel| {
        let workers = Workers::new(kernel, 1).unwrap();
        let mut got = before.clone();
        attention.run_on_residual(&workers, &mut Tokens::default(), &mut got);
        let error = error(&got, &expected, &before);
        assert!(error < 0.05, "{}: {error}", kernel.name());
    });
}

#[test]
fn an_mlp_is_what_floats_make_of_it() {
    each_kernel(|kernel| {
        for (tokens, width, hidden, activation, with_factors) in [
            (1, 32, 64, Activation::Gelu, true),
            (77, 96, 384, Activation::Gelu, true),
            (77, 96, 384, Activation::Gelu, false),
            (77, 48, 208, Activation::SwiGlu, true),
            (200, 64, 128, Activation::SwiGlu, false),
        ] {
            let numbers = &mut Numbers(hidden as u64);
            let norm = norm(numbers, width);
            let wide = if activation == Activation::Gelu { hidden } else { 2 * hidden };
            let (into, into_weights) = linear(numbers, width, wide, Before::Norm(norm.clone()));
            let size = if with_factors { 0.5 } else { 0.0 };
            let factors = numbers.many(hidden, size).iter().map(|v| 1.0 + v).collect::<Vec<f32>>();
            let before_out = if with_factors { Before::Factors(factors.clone()) } else { Before::Nothing };
            let (out, out_weights) = linear(numbers, hidden, width, before_out);
            let mlp = Mlp::new(into, activation, out);
            let before = numbers.many(tokens * width, 1.0);
            let inside = times(&normed(&norm, &before), &into_weights, &mlp.into.bias);
            let gelu = |v: f32| 0.5 * v * (1.0 + libm::erff(v * std::f32::consts::FRAC_1_SQRT_2));
            let active: Vec<f32> = match activation {
                Activation::Gelu => inside.iter().map(|v| gelu(*v)).collect(),
                Activation::SwiGlu => inside
                    .chunks_exact(wide)
                    .flat_map(|row| (0..hidden).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[hidden + i]))
                    .collect(),
            };
            let scaled: Vec<f32> = active.iter().zip(factors.iter().cycle()).map(|(v, by)| v * by).collect();
            let change = times(&scaled, &out_weights, &mlp.out.bias);
            let expected: Vec<f32> = before.iter().zip(change).map(|(a, b)| a + b).collect();
            let workers = Workers::new(kernel, 2).unwrap();
            let mut got = before.clone();
            mlp.run_on_residual(&workers, &mut got);
            let error = error(&got, &expected, &before);
            assert!(error < 0.02, "{}: {tokens} tokens, {width} x {hidden}: {error}", kernel.name());
        }
    });
}
