//! What of an ONNX graph can be quantized, and the graph with it quantized.
//!
//! A linear layer's product becomes `MatMulInteger`: weights in 8 bits with a scale for each output, activations in 8
//! bits with a scale for each token, found as they come. Its result is what the product was, so that everything
//! around it stays in floats. Other large constants are kept in 8 bits and widened when they are used.

use std::collections::{BTreeMap, HashMap, HashSet};

use ndarray::Array2;
use prost::Message;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

use super::linear::{Int8Weights, LEVELS};
use crate::embed::OnnxFile;

/// Attribute and element types, as the ONNX specification numbers them.
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_INTS: i32 = 7;
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const INT64: i32 = 7;

/// Constants of fewer numbers are not worth quantizing.
const LARGE: usize = 4_096;
/// Since when `DequantizeLinear` knows axes, and when `ReduceMax` takes its axes as an input.
const LEAST_OPSET: i64 = 13;
const AXES_AS_INPUT: i64 = 18;
/// Added to a token's scale, so that a token of zeros does not divide by zero.
const SCALE_FLOOR: f32 = 1e-12;

/// A graph cut down to one output.
#[derive(Clone, Debug)]
pub struct Network {
    model: ModelProto,
    opset: i64,
}

/// A linear layer with constant weights, fed by the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// That of its weights.
    pub name: String,
    /// The value that is multiplied with the weights: (..., inputs).
    pub input: String,
    /// (inputs, outputs)
    pub weights: Array2<f32>,
    /// Its input comes from a LayerNorm and goes nowhere else: smoothing costs nothing.
    pub foldable: bool,
}

/// Another large constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    pub name: String,
    pub dims: Vec<i64>,
    /// The axis along which each slice has a scale of its own.
    pub axis: usize,
}

/// How a part of the graph is to be computed.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// A linear layer in 8 bits, each input divided by its number first and the weights multiplied with it.
    Linear { smoothing: Option<Vec<f32>> },
    /// A constant stored in 8 bits.
    Stored,
}

impl Network {
    /// The part of a graph that makes `output`.
    ///
    /// # Errors
    /// When it has no such output, is too old, or is quantized already.
    pub fn of(file: OnnxFile, output: &str) -> Result<Network, String> {
        if file.is_quantized() {
            return Err("it computes in 8-bit integers already".into());
        }
        let mut model = file.into_proto(output)?;
        let opset = model.opset_import.iter().find(|set| set.domain.is_empty() || set.domain == "ai.onnx");
        let opset = opset.map_or(0, |set| set.version);
        if opset < LEAST_OPSET {
            return Err(format!("it is written for opset {opset}; {LEAST_OPSET} or later is needed"));
        }
        let graph = model.graph.as_mut().expect("checked when it was decoded");
        let mut wanted: HashSet<String> = HashSet::from([output.to_owned()]);
        // Nodes stand behind those that feed them: one way back finds all that is needed.
        for node in graph.node.iter().rev() {
            if node.output.iter().any(|value| wanted.contains(value)) {
                wanted.extend(node.input.iter().cloned());
            }
        }
        graph.node.retain(|node| node.output.iter().any(|value| wanted.contains(value)));
        graph.initializer.retain(|tensor| wanted.contains(&tensor.name));
        graph.output.retain(|value| value.name == output);
        graph.value_info.clear();
        Ok(Network { model, opset })
    }

    /// The graph as it is.
    pub fn file(&self) -> OnnxFile {
        OnnxFile::of_proto(self.model.clone())
    }

    fn nodes(&self) -> &[NodeProto] {
        &self.model.graph.as_ref().expect("checked when it was decoded").node
    }

    fn constants_by_name(&self) -> HashMap<&str, &TensorProto> {
        let graph = self.model.graph.as_ref().expect("checked when it was decoded");
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect()
    }

    /// Values that depend on the pixels, and not on their number alone.
    fn of_pixels(&self) -> HashSet<&str> {
        let graph = self.model.graph.as_ref().expect("checked when it was decoded");
        let constants = self.constants_by_name();
        let inputs = graph.input.iter().map(|input| input.name.as_str());
        let mut of_pixels: HashSet<&str> = inputs.filter(|name| !constants.contains_key(name)).collect();
        for node in self.nodes().iter().filter(|node| !["Shape", "Size"].contains(&node.op_type.as_str())) {
            if node.input.iter().any(|value| of_pixels.contains(value.as_str())) {
                of_pixels.extend(node.output.iter().map(String::as_str));
            }
        }
        of_pixels
    }

