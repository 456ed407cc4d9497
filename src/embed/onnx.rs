//! Reads ONNX files, and checks what can be checked before anything runs.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use prost::Message;
use tract_onnx::pb::{self, StringStringEntryProto, TensorProto, type_proto::Value::TensorType};

/// The graph of an ONNX file, with all its weights.
#[derive(Clone, Debug)]
pub struct OnnxFile {
    proto: pb::ModelProto,
}

impl OnnxFile {
    /// Decodes a file. `weights` holds the weights that it does not hold itself.
    ///
    /// # Errors
    /// When it is no ONNX file, or its weights are not what it says.
    pub fn decode(bytes: &[u8], weights: Option<&File>) -> Result<OnnxFile, String> {
        let mut proto = pb::ModelProto::decode(bytes).map_err(|e| format!("it is no ONNX file: {e}"))?;
        let graph = proto.graph.as_mut().ok_or("it is no ONNX file: it holds no graph")?;
        if graph.node.is_empty() {
            return Err("its graph is empty".into());
        }
        for tensor in &mut graph.initializer {
            if !tensor.external_data.is_empty() {
                let name = &tensor.name;
                let file = weights.ok_or_else(|| {
                    format!("it keeps the weights `{name}` in another file, which its manifest must name")
                })?;
                tensor.raw_data =
                    external(file, &tensor.external_data).map_err(|e| format!("its weights `{name}`: {e}"))?;
                tensor.external_data.clear();
                tensor.data_location = None;
                check_size(tensor, tensor.raw_data.len())?;
            } else {
                check_size(tensor, bytes.len())?;
            }
        }
        Ok(OnnxFile { proto })
    }

    /// A graph that this program made.
    pub fn of_proto(proto: pb::ModelProto) -> OnnxFile {
        OnnxFile { proto }
    }

    pub fn proto(&self) -> &pb::ModelProto {
        &self.proto
    }

    /// Whether it computes in 8-bit integers somewhere.
    pub fn is_quantized(&self) -> bool {
        let is_integer =
            |kind: &str| kind.contains("QuantizeLinear") || kind.starts_with("QLinear") || kind.ends_with("Integer");
        self.graph().node.iter().any(|node| is_integer(&node.op_type))
    }

    /// The input size that it fixes, [height, width].
    ///
    /// # Errors
    /// Where it has not one input (1, 3, height, width) of a fixed size.
    pub fn fixed_input_size(&self) -> Result<[usize; 2], String> {
        use pb::tensor_shape_proto::dimension::Value;
        let graph = self.graph();
        let weights: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let mut inputs = graph.input.iter().filter(|input| !weights.contains(input.name.as_str()));
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            return Err("it does not take one input, the picture".into());
        };
        let shape = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            Some(TensorType(tensor)) => tensor.shape.as_ref(),
            None => None,
        };
        let sides: Vec<Option<usize>> = shape.map_or_else(Vec::new, |shape| {
            let side = |value: &Value| match value {
                Value::DimValue(side) => usize::try_from(*side).ok().filter(|side| *side <= 8_192),
                Value::DimParam(_) => None,
            };
            shape.dim.iter().map(|dim| dim.value.as_ref().and_then(side)).collect()
        });
        match sides[..] {
            [_, _, Some(height), Some(width)] => Ok([height, width]),
            _ => Err("its input has no fixed height and width: name its input sizes".into()),
        }
    }

    /// The graph, which makes all of its outputs, `output` among them.
    ///
    /// # Errors
    /// When it does not.
    pub fn into_proto(self, output: &str) -> Result<pb::ModelProto, String> {
        let graph = self.graph();
        let made = |name: &str| graph.node.iter().any(|node| node.output.iter().any(|o| o == name));
        if !made(output) {
            let names: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
            return Err(format!("it has no output `{output}`; it has {}", names.join(", ")));
        }
        if let Some(undefined) = graph.output.iter().find(|o| !made(&o.name)) {
            return Err(format!("nothing in the graph makes its output `{}`", undefined.name));
        }
        Ok(self.proto)
    }

    fn graph(&self) -> &pb::GraphProto {
        self.proto.graph.as_ref().expect("checked when it was decoded")
    }
}

/// Weights that lie in a file of their own, whichever name the graph has for that file: the manifest names it.
fn external(file: &File, place: &[StringStringEntryProto]) -> Result<Vec<u8>, String> {
    let number = |key: &str| {
        let entry = place.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.value.parse::<u64>().map_err(|_| format!("its {key} is no number"))).transpose()
    };
    let file_length = file.metadata().map_err(|e| e.to_string())?.len();
    let offset = number("offset")?.unwrap_or(0);
    let length = match number("length")? {
        Some(length) => length,
        None => file_length.saturating_sub(offset),
    };
    if offset.checked_add(length).is_none_or(|end| end > file_length) {
        return Err("lie beyond the end of the file that holds them".into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|e| e.to_string())?];
    file.read_exact_at(&mut bytes, offset).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// A tensor that claims more elements than there are bytes would end the process when it is set aside.
fn check_size(tensor: &TensorProto, bytes: usize) -> Result<(), String> {
    let elements = tensor.dims.iter().try_fold(1usize, |product, dim| {
        usize::try_from(*dim).ok().and_then(|dim| product.checked_mul(dim)).filter(|n| *n <= bytes)
    });
    match elements {
        Some(_) => Ok(()),
        None => Err(format!("its weights `{}` claim more than the file holds", tensor.name)),
    }
}
