//! Finds in a decluttered graph what our operators can compute.
//!
//! Everything is read from its last node backwards: a residual that is added leads to the linear layer before it, that to
//! an activation or to attention, and so on to the LayerNorm that takes the same residual.

mod attention;
mod linear;
mod patches;
mod view;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::Slice;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, RmsNorm};

use super::Scope;
use crate::embed::blocks::{Activation, Before, Block, Linear, Matrix, Mlp, NormWeights};
use linear::LinearRef;

/// Most nodes of one pattern: a file may chain more than a stack holds.
const MOST_NODES: usize = 256;

/// A decluttered graph, and what may be taken from it.
pub struct Reader<'m> {
    model: &'m TypedModel,
    scope: Scope,
}

/// Something that was found in the graph.
pub struct Found<T> {
    /// What it takes.
    pub from: OutletId,
    pub what: T,
    /// The nodes that are not needed any more, unless something else takes what they give.
    pub covered: Vec<usize>,
}

impl<'m> Reader<'m> {
    pub fn new(model: &'m TypedModel, scope: Scope) -> Reader<'m> {
        Reader { model, scope }
    }

    fn node(&self, outlet: OutletId) -> &'m TypedNode {
        self.model.node(outlet.node)
    }

    /// The sides of a value, where they are known.
    pub fn shape(&self, outlet: OutletId) -> Option<Vec<usize>> {
        self.model.outlet_fact(outlet).ok()?.shape.as_concrete().map(<[usize]>::to_vec)
    }

