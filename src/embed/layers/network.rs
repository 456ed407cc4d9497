//! A whole vision transformer of our layers, one after the other: what a graph becomes of which everything is recognised.

use std::sync::Arc;

use super::attention::{Attention, Rows, Tokens};
use super::linear::Linear;
use super::mlp::Mlp;
use super::patches::PatchEmbedding;
use super::reuse::Memory;
use super::workers::Workers;
use crate::embed::blocks::NormWeights;
use crate::embed::kernels::ROW_STEP;
use crate::embed::kernels::epilogues::Then;

/// From the picture to tokens.
pub struct Network {
    pub patches: Arc<PatchEmbedding>,
    pub layers: Vec<Layer>,
}

/// What happens to the tokens of a frame.
#[derive(Clone)]
pub enum Layer {
    Attention(Arc<Attention>),
    Mlp(Arc<Mlp>),
    Norm(Arc<NormWeights>),
    Linear(Arc<Linear>, Then),
}

/// A picture: (channels, height, width), floats.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    pub data: &'a [f32],
    /// [height, width], those that the network's positions were made for.
    pub size: [usize; 2],
}

impl Network {
    /// Tokens of a frame, those before the patches' counted.
    pub fn tokens(&self) -> usize {
        self.patches.tokens()
    }

    /// Numbers of a token at the end.
    pub fn dim(&self) -> usize {
        let width = |layer: &Layer| match layer {
            Layer::Linear(linear, _) => Some(linear.outputs()),
            _ => None,
        };
        self.layers.iter().rev().find_map(width).unwrap_or(self.patches.linear.outputs())
    }

    /// Operations of a frame's products, a multiplication and an addition each counted.
    pub fn operations(&self) -> u64 {
        let (tokens, patches) = (self.tokens() as u64, &self.patches);
        let linear = |linear: &Linear| 2 * linear.inputs as u64 * linear.outputs() as u64;
        let of_layer = |layer: &Layer| match layer {
            Layer::Attention(attention) => {
                let attended = attention.sizes.heads as u64 * attention.sizes.used as u64;
                tokens * (linear(&attention.qkv) + linear(&attention.proj) + 4 * tokens * attended)
            }
            Layer::Mlp(mlp) => tokens * (linear(&mlp.into) + linear(&mlp.out)),
            Layer::Linear(of, _) => tokens * linear(of),
            Layer::Norm(_) => 0,
        };
        let embedded = (tokens - patches.prefix as u64) * linear(&patches.linear);
        embedded + self.layers.iter().map(of_layer).sum::<u64>()
    }

    /// The same network for pictures of another grid, [rows, columns]: positions are stretched, everything else is shared.
    pub fn stretched(&self, from: [usize; 2], to: [usize; 2]) -> Network {
        Network { patches: Arc::new(self.patches.stretched(from, to)), layers: self.layers.clone() }
    }

    pub fn attentions(&self) -> usize {
        self.layers.iter().filter(|layer| matches!(layer, Layer::Attention(_))).count()
    }

    /// Whether the layers fit one another, and pictures of `size`, [height, width].
    pub fn fits(&self, [height, width]: [usize; 2]) -> bool {
        let PatchEmbedding { patch, channels, linear, added, prefix } = &*self.patches;
        let (patch, channels) = (*patch, *channels);
        let mut dim = linear.outputs();
        let patches = linear.fits()
            && (1..=64).contains(&patch)
            && channels == 3
            && height.is_multiple_of(patch)
            && width.is_multiple_of(patch)
            && linear.inputs == (channels * patch * patch).next_multiple_of(ROW_STEP)
            && prefix.checked_add(height / patch * (width / patch)).and_then(|tokens| tokens.checked_mul(dim))
                == Some(added.len());
        let mut fits = |layer: &Layer| match layer {
            Layer::Attention(attention) => attention.fits(dim),
            Layer::Mlp(mlp) => mlp.fits(dim),
            Layer::Norm(norm) => norm.fits(dim),
            Layer::Linear(linear, _) => {
                let fits = linear.fits() && linear.inputs == dim;
                dim = linear.outputs();
                fits
            }
        };
        patches && self.layers.iter().all(&mut fits)
    }

    /// Several frames at once to `out`: (frames, tokens, dim).
    pub fn run(&self, workers: &Workers, pictures: &[Picture], out: &mut Vec<f32>) {
        let rows = Rows::All(self.tokens());
        let frame = rows.count() * self.patches.linear.outputs();
        out.resize(pictures.len() * frame, 0.0);
        for (picture, out) in pictures.iter().zip(out.chunks_exact_mut(frame)) {
            self.patches.run(workers, picture.data, picture.size, rows, out);
        }
        self.through(workers, out, |_, attention, tokens, residual| {
            for frame in residual.chunks_exact_mut(rows.count() * attention.qkv.inputs) {
                attention.run_on_residual(workers, tokens, frame);
            }
        });
    }

    /// The tokens of `rows` of one frame to `out`, (rows, dim); queries look at what `memory` keeps of the other tokens.
    pub(super) fn run_some(
        &self,
        workers: &Workers,
        picture: Picture,
        rows: Rows,
        memory: &mut Memory,
        out: &mut Vec<f32>,
    ) {
        let (count, width) = (self.tokens(), self.patches.linear.outputs());
        out.resize(rows.count() * width, 0.0);
        self.patches.run(workers, picture.data, picture.size, rows, out);
        self.through(workers, out, |index, attention, tokens, residual| {
            let width = attention.qkv.inputs;
            let kept = memory.attention(index, count * width);
            for (row, from) in residual.chunks_exact(width).enumerate() {
                kept.input[rows.token(row) * width..][..width].copy_from_slice(from);
            }
            attention.prepare(workers, &mut kept.blocks, rows, &kept.input);
            attention.attend(workers, &kept.blocks, &mut tokens.attended, rows, count, residual);
        });
    }

    /// Takes tokens through the layers. All but attention look at one token at a time; `attend` is told which attention
    /// it is.
    fn through(
        &self,
        workers: &Workers,
        tokens: &mut Vec<f32>,
        mut attend: impl FnMut(usize, &Attention, &mut Tokens, &mut [f32]) + Send,
    ) {
        // Locked outside: a thread of the pool that waits for a share may begin another caller's network meanwhile.
        let mut shared = workers.tokens();
        let shared = &mut *shared;
        workers.within(|| {
            let mut attentions = 0;
            for layer in &self.layers {
                match layer {
                    Layer::Attention(attention) => {
                        attend(attentions, attention, shared, tokens);
                        attentions += 1;
                    }
                    Layer::Mlp(mlp) => mlp.run_on_residual(workers, tokens),
                    Layer::Norm(norm) => norm.run(workers, tokens),
                    Layer::Linear(linear, then) => {
                        let mut out = vec![0.0; tokens.len() / linear.inputs * linear.outputs()];
                        linear.run(workers, tokens, *then, &mut out);
                        *tokens = out;
                    }
                }
            }
        });
    }
}
