//! Attention: queries, keys and values from linear layers of one LayerNorm, softmax, and the layer behind it.

use std::rc::Rc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::axes::Axis;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};

use super::linear::LinearRef;
use super::view::View;
use super::{Found, Reader};
use crate::embed::blocks::{Attention, Block, Matrix};

/// Queries, keys or values: which columns of which layer they are.
struct Part {
    layer: Rc<LinearRef>,
    /// What the layer makes.
    made: OutletId,
    /// (heads, width)
    columns: Vec<usize>,
    heads: usize,
    width: usize,
}

/// The layers that were read, and the nodes that they cover. One layer mostly makes queries, keys and values.
#[derive(Default)]
struct Layers {
    read: Vec<(OutletId, Rc<LinearRef>)>,
    covered: Vec<usize>,
}

/// Names of the axes of a product of two values.
struct Roles {
    heads: char,
    /// The axis of the first value that stays, of the second that stays, and the one that is summed over.
    first: char,
    second: char,
    summed: char,
}

impl Reader<'_> {
    /// The attention whose output `last` takes, on the residual stream `from`.
    pub(super) fn attention(&self, from: OutletId, last: &LinearRef, mut covered: Vec<usize>) -> Option<Found<Block>> {
        let &[frames, _, width] = &self.shape(from)?[..] else { return None };
        let attended = self.before_reshapes(last.input);
        let (einsum, &[weights, values]) = self.op::<EinSum>(attended)? else { return None };
        let roles = self.roles(einsum, attended, [weights, values])?;
        let softmaxed = self.before_reshapes(weights);
        let (softmax, &[scores]) = self.op::<Softmax>(softmaxed)? else { return None };
        let rank = self.shape(softmaxed)?.len();
        if softmax.axes[..] != [rank - 1]
            || !matches!(softmax.kind, SoftmaxKind::Softmax)
            || softmax.quant_output_dt.is_some()
            || last.inputs != width
        {
            return None;
        }
        // Heads side by side in each token's row, as the layer behind takes them.
        let &[token_axis, head_axis, width_axis] = &self.long_axes(einsum, attended, |axis| &axis.outputs[0])?[..]
        else {
            return None;
        };
        if [token_axis, head_axis, width_axis] != [roles.first, roles.heads, roles.second] {
            return None;
        }
        let mut layers = Layers::default();
        let values = self.part(einsum, 1, values, [roles.summed, roles.heads, roles.second], &mut layers)?;
        let (scores, scale) = self.scaled(scores);
        let (product, &[queries, keys]) = self.op::<EinSum>(self.before_reshapes(scores))? else { return None };
        let scores_outlet = self.before_reshapes(scores);
        let of_weights = self.long_axes(einsum, weights, |axis| &axis.inputs[0])?;
        let kept = [roles.heads, roles.first].map(|role| of_weights.iter().position(|axis| *axis == role));
        let last_of_weights = of_weights.last() == Some(&roles.summed);
        let roles = self.roles(product, scores_outlet, [queries, keys])?;
        // The softmax goes over the keys, and its heads and queries are the scores'.
        let of_scores = self.long_axes(product, scores_outlet, |axis| &axis.outputs[0])?;
        let made = [roles.heads, roles.first].map(|role| of_scores.iter().position(|axis| *axis == role));
        if made != kept || !last_of_weights || of_scores.last() != Some(&roles.second) {
            return None;
        }
        let (queries, of_queries) = self.scaled(queries);
        let (keys, of_keys) = self.scaled(keys);
        let queries = self.part(product, 0, queries, [roles.first, roles.heads, roles.summed], &mut layers)?;
        let keys = self.part(product, 1, keys, [roles.second, roles.heads, roles.summed], &mut layers)?;
        let parts = [queries, keys, values];
        let (heads, width_of_head) = (parts[0].heads, parts[0].width);
        let alike = parts.iter().all(|part| {
            let plain = part.layer.factors.is_none() && part.layer.input == parts[0].layer.input;
            plain && (part.heads, part.width) == (heads, width_of_head)
        });
        let scale = scale * of_queries * of_keys;
        // Frames are attended to one by one; a batch in one product is what tract makes of it, and is left to it.
        if !alike || frames != 1 || heads * width_of_head != width || !scale.is_normal() || scale < 0.0 {
            return None;
        }
        covered.append(&mut layers.covered);
        let norm = self.norm_of(&parts[0].layer, from, &mut covered)?;
        // A layer that makes several is read once.
        let mut read: Vec<(OutletId, Matrix)> = Vec::new();
        for part in &parts {
            if read.iter().all(|(made, _)| *made != part.made) {
                read.push((part.made, part.layer.matrix().ok()?));
            }
        }
        let matrix = |part: &Part| {
            let (_, matrix) = read.iter().find(|(made, _)| *made == part.made)?;
            Some(matrix.columns(&part.columns))
        };
        let qkv = parts.iter().map(matrix).collect::<Option<Vec<Matrix>>>()?.into_iter().reduce(Matrix::beside)?;
        covered.extend([attended.node, softmaxed.node, scores.node]);
        let (factors, proj) = (last.factors.clone(), last.matrix().ok()?);
        let what = Attention { norm, heads, width: width_of_head, qkv, scale, factors, proj };
        Some(Found { from, what: Block::Attention(what), covered })
    }

    /// What is multiplied with constants, and their product.
    fn scaled(&self, outlet: OutletId) -> (OutletId, f32) {
        let one = |[inside, constant]: [OutletId; 2]| {
            let by = self.constant(constant).filter(|tensor| tensor.len() == 1)?.cast_to_scalar::<f32>().ok()?;
            Some((inside, by))
        };
        let (mut outlet, mut scale) = (outlet, 1.0);
        while let Some((inside, by)) = self.either(outlet, "Mul").into_iter().find_map(one) {
            (outlet, scale) = (inside, scale * by);
        }
        (outlet, scale)
    }

    /// The axes of a product's input or result that are longer than one, in their order.
    fn long_axes(
        &self,
        einsum: &EinSum,
        outlet: OutletId,
        places: impl Fn(&Axis) -> &TVec<usize>,
    ) -> Option<Vec<char>> {
        let shape = self.shape(outlet)?;
        let mut axes: Vec<(usize, char)> = Vec::new();
        for axis in einsum.axes.iter_all_axes() {
            if let Some(at) = places(axis).first().filter(|at| shape[**at] > 1) {
                axes.push((*at, axis.repr));
            }
        }
        axes.sort_unstable();
        Some(axes.into_iter().map(|(_, axis)| axis).collect())
    }

    /// Which axes a product of two values, with heads in both, sums over and keeps.
    fn roles(&self, einsum: &EinSum, outlet: OutletId, inputs: [OutletId; 2]) -> Option<Roles> {
        let (a, b, out) = (self.shape(inputs[0])?, self.shape(inputs[1])?, self.shape(outlet)?);
        let [mut heads, mut first, mut second, mut summed] = [None; 4];
        for axis in einsum.axes.iter_all_axes() {
            let long = |places: &[usize], shape: &[usize]| places.first().is_some_and(|at| shape[*at] > 1);
            let of = (long(&axis.inputs[0], &a), long(&axis.inputs[1], &b), long(&axis.outputs[0], &out));
            let role = match of {
                (true, true, true) => &mut heads,
                (true, false, true) => &mut first,
                (false, true, true) => &mut second,
                (true, true, false) => &mut summed,
                (false, false, false) => continue,
                _ => return None,
            };
            if role.replace(axis.repr).is_some() {
                return None;
            }
        }
        // A single head has no axis that is longer than one, and is left to tract.
        Some(Roles { heads: heads?, first: first?, second: second?, summed: summed? })
    }

    /// The columns of a linear layer that input `slot` of a product is, whose axes are tokens, heads and width.
    fn part(
        &self,
        einsum: &EinSum,
        slot: usize,
        outlet: OutletId,
        [tokens, heads, width]: [char; 3],
        layers: &mut Layers,
    ) -> Option<Part> {
        let View { source, offset, axes } = self.view(outlet)?;
        let layer = match layers.read.iter().find(|(made, _)| *made == source) {
            Some((_, layer)) => Rc::clone(layer),
            None => {
                let layer = Rc::new(self.linear(source, &mut layers.covered)?);
                layers.read.push((source, Rc::clone(&layer)));
                layer
            }
        };
        let axis = |name: char| {
            let axis = einsum.axes.iter_all_axes().find(|axis| axis.repr == name)?;
            axes.get(*axis.inputs[slot].first()?).copied()
        };
        let ((count, row), (heads, between), (width, one)) = (axis(tokens)?, axis(heads)?, axis(width)?);
        let rows: usize = self.shape(source)?.iter().rev().skip(1).product();
        let end = offset + (heads - 1) * between + width;
        if one != 1 || row != layer.outputs || count != rows || end > layer.outputs {
            return None;
        }
        let columns = (0..heads).flat_map(|head| (0..width).map(move |at| offset + head * between + at)).collect();
        Some(Part { layer, made: source, columns, heads, width })
    }
}
