//! tract's operators replaced by ours: a rewrite of its graph.
//!
//! ```text
//! Conv, Reshape, Move, Add, Concat       -> PatchEmbedding
//! LayerNorm, qkv, attention, proj, Add   -> Attention
//! LayerNorm, fc1, GELU, fc2, Add         -> Mlp
//! any other product with constant weights -> Linear
//! any other LayerNorm                    -> LayerNorm
//! ```
//!
//! What is not recognised is left to tract. `recognise/` finds the patterns, `operators.rs` is what takes their place, and
//! [`layers`](super::layers) computes.

mod operators;
mod recognise;

use std::collections::HashSet;
use std::ops::AddAssign;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::Softmax;

use super::blocks::{self, Block};
use super::kernels::epilogues::Then;
use super::layers::{Attention, Layer, Linear, Mlp, Network, PatchEmbedding, Workers};
use operators::{AttentionOp, LinearOp, MlpOp, NormOp, PatchesOp, SeamOp};
use recognise::{Found, Reader};

/// Which products become ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Layers that the graph computes in 8-bit integers, and around them attention and the patch embedding; layers that it
    /// computes in floats stay so.
    Quantized,
    /// Floats too: their weights are rounded to 8 bits at load.
    All,
}

/// What a rewrite did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    pub patch_embeddings: usize,
    pub attentions: usize,
    pub mlps: usize,
    pub linears: usize,
}

impl AddAssign for Rewritten {
    fn add_assign(&mut self, other: Rewritten) {
        self.patch_embeddings += other.patch_embeddings;
        self.attentions += other.attentions;
        self.mlps += other.mlps;
        self.linears += other.linears;
    }
}

impl Rewritten {
    /// Of a network, in which nothing else is.
    pub fn of(network: &Network) -> Rewritten {
        let count = |of: fn(&Layer) -> bool| network.layers.iter().filter(|layer| of(layer)).count();
        Rewritten {
            patch_embeddings: 1,
            attentions: count(|layer| matches!(layer, Layer::Attention(_))),
            mlps: count(|layer| matches!(layer, Layer::Mlp(_))),
            linears: count(|layer| matches!(layer, Layer::Linear(..))),
        }
    }
}

/// Declutters a graph, and replaces in it what is recognised.
///
/// # Errors
/// When tract refuses a patch.
pub fn rewrite(model: TypedModel, workers: &Arc<Workers>, scope: Scope) -> TractResult<(TypedModel, Rewritten)> {
    if model.nodes().iter().all(|node| !node.op_is::<Softmax>()) {
        // No transformer: nothing here is what these operators are for.
        return Ok((model.into_decluttered()?, Rewritten::default()));
    }
    replace(seamed(model)?.into_decluttered()?, workers, scope)
}

/// The network that a rewritten graph is, where nothing but our operators leads from its input to its output.
pub fn network(model: &TypedModel) -> Option<Network> {
    let &[mut outlet] = &model.outputs[..] else { return None };
    let mut layers = Vec::new();
    loop {
        let node = model.node(outlet.node);
        if let Some(op) = node.op_as::<PatchesOp>() {
            layers.reverse();
            let from_picture = model.inputs == node.inputs && model.outlet_fact(node.inputs[0]).ok()?.shape.rank() == 4;
            return from_picture.then(|| Network { patches: Arc::clone(&op.patches), layers });
        } else if let Some(op) = node.op_as::<AttentionOp>() {
            layers.push(Layer::Attention(Arc::clone(&op.attention)));
        } else if let Some(op) = node.op_as::<MlpOp>() {
            layers.push(Layer::Mlp(Arc::clone(&op.mlp)));
        } else if let Some(op) = node.op_as::<NormOp>() {
            layers.push(Layer::Norm(Arc::clone(&op.norm)));
        } else if let Some(op) = node.op_as::<LinearOp>() {
            layers.push(Layer::Linear(Arc::clone(&op.linear), op.then));
        } else {
            return None;
        }
        outlet = node.inputs[0];
    }
}

/// The patch embedding and the blocks that a graph is, one after the other; what is between its input and its output is among them.
///
/// # Errors
/// With the operator that nobody recognised.
pub fn chain(model: TypedModel) -> TractResult<Result<(blocks::Patches, Vec<Block>), String>> {
    let model = seamed(model)?.into_decluttered()?;
    let reader = Reader::new(&model, Scope::All);
    let mut outlet = model.outputs[0];
    let mut found = Vec::new();
    Ok(loop {
        if let Some(patches) = reader.patches(outlet) {
            if model.inputs != [patches.from] {
                break Err(unknown(&model, patches.from));
            }
            found.reverse();
            break Ok((patches.what, found));
        }
        let block =
            reader.residual(outlet).or_else(|| reader.linear_alone(outlet)).or_else(|| reader.norm_alone(outlet));
        let Some(block) = block else { break Err(unknown(&model, outlet)) };
        found.push(block.what);
        outlet = block.from;
    })
}

