//! Writes ONNX graphs (opset 17), the same bytes for the same calls.
//!
//! Constants may be made when they are written, one at a time, so that a graph of any size is written in the memory
//! of its largest constant.

use std::borrow::Cow;
use std::io::{self, Write};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tract_onnx::pb::{
    self, AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, tensor_proto, tensor_shape_proto, type_proto,
};

/// Attribute and element types, as the ONNX specification numbers them.
const ATTRIBUTE_FLOAT: i32 = 1;
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_STRING: i32 = 3;
const ATTRIBUTE_INTS: i32 = 7;
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const INT64: i32 = 7;

/// The element type that a `Cast` to floats names.
pub const TO_FLOAT: i64 = FLOAT as i64;
/// The element type that a `Cast` to 64-bit integers names.
pub const TO_INT64: i64 = INT64 as i64;

/// Numbers of the fields that hold the graph in a model, the constants in a graph, and the bytes in a constant.
const GRAPH_OF_MODEL: u32 = 7;
const INITIALIZER_OF_GRAPH: u32 = 5;
const RAW_DATA_OF_TENSOR: u32 = 9;
/// Constants in a file of their own begin at multiples of this, so that they can be mapped.
const ALIGNMENT: u64 = 4_096;

/// A value of the graph, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

/// An attribute of a node.
#[derive(Clone, Debug)]
pub enum Attribute<'a> {
    Float(&'a str, f32),
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

/// Makes the numbers of a constant when it is written.
pub type Numbers<'a> = Box<dyn Fn() -> io::Result<Vec<f32>> + 'a>;

/// A graph that is being written.
#[derive(Default)]
pub struct Graph<'a> {
    /// All but the constants.
    graph: GraphProto,
    constants: Vec<Constant<'a>>,
}

struct Constant<'a> {
    name: String,
    dims: Vec<i64>,
    data_type: i32,
    data: Data<'a>,
}

enum Data<'a> {
    Bytes(Vec<u8>),
    Floats(Numbers<'a>),
}