    /// The inputs of a node with this operator.
    fn inputs_of(&self, outlet: OutletId, name: &str) -> Option<&'m [OutletId]> {
        let node = self.node(outlet);
        (outlet.slot == 0 && node.op.name() == name).then_some(&node.inputs[..])
    }

    fn op<T: TypedOp>(&self, outlet: OutletId) -> Option<(&'m T, &'m [OutletId])> {
        let node = self.node(outlet);
        node.op_as::<T>().map(|op| (op, &node.inputs[..]))
    }

    fn constant(&self, outlet: OutletId) -> Option<&'m Arc<Tensor>> {
        let fact = self.model.outlet_fact(outlet).ok()?;
        match self.op::<Cast>(outlet) {
            // Before a graph is decluttered, casts from a type to itself stand in it.
            Some((cast, inputs)) if cast.to == self.model.outlet_fact(inputs[0]).ok()?.datum_type => {
                self.model.outlet_fact(inputs[0]).ok()?.konst.as_ref()
            }
            _ => fact.konst.as_ref(),
        }
    }

    /// A constant as floats, as many as the last axis of what it is combined with, or as one that serves all.
    fn vector(&self, outlet: OutletId, length: usize) -> Option<Vec<f32>> {
        let tensor = self.constant(outlet)?;
        if tensor.datum_type() != f32::datum_type() {
            return None;
        }
        let view = tensor.to_plain_array_view::<f32>().ok()?;
        let numbers: Vec<f32> = view.iter().copied().collect();
        match numbers.len() {
            1 => Some(vec![numbers[0]; length]),
            many if many == length && tensor.shape().last() == Some(&length) => Some(numbers),
            _ => None,
        }
    }

    /// Both ways round of a node with two inputs.
    fn either(&self, outlet: OutletId, name: &str) -> Vec<[OutletId; 2]> {
        match self.inputs_of(outlet, name) {
            Some(&[a, b]) => vec![[a, b], [b, a]],
            _ => Vec::new(),
        }
    }

    /// What lies before operators that only add or remove axes of one, and reshapes that keep the order of numbers.
    fn before_reshapes(&self, outlet: OutletId) -> OutletId {
        let mut outlet = outlet;
        while let Some((AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..), inputs)) = self.op::<AxisOp>(outlet) {
            outlet = inputs[0];
        }
        outlet
    }

    /// LayerNorm over the last axis, and what it takes.
    fn norm(&self, outlet: OutletId) -> Option<Found<NormWeights>> {
        let width = *self.shape(outlet)?.last()?;
        self.either(outlet, "Add").into_iter().find_map(|[scaled, beta]| {
            let beta = self.vector(beta, width)?;
            self.either(scaled, "Mul").into_iter().find_map(|[normal, gamma]| {
                let gamma = self.vector(gamma, width)?;
                let (rms, inputs) = self.op::<RmsNorm>(normal)?;
                let centred = inputs[0];
                let from = self.centred(centred)?;
                let rank = self.shape(from)?.len();
                let epsilon = rms.eps.cast_to_scalar::<f32>().ok()?;
                let covered = vec![outlet.node, scaled.node, normal.node, centred.node];
                let what = NormWeights { gamma, beta: beta.clone(), epsilon };
                let alike = rms.axis + 1 == rank && self.shape(outlet)? == self.shape(from)?;
                alike.then_some(Found { from, what, covered })
            })
        })
    }

    /// What a node takes the mean over the last axis away from.
    fn centred(&self, outlet: OutletId) -> Option<OutletId> {
        let &[from, mean] = self.inputs_of(outlet, "Sub")? else { return None };
        let shape = self.shape(from)?;
        let width = *shape.last()?;
        let is_sum = |sum: OutletId| {
            let (reduce, inputs) = self.op::<Reduce>(sum)?;
            (reduce.reducer == Reducer::Sum && reduce.axes[..] == [shape.len() - 1] && inputs[0] == from).then_some(())
        };
        let is_mean = |[sum, share]: [OutletId; 2]| {
            is_sum(sum)?;
            let share = self.vector(share, 1)?[0];
            ((share * width as f32 - 1.0).abs() < 1e-5).then_some(from)
        };
        self.either(mean, "Mul").into_iter().find_map(is_mean)
    }

    /// A residual stream and what a block adds to it.
    pub fn residual(&self, outlet: OutletId) -> Option<Found<Block>> {
        self.either(outlet, "Add").into_iter().find_map(|[from, change]| {
            let mut covered = vec![outlet.node];
            let last = self.linear(change, &mut covered)?;
            // tokens and width: what is added must be as the stream is
            let shape = self.shape(from)?;
            let alike = self.shape(outlet)? == shape && self.shape(change)? == shape;
            (alike && last.outputs == *shape.last()?).then_some(())?;
            self.mlp(from, &last, covered.clone()).or_else(|| self.attention(from, &last, covered))
        })
    }

    fn mlp(&self, from: OutletId, last: &LinearRef, mut covered: Vec<usize>) -> Option<Found<Block>> {
        let inside = self.before_reshapes(last.input);
        covered.push(inside.node);
        let hidden = last.inputs;
        let (activation, parts) = match self.inputs_of(inside, "GeluExact") {
            Some(&[wide]) => (Activation::Gelu, vec![self.columns(wide, hidden, &mut covered)?]),
            _ => (Activation::SwiGlu, self.swiglu(inside, hidden, &mut covered)?.into()),
        };
        let norm = self.norm_of(&parts[0].0, from, &mut covered)?;
        if parts.iter().any(|(layer, _)| layer.input != parts[0].0.input || layer.factors.is_some()) {
            return None;
        }
        let into = parts.iter().map(|(layer, from)| {
            let columns: Vec<usize> = (*from..from + hidden).collect();
            let matrix = layer.matrix().ok()?;
            Some(if columns.len() == layer.outputs { matrix } else { matrix.columns(&columns) })
        });
        let into = into.collect::<Option<Vec<Matrix>>>()?.into_iter().reduce(Matrix::beside)?;
        let what = Mlp { norm, into, activation, factors: last.factors.clone(), out: last.matrix().ok()? };
        Some(Found { from, what: Block::Mlp(what), covered })
    }

    /// The layer whose columns, `width` of them and from which on, a value is.
    fn columns(&self, outlet: OutletId, width: usize, covered: &mut Vec<usize>) -> Option<(LinearRef, usize)> {
        let (whole, from) = match self.op::<Slice>(outlet) {
            Some((slice, inputs)) if slice.axis + 1 == self.shape(inputs[0])?.len() => {
                covered.push(outlet.node);
                (inputs[0], slice.start.to_usize().ok()?)
            }
            _ => (outlet, 0),
        };
        let layer = self.linear(whole, covered)?;
        (*self.shape(outlet)?.last()? == width && from + width <= layer.outputs).then_some((layer, from))
    }

    /// SiLU of the first times the second: halves of one layer's output, or two layers, as tract cuts them.
    fn swiglu(&self, outlet: OutletId, hidden: usize, covered: &mut Vec<usize>) -> Option<[(LinearRef, usize); 2]> {
        self.either(outlet, "Mul").into_iter().find_map(|[silu, value]| {
            let &[gate] = self.inputs_of(silu, "Silu")? else { return None };
            covered.push(silu.node);
            Some([self.columns(gate, hidden, covered)?, self.columns(value, hidden, covered)?])
        })
    }

    /// The LayerNorm that feeds a layer, where it takes `from`.
    fn norm_of(&self, layer: &LinearRef, from: OutletId, covered: &mut Vec<usize>) -> Option<NormWeights> {
        if layer.factors.is_some() {
            return None;
        }
        let Found { from: taken, what: norm, covered: nodes } = self.norm(layer.input)?;
        covered.extend(nodes);
        (taken == from && norm.gamma.len() == layer.inputs).then_some(norm)
    }

    /// A linear layer on its own, with the LayerNorm before it and the GELU after it.
    pub fn linear_alone(&self, outlet: OutletId) -> Option<Found<Block>> {
        let mut covered = vec![outlet.node];
        let (layer, gelu) = match self.inputs_of(outlet, "GeluExact") {
            Some(&[inside]) => (self.linear(inside, &mut covered)?, true),
            _ => (self.linear(outlet, &mut covered)?, false),
        };
        let norm = self.norm(layer.input);
        let norm = norm.filter(|found| layer.factors.is_none() && found.what.gamma.len() == layer.inputs);
        let (from, before) = match norm {
            Some(Found { from, what, covered: nodes }) => {
                covered.extend(nodes);
                (from, Before::Norm(what))
            }
            None => (layer.input, layer.factors.clone().map_or(Before::Nothing, Before::Factors)),
        };
        Some(Found { from, what: Block::Linear(Linear { before, matrix: layer.matrix().ok()?, gelu }), covered })
    }

    /// LayerNorm on its own.
    pub fn norm_alone(&self, outlet: OutletId) -> Option<Found<Block>> {
        let Found { from, what, covered } = self.norm(outlet)?;
        Some(Found { from, what: Block::Norm(what), covered })
    }
}
