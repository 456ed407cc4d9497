//! Vision transformers as their authors published them: what a checkpoint holds, by one set of names.
//!
//! The families differ in little: what their files call things, how they stretch position embeddings over another
//! input size, LayerScale, registers, SwiGLU. [`Vit`] hides what the files call things; `forward.rs` computes
//! one plainly, and [`graph`] writes it as ONNX.

pub mod family;
mod forward;
pub mod graph;
mod positions;
mod weights;

pub use family::Family;
pub use positions::Positions;

use self::family::{Recognised, recognise};
use self::weights::Weights;
use super::checkpoint::{Checkpoint, CheckpointError};

/// Epsilon of the LayerNorms of all these families.
pub const EPSILON: f32 = 1e-6;

/// What a person says of a checkpoint where it does not speak for itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    pub family: Option<&'static Family>,
    /// What stands before the names of the wanted network, where a file holds several.
    pub prefix: Option<String>,
    /// Attention heads; otherwise 64 dimensions a head, 80 in ViT-H.
    pub heads: Option<usize>,
    /// Metres on the ground of one pixel, for Scale-MAE.
    pub ground_sample_distance: Option<f32>,
}

/// What of a network are the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// A block, counted from 1.
    pub layer: usize,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What leaves the block; from the last one through the final LayerNorm.
    Tokens,
    /// The keys of the block's attention, all heads side by side.
    Keys,
}

/// Sizes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub dim: usize,
    pub depth: usize,
    pub heads: usize,
    /// Numbers inside the MLP; with SwiGLU, of each of its two halves.
    pub hidden: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    pub registers: usize,
    /// Side of the grid that the position embeddings were trained on, in patches.
    pub grid: usize,
}

/// A vision transformer in a checkpoint, its tensors present and of the right shapes.
#[derive(Debug)]
pub struct Vit<'a> {
    weights: Weights<'a>,
    pub family: &'static Family,
    /// Why it was taken for one of this family.
    pub because: String,
    pub sizes: Sizes,
    /// SwiGLU in the MLP, GELU otherwise.
    pub gated: bool,
    /// LayerScale after attention and MLP.
    pub scaled: bool,
    /// A final LayerNorm.
    pub normed: bool,
    qkv_bias: bool,
    /// The position embeddings have a first row for the class token.
    class_position: bool,
    ground_sample_distance: f32,
}

impl<'a> Vit<'a> {
    /// Finds the network in a checkpoint, and the shape of every tensor that it needs.
    ///
    /// # Errors
    /// What the checkpoint lacks, or what of it does not fit together.
    pub fn find(checkpoint: &'a Checkpoint, hints: &Hints) -> Result<Vit<'a>, CheckpointError> {
        let content = |problem| CheckpointError::Content { path: checkpoint.path().to_owned(), problem };
        let weights = Weights::find(checkpoint, hints.prefix.as_deref()).map_err(content)?;
        let Recognised { family, because } = recognise(&weights, hints.family)?;
        Vit::measure(weights, family, because, hints).map_err(content)
    }

    fn measure(
        weights: Weights<'a>,
        family: &'static Family,
        because: String,
        hints: &Hints,
    ) -> Result<Vit<'a>, String> {
        let patch_embedding = weights.shape("patch_embed.proj.weight")?;
        let (dim, patch) = match patch_embedding[..] {
            [dim, 3, height, width] if height == width && (1..=64).contains(&height) && dim > 0 => (dim, height),
            _ => {
                let shape = patch_embedding;
                return Err(format!("its patch embedding has the shape {shape:?}; only (dim, 3, n, n) can be used"));
            }
        };
        let depth = (0..).take_while(|block| weights.has(&format!("blocks.{block}.norm1.weight"))).count();
        if depth == 0 {
            return Err("it has a patch embedding, but no transformer blocks".into());
        }
        let gated_width = weights.shape_if("blocks.0.mlp.w12.weight");
        let fc2 = weights.shape_if("blocks.0.mlp.fc2.weight");
        let fc1 = weights.shape_if("blocks.0.mlp.fc1.weight");
        let (gated, hidden) = match (gated_width, fc1, fc2) {
            (Some(both), ..) if both.len() == 2 => (true, both[0] / 2),
            // timm keeps SwiGLU's two halves under the names of a plain MLP.
            (_, Some(fc1), Some(fc2)) if fc1.len() == 2 && fc2.len() == 2 => (fc1[0] == 2 * fc2[1], fc2[1]),
            _ => return Err("its first block has no MLP of a kind that is known".into()),
        };
        let heads = match hints.heads {
            Some(heads) => heads,
            None if dim == 1_280 => 16,
            None if dim.is_multiple_of(64) => dim / 64,
            None => return Err(format!("its {dim} dimensions are no multiple of 64: say how many heads it has")),
        };
        if heads == 0 || !dim.is_multiple_of(heads) {
            return Err(format!("its {dim} dimensions cannot be split over {heads} heads"));
        }
        let registers = match weights.shape_if("register_tokens") {
            Some(shape) => match shape[..] {
                [1, count, _] if count <= 63 => count,
                _ => return Err(format!("its register tokens have the shape {shape:?}")),
            },
            None => 0,
        };
        let positions = weights.shape("pos_embed")?;
        let square = |count: usize| Some(count.isqrt()).filter(|side| side * side == count && count > 0);
        let (class_position, grid) = match positions[..] {
            [1, count, _] => match (square(count.saturating_sub(1)), square(count)) {
                (Some(grid), _) => (true, grid),
                (None, Some(grid)) => (false, grid),
                _ => return Err(format!("its {count} position embeddings are those of no square grid")),
            },
            _ => return Err(format!("its position embeddings have the shape {positions:?}")),
        };
        let vit = Vit {
            family,
            because,
            sizes: Sizes { dim, depth, heads, hidden, patch, registers, grid },
            gated,
            scaled: weights.has("blocks.0.ls1.gamma"),
            normed: weights.has("norm.weight"),
            qkv_bias: weights.has("blocks.0.attn.qkv.bias"),
            class_position,
            ground_sample_distance: hints.ground_sample_distance.unwrap_or(1.0),
            weights,
        };
        vit.check_shapes()?;
        Ok(vit)
    }