impl<'a> Graph<'a> {
    pub fn new(name: &str) -> Graph<'a> {
        Graph { graph: GraphProto { name: name.to_owned(), ..GraphProto::default() }, constants: Vec::new() }
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
        self.constant(None, dims, FLOAT, Data::Bytes(bytes_of(&data)))
    }

    /// Constant floats under a name of their own, made when the graph is written.
    pub fn weights(&mut self, name: &str, dims: &[i64], numbers: Numbers<'a>) -> Value {
        self.constant(Some(name), dims, FLOAT, Data::Floats(numbers))
    }

    /// Constant integers, (length).
    pub fn ints(&mut self, data: &[i64]) -> Value {
        let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(None, &[data.len() as i64], INT64, Data::Bytes(bytes))
    }

    /// A single constant integer, of no axes.
    pub fn int(&mut self, value: i64) -> Value {
        self.constant(None, &[], INT64, Data::Bytes(value.to_le_bytes().to_vec()))
    }

    /// Constant integers, (rows, length of a row).
    pub fn int_rows(&mut self, rows: &[[i64; 2]]) -> Value {
        let bytes = rows.as_flattened().iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(None, &[rows.len() as i64, 2], INT64, Data::Bytes(bytes))
    }

    /// Constant 8-bit integers.
    pub fn int8s(&mut self, dims: &[i64], data: &[i8]) -> Value {
        debug_assert_eq!(dims.iter().product::<i64>(), data.len() as i64);
        let bytes = data.iter().map(|v| v.cast_unsigned()).collect();
        self.constant(None, dims, INT8, Data::Bytes(bytes))
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

    /// Bytes of all constants together.
    pub fn constant_bytes(&self) -> u64 {
        self.constants.iter().map(Constant::length).sum()
    }

    /// The model's bytes.
    ///
    /// # Errors
    /// When a constant cannot be made.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, None)?;
        Ok(bytes)
    }

    /// Writes the model. With `weights`, a file's name and the file itself, the weights go there: a model in one file
    /// cannot hold more than 2 GiB. Other constants stay, for shapes are read from them before anything runs.
    ///
    /// # Errors
    /// When a constant cannot be made, or not be written.
    pub fn write(&self, model: &mut dyn Write, weights: Option<(&str, &mut dyn Write)>) -> io::Result<()> {
        let location = weights.as_ref().map(|(name, _)| *name);
        let mut headers = Vec::new();
        let mut place = 0u64;
        let mut constants_length = 0u64;
        for constant in &self.constants {
            let location = location.filter(|_| constant.is_weights());
            let header = constant.header(location.map(|name| (name, place)));
            let mut length = header.len() as u64;
            match location {
                Some(_) => place = (place + constant.length()).next_multiple_of(ALIGNMENT),
                None => length += field_length(constant.length()),
            }
            constants_length += key_len(INITIALIZER_OF_GRAPH) as u64 + encoded_len_varint(length) as u64 + length;
            headers.push((header, length));
        }
        let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
        let mut start = ModelProto {
            ir_version: 8,
            opset_import: vec![opset],
            producer_name: "tagalong".to_owned(),
            ..ModelProto::default()
        }
        .encode_to_vec();
        encode_key(GRAPH_OF_MODEL, WireType::LengthDelimited, &mut start);
        encode_varint(self.graph.encoded_len() as u64 + constants_length, &mut start);
        start.extend(self.graph.encode_to_vec());
        model.write_all(&start)?;
        let mut weights = weights.map(|(_, file)| file);
        for (constant, (header, length)) in self.constants.iter().zip(headers) {
            let mut start = Vec::new();
            encode_key(INITIALIZER_OF_GRAPH, WireType::LengthDelimited, &mut start);
            encode_varint(length, &mut start);
            start.extend(header);
            let bytes = constant.bytes()?;
            match &mut weights {
                Some(file) if constant.is_weights() => {
                    file.write_all(&bytes)?;
                    let end = constant.length();
                    file.write_all(&vec![0; (end.next_multiple_of(ALIGNMENT) - end) as usize])?;
                    model.write_all(&start)?;
                }
                _ => {
                    encode_key(RAW_DATA_OF_TENSOR, WireType::LengthDelimited, &mut start);
                    encode_varint(constant.length(), &mut start);
                    model.write_all(&start)?;
                    model.write_all(&bytes)?;
                }
            }
        }
        Ok(())
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

    fn constant(&mut self, name: Option<&str>, dims: &[i64], data_type: i32, data: Data<'a>) -> Value {
        let name = name.map_or_else(|| format!("constant_{}", self.constants.len()), str::to_owned);
        self.constants.push(Constant { name: name.clone(), dims: dims.to_vec(), data_type, data });
        Value(name)
    }
}

impl Constant<'_> {
    /// Whether it may lie in another file.
    fn is_weights(&self) -> bool {
        matches!(self.data, Data::Floats(_))
    }

    fn length(&self) -> u64 {
        match &self.data {
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Floats(_) => self.dims.iter().product::<i64>().unsigned_abs() * 4,
        }
    }

    /// All of it but the bytes; `at` is where they lie when they lie in another file.
    fn header(&self, at: Option<(&str, u64)>) -> Vec<u8> {
        let mut tensor = TensorProto {
            name: self.name.clone(),
            dims: self.dims.clone(),
            data_type: self.data_type,
            ..TensorProto::default()
        };
        if let Some((location, offset)) = at {
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
            tensor.external_data = vec![
                entry("location", location.to_owned()),
                entry("offset", offset.to_string()),
                entry("length", self.length().to_string()),
            ];
            tensor.data_location = Some(tensor_proto::DataLocation::External as i32);
        }
        tensor.encode_to_vec()
    }

    fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        match &self.data {
            Data::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Data::Floats(numbers) => {
                let bytes = bytes_of(&numbers()?);
                if bytes.len() as u64 != self.length() {
                    return Err(io::Error::other(format!("`{}` has not the shape that it said", self.name)));
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// Length of the field that holds a constant's bytes.
fn field_length(bytes: u64) -> u64 {
    key_len(RAW_DATA_OF_TENSOR) as u64 + encoded_len_varint(bytes) as u64 + bytes
}

fn bytes_of(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn attribute(attribute: &Attribute<'_>) -> AttributeProto {
    let named = |name: &str, r#type| AttributeProto { name: name.to_owned(), r#type, ..AttributeProto::default() };
    match attribute {
        Attribute::Float(name, f) => AttributeProto { f: *f, ..named(name, ATTRIBUTE_FLOAT) },
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
