//! A vision transformer computed plainly, straight from its checkpoint.
//!
//! This is what probes come from: a runtime is checked against code that it never ran and a graph that was never
//! written. One block's weights are in memory at a time.

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::{EPSILON, Kind, Tap, Vit};
use crate::model::checkpoint::CheckpointError;

impl Vit<'_> {
    /// Features of a picture: (patches, dim), as they leave `tap`, not normalised.
    ///
    /// `picture` is (3, height, width), mean and standard deviation taken out, each side a multiple of the patch.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or holds numbers that are not finite.
    pub fn forward(
        &self,
        picture: &[f32],
        [height, width]: [usize; 2],
        tap: Tap,
    ) -> Result<Array2<f32>, CheckpointError> {
        let (dim, patch) = (self.sizes.dim, self.sizes.patch);
        let (rows, cols) = (height / patch, width / patch);
        let kernels = self.matrix("patch_embed.proj.weight", 3 * patch * patch)?;
        let patches = pixels_of_patches(picture, height, width, patch).dot(&kernels.t());
        let positions = self.positions(rows.max(cols))?.stretched(rows, cols);
        let positions = Array2::from_shape_vec((rows * cols, dim), positions).expect("a row for each patch");
        let patches = patches + &self.vector("patch_embed.proj.bias")? + positions;
        let prefix = Array2::from_shape_vec((self.prefix_tokens(), dim), self.prefix()?).expect("checked when found");
        let mut tokens = ndarray::concatenate(Axis(0), &[prefix.view(), patches.view()]).expect("rows of one length");

        for block in 0..tap.layer {
            let normed = self.layer_norm(&tokens, &format!("blocks.{block}.norm1"))?;
            let mut qkv = self.linear(&normed, &format!("blocks.{block}.attn.qkv"), self.qkv_bias)?;
            if tap.kind == Kind::Keys && block + 1 == tap.layer {
                qkv.slice_collapse(s![.., dim..2 * dim]);
                tokens = qkv;
                break;
            }
            let attended = attention(&qkv, self.sizes.heads);
            let change = self.linear(&attended, &format!("blocks.{block}.attn.proj"), true)?;
            tokens += &self.scale(change, &format!("blocks.{block}.ls1.gamma"))?;

            let normed = self.layer_norm(&tokens, &format!("blocks.{block}.norm2"))?;
            let [into, out] = self.mlp_names().map(|name| format!("blocks.{block}.{name}"));
            let hidden = self.linear(&normed, &into, true)?;
            let hidden = if self.gated { swiglu(&hidden, self.sizes.hidden) } else { hidden.mapv_into(gelu) };
            let change = self.linear(&hidden, &out, true)?;
            tokens += &self.scale(change, &format!("blocks.{block}.ls2.gamma"))?;
        }
        if self.ends_in_norm(tap) {
            tokens = self.layer_norm(&tokens, "norm")?;
        }
        tokens.slice_collapse(s![self.prefix_tokens().., ..]);
        Ok(tokens)
    }

    fn vector(&self, part: &str) -> Result<Array1<f32>, CheckpointError> {
        self.read(part).map(Array1::from_vec)
    }

    /// (rows, `cols`)
    fn matrix(&self, part: &str, cols: usize) -> Result<Array2<f32>, CheckpointError> {
        let numbers = self.read(part)?;
        Ok(Array2::from_shape_vec((numbers.len() / cols, cols), numbers).expect("checked when found"))
    }

    fn linear(&self, input: &Array2<f32>, part: &str, bias: bool) -> Result<Array2<f32>, CheckpointError> {
        let product = input.dot(&self.matrix(&format!("{part}.weight"), input.ncols())?.t());
        Ok(if bias { product + &self.vector(&format!("{part}.bias"))? } else { product })
    }

    fn layer_norm(&self, input: &Array2<f32>, part: &str) -> Result<Array2<f32>, CheckpointError> {
        let (weight, bias) = (self.vector(&format!("{part}.weight"))?, self.vector(&format!("{part}.bias"))?);
        let mut output = input.clone();
        for mut row in output.rows_mut() {
            let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / row.len() as f64;
            let variance = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / row.len() as f64;
            let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            row.mapv_inplace(|v| ((f64::from(v) - mean) * scale) as f32);
        }
        Ok(output * &weight + &bias)
    }

    /// LayerScale, where the network has it.
    fn scale(&self, change: Array2<f32>, part: &str) -> Result<Array2<f32>, CheckpointError> {
        Ok(if self.scaled { change * &self.vector(part)? } else { change })
    }
}

/// The pixels of each patch in a row, in the order of a convolution's kernel: (patches, 3 * patch * patch).
fn pixels_of_patches(picture: &[f32], height: usize, width: usize, patch: usize) -> Array2<f32> {
    let cols = width / patch;
    let inside = patch * patch;
    Array2::from_shape_fn((height / patch * cols, 3 * inside), |(at, i)| {
        let (channel, y, x) = (i / inside, i % inside / patch, i % patch);
        picture[(channel * height + at / cols * patch + y) * width + at % cols * patch + x]
    })
}

/// Attention of each head: (tokens, 3 * dim), queries, keys and values side by side, to (tokens, dim).
fn attention(qkv: &Array2<f32>, heads: usize) -> Array2<f32> {
    let dim = qkv.ncols() / 3;
    let width = dim / heads;
    let mut output = Array2::zeros((qkv.nrows(), dim));
    for head in 0..heads {
        let part = |of: usize| -> ArrayView2<'_, f32> {
            let start = of * dim + head * width;
            qkv.slice(s![.., start..start + width])
        };
        let mut weights = (&part(0) * (width as f32).powf(-0.5)).dot(&part(1).t());
        for mut row in weights.rows_mut() {
            let largest = row.fold(f32::NEG_INFINITY, |most, v| most.max(*v));
            row.mapv_inplace(|v| (v - largest).exp());
            let sum = row.iter().map(|v| f64::from(*v)).sum::<f64>() as f32;
            row /= sum;
        }
        output.slice_mut(s![.., head * width..(head + 1) * width]).assign(&weights.dot(&part(2)));
    }
    output
}

/// silu(first half) * second half
fn swiglu(both: &Array2<f32>, hidden: usize) -> Array2<f32> {
    let (gate, value) = (both.slice(s![.., ..hidden]), both.slice(s![.., hidden..]));
    gate.mapv(|v| v / (1.0 + (-v).exp())) * value
}

fn gelu(v: f32) -> f32 {
    0.5 * v * (1.0 + libm::erff(v * std::f32::consts::FRAC_1_SQRT_2))
}
