//! The patch embedding: a convolution whose kernels lie side by side, and all that is added before the first block.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::super::operators::SeamOp;
use super::{Found, Reader};
use crate::embed::blocks::{Matrix, Patches};

/// Most additions and concatenations behind a patch embedding.
const MOST_ADDED: usize = 16;

impl Reader<'_> {
    /// Whether a value is a patch embedding's, a row for each patch, and nothing more.
    pub fn is_patches(&self, outlet: OutletId) -> bool {
        matches!(self.op::<AxisOp>(outlet), Some((AxisOp::Move(1, 2), _))) && self.patches(outlet).is_some()
    }

    /// The tokens that the first block takes, and the picture that they are made of.
    pub fn patches(&self, outlet: OutletId) -> Option<Found<Patches>> {
        self.patches_within(outlet, MOST_ADDED)
    }

    fn patches_within(&self, outlet: OutletId, depth: usize) -> Option<Found<Patches>> {
        let depth = depth.checked_sub(1)?;
        let &[1, tokens, width] = &self.shape(outlet)?[..] else { return None };
        // Constants for all tokens on top of what is inside.
        for [inside, constant] in self.either(outlet, "Add") {
            let added = self.constant(constant).filter(|tensor| tensor.shape() == [1, tokens, width]);
            if let Some(added) = added
                && let Some(mut found) = self.patches_within(inside, depth)
            {
                let added = added.try_as_plain_ram().ok()?;
                let added = added.as_slice::<f32>().ok()?;
                found.what.added.iter_mut().zip(added).for_each(|(to, by)| *to += by);
                found.covered.push(outlet.node);
                return Some(found);
            }
        }
        if let Some((concat, inputs)) = self.op::<TypedConcat>(outlet) {
            let (last, prefix) = inputs.split_last()?;
            let mut found = self.patches_within(*last, depth).filter(|_| concat.axis == 1)?;
            let mut before = Vec::new();
            for outlet in prefix {
                let tensor = self.constant(*outlet).filter(|tensor| tensor.datum_type() == f32::datum_type())?;
                before.extend_from_slice(tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?);
            }
            found.what.prefix += before.len() / width;
            before.append(&mut found.what.added);
            found.what.added = before;
            found.covered.push(outlet.node);
            return (found.what.added.len() == tokens * width).then_some(found);
        }
        if let Some((_, inputs)) = self.op::<SeamOp>(outlet) {
            let mut found = self.patches_within(inputs[0], depth)?;
            found.covered.push(outlet.node);
            return Some(found);
        }
        // (1, width, rows, columns) to (1, rows * columns, width)
        let (AxisOp::Move(1, 2), &[flat]) = self.op::<AxisOp>(outlet)? else { return None };
        let (AxisOp::Reshape(2, from, to), &[grid]) = self.op::<AxisOp>(flat)? else { return None };
        if from.len() != 2 || to.len() != 1 {
            return None;
        }
        let (conv, &[picture, kernels, bias]) = self.op::<Conv>(grid)? else { return None };
        let kernels = self.constant(kernels)?;
        let &[outputs, channels, patch, across] = kernels.shape() else { return None };
        let pool = &conv.pool_spec;
        let plain = conv.kernel_fmt == KernelFormat::OIHW
            && conv.group == 1
            && pool.data_format == DataFormat::NCHW
            && conv.q_params.is_none()
            && pool.strides.as_deref() == Some(&[patch, patch])
            && pool.dilations.as_ref().is_none_or(|dilations| dilations.iter().all(|d| *d == 1))
            && match &pool.padding {
                PaddingSpec::Valid => true,
                PaddingSpec::Explicit(before, after) => before.iter().chain(after).all(|p| *p == 0),
                _ => false,
            };
        let &[1, of_picture, height, columns] = &self.shape(picture)?[..] else { return None };
        let whole = of_picture == channels && height.is_multiple_of(patch) && columns.is_multiple_of(patch);
        if !plain || !whole || patch != across || outputs != width || kernels.datum_type() != f32::datum_type() {
            return None;
        }
        let kernels = kernels.try_as_plain_ram().ok()?;
        let matrix = side_by_side(kernels.as_slice::<f32>().ok()?, outputs, self.vector(bias, outputs)?);
        let added = vec![0.0; tokens * width];
        let covered = vec![outlet.node, flat.node, grid.node];
        Some(Found { from: picture, what: Patches { patch, channels, matrix, added, prefix: 0 }, covered })
    }
}

/// Kernels, (outputs, numbers), as a layer's weights.
fn side_by_side(kernels: &[f32], outputs: usize, bias: Vec<f32>) -> Matrix {
    let inputs = kernels.len() / outputs;
    let places = (0..inputs).flat_map(|input| (0..outputs).map(move |output| output * inputs + input));
    Matrix { weights: places.map(|at| kernels[at]).collect(), inputs, scales: vec![1.0; outputs], bias }
}
