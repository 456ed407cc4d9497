//! Writes ONNX graphs (opset 17), the same bytes for the same calls.

use prost::Message;
use tract_onnx::pb::{
    self, AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};

/// Attribute and element types, as the ONNX specification numbers them.
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_STRING: i32 = 3;
const ATTRIBUTE_INTS: i32 = 7;
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const INT64: i32 = 7;

/// The element type that a `Cast` to floats names.
pub const TO_FLOAT: i64 = FLOAT as i64;

/// A value of the graph, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

/// An attribute of a node.
#[derive(Clone, Debug)]
pub enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Text(&'a str, &'a str),
}

/// One side of a tensor: fixed, or open under a name.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    Fixed(i64),
    Open(&'a str),
}

/// A graph that is being written.
#[derive(Default)]
pub struct Graph {
    graph: GraphProto,
}

impl Graph {
    pub fn new(name: &str) -> Graph {
        Graph { graph: GraphProto { name: name.to_owned(), ..GraphProto::default() } }
    }

    /// An input of floats.
    pub fn input(&mut self, name: &str, shape: &[Side<'_>]) -> Value {
        self.graph.input.push(value_info(name, shape));
        Value(name.to_owned())
    }

    /// Names `value` as an output of floats of this shape.
    pub fn output(&mut self, name: &str, value: &Value, shape: &[Side<'_>]) {
        self.push("Identity", &[value], &[name.to_owned()], &[]);
        self.graph.output.push(value_info(name, shape));
    }

    /// Constant floats.
    pub fn floats(&mut self, dims: &[i64], data: Vec<f32>) -> Value {
        debug_assert_eq!(dims.iter().product::<i64>(), data.len() as i64);
        self.constant(TensorProto { dims: dims.to_vec(), data_type: FLOAT, float_data: data, ..TensorProto::default() })
    }

    /// Constant integers, (length).
    pub fn ints(&mut self, data: &[i64]) -> Value {
        let dims = vec![data.len() as i64];
        self.constant(TensorProto { dims, data_type: INT64, int64_data: data.to_vec(), ..TensorProto::default() })
    }

    /// Constant 8-bit integers.
    pub fn int8s(&mut self, dims: &[i64], data: &[i8]) -> Value {
        debug_assert_eq!(dims.iter().product::<i64>(), data.len() as i64);
        let raw_data = data.iter().map(|v| v.cast_unsigned()).collect();
        self.constant(TensorProto { dims: dims.to_vec(), data_type: INT8, raw_data, ..TensorProto::default() })
    }

    /// A node with one output.
    pub fn node(&mut self, operator: &str, inputs: &[&Value], attributes: &[Attribute<'_>]) -> Value {
        let [output] = self.nodes(operator, inputs, attributes);
        output
    }

    /// A node with `N` outputs.
    pub fn nodes<const N: usize>(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: &[Attribute<'_>],
    ) -> [Value; N] {
        let name = format!("{}_{}", operator.to_lowercase(), self.graph.node.len());
        let outputs: [String; N] = std::array::from_fn(|i| if i == 0 { name.clone() } else { format!("{name}_{i}") });
        self.push(operator, inputs, &outputs, attributes);
        outputs.map(Value)
    }

    /// The model's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![opset],
            producer_name: "tagalong".to_owned(),
            graph: Some(self.graph.clone()),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    fn push(&mut self, operator: &str, inputs: &[&Value], outputs: &[String], attributes: &[Attribute<'_>]) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: outputs.to_vec(),
            name: format!("node_{}", outputs[0]),
            op_type: operator.to_owned(),
            attribute: attributes.iter().map(attribute).collect(),
            ..NodeProto::default()
        });
    }

    fn constant(&mut self, mut tensor: TensorProto) -> Value {
        tensor.name = format!("constant_{}", self.graph.initializer.len());
        let value = Value(tensor.name.clone());
        self.graph.initializer.push(tensor);
        value
    }
}

fn attribute(attribute: &Attribute<'_>) -> AttributeProto {
    let named = |name: &str, r#type| AttributeProto { name: name.to_owned(), r#type, ..AttributeProto::default() };
    match attribute {
        Attribute::Int(name, i) => AttributeProto { i: *i, ..named(name, ATTRIBUTE_INT) },
        Attribute::Ints(name, ints) => AttributeProto { ints: ints.to_vec(), ..named(name, ATTRIBUTE_INTS) },
        Attribute::Text(name, s) => AttributeProto { s: s.as_bytes().to_vec(), ..named(name, ATTRIBUTE_STRING) },
    }
}

fn value_info(name: &str, shape: &[Side<'_>]) -> ValueInfoProto {
    let dimension = |side: &Side<'_>| {
        let value = match side {
            Side::Fixed(length) => tensor_shape_proto::dimension::Value::DimValue(*length),
            Side::Open(name) => tensor_shape_proto::dimension::Value::DimParam((*name).to_owned()),
        };
        tensor_shape_proto::Dimension { value: Some(value), ..Default::default() }
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..pb::ValueInfoProto::default() }
}
