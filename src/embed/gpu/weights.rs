//! Blocks in the form that the kernels take: floats with everything that is constant multiplied in, on the processor.

use std::hash::{DefaultHasher, Hasher};

use super::device::{Array, Gpu, Number};
use super::kernels::{MOST_WIDTH, Then};
use crate::embed::blocks::{Activation, Attention, Before, Block, Linear, Matrix, Mlp, NormWeights, Patches};
use crate::embed::kernels::bytes_of;

/// All of a network but what is bound to an input size.
pub struct Weights {
    /// Of products.
    pub number: Number,
    pub patches: OnGpu,
    pub patch: usize,
    pub layers: Vec<Layer>,
}

/// A product's matrix and bias.
pub struct OnGpu {
    /// (inner, columns)
    pub weights: Array,
    /// (columns), f32
    pub bias: Array,
    pub inner: usize,
    pub columns: usize,
}

/// LayerNorm's constants.
pub struct NormOnGpu {
    /// (width), f32
    pub gamma: Array,
    /// (width), f32
    pub beta: Array,
    pub epsilon: f32,
}

/// What happens to the tokens.
pub enum Layer {
    Attention { norm: NormOnGpu, heads: usize, width: usize, qkv: OnGpu, proj: OnGpu },
    Mlp { norm: NormOnGpu, into: OnGpu, then: Then, out: OnGpu },
    Norm(NormOnGpu),
    Linear { norm: Option<NormOnGpu>, linear: OnGpu, then: Then },
}

impl Weights {
    /// # Errors
    /// When something about a block is not as the kernels take it, or the driver refuses a buffer.
    pub fn new(gpu: &Gpu, number: Number, patches: &Patches, blocks: Vec<Block>) -> Result<Weights, String> {
        // Numbers are read in fours: those of a patch are filled up.
        let filled = patches.matrix.inputs.next_multiple_of(4);
        let of_patches = OnGpu::new(gpu, number, patches.matrix.clone().deepened(filled), None)?;
        let mut width = of_patches.columns;
        let mut layers = Vec::with_capacity(blocks.len());
        for block in blocks {
            let layer = Layer::new(gpu, number, block, width)?;
            if let Layer::Linear { linear, .. } = &layer {
                width = linear.columns;
            }
            layers.push(layer);
        }
        Ok(Weights { number, patches: of_patches, patch: patches.patch, layers })
    }

    /// Numbers of a token at the end.
    pub fn dim(&self) -> usize {
        let of_layer = |layer: &Layer| match layer {
            Layer::Linear { linear, .. } => Some(linear.columns),
            _ => None,
        };
        self.layers.iter().rev().find_map(of_layer).unwrap_or(self.patches.columns)
    }
}

impl Layer {
    fn new(gpu: &Gpu, number: Number, block: Block, stream: usize) -> Result<Layer, String> {
        let fits = |sizes: [usize; 2], what: &str| match sizes == [stream; 2] {
            true => Ok(()),
            false => Err(format!("its {what} takes and gives {sizes:?} numbers, and the tokens have {stream}")),
        };
        Ok(match block {
            Block::Attention(Attention { norm, heads, width, mut qkv, scale, factors, proj }) => {
                fits([qkv.inputs, proj.outputs()], "attention")?;
                if !width.is_multiple_of(4) || width > MOST_WIDTH {
                    return Err(format!("its heads of {width} numbers are no multiple of 4 up to {MOST_WIDTH}"));
                }
                // Those of the queries.
                let (scales, bias) = (&mut qkv.scales[..heads * width], &mut qkv.bias[..heads * width]);
                scales.iter_mut().chain(bias).for_each(|v| *v *= scale);
                let norm = NormOnGpu::new(gpu, norm)?;
                let (qkv, proj) = (OnGpu::new(gpu, number, qkv, None)?, OnGpu::new(gpu, number, proj, factors)?);
                Layer::Attention { norm, heads, width, qkv, proj }
            }
            Block::Mlp(Mlp { norm, into, activation, factors, out }) => {
                fits([into.inputs, out.outputs()], "MLP")?;
                let (into, then) = match activation {
                    Activation::Gelu => (into, Then::Gelu),
                    Activation::SwiGlu => (paired(&into)?, Then::SwiGlu),
                };
                let norm = NormOnGpu::new(gpu, norm)?;
                let (into, out) = (OnGpu::new(gpu, number, into, None)?, OnGpu::new(gpu, number, out, factors)?);
                Layer::Mlp { norm, into, then, out }
            }
            Block::Norm(norm) => Layer::Norm(NormOnGpu::new(gpu, norm)?),
            Block::Linear(Linear { before, matrix, gelu }) => {
                fits([matrix.inputs, stream], "linear layer")?;
                let (norm, factors) = match before {
                    Before::Nothing => (None, None),
                    Before::Norm(norm) => (Some(NormOnGpu::new(gpu, norm)?), None),
                    Before::Factors(factors) => (None, Some(factors)),
                };
                let then = if gelu { Then::Gelu } else { Then::Store };
                Layer::Linear { norm, linear: OnGpu::new(gpu, number, matrix, factors)?, then }
            }
        })
    }
}