    /// Holds every tensor that is used to the shape that it must have.
    fn check_shapes(&self) -> Result<(), String> {
        let Sizes { dim, depth, hidden, patch, registers, grid, .. } = self.sizes;
        let positions = grid * grid + usize::from(self.class_position);
        let mut expected = vec![
            ("cls_token".to_owned(), vec![1, 1, dim]),
            ("pos_embed".into(), vec![1, positions, dim]),
            ("patch_embed.proj.weight".into(), vec![dim, 3, patch, patch]),
            ("patch_embed.proj.bias".into(), vec![dim]),
        ];
        if registers > 0 {
            expected.push(("register_tokens".into(), vec![1, registers, dim]));
        }
        if self.normed {
            expected.extend([("norm.weight".into(), vec![dim]), ("norm.bias".into(), vec![dim])]);
        }
        for block in 0..depth {
            let mut part =
                |name: &str, shape: &[usize]| expected.push((format!("blocks.{block}.{name}"), shape.to_vec()));
            for norm in ["norm1", "norm2"] {
                part(&format!("{norm}.weight"), &[dim]);
                part(&format!("{norm}.bias"), &[dim]);
            }
            part("attn.qkv.weight", &[3 * dim, dim]);
            if self.qkv_bias {
                part("attn.qkv.bias", &[3 * dim]);
            }
            part("attn.proj.weight", &[dim, dim]);
            part("attn.proj.bias", &[dim]);
            let [into, out] = self.mlp_names();
            let wide = if self.gated { 2 * hidden } else { hidden };
            part(&format!("{into}.weight"), &[wide, dim]);
            part(&format!("{into}.bias"), &[wide]);
            part(&format!("{out}.weight"), &[dim, hidden]);
            part(&format!("{out}.bias"), &[dim]);
            if self.scaled {
                part("ls1.gamma", &[dim]);
                part("ls2.gamma", &[dim]);
            }
        }
        for (name, shape) in expected {
            let found = self.weights.shape(&name)?;
            if found != shape {
                return Err(format!("its `{name}` has the shape {found:?}, and {shape:?} is needed"));
            }
        }
        Ok(())
    }

    /// Names of the MLP's two layers.
    fn mlp_names(&self) -> [&'static str; 2] {
        match self.weights.has("blocks.0.mlp.w12.weight") {
            true => ["mlp.w12", "mlp.w3"],
            false => ["mlp.fc1", "mlp.fc2"],
        }
    }

    /// The features that suit nearest neighbours best, as far as is known: [`Family::middle`].
    pub fn default_layer(&self) -> usize {
        if self.family.middle { (self.sizes.depth / 2).max(1) } else { self.sizes.depth }
    }

    /// Class token and registers.
    pub fn prefix_tokens(&self) -> usize {
        1 + self.sizes.registers
    }

    /// Whether the features of a layer leave through the final LayerNorm.
    fn ends_in_norm(&self, tap: Tap) -> bool {
        self.normed && tap.kind == Kind::Tokens && tap.layer == self.sizes.depth
    }

    /// Reads a tensor by the name that timm has for it.
    fn read(&self, part: &str) -> Result<Vec<f32>, CheckpointError> {
        self.weights.read(part)
    }

    /// (prefix tokens, dim): class token and registers, their positions added.
    fn prefix(&self) -> Result<Vec<f32>, CheckpointError> {
        let mut prefix = self.read("cls_token")?;
        if self.class_position && !self.family.computes_positions() {
            let positions = self.read("pos_embed")?;
            prefix.iter_mut().zip(positions).for_each(|(value, position)| *value += position);
        }
        if self.sizes.registers > 0 {
            prefix.extend(self.read("register_tokens")?);
        }
        Ok(prefix)
    }

    /// Position embeddings of the patches, and how they follow from an input's size. `longest` is the longest side of
    /// an input, in patches.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn positions(&self, longest: usize) -> Result<Positions, CheckpointError> {
        let Sizes { dim, grid, registers, .. } = self.sizes;
        if self.family.computes_positions() {
            return Ok(Positions::computed(dim, longest, self.ground_sample_distance));
        }
        let mut data = self.read("pos_embed")?;
        if self.class_position {
            data.drain(..dim);
        }
        Ok(Positions::trained(data, grid, self.family.resampling(registers)))
    }
}
