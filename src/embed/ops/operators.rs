//! The operators that stand in tract's graph. Each takes a tensor of floats and computes in [`layers`](crate::embed::layers).

use std::fmt;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use crate::embed::blocks::NormWeights;
use crate::embed::kernels::epilogues::Then;
use crate::embed::layers::{Attention, Linear, Mlp, PatchEmbedding, Rows, Workers};

/// Writes what tract asks of every operator: a name, equality by identity, and the shape of what comes out.
macro_rules! operator {
    ($op:ident, $name:literal, $part:ident, $shape:expr) => {
        impl fmt::Debug for $op {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($name)
            }
        }

        impl PartialEq for $op {
            fn eq(&self, other: &$op) -> bool {
                Arc::ptr_eq(&self.$part, &other.$part)
            }
        }

        impl Eq for $op {}

        impl Op for $op {
            fn name(&self) -> StaticName {
                $name.into()
            }

            op_as_typed_op!();
        }

        impl EvalOp for $op {
            op_out_of_plan!();

            fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
                Ok(tvec!(self.run(args_1!(inputs))?.into_tvalue()))
            }
        }

        impl TypedOp for $op {
            fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
                let shape: fn(&$op, &TypedFact) -> TractResult<ShapeFact> = $shape;
                Ok(tvec!(f32::fact(shape(self, inputs[0])?)))
            }

            as_op!();
        }
    };
}

/// The residual stream through a block's MLP.
#[derive(Clone)]
pub struct MlpOp {
    pub mlp: Arc<Mlp>,
    pub workers: Arc<Workers>,
}

operator!(MlpOp, "TagalongMlp", mlp, |_, input| Ok(input.shape.clone()));

impl MlpOp {
    fn run(&self, input: TValue) -> TractResult<Tensor> {
        in_place(input, |_, residual| self.mlp.run_on_residual(&self.workers, residual))
    }
}

/// The residual stream through a block's attention.
#[derive(Clone)]
pub struct AttentionOp {
    pub attention: Arc<Attention>,
    pub workers: Arc<Workers>,
}

operator!(AttentionOp, "TagalongAttention", attention, |_, input| Ok(input.shape.clone()));

impl AttentionOp {
    fn run(&self, input: TValue) -> TractResult<Tensor> {
        in_place(input, |shape, residual| {
            let frame = shape[shape.len() - 2..].iter().product();
            let mut tokens = self.workers.tokens();
            for residual in residual.chunks_exact_mut(frame) {
                self.attention.run_on_residual(&self.workers, &mut tokens, residual);
            }
        })
    }
}

/// A linear layer on its own.
#[derive(Clone)]
pub struct LinearOp {
    pub linear: Arc<Linear>,
    pub then: Then,
    /// Of what it gives.
    pub shape: TVec<usize>,
    pub workers: Arc<Workers>,
}

operator!(LinearOp, "TagalongLinear", linear, |op, _| Ok(op.shape.iter().copied().collect()));

impl LinearOp {
    fn run(&self, input: TValue) -> TractResult<Tensor> {
        let mut out = Tensor::zero::<f32>(&self.shape)?;
        let input = input.try_as_plain_ram()?;
        let input = input.as_slice::<f32>()?;
        self.linear.run(&self.workers, input, self.then, out.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        Ok(out)
    }
}

/// LayerNorm on its own.
#[derive(Clone)]
pub struct NormOp {
    pub norm: Arc<NormWeights>,
    pub workers: Arc<Workers>,
}

operator!(NormOp, "TagalongLayerNorm", norm, |_, input| Ok(input.shape.clone()));

impl NormOp {
    fn run(&self, input: TValue) -> TractResult<Tensor> {
        in_place(input, |_, rows| self.norm.run(&self.workers, rows))
    }
}

/// The picture to tokens.
#[derive(Clone)]
pub struct PatchesOp {
    pub patches: Arc<PatchEmbedding>,
    pub workers: Arc<Workers>,
}

operator!(PatchesOp, "TagalongPatches", patches, |op, input| {
    let outputs = op.patches.linear.outputs();
    Ok([input.shape[0].to_usize()?, op.patches.added.len() / outputs, outputs].into_iter().collect())
});

impl PatchesOp {
    fn run(&self, input: TValue) -> TractResult<Tensor> {
        let &[frames, _, height, width] = input.shape() else { bail!("a picture has four axes") };
        let PatchEmbedding { added, channels, linear, .. } = &*self.patches;
        let outputs = linear.outputs();
        let mut out = Tensor::zero::<f32>(&[frames, added.len() / outputs, outputs])?;
        let input = input.try_as_plain_ram()?;
        let pictures = input.as_slice::<f32>()?.chunks_exact(channels * height * width);
        let mut tokens = out.try_as_plain_ram_mut()?;
        for (picture, tokens) in pictures.zip(tokens.as_slice_mut::<f32>()?.chunks_exact_mut(added.len())) {
            self.patches.run(&self.workers, picture, [height, width], Rows::All(self.patches.tokens()), tokens);
        }
        Ok(out)
    }
}

/// Behind the patch embedding: gives what it takes. Decluttering carries a transposition through all of a graph to where it
/// costs least, and then tokens are columns; not through this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeamOp;

impl Op for SeamOp {
    fn name(&self) -> StaticName {
        "TagalongSeam".into()
    }

    op_as_typed_op!();
}

impl EvalOp for SeamOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(inputs)
    }
}

impl TypedOp for SeamOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(inputs[0].shape.clone())))
    }

    as_op!();
}

/// Changes a tensor of floats, itself where nobody else holds it.
fn in_place(input: TValue, change: impl FnOnce(&[usize], &mut [f32])) -> TractResult<Tensor> {
    let mut tensor = input.into_tensor();
    let shape: TVec<usize> = tensor.shape().into();
    change(&shape, tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
    Ok(tensor)
}
