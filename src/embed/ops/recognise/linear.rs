//! Products with constant weights, whoever quantized them.

use std::borrow::Cow;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::{MOST_NODES, Reader, Scope};
use crate::embed::blocks::Matrix;

/// Most multiplications around a product in integers.
const MOST_FACTORS: usize = 16;

/// A linear layer in the graph. Rows are all axes of its input but those that it sums over.
pub struct LinearRef {
    pub input: OutletId,
    pub inputs: usize,
    pub outputs: usize,
    /// (inputs, outputs)
    weights: Weights,
    /// (outputs): the product is multiplied with these,
    scales: Vec<f32>,
    /// and these are added.
    bias: Vec<f32>,
    /// (inputs): the input is multiplied with these first.
    pub factors: Option<Vec<f32>>,
}

/// Numbers of weights, (inputs, outputs), as they lie in the graph.
enum Weights {
    Floats(Tensor),
    /// Whole numbers, of 8 or 32 bits, less `zeros`, one for all or one for each output.
    Integers {
        numbers: Tensor,
        zeros: Vec<i32>,
    },
}

impl Weights {
    /// Row `row` of the matrix, whole numbers as floats.
    fn row(&self, row: usize, outputs: usize, to: &mut [f32]) -> TractResult<()> {
        let range = row * outputs..(row + 1) * outputs;
        match self {
            Weights::Floats(tensor) => to.copy_from_slice(&tensor.try_as_plain_ram()?.as_slice::<f32>()?[range]),
            Weights::Integers { numbers, zeros } => {
                let plain = numbers.try_as_plain_ram()?;
                match numbers.datum_type() {
                    DatumType::I8 => less(&plain.as_slice::<i8>()?[range], zeros, to),
                    DatumType::U8 => less(&plain.as_slice::<u8>()?[range], zeros, to),
                    _ => less(&plain.as_slice::<i32>()?[range], zeros, to),
                }
            }
        }
        Ok(())
    }
}

/// Whole numbers less zeros, as floats.
fn less<T: Copy + Into<i32>>(numbers: &[T], zeros: &[i32], to: &mut [f32]) {
    match zeros {
        [zero] => to.iter_mut().zip(numbers).for_each(|(to, v)| *to = ((*v).into() - zero) as f32),
        many => {
            to.iter_mut().zip(numbers.iter().zip(many)).for_each(|(to, (v, zero))| *to = ((*v).into() - zero) as f32)
        }
    }
}

impl LinearRef {
    pub fn matrix(&self) -> TractResult<Matrix> {
        let mut weights = vec![0.0; self.inputs * self.outputs];
        for (k, row) in weights.chunks_exact_mut(self.outputs).enumerate() {
            self.weights.row(k, self.outputs, row)?;
        }
        Ok(Matrix { weights, inputs: self.inputs, scales: self.scales.clone(), bias: self.bias.clone() })
    }
}

