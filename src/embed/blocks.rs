//! A vision transformer as a graph has it, in floats: what each executor puts into a form of its own.
//!
//! [`ops`](super::ops) finds these in tract's graph; [`layers`](super::layers) packs them into 8 bits for the processor,
//! [`gpu`](super::gpu) hands them to a graphics processor.

use crate::resample::antialiased;

/// LayerNorm's constants.
#[derive(Clone, Debug, PartialEq)]
pub struct NormWeights {
    /// (width)
    pub gamma: Vec<f32>,
    /// (width)
    pub beta: Vec<f32>,
    pub epsilon: f32,
}

/// What stands between the two linear layers of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Gelu,
    /// SiLU of the first half of what goes in, times the second half.
    SwiGlu,
}

/// `input * weights * scales + bias`, row by row. A LayerScale that follows is in its scales and bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// (inputs, outputs): whole numbers where the graph has those.
    pub weights: Vec<f32>,
    pub inputs: usize,
    /// (outputs)
    pub scales: Vec<f32>,
    /// (outputs)
    pub bias: Vec<f32>,
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

/// The picture to tokens: a convolution whose kernels lie side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// Side in pixels.
    pub patch: usize,
    pub channels: usize,
    /// (channels * patch * patch) to the embedding.
    pub matrix: Matrix,
    /// What is added to the tokens: prefix tokens and position embeddings, (tokens, outputs).
    pub added: Vec<f32>,
    /// Tokens before those of the patches.
    pub prefix: usize,
}

/// What becomes of tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    Attention(Attention),
    Mlp(Mlp),
    Linear(Linear),
    Norm(NormWeights),
}

/// `residual + proj(attention(qkv(norm(residual))))`
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    pub norm: NormWeights,
    pub heads: usize,
    /// Numbers of a head's query, key or value.
    pub width: usize,
    /// Queries of all heads, then keys, then values: (inputs, 3 * heads * width).
    pub qkv: Matrix,
    /// What a query's product with a key is multiplied with.
    pub scale: f32,
    /// What is gathered, times these if there are any: (heads * width)
    pub factors: Option<Vec<f32>>,
    pub proj: Matrix,
}

/// `residual + out(activation(into(norm(residual))))`
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    pub norm: NormWeights,
    /// To the hidden numbers, with SwiGLU to twice as many: those for SiLU first.
    pub into: Matrix,
    pub activation: Activation,
    /// What comes out of the activation, times these if there are any: (hidden)
    pub factors: Option<Vec<f32>>,
    pub out: Matrix,
}

/// A linear layer on its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    pub before: Before,
    pub matrix: Matrix,
    /// Whether GELU comes after it.
    pub gelu: bool,
}

impl Matrix {
    pub fn outputs(&self) -> usize {
        self.scales.len()
    }

    /// These outputs, in this order.
    pub fn columns(&self, columns: &[usize]) -> Matrix {
        let pick = |row: &[f32]| columns.iter().map(|column| row[*column]).collect::<Vec<f32>>();
        Matrix {
            weights: self.weights.chunks_exact(self.outputs()).flat_map(pick).collect(),
            inputs: self.inputs,
            scales: pick(&self.scales),
            bias: pick(&self.bias),
        }
    }

    /// The outputs of two layers with the same input, one after the other.
    pub fn beside(self, other: Matrix) -> Matrix {
        let rows = self.weights.chunks_exact(self.outputs()).zip(other.weights.chunks_exact(other.outputs()));
        Matrix {
            weights: rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect(),
            inputs: self.inputs,
            scales: [self.scales, other.scales].concat(),
            bias: [self.bias, other.bias].concat(),
        }
    }

    /// Each group of `used` outputs filled up to `width` with outputs that are zero.
    pub fn filled(self, used: usize, width: usize) -> Matrix {
        if used == width {
            return self;
        }
        let fill = |numbers: &[f32]| {
            let filling = std::iter::repeat_n(0.0, width - used);
            let fill = |group: &[f32]| group.iter().copied().chain(filling.clone()).collect::<Vec<f32>>();
            numbers.chunks_exact(used).flat_map(fill).collect::<Vec<f32>>()
        };
        let Matrix { weights, inputs, scales, bias } = self;
        Matrix { weights: fill(&weights), inputs, scales: fill(&scales), bias: fill(&bias) }
    }

    /// With inputs that are multiplied with zeros, `inputs` in all.
    pub fn deepened(mut self, inputs: usize) -> Matrix {
        self.weights.resize(inputs * self.outputs(), 0.0);
        self.inputs = inputs;
        self
    }
}

/// What is added to tokens, (tokens, width), `prefix` of them before those of the patches, for another grid, [rows, columns]:
/// stretched by an antialiased cubic, as timm does it, whatever the family does at export. A convolution's bias, which may be among
/// it, is the same everywhere.
pub fn stretched(added: &[f32], prefix: usize, width: usize, from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let (before, positions) = added.split_at(prefix * width);
    assert_eq!(positions.len(), from[0] * from[1] * width, "the positions are of this grid");
    let [down, across] = [0, 1].map(|axis| antialiased(to[axis], from[axis]));
    // (to's rows, from's columns, width), then (to's rows, to's columns, width)
    let rows = product(&down, from[0], positions, from[1] * width);
    let mut added = before.to_vec();
    for row in rows.chunks_exact(from[1] * width) {
        added.extend(product(&across, from[1], row, width));
    }
    added
}

/// A matrix, (rows, depth), by another, (depth, columns).
fn product(left: &[f32], depth: usize, right: &[f32], columns: usize) -> Vec<f32> {
    let mut product = vec![0.0; left.len() / depth * columns];
    for (weights, sums) in left.chunks_exact(depth).zip(product.chunks_exact_mut(columns)) {
        for (weight, line) in weights.iter().zip(right.chunks_exact(columns)).filter(|(weight, _)| **weight != 0.0) {
            sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    product
}
