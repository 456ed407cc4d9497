//! Graphs that look like attention and compute something else, or the same in other words: whatever becomes of them,
//! they give what they gave.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use prost::Message;
use tagalong::embed::{Backend, BareModel, Execution, load_bare};
use tagalong::model::import::{Import, import};
use tagalong::model::vit::{Hints, Kind};
use tagalong::types::InputTensor;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

const PATCH: usize = 14;
const SIZE: [usize; 2] = [PATCH * 6, PATCH * 9];
/// Of the fixture's network.
const DEPTH: usize = 3;
const HEADS: usize = 2;
/// Numbers of a head.
const WIDTH: usize = 8;

/// The graph of a small DINOv2 with registers, in floats, whose first attention looks sharply and counts.
fn graph(folder: &Path) -> ModelProto {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints/dinov2-reg.pth");
    let hints = Hints { heads: Some(HEADS), ..Hints::default() };
    let wanted = Import {
        hints,
        input_sizes: vec![SIZE],
        layer: Some(DEPTH),
        kind: Some(Kind::Tokens),
        name: "small".into(),
        ..Import::default()
    };
    let manifest = import(&checkpoint, &wanted, folder).unwrap().manifest;
    let mut model = ModelProto::decode(&*fs::read(manifest.with_extension("onnx")).unwrap()).unwrap();
    let mut attention = Attention { graph: model.graph.as_mut().unwrap() };
    let queries = attention.scores().input[0].clone();
    let scale = attention.maker(&queries).input[1].clone();
    attention.enlarge(&scale, 4.0);
    attention.enlarge("blocks.0.ls1.gamma", 20.0);
    model
}

/// The first block's attention in a graph.
struct Attention<'g> {
    graph: &'g mut GraphProto,
}

