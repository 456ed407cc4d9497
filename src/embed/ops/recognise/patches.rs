//! The patch embedding: a convolution whose kernels lie side by side, and all that is added before the first block.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::super::operators::SeamOp;
use super::Reader;
use super::linear::Matrix;
use crate::embed::kernels::passes::LEVELS;
use crate::embed::layers::{Before, PatchEmbedding};

/// Most additions and concatenations behind a patch embedding.
const MOST_ADDED: usize = 16;

impl Reader<'_> {
    /// Whether a value is a patch embedding's, a row for each patch, and nothing more.
    pub fn is_patches(&self, outlet: OutletId) -> bool {
        matches!(self.op::<AxisOp>(outlet), Some((AxisOp::Move(1, 2), _))) && self.patches(outlet).is_some()
    }

    /// The tokens that the first block takes, and the picture that they are made of.
    pub fn patches(&self, outlet: OutletId) -> Option<(OutletId, PatchEmbedding, Vec<usize>)> {
        self.patches_within(outlet, MOST_ADDED)
    }

    fn patches_within(&self, outlet: OutletId, depth: usize) -> Option<(OutletId, PatchEmbedding, Vec<usize>)> {
        let depth = depth.checked_sub(1)?;
        let &[1, tokens, width] = &self.shape(outlet)?[..] else { return None };
        // Constants for all tokens on top of what is inside.
        for [inside, constant] in self.either(outlet, "Add") {
            let added = self.constant(constant).filter(|tensor| tensor.shape() == [1, tokens, width]);
            if let Some(added) = added
                && let Some((from, mut patches, mut covered)) = self.patches_within(inside, depth)
            {
                let added = added.try_as_plain_ram().ok()?;
                let added = added.as_slice::<f32>().ok()?;
                patches.added.iter_mut().zip(added).for_each(|(to, by)| *to += by);
                covered.push(outlet.node);
                return Some((from, patches, covered));
            }
        }
        if let Some((concat, inputs)) = self.op::<TypedConcat>(outlet) {
            let (last, prefix) = inputs.split_last()?;
            let (from, mut patches, mut covered) = self.patches_within(*last, depth).filter(|_| concat.axis == 1)?;
            let mut before = Vec::new();
            for outlet in prefix {
                let tensor = self.constant(*outlet).filter(|tensor| tensor.datum_type() == f32::datum_type())?;
                before.extend_from_slice(tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?);
            }
            patches.prefix += before.len() / width;
            before.append(&mut patches.added);
            patches.added = before;
            covered.push(outlet.node);
            return (patches.added.len() == tokens * width).then_some((from, patches, covered));
        }
        if let Some((_, inputs)) = self.op::<SeamOp>(outlet) {
            let (from, patches, mut covered) = self.patches_within(inputs[0], depth)?;
            covered.push(outlet.node);
            return Some((from, patches, covered));
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
        let linear = Arc::new(matrix.pack(Before::Nothing)?);
        let added = vec![0.0; tokens * width];
        let covered = vec![outlet.node, flat.node, grid.node];
        Some((picture, PatchEmbedding { patch, channels, linear, added, prefix: 0 }, covered))
    }
}

/// Kernels, (outputs, numbers), as a layer's weights in 8 bits, the inputs filled up to a multiple of 16.
fn side_by_side(kernels: &[f32], outputs: usize, bias: Vec<f32>) -> Matrix {
    let length = kernels.len() / outputs;
    let inputs = length.next_multiple_of(16);
    let largest = |kernel: &[f32]| kernel.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let scales: Vec<f32> =
        kernels.chunks_exact(length).map(|kernel| (largest(kernel) / LEVELS).max(f32::MIN_POSITIVE)).collect();
    let number = |input: usize, output: usize| match input < length {
        true => (kernels[output * length + input] / scales[output]).round() as i8,
        false => 0,
    };
    let numbers = (0..inputs).flat_map(|input| (0..outputs).map(move |output| (input, output)));
    Matrix { numbers: numbers.map(|(input, output)| number(input, output)).collect(), inputs, bias, scales }
}