/// Tells of the operator that makes a value.
fn unknown(model: &TypedModel, outlet: OutletId) -> String {
    let node = model.node(outlet.node);
    format!("it does not know what `{}`, an operator {}, is part of", node.name, node.op.name())
}

/// A graph with a seam behind each patch embedding.
fn seamed(mut model: TypedModel) -> TractResult<TypedModel> {
    let reader = Reader::new(&model, Scope::All);
    let embeddings: Vec<OutletId> =
        model.eval_order()?.into_iter().map(OutletId::from).filter(|outlet| reader.is_patches(*outlet)).collect();
    for outlet in embeddings {
        let mut patch = TypedModelPatch::default();
        let tap = patch.tap_model(&model, outlet)?;
        let seam = patch.wire_node(format!("{}.seam", model.node(outlet.node).name), SeamOp, &[tap])?;
        patch.shunt_outside(&model, outlet, seam[0])?;
        patch.apply(&mut model)?;
    }
    model.into_compact()
}

fn replace(model: TypedModel, workers: &Arc<Workers>, scope: Scope) -> TractResult<(TypedModel, Rewritten)> {
    let reader = Reader::new(&model, scope);
    let mut done = Rewritten::default();
    let mut replacements = Vec::new();
    // From the end on: what a later pattern covers is not looked at for itself.
    let mut covered = HashSet::new();
    for id in model.eval_order()?.into_iter().rev() {
        let replacement =
            if covered.contains(&id) { None } else { find(&reader, OutletId::new(id, 0), workers, &mut done) };
        if let Some(replacement) = replacement {
            covered.extend(replacement.covered.iter().copied());
            replacements.push(replacement);
        }
    }
    let mut model = model;
    for Replacement { outlet, from, op, .. } in replacements {
        let mut patch = TypedModelPatch::default();
        let tap = patch.tap_model(&model, from)?;
        let name = format!("{}.tagalong", model.node(outlet.node).name);
        let made = patch.wire_node(name, op, &[tap])?;
        patch.shunt_outside(&model, outlet, made[0])?;
        patch.apply(&mut model)?;
    }
    Ok((model.into_compact()?, done))
}

/// What takes the place of the nodes that make a value.
struct Replacement {
    outlet: OutletId,
    /// What it takes.
    from: OutletId,
    op: Box<dyn TypedOp>,
    /// The nodes that are not needed any more, unless something else takes what they give.
    covered: Vec<usize>,
}

/// What can take the place of the nodes that make `outlet`.
fn find(reader: &Reader, outlet: OutletId, workers: &Arc<Workers>, done: &mut Rewritten) -> Option<Replacement> {
    let packed = |found: Option<Found<Block>>| {
        let Found { from, what, covered } = found?;
        let (op, count) = pack(what, reader.shape(outlet)?, workers)?;
        Some((Replacement { outlet, from, op, covered }, count))
    };
    let patches = || {
        let Found { from, what, covered } = reader.patches(outlet)?;
        let op = PatchesOp { patches: Arc::new(PatchEmbedding::pack(what)?), workers: Arc::clone(workers) };
        let count = Rewritten { patch_embeddings: 1, ..Rewritten::default() };
        Some((Replacement { outlet, from, op: Box::new(op), covered }, count))
    };
    let (replacement, count) = packed(reader.residual(outlet))
        .or_else(patches)
        .or_else(|| packed(reader.linear_alone(outlet)))
        .or_else(|| packed(reader.norm_alone(outlet)))?;
    *done += count;
    Some(replacement)
}

/// The operator that computes a block, whose output has this shape, where our kernels can.
fn pack(block: Block, shape: Vec<usize>, workers: &Arc<Workers>) -> Option<(Box<dyn TypedOp>, Rewritten)> {
    let workers = Arc::clone(workers);
    let mut count = Rewritten::default();
    let op: Box<dyn TypedOp> = match block {
        Block::Attention(block) => {
            count.attentions += 1;
            Box::new(AttentionOp { attention: Arc::new(Attention::pack(block)?), workers })
        }
        Block::Mlp(block) => {
            count.mlps += 1;
            Box::new(MlpOp { mlp: Arc::new(Mlp::pack(block)?), workers })
        }
        Block::Linear(blocks::Linear { before, matrix, gelu }) => {
            count.linears += 1;
            let linear = Arc::new(Linear::pack(before, matrix)?);
            let then = if gelu { Then::Gelu } else { Then::Store };
            Box::new(LinearOp { linear, then, shape: shape.into(), workers })
        }
        Block::Norm(norm) => {
            norm.fits(*shape.last()?).then_some(())?;
            Box::new(NormOp { norm: Arc::new(norm), workers })
        }
    };
    Some((op, count))
}