impl Reader<'_> {
    /// The linear layer that ends in `outlet`, with its bias and what multiplies it.
    pub(super) fn linear(&self, outlet: OutletId, covered: &mut Vec<usize>) -> Option<LinearRef> {
        let outputs = *self.shape(outlet)?.last()?;
        covered.push(outlet.node);
        if covered.len() > MOST_NODES {
            return None;
        }
        for [inside, constant] in self.either(outlet, "Add") {
            if let Some(bias) = self.vector(constant, outputs) {
                let mut layer = self.linear(inside, covered)?;
                layer.bias.iter_mut().zip(&bias).for_each(|(of, bias)| *of += bias);
                return (layer.outputs == outputs).then_some(layer);
            }
        }
        // A product in integers has its scales in multiplications too: it is looked for as a whole first.
        if self.inputs_of(outlet, "Mul").is_some()
            && let Some(layer) = self.integer_product(outlet, covered)
        {
            return Some(layer);
        }
        for [inside, constant] in self.either(outlet, "Mul") {
            if let Some(by) = self.vector(constant, outputs) {
                let mut layer = self.linear(inside, covered)?;
                if layer.outputs != outputs {
                    return None;
                }
                layer.bias.iter_mut().zip(&by).for_each(|(of, by)| *of *= by);
                layer.scales.iter_mut().zip(&by).for_each(|(of, by)| *of *= by);
                return Some(layer);
            }
        }
        match self.op::<AxisOp>(outlet) {
            Some((AxisOp::Add(_) | AxisOp::Rm(_), inputs)) if self.shape(inputs[0])?.last() == Some(&outputs) => {
                self.linear(inputs[0], covered)
            }
            _ => self.float_product(outlet, covered),
        }
    }

    fn float_product(&self, outlet: OutletId, covered: &mut Vec<usize>) -> Option<LinearRef> {
        let (einsum, &[a, b]) = self.op::<EinSum>(outlet)? else { return None };
        if self.scope != Scope::All || einsum.q_params.is_some() || self.fact_type(outlet)? != f32::datum_type() {
            return None;
        }
        let [input, weights] = [[a, b], [b, a]].into_iter().find(|[_, weights]| self.constant(*weights).is_some())?;
        let slot = usize::from(input == b);
        let tensor = self.constant(weights)?;
        let tensor = self.matrix_of(einsum, outlet, (input, slot), tensor)?;
        let &[inputs, outputs] = tensor.shape() else { return None };
        let (input, factors) = self.factors(input, inputs, covered);
        let (scales, bias) = (vec![1.0; outputs], vec![0.0; outputs]);
        Some(LinearRef { input, inputs, outputs, weights: Weights::Floats(tensor), scales, bias, factors })
    }

    fn fact_type(&self, outlet: OutletId) -> Option<DatumType> {
        Some(self.model.outlet_fact(outlet).ok()?.datum_type)
    }

    /// Weights as (inputs, outputs), where the sum goes over the last axes of the input and its result is the last axes of
    /// the output.
    fn matrix_of(
        &self,
        einsum: &EinSum,
        outlet: OutletId,
        (input, slot): (OutletId, usize),
        weights: &Tensor,
    ) -> Option<Tensor> {
        let (input_shape, output_shape) = (self.shape(input)?, self.shape(outlet)?);
        // (place, place in the weights) of each axis that is longer than one
        let (mut summed, mut made, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for axis in einsum.axes.iter_all_axes() {
            let place = |places: &[usize]| (places.len() <= 1).then(|| places.first().copied());
            let of_input = place(&axis.inputs[slot])?.filter(|at| input_shape[*at] > 1);
            let of_weights = place(&axis.inputs[1 - slot])?.filter(|at| weights.shape()[*at] > 1);
            let of_output = place(&axis.outputs[0])?.filter(|at| output_shape[*at] > 1);
            match (of_input, of_weights, of_output) {
                (Some(at), Some(weight), None) => summed.push((at, weight)),
                (None, Some(weight), Some(at)) => made.push((at, weight)),
                (Some(at), None, Some(to)) => rows.push((at, to)),
                (None, None, None) => {}
                _ => return None,
            }
        }
        for list in [&mut summed, &mut made, &mut rows] {
            list.sort_unstable();
        }
        let last = |list: &[(usize, usize)], shape: &[usize]| {
            let long: Vec<usize> = (0..shape.len()).filter(|at| shape[*at] > 1).collect();
            long.len() >= list.len() && long[long.len() - list.len()..].iter().zip(list).all(|(at, of)| at == &of.0)
        };
        let in_order = rows.is_sorted_by_key(|(_, to)| *to);
        if summed.is_empty()
            || made.is_empty()
            || !in_order
            || !last(&summed, &input_shape)
            || !last(&made, &output_shape)
        {
            return None;
        }
        let ones = (0..weights.rank()).filter(|at| weights.shape()[*at] == 1);
        let order: Vec<usize> = ones.chain(summed.iter().chain(&made).map(|(_, weight)| *weight)).collect();
        let inputs: usize = summed.iter().map(|(at, _)| input_shape[*at]).product();
        let outputs: usize = made.iter().map(|(at, _)| output_shape[*at]).product();
        let ordered = weights.clone().permute_axes(&order).ok()?;
        ordered.into_shape(&[inputs, outputs]).ok()
    }

    /// A constant that multiplies each input, and what it multiplies.
    fn factors(&self, input: OutletId, inputs: usize, covered: &mut Vec<usize>) -> (OutletId, Option<Vec<f32>>) {
        for [inside, constant] in self.either(input, "Mul") {
            let long = self.constant(constant).is_some_and(|tensor| tensor.len() == inputs);
            // What scales a LayerNorm is a part of it, and has a sum around it.
            if long
                && self.shape(inside).is_some_and(|shape| shape.last() == Some(&inputs))
                && let Some(factors) = self.vector(constant, inputs)
            {
                covered.push(input.node);
                return (inside, Some(factors));
            }
        }
        (input, None)
    }

    /// A product in integers with all that turns it to floats: of ours, scales of tokens and of outputs one after the other;
    /// of ONNX Runtime's, both multiplied first.
    fn integer_product(&self, outlet: OutletId, covered: &mut Vec<usize>) -> Option<LinearRef> {
        let outputs = *self.shape(outlet)?.last()?;
        let mut product = None;
        let mut token = None;
        let mut scales = vec![1.0f32; outputs];
        let mut nodes = Vec::new();
        let mut open = vec![outlet];
        while let Some(outlet) = open.pop() {
            if nodes.len() > MOST_FACTORS {
                return None;
            }
            let outlet = self.before_reshapes(outlet);
            if let Some(&[a, b]) = self.inputs_of(outlet, "Mul") {
                nodes.push(outlet.node);
                // Only what holds the product, or combines scales, is opened.
                if self.holds_product(outlet, 4) || self.constant(a).is_some() || self.constant(b).is_some() {
                    open.extend([a, b]);
                    continue;
                }
            }
            if let Some(by) = self.vector(outlet, outputs) {
                scales.iter_mut().zip(by).for_each(|(scale, by)| *scale *= by);
            } else if self.op::<Cast>(outlet).is_some() && product.is_none() {
                nodes.push(outlet.node);
                product = Some(self.node(outlet).inputs[0]);
            } else if token.replace(outlet).is_some() {
                return None;
            }
        }
        let (product, token) = (product?, token?);
        // One for each row, or for all.
        if *self.shape(token)?.last().unwrap_or(&1) != 1 {
            return None;
        }
        let (einsum, inputs) = self.op::<EinSum>(product)?;
        let &[a, b, bias, a_zero, _, b_zero, ..] = inputs else { return None };
        if self.fact_type(product)? != i32::datum_type() || !self.all_zero(bias) {
            return None;
        }
        let weights = self.constant(b)?;
        let weights = match weights.datum_type() {
            DatumType::I8 | DatumType::U8 => Cow::Borrowed(&**weights),
            _ => weights.cast_to::<i32>().ok()?,
        };
        let whole = self.matrix_of(einsum, product, (a, 0), &weights)?;
        let &[rows, columns] = whole.shape() else { return None };
        let zeros = self.constant(b_zero)?.cast_to::<i32>().ok()?.into_owned();
        let zeros = zeros.to_plain_array_view::<i32>().ok()?.iter().copied().collect::<Vec<_>>();
        if columns != outputs || (zeros.len() != 1 && zeros.len() != outputs) {
            return None;
        }
        let input = self.dequantized(a, a_zero, token)?;
        nodes.extend([product.node, a.node]);
        covered.extend(nodes);
        let (input, factors) = self.factors(input, rows, covered);
        let weights = Weights::Integers { numbers: whole, zeros };
        Some(LinearRef { input, inputs: rows, outputs, weights, scales, bias: vec![0.0; outputs], factors })
    }

    /// Whether a product in integers lies among the factors, at most `depth` multiplications away.
    fn holds_product(&self, outlet: OutletId, depth: usize) -> bool {
        let outlet = self.before_reshapes(outlet);
        if let Some((_, inputs)) = self.op::<Cast>(outlet) {
            return self.op::<EinSum>(inputs[0]).is_some();
        }
        let inputs = self.inputs_of(outlet, "Mul").filter(|_| depth > 0);
        inputs.is_some_and(|inputs| inputs.iter().any(|input| self.holds_product(*input, depth - 1)))
    }

    fn all_zero(&self, outlet: OutletId) -> bool {
        let numbers = self.constant(outlet).and_then(|tensor| tensor.cast_to::<f32>().ok());
        numbers.is_some_and(|numbers| {
            numbers.to_plain_array_view::<f32>().is_ok_and(|numbers| numbers.iter().all(|v| *v == 0.0))
        })
    }

    /// The floats whose whole numbers are `integers`, `scale` a step.
    fn dequantized(&self, integers: OutletId, zero: OutletId, scale: OutletId) -> Option<OutletId> {
        let node = self.node(integers);
        if node.op.name() == "DynamicQuantizeLinearU8" {
            let fits = integers.slot == 0 && zero == OutletId::new(node.id, 2) && scale == OutletId::new(node.id, 1);
            return fits.then_some(node.inputs[0]);
        }
        let (cast, inputs) = self.op::<Cast>(integers)?;
        if cast.to != i8::datum_type() {
            return None;
        }
        let &[scaled] = self.inputs_of(inputs[0], "RoundHalfToEven")? else { return None };
        if !self.all_zero(zero) {
            return None;
        }
        let inverse_of_scale = |outlet| self.inputs_of(outlet, "Recip").is_some_and(|inputs| inputs[0] == scale);
        if let Some(&[input, by]) = self.inputs_of(scaled, "Div") {
            return (by == scale).then_some(input);
        }
        self.either(scaled, "Mul").into_iter().find(|[_, by]| inverse_of_scale(*by)).map(|[input, _]| input)
    }
}