impl Attention<'_> {
    fn softmax(&mut self) -> &mut NodeProto {
        self.graph.node.iter_mut().find(|node| node.op_type == "Softmax").unwrap()
    }

    /// What makes a value.
    fn maker(&mut self, value: &str) -> &mut NodeProto {
        self.graph.node.iter_mut().find(|node| node.output[0] == value).unwrap()
    }

    fn scores(&mut self) -> &mut NodeProto {
        let scores = self.softmax().input[0].clone();
        self.maker(&scores)
    }

    /// A constant's numbers, so many times as large.
    fn enlarge(&mut self, name: &str, by: f32) {
        let tensor = self.graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap();
        for number in tensor.raw_data.as_chunks_mut::<4>().0 {
            *number = (f32::from_le_bytes(*number) * by).to_le_bytes();
        }
    }

    fn constant(&mut self, name: &str, sides: &[usize], data: &[f32]) -> String {
        let sides = sides.iter().map(|side| *side as i64).collect();
        self.initializer(name, sides, 1, data.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn shape(&mut self, name: &str, sides: &[i64]) -> String {
        self.initializer(name, vec![sides.len() as i64], 7, sides.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn initializer(&mut self, name: &str, dims: Vec<i64>, data_type: i32, raw_data: Vec<u8>) -> String {
        let tensor = TensorProto { name: name.into(), dims, data_type, raw_data, ..Default::default() };
        self.graph.initializer.push(tensor);
        name.into()
    }

    /// A node before the one that makes `value`.
    fn before(&mut self, value: &str, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let at = self.graph.node.iter().position(|node| node.output[0] == value).unwrap();
        let output = format!("{op}.before.{value}.{at}");
        let node = NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.clone()],
            name: output.clone(),
            attribute: attributes,
            ..Default::default()
        };
        self.graph.node.insert(at, node);
        output
    }

    /// The last two axes of `input` in turned order, made before `value`.
    fn turned(&mut self, value: &str, input: &str) -> String {
        let perm = AttributeProto { name: "perm".into(), r#type: 7, ints: vec![0, 1, 3, 2], ..Default::default() };
        self.before(value, "Transpose", &[input], vec![perm])
    }
}

/// What is done to the first block.
type Change = (&'static str, Meaning, fn(&mut Attention));

#[derive(Clone, Copy, PartialEq)]
enum Meaning {
    /// Something that our attention does not compute.
    Other,
    /// Another attention, which may be taken for one.
    OtherAttention,
    /// The same in other words.
    Same,
}

const CHANGES: [Change; 8] = [
    ("the softmax goes over the queries", Meaning::Other, |attention| {
        attention.softmax().attribute.iter_mut().find(|a| a.name == "axis").unwrap().i = -2;
    }),
    ("logarithms of the softmax", Meaning::Other, |attention| {
        attention.softmax().op_type = "LogSoftmax".into();
    }),
    ("the least alike weigh most", Meaning::Other, |attention| {
        let queries = attention.scores().input[0].clone();
        let by = attention.constant("negative", &[], &[-1.0]);
        let product = attention.scores().output[0].clone();
        let negative = attention.before(&product, "Mul", &[&queries, &by], vec![]);
        attention.scores().input[0] = negative;
    }),
    ("a bias for each pair of tokens", Meaning::Other, |attention| {
        let tokens = SIZE[0] / PATCH * (SIZE[1] / PATCH) + 1 + 4;
        let bias: Vec<f32> = (0..tokens * tokens).map(|i| (i as f32).sin()).collect();
        let bias = attention.constant("bias", &[1, 1, tokens, tokens], &bias);
        let (scores, weights) = (attention.softmax().input[0].clone(), attention.softmax().output[0].clone());
        let biased = attention.before(&weights, "Add", &[&scores, &bias], vec![]);
        attention.softmax().input[0] = biased;
    }),
    ("a factor for each number of a query", Meaning::Other, |attention| {
        let (queries, product) = (attention.scores().input[0].clone(), attention.scores().output[0].clone());
        let factors: Vec<f32> = (0..WIDTH).map(|i| 0.5 + i as f32 / WIDTH as f32).collect();
        let factors = attention.constant("factors", &[WIDTH], &factors);
        let scaled = attention.before(&product, "Mul", &[&queries, &factors], vec![]);
        attention.scores().input[0] = scaled;
    }),
    ("keys come first, and scores are turned back", Meaning::Same, |attention| {
        let (scores, weights) = (attention.softmax().input[0].clone(), attention.softmax().output[0].clone());
        let [queries, turned_keys] = [0, 1].map(|i| attention.scores().input[i].clone());
        let keys = attention.maker(&turned_keys).input[0].clone();
        let turned_queries = attention.turned(&scores, &queries);
        attention.scores().input = vec![keys, turned_queries];
        let back = attention.turned(&weights, &scores);
        attention.softmax().input[0] = back;
    }),
    ("queries and keys change places", Meaning::OtherAttention, |attention| {
        let (scores, weights) = (attention.softmax().input[0].clone(), attention.softmax().output[0].clone());
        let turned = attention.turned(&weights, &scores);
        attention.softmax().input[0] = turned;
    }),
    ("two axes are summed over", Meaning::Same, |attention| {
        let (scores, [queries, turned_keys]) =
            (attention.softmax().input[0].clone(), [0, 1].map(|i| attention.scores().input[i].clone()));
        let keys = attention.maker(&turned_keys).input[0].clone();
        let sides = attention.shape("sides", &[1, HEADS as i64, -1, 4, WIDTH as i64 / 4]);
        let split = [queries, keys].map(|part| attention.before(&scores, "Reshape", &[&part, &sides], vec![]));
        let equation = b"bhnij,bhmij->bhnm".to_vec();
        let equation = AttributeProto { name: "equation".into(), r#type: 3, s: equation, ..Default::default() };
        let product = attention.scores();
        (product.op_type, product.input, product.attribute) = ("Einsum".into(), split.to_vec(), vec![equation]);
    }),
];

/// A picture with structure, of floats around zero.
fn picture() -> InputTensor {
    let [height, width] = SIZE;
    let pixel = |i: usize| ((i % width) as f32 / 9.0).sin() + ((i / width) as f32 / 7.0).cos();
    InputTensor { width, height, data: (0..3 * height * width).map(pixel).collect() }
}

/// What a graph makes of the picture, and in how many blocks attention is ours.
fn tokens(onnx: &Path, backend: Backend) -> (Array2<f32>, usize) {
    let model = BareModel {
        onnx: onnx.to_owned(),
        output: "last_hidden_state".into(),
        patch: PATCH,
        mean: [0.0; 3],
        std: [1.0; 3],
        input_sizes: vec![SIZE],
    };
    let mut backbone = load_bare(&model, Execution { threads: 1, backend, ..Execution::default() }).unwrap();
    (backbone.tokens(&picture()).unwrap(), backbone.rewritten().attentions)
}

/// The least cosine of two matrices' rows.
fn least_cosine(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
    let rows = a.rows().into_iter().zip(b.rows());
    rows.map(|(a, b)| a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt()).fold(1.0, f32::min)
}

#[test]
fn what_looks_like_attention_is_computed_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let plain = graph(folder.path());
    let written = |name: &str, model: &ModelProto| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, model.encode_to_vec()).unwrap();
        path
    };
    let (unchanged, all) = tokens(&written("plain.onnx", &plain), Backend::Int8);
    assert_eq!(all, DEPTH);
    for (number, (change, meaning, apply)) in CHANGES.into_iter().enumerate() {
        let mut model = plain.clone();
        apply(&mut Attention { graph: model.graph.as_mut().unwrap() });
        let onnx = written(&format!("{number}.onnx"), &model);
        let (expected, _) = tokens(&onnx, Backend::Reference);
        let (got, taken) = tokens(&onnx, Backend::Int8);
        assert!(taken == DEPTH - 1 || meaning != Meaning::Other && taken == DEPTH, "{change}: {taken}");
        let least = least_cosine(&got, &expected);
        assert!(least > 0.998, "{change}: {least}");
        let same = least_cosine(&unchanged, &expected);
        assert_eq!(same > 0.98, meaning == Meaning::Same, "{change}: what is computed is {same} of what it was");
    }
}