    /// All linear layers, in the order of the graph.
    pub fn layers(&self) -> Vec<Layer> {
        let (constants, of_pixels) = (self.constants_by_name(), self.of_pixels());
        let mut seen = HashSet::new();
        let layers = self.nodes().iter().filter(|node| node.op_type == "MatMul").filter_map(|node| {
            let [input, weights] = &node.input[..] else { return None };
            let tensor = constants.get(weights.as_str()).filter(|tensor| tensor.dims.len() == 2)?;
            let weights =
                Array2::from_shape_vec((size(tensor.dims[0])?, size(tensor.dims[1])?), floats(tensor)?).ok()?;
            // Weights that two layers share are left as they are.
            let shared = self.nodes().iter().filter(|other| other.input.contains(&tensor.name)).count() > 1;
            let usable = of_pixels.contains(input.as_str()) && !shared && seen.insert(tensor.name.clone());
            let foldable = self.norm_before(input).is_some();
            usable.then(|| Layer { name: tensor.name.clone(), input: input.clone(), weights, foldable })
        });
        layers.collect()
    }

    /// Constants that are large and no linear layer's weights.
    pub fn constants(&self) -> Vec<Constant> {
        let linear: HashSet<String> = self.layers().into_iter().map(|layer| layer.name).collect();
        let graph = self.model.graph.as_ref().expect("checked when it was decoded");
        let large = graph.initializer.iter().filter(|tensor| tensor.data_type == FLOAT && tensor.dims.len() >= 2);
        let large =
            large.filter(|tensor| !linear.contains(&tensor.name) && floats(tensor).is_some_and(|f| f.len() >= LARGE));
        let constants = large.filter_map(|tensor| {
            let numbers = floats(tensor)?;
            let dims: Vec<usize> = tensor.dims.iter().map(|side| *side as usize).collect();
            let error = |axis: &usize| Rounded::along(&numbers, &dims, *axis).error(&numbers);
            let axis = (0..dims.len()).min_by(|a, b| error(a).total_cmp(&error(b)))?;
            Some(Constant { name: tensor.name.clone(), dims: tensor.dims.clone(), axis })
        });
        constants.collect()
    }

    /// The LayerNorm that makes `value`, where nothing but one product takes it.
    fn norm_before(&self, value: &str) -> Option<usize> {
        let at = self.nodes().iter().position(|node| node.output.first().is_some_and(|output| output == value))?;
        let norm = &self.nodes()[at];
        let constants = self.constants_by_name();
        let constant = norm.input.iter().skip(1).all(|name| constants.contains_key(name.as_str()));
        let users = self.nodes().iter().filter(|node| node.input.iter().any(|input| input == value)).count();
        let fits = norm.op_type == "LayerNormalization" && norm.input.len() == 3 && constant && users == 1;
        fits.then_some(at)
    }

    /// The graph with `choices` carried out, by the names of layers and constants.
    pub fn quantized(&self, choices: &BTreeMap<String, Choice>) -> OnnxFile {
        let mut model = self.model.clone();
        let graph = model.graph.as_mut().expect("checked when it was decoded");
        let constants = self.constants_by_name();
        let (nodes, initializers) = (std::mem::take(&mut graph.node), std::mem::take(&mut graph.initializer));
        let mut writer = Rewriter { opset: self.opset, nodes: Vec::new(), initializers: Vec::new() };
        for (name, choice) in choices.iter().filter(|(_, choice)| **choice == Choice::Stored) {
            debug_assert_eq!(*choice, Choice::Stored);
            if let Some((tensor, constant)) =
                constants.get(name.as_str()).zip(self.constants().into_iter().find(|constant| constant.name == *name))
            {
                writer.stored(tensor, constant.axis);
            }
        }
        let mut smoothed: HashMap<usize, Vec<f32>> = HashMap::new();
        for node in &nodes {
            if let Some((Choice::Linear { smoothing: Some(by) }, norm)) =
                linear_choice(node, choices).and_then(|choice| Some((choice, self.norm_before(node.input.first()?)?)))
            {
                smoothed.insert(norm, by.clone());
            }
        }
        for (at, node) in nodes.into_iter().enumerate() {
            if let Some(by) = smoothed.get(&at) {
                writer.smoothed_norm(node, by, &constants);
                continue;
            }
            match linear_choice(&node, choices) {
                Some(Choice::Linear { smoothing }) => {
                    let folded = self.norm_before(&node.input[0]).is_some();
                    writer.linear(&node, smoothing.as_deref(), folded, constants[node.input[1].as_str()]);
                }
                _ => writer.nodes.push(node),
            }
        }
        graph.node = writer.nodes;
        // Those that were taken over have no use any more.
        graph.initializer = initializers;
        let used: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
        let made: HashSet<String> = graph.node.iter().flat_map(|node| node.output.clone()).collect();
        let kept = |tensor: &TensorProto| used.contains(&tensor.name) && !made.contains(&tensor.name);
        let mut all: Vec<TensorProto> = graph.initializer.iter().filter(|tensor| kept(tensor)).cloned().collect();
        all.extend(writer.initializers);
        graph.initializer = all;
        OnnxFile::of_proto(model)
    }
}