impl OnGpu {
    /// Scales, and the factors of what comes in, are multiplied in.
    fn new(gpu: &Gpu, number: Number, matrix: Matrix, factors: Option<Vec<f32>>) -> Result<OnGpu, String> {
        let columns = matrix.outputs();
        let Matrix { mut weights, inputs: inner, scales, bias } = matrix;
        if !inner.is_multiple_of(4) || !columns.is_multiple_of(4) || inner == 0 || columns == 0 {
            return Err(format!("a layer of {inner} to {columns} numbers, which are no multiples of 4"));
        }
        for (at, row) in weights.chunks_exact_mut(columns).enumerate() {
            let factor = factors.as_ref().map_or(1.0, |factors| factors[at]);
            row.iter_mut().zip(&scales).for_each(|(weight, scale)| *weight *= scale * factor);
        }
        let weights = gpu.filled("weights of a layer", number, &weights)?;
        Ok(OnGpu { weights, bias: gpu.filled("bias", Number::F32, &bias)?, inner, columns })
    }
}

impl NormOnGpu {
    fn new(gpu: &Gpu, NormWeights { gamma, beta, epsilon }: NormWeights) -> Result<NormOnGpu, String> {
        if !gamma.len().is_multiple_of(4) {
            return Err(format!("tokens of {} numbers, which are no multiple of 4", gamma.len()));
        }
        Ok(NormOnGpu {
            gamma: gpu.filled("norm", Number::F32, &gamma)?,
            beta: gpu.filled("norm", Number::F32, &beta)?,
            epsilon,
        })
    }
}

/// The gates and values of SwiGLU, those first and these after, by turns: two gates and their two values.
fn paired(into: &Matrix) -> Result<Matrix, String> {
    let hidden = into.outputs() / 2;
    if !hidden.is_multiple_of(2) {
        return Err(format!("an MLP of {hidden} hidden numbers, which are no multiple of 2"));
    }
    let columns: Vec<usize> =
        (0..hidden).step_by(2).flat_map(|at| [at, at + 1, hidden + at, hidden + at + 1]).collect();
    Ok(into.columns(&columns))
}

/// Tells whether weights are others, whatever is added to tokens. Of one process alone.
pub fn digest(patches: &Patches, blocks: &[Block]) -> u64 {
    let mut digest = DefaultHasher::new();
    digest.write_usize(patches.patch);
    add_matrix(&mut digest, &patches.matrix);
    for block in blocks {
        match block {
            Block::Attention(Attention { norm, heads, width, qkv, scale, factors, proj }) => {
                digest.write_usize(*heads);
                digest.write_usize(*width);
                digest.write_u32(scale.to_bits());
                add_norm(&mut digest, norm);
                add_matrix(&mut digest, qkv);
                add_matrix(&mut digest, proj);
                digest.write(bytes_of(factors.as_deref().unwrap_or_default()));
            }
            Block::Mlp(Mlp { norm, into, activation, factors, out }) => {
                digest.write_u8(*activation as u8);
                add_norm(&mut digest, norm);
                add_matrix(&mut digest, into);
                add_matrix(&mut digest, out);
                digest.write(bytes_of(factors.as_deref().unwrap_or_default()));
            }
            Block::Linear(Linear { before, matrix, gelu }) => {
                digest.write_u8((*gelu).into());
                match before {
                    Before::Nothing => {}
                    Before::Norm(norm) => add_norm(&mut digest, norm),
                    Before::Factors(factors) => digest.write(bytes_of(factors)),
                }
                add_matrix(&mut digest, matrix);
            }
            Block::Norm(norm) => add_norm(&mut digest, norm),
        }
    }
    digest.finish()
}

fn add_norm(digest: &mut DefaultHasher, NormWeights { gamma, beta, epsilon }: &NormWeights) {
    digest.write(bytes_of(gamma));
    digest.write(bytes_of(beta));
    digest.write_u32(epsilon.to_bits());
}

fn add_matrix(digest: &mut DefaultHasher, Matrix { weights, inputs, scales, bias }: &Matrix) {
    for numbers in [weights, scales, bias] {
        digest.write(bytes_of(numbers));
    }
    digest.write_usize(*inputs);
}