/// What is to be done with a product, if anything is.
fn linear_choice<'c>(node: &NodeProto, choices: &'c BTreeMap<String, Choice>) -> Option<&'c Choice> {
    let weights = node.input.get(1).filter(|_| node.op_type == "MatMul")?;
    choices.get(weights).filter(|choice| matches!(choice, Choice::Linear { .. }))
}

/// Bytes of a graph as a file.
pub fn encoded(file: &OnnxFile) -> Vec<u8> {
    file.proto().encode_to_vec()
}

struct Rewriter {
    opset: i64,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl Rewriter {
    fn node(&mut self, operator: &str, inputs: &[&str], output: String, attributes: Vec<AttributeProto>) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![output.clone()],
            name: format!("node_{output}"),
            op_type: operator.to_owned(),
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    fn constant(&mut self, name: String, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let dims = dims.iter().map(|side| *side as i64).collect();
        self.initializers.push(TensorProto { name: name.clone(), dims, data_type, raw_data, ..TensorProto::default() });
        name
    }

    fn floats(&mut self, name: String, dims: &[usize], numbers: &[f32]) -> String {
        self.constant(name, dims, FLOAT, numbers.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn int8s(&mut self, name: String, dims: &[usize], numbers: &[i8]) -> String {
        self.constant(name, dims, INT8, numbers.iter().map(|v| v.cast_unsigned()).collect())
    }

    /// A constant in 8 bits, widened under the name that it had.
    fn stored(&mut self, tensor: &TensorProto, axis: usize) {
        let numbers = floats(tensor).expect("it is one of the large constants");
        let dims: Vec<usize> = tensor.dims.iter().map(|side| *side as usize).collect();
        let Rounded { integers, scales, .. } = Rounded::along(&numbers, &dims, axis);
        let name = &tensor.name;
        let stored = self.int8s(format!("{name}.int8"), &dims, &integers);
        let scales = self.floats(format!("{name}.scale"), &[dims[axis]], &scales);
        let zeros = self.int8s(format!("{name}.zero"), &[dims[axis]], &vec![0; dims[axis]]);
        let axis = vec![int("axis", axis as i64)];
        self.node("DequantizeLinear", &[&stored, &scales, &zeros], name.clone(), axis);
    }

    /// A LayerNorm whose outputs are each divided by a number of `by`.
    fn smoothed_norm(&mut self, node: NodeProto, by: &[f32], constants: &HashMap<&str, &TensorProto>) {
        let mut node = node;
        for input in &mut node.input[1..] {
            let numbers = floats(constants[input.as_str()]).expect("a LayerNorm's constants are floats");
            let numbers: Vec<f32> = numbers.iter().zip(by).map(|(v, by)| v / by).collect();
            *input = self.floats(format!("{input}.smoothed"), &[numbers.len()], &numbers);
        }
        self.nodes.push(node);
    }

    fn linear(&mut self, node: &NodeProto, smoothing: Option<&[f32]>, folded: bool, weights: &TensorProto) {
        let (name, output) = (&weights.name, &node.output[0]);
        let sides = [weights.dims[0] as usize, weights.dims[1] as usize];
        let numbers = floats(weights).expect("a linear layer's weights are floats");
        let matrix = Array2::from_shape_vec(sides, numbers).expect("a linear layer's weights are a matrix");
        let Int8Weights { rounded, scales } = Int8Weights::of(&matrix, smoothing);
        let rounded = self.int8s(format!("{name}.int8"), &sides, rounded.as_slice().expect("it was made in order"));
        let scales = self.floats(format!("{name}.scale"), &[sides[1]], &scales);

        let at = |what: &str| format!("{output}.{what}");
        let mut input = node.input[0].clone();
        if let Some(by) = smoothing.filter(|_| !folded) {
            let inverse: Vec<f32> = by.iter().map(|by| 1.0 / by).collect();
            let inverse = self.floats(format!("{name}.smoothing"), &[sides[0]], &inverse);
            input = self.node("Mul", &[&input, &inverse], at("smoothed"), vec![]);
        }
        let magnitudes = self.node("Abs", &[&input], at("magnitudes"), vec![]);
        let keep = int("keepdims", 1);
        let largest = if self.opset >= AXES_AS_INPUT {
            let last = self.constant(at("axes"), &[1], INT64, (-1i64).to_le_bytes().to_vec());
            self.node("ReduceMax", &[&magnitudes, &last], at("largest"), vec![keep])
        } else {
            let last = AttributeProto {
                name: "axes".into(),
                r#type: ATTRIBUTE_INTS,
                ints: vec![-1],
                ..AttributeProto::default()
            };
            self.node("ReduceMax", &[&magnitudes], at("largest"), vec![last, keep])
        };
        let step = self.floats(at("step"), &[], &[1.0 / LEVELS]);
        let token = self.node("Mul", &[&largest, &step], at("token_step"), vec![]);
        let floor = self.floats(at("floor"), &[], &[SCALE_FLOOR]);
        let token = self.node("Add", &[&token, &floor], at("token_scale"), vec![]);
        let scaled = self.node("Div", &[&input, &token], at("scaled"), vec![]);
        let whole = self.node("Round", &[&scaled], at("whole"), vec![]);
        let integers = self.node("Cast", &[&whole], at("int8"), vec![int("to", INT8.into())]);
        let product = self.node("MatMulInteger", &[&integers, &rounded], at("product"), vec![]);
        let product = self.node("Cast", &[&product], at("float"), vec![int("to", FLOAT.into())]);
        let product = self.node("Mul", &[&product, &token], at("of_tokens"), vec![]);
        self.node("Mul", &[&product, &scales], output.clone(), vec![]);
    }
}

/// A tensor in 8 bits, with a scale for each slice along one axis.
struct Rounded {
    integers: Vec<i8>,
    scales: Vec<f32>,
    /// Numbers between one slice and the next.
    slice: usize,
}

impl Rounded {
    fn along(numbers: &[f32], dims: &[usize], axis: usize) -> Rounded {
        let slice = dims[axis + 1..].iter().product::<usize>().max(1);
        let at = |i: usize| i / slice % dims[axis];
        let mut scales = vec![0.0f32; dims[axis]];
        numbers.iter().enumerate().for_each(|(i, v)| scales[at(i)] = scales[at(i)].max(v.abs()));
        scales.iter_mut().for_each(|scale| *scale = (*scale / LEVELS).max(f32::MIN_POSITIVE));
        let integers = numbers.iter().enumerate().map(|(i, v)| (v / scales[at(i)]).round() as i8).collect();
        Rounded { integers, scales, slice }
    }

    /// The sum of the squared differences.
    fn error(&self, numbers: &[f32]) -> f64 {
        let scale = |i: usize| self.scales[i / self.slice % self.scales.len()];
        let difference = |(i, v): (usize, &f32)| f64::from(f32::from(self.integers[i]) * scale(i) - v).powi(2);
        numbers.iter().enumerate().map(difference).sum()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: ATTRIBUTE_INT, i, ..AttributeProto::default() }
}

fn size(side: i64) -> Option<usize> {
    usize::try_from(side).ok()
}

/// The numbers of a tensor of 32-bit floats, where it holds as many as its sides say.
fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    let count = tensor.dims.iter().try_fold(1usize, |product, side| product.checked_mul(size(*side)?))?;
    let numbers: Vec<f32> = match tensor.raw_data.as_slice() {
        [] => tensor.float_data.clone(),
        raw => raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    };
    (tensor.data_type == FLOAT && numbers.len() == count).then_some(numbers)
}
