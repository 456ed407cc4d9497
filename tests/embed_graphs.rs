//! Graphs of every kind that a backbone may be, run by tract and held to what they are by definition, and to ONNX
//! Runtime where `TAGALONG_REFERENCE_PYTHON` names a Python that has it.

use std::fs;
use std::path::Path;
use std::process::Command;

use tagalong::embed::{
    Backbone, BackboneSpec, BareModel, Execution, LoadError, Manifest, ModelConfig, OnnxFile, OutputLayout, Precision,
    Preprocessor, TractBackbone, load,
};
use tagalong::model::bundled;
use tagalong::model::describe::{Description, describe};
use tagalong::model::onnx::{Attribute, Graph, Side, TO_FLOAT, Value};
use tagalong::types::{Features, InputTensor, PatchGrid, PixelBuf, PixelFormat, probe_image};

const PATCH: usize = 16;
/// Tokens that stand before those of the patches: a class token and two registers.
const PREFIX: usize = 3;
const DIM: usize = 24;
const HIDDEN: usize = 40;

/// How the products with constant weights are computed.
#[derive(Clone, Copy, PartialEq)]
enum Products {
    /// In 32-bit floats.
    Float,
    /// Weights in 8 bits a column, activations quantized as they come: `DynamicQuantizeLinear` and `MatMulInteger`.
    DynamicInt8,
}

/// A network in small, with the parts that a vision transformer has around its attention: patches, prefix tokens,
/// and a residual block of two linear layers.
struct Network {
    patches: Vec<f32>,
    prefix: Vec<f32>,
    layers: [Linear; 2],
}

/// `x * weights + bias`.
struct Linear {
    inputs: usize,
    outputs: usize,
    /// (inputs, outputs)
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// Numbers in [-1, 1) that look random, the same in every run.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / 2_147_483_648.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

impl Linear {
    fn new(seed: u32, inputs: usize, outputs: usize) -> Linear {
        let scale = (inputs as f32).sqrt().recip();
        // Columns differ in size, as those of a trained network do.
        let weights = noise(seed, inputs * outputs);
        let weights = weights.iter().enumerate().map(|(i, w)| w * scale * (1.0 + (i % outputs % 7) as f32)).collect();
        Linear { inputs, outputs, weights, bias: noise(seed + 1, outputs) }
    }

    /// Each column's scale, and the weights in units of it.
    fn quantized(&self) -> (Vec<f32>, Vec<i8>) {
        let column = |c: usize| self.weights[c..].iter().step_by(self.outputs);
        let scales: Vec<f32> =
            (0..self.outputs).map(|c| column(c).fold(0.0f32, |m, w| m.max(w.abs())) / 127.0).collect();
        let quantized =
            self.weights.iter().enumerate().map(|(i, w)| (w / scales[i % self.outputs]).round() as i8).collect();
        (scales, quantized)
    }

    fn write(&self, g: &mut Graph<'_>, x: &Value, products: Products) -> Value {
        let dims = [self.inputs as i64, self.outputs as i64];
        let product = match products {
            Products::Float => {
                let weights = g.floats(&dims, self.weights.clone());
                g.node("MatMul", &[x, &weights], &[])
            }
            Products::DynamicInt8 => {
                let (scales, weights) = self.quantized();
                let (weights, zero) = (g.int8s(&dims, &weights), g.int8s(&[], &[0]));
                let scales = g.floats(&[self.outputs as i64], scales);
                let [quantized, scale, zero_point] = g.nodes("DynamicQuantizeLinear", &[x], &[]);
                let sums = g.node("MatMulInteger", &[&quantized, &weights, &zero_point, &zero], &[]);
                let sums = g.node("Cast", &[&sums], &[Attribute::Int("to", TO_FLOAT)]);
                let scales = g.node("Mul", &[&scale, &scales], &[]);
                g.node("Mul", &[&sums, &scales], &[])
            }
        };
        let bias = g.floats(&[self.outputs as i64], self.bias.clone());
        g.node("Add", &[&product, &bias], &[])
    }

    /// (rows, inputs) to (rows, outputs), by definition.
    fn apply(&self, x: &[f32], products: Products) -> Vec<f32> {
        let sum = |row: &[f32], c: usize, weights: &dyn Fn(usize) -> f64| -> f64 {
            row.iter().enumerate().map(|(i, v)| f64::from(*v) * weights(i * self.outputs + c)).sum()
        };
        let rows = x.chunks_exact(self.inputs);
        let columns = 0..self.outputs;
        match products {
            Products::Float => rows
                .flat_map(|row| columns.clone().map(|c| sum(row, c, &|i| f64::from(self.weights[i])) as f32))
                .zip(self.bias.iter().cycle())
                .map(|(sum, bias)| sum + bias)
                .collect(),
            Products::DynamicInt8 => {
                let (scales, weights) = self.quantized();
                // The rule of DynamicQuantizeLinear, ONNX opset 11: 0 is always among the values.
                let low = x.iter().fold(0.0f32, |m, v| m.min(*v));
                let high = x.iter().fold(0.0f32, |m, v| m.max(*v));
                let scale = (high - low) / 255.0;
                let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
                let steps = |v: &f32| ((v / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
                rows.flat_map(|row| {
                    let row: Vec<f32> = row.iter().map(steps).collect();
                    let of = |c| sum(&row, c, &|i| f64::from(weights[i])) as f32 * scale * scales[c] + self.bias[c];
                    columns.clone().map(of).collect::<Vec<f32>>()
                })
                .collect()
            }
        }
    }
}

impl Network {
    fn new() -> Network {
        let pixels = 3 * PATCH * PATCH;
        Network {
            patches: noise(1, DIM * pixels).iter().map(|w| w / 14.0).collect(),
            prefix: noise(2, PREFIX * DIM),
            layers: [Linear::new(3, DIM, HIDDEN), Linear::new(5, HIDDEN, DIM)],
        }
    }

    fn onnx(&self, products: Products) -> Vec<u8> {
        let (patch, dim) = (PATCH as i64, DIM as i64);
        let mut g = Graph::new("small");
        let sides = [Side::Fixed(1), Side::Fixed(3), Side::Open("height"), Side::Open("width")];
        let pixels = g.input("pixel_values", &sides);
        let kernels = g.floats(&[dim, 3, patch, patch], self.patches.clone());
        let stride = [Attribute::Ints("kernel_shape", &[patch, patch]), Attribute::Ints("strides", &[patch, patch])];
        let patches = g.node("Conv", &[&pixels, &kernels], &stride);
        let flat = g.ints(&[1, dim, -1]);
        let patches = g.node("Reshape", &[&patches, &flat], &[]);
        let patches = g.node("Transpose", &[&patches], &[Attribute::Ints("perm", &[0, 2, 1])]);
        let prefix = g.floats(&[1, PREFIX as i64, dim], self.prefix.clone());
        let tokens = g.node("Concat", &[&prefix, &patches], &[Attribute::Int("axis", 1)]);
        let hidden = self.layers[0].write(&mut g, &tokens, products);
        let hidden = g.node("Relu", &[&hidden], &[]);
        let change = self.layers[1].write(&mut g, &hidden, products);
        let tokens = g.node("Add", &[&tokens, &change], &[]);
        let shape = [Side::Fixed(1), Side::Open("tokens"), Side::Fixed(dim)];
        g.output("last_hidden_state", &tokens, &shape);
        g.to_bytes().unwrap()
    }

    /// The tokens, (PREFIX + patches, DIM), by definition.
    fn apply(&self, input: &InputTensor, products: Products) -> Vec<f32> {
        let (rows, cols) = (input.height / PATCH, input.width / PATCH);
        let mut tokens = self.prefix.clone();
        for patch in 0..rows * cols {
            let (top, left) = (patch / cols * PATCH, patch % cols * PATCH);
            for d in 0..DIM {
                let tap = |i: usize| {
                    let (c, y, x) = (i / (PATCH * PATCH), i / PATCH % PATCH, i % PATCH);
                    let pixel = input.data[(c * input.height + top + y) * input.width + left + x];
                    f64::from(pixel) * f64::from(self.patches[d * 3 * PATCH * PATCH + i])
                };
                tokens.push((0..3 * PATCH * PATCH).map(tap).sum::<f64>() as f32);
            }
        }
        let hidden: Vec<f32> = self.layers[0].apply(&tokens, products).iter().map(|v| v.max(0.0)).collect();
        let change = self.layers[1].apply(&hidden, products);
        tokens.iter().zip(change).map(|(a, b)| a + b).collect()
    }
}

fn backbone(onnx: &[u8], grids: &[PatchGrid], prefix: Option<usize>, dropped: &[usize]) -> TractBackbone {
    let spec = BackboneSpec {
        name: "small".into(),
        family: "test".into(),
        sha256: String::new(),
        features: String::new(),
        grids: grids.to_vec(),
        dim: 0,
        mean: [0.5; 3],
        std: [0.5; 3],
        probe_cosine: 1.0,
    };
    let layout = OutputLayout {
        name: "last_hidden_state".into(),
        prefix_tokens: prefix,
        dropped_dimensions: dropped.to_vec(),
        transform: None,
    };
    TractBackbone::new(
        OnnxFile::decode(onnx, None).unwrap(),
        spec,
        layout,
        Execution { threads: 1, ..Execution::REFERENCE },
    )
    .unwrap()
}

fn input(grid: PatchGrid) -> InputTensor {
    let (width, height) = (grid.input_width(), grid.input_height());
    let picture = PixelBuf::packed(PixelFormat::Rgb3, width, height, probe_image(width, height)).unwrap();
    let mut input = InputTensor::default();
    Preprocessor::new(width, height, [0.5; 3], [0.5; 3]).run(&picture, &mut input).unwrap();
    input
}

fn embed(backbone: &mut TractBackbone, input: &InputTensor) -> Features {
    let mut features = Features::zeros(PatchGrid { rows: 1, cols: 1, patch: PATCH }, 1);
    backbone.embed(input, &mut features).unwrap();
    features
}

/// The patches of `tokens`, (prefix + patches, dim), without the dropped dimensions.
fn features_of(tokens: &[f32], grid: PatchGrid, dim: usize, dropped: &[usize]) -> Features {
    let patches = &tokens[tokens.len() - grid.len() * dim..];
    let kept = |(i, v): (usize, &f32)| (!dropped.contains(&(i % dim))).then_some(*v);
    let data = patches.iter().enumerate().filter_map(kept).collect();
    let mut features = Features::new(grid, dim - dropped.len(), data);
    features.normalise();
    features
}

/// The least and the mean cosine of two frames' patches.
fn cosines(a: &Features, b: &Features) -> (f32, f32) {
    assert_eq!((a.grid, a.dim), (b.grid, b.dim));
    let cosine = |i| a.row(i).iter().zip(b.row(i)).map(|(a, b)| a * b).sum::<f32>();
    let all: Vec<f32> = (0..a.grid.len()).map(cosine).collect();
    (all.iter().copied().fold(1.0, f32::min), all.iter().sum::<f32>() / all.len() as f32)
}

const GRIDS: [PatchGrid; 2] =
    [PatchGrid { rows: 6, cols: 9, patch: PATCH }, PatchGrid { rows: 7, cols: 4, patch: PATCH }];

#[test]
fn float_and_dynamic_int8_graphs_give_what_they_define() {
    let network = Network::new();
    for products in [Products::Float, Products::DynamicInt8] {
        let mut backbone = backbone(&network.onnx(products), &GRIDS, Some(PREFIX), &[]);
        for grid in GRIDS {
            let input = input(grid);
            let expected = features_of(&network.apply(&input, products), grid, DIM, &[]);
            let (least, _) = cosines(&embed(&mut backbone, &input), &expected);
            // A value on the border between two steps may be rounded either way.
            let bound = if products == Products::Float { 0.999_999 } else { 0.999_9 };
            assert!(least > bound, "{grid:?}: {least}");
        }
    }
}

#[test]
fn dynamic_int8_stays_near_to_float_and_is_not_the_same() {
    let network = Network::new();
    let input = input(GRIDS[0]);
    let [float, int8] = [Products::Float, Products::DynamicInt8]
        .map(|products| embed(&mut backbone(&network.onnx(products), &GRIDS, Some(PREFIX), &[]), &input));
    let (least, mean) = cosines(&float, &int8);
    assert!(mean >= 0.98, "a probe would refuse it: {mean}");
    assert!(least < 0.999_999, "the integers are computed in floats: {least}");
}

#[test]
fn prefix_tokens_and_dropped_dimensions_are_left_out() {
    let network = Network::new();
    let onnx = network.onnx(Products::Float);
    let input = input(GRIDS[0]);
    let tokens = network.apply(&input, Products::Float);
    let cases: [&[usize]; 5] = [&[], &[0], &[DIM - 1], &[3, 4, 5, 20], &[0, 1, 7, DIM - 2, DIM - 1]];
    for dropped in cases {
        for prefix in [None, Some(PREFIX)] {
            let mut backbone = backbone(&onnx, &GRIDS, prefix, dropped);
            assert_eq!(backbone.spec().dim, DIM - dropped.len());
            let (least, _) = cosines(&embed(&mut backbone, &input), &features_of(&tokens, GRIDS[0], DIM, dropped));
            assert!(least > 0.999_999, "without {dropped:?}: {least}");
        }
    }
}

#[test]
fn a_layout_that_does_not_fit_is_refused_with_the_shapes() {
    let onnx = Network::new().onnx(Products::Float);
    let refusal = |name: &str, prefix: usize, dropped: &[usize]| {
        let spec = backbone(&onnx, &GRIDS, None, &[]).spec().clone();
        let layout = OutputLayout {
            name: name.into(),
            prefix_tokens: Some(prefix),
            dropped_dimensions: dropped.to_vec(),
            transform: None,
        };
        TractBackbone::new(
            OnnxFile::decode(&onnx, None).unwrap(),
            spec,
            layout,
            Execution { threads: 1, ..Execution::REFERENCE },
        )
        .err()
        .expect("it is refused")
    };
    let shapes = refusal("last_hidden_state", 1, &[]);
    assert!(shapes.contains("[1, 57, 24]") && shapes.contains("[1, 55, dimensions]"), "{shapes}");
    let other = refusal("x6", PREFIX, &[]);
    assert!(other.contains("`x6`") && other.contains("last_hidden_state"), "{other}");
    let beyond = refusal("last_hidden_state", PREFIX, &[DIM]);
    assert!(beyond.contains("dimension 24"), "{beyond}");
}

/// Describes a graph at `path`, and writes what it is told beside it.
fn described(path: &Path, reference: Option<&Path>) -> Result<Manifest, LoadError> {
    let model = BareModel {
        onnx: path.to_owned(),
        output: "last_hidden_state".into(),
        patch: PATCH,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        input_sizes: GRIDS.iter().map(|grid| [grid.input_height(), grid.input_width()]).collect(),
    };
    let description = Description { name: "small".into(), family: "test".into(), licence: "MIT".into() };
    let (manifest, probe) = describe(&model, reference, description)?;
    fs::write(path.with_file_name(&manifest.probe.file), probe).unwrap();
    fs::write(path.with_file_name("small.toml"), manifest.to_text("a test")).unwrap();
    Ok(manifest)
}

#[test]
fn a_described_graph_is_run_by_its_manifest() {
    let (network, folder) = (Network::new(), tempfile::tempdir().unwrap());
    let [float, int8] =
        [("float.onnx", Products::Float), ("int8.onnx", Products::DynamicInt8)].map(|(name, products)| {
            let path = folder.path().join(name);
            fs::write(&path, network.onnx(products)).unwrap();
            path
        });
    let cases = [(&float, None, Precision::Fp32, 0.999_9), (&int8, Some(&*float), Precision::Int8, 0.98)];
    for (path, reference, precision, least) in cases {
        let manifest = described(path, reference).unwrap();
        assert_eq!((manifest.prefix_tokens, manifest.precision), (PREFIX, precision));
        assert_eq!(Manifest::parse(&manifest.to_text("a test")), Ok(manifest), "no digit is lost");
        let file = folder.path().join("small.toml").to_string_lossy().into_owned();
        let loaded = load(&ModelConfig { input: "112x64".into(), threads: 1, ..ModelConfig::new(file) }).unwrap();
        assert_eq!((loaded.spec().grids[0], loaded.spec().dim), (GRIDS[1], DIM));
        assert!(loaded.spec().probe_cosine >= least, "{}", loaded.spec().probe_cosine);
    }
}

#[test]
fn integers_do_not_vouch_for_themselves() {
    let (network, folder) = (Network::new(), tempfile::tempdir().unwrap());
    let (int8, other) = (folder.path().join("int8.onnx"), folder.path().join("other.onnx"));
    fs::write(&int8, network.onnx(Products::DynamicInt8)).unwrap();
    let alone = described(&int8, None).unwrap_err().to_string();
    assert!(alone.contains("int8.onnx") && alone.contains("32-bit floats"), "{alone}");
    let different = Network { layers: [Linear::new(7, DIM, HIDDEN), Linear::new(9, HIDDEN, DIM)], ..network };
    fs::write(&other, different.onnx(Products::Float)).unwrap();
    let error = described(&int8, Some(&other)).unwrap_err();
    let LoadError::Probe { cosine, least, .. } = error else { panic!("{error}") };
    assert!(cosine < least && least == 0.98, "{cosine}");
    assert!(!folder.path().join("small.toml").exists());
}

#[test]
fn onnx_runtime_agrees() {
    let python = match std::env::var("TAGALONG_REFERENCE_PYTHON") {
        Ok(python) if !python.is_empty() => python,
        _ => {
            eprintln!("SKIPPED: TAGALONG_REFERENCE_PYTHON names no Python with numpy and onnxruntime");
            return;
        }
    };
    let network = Network::new();
    let graphs = [
        ("bundled", bundled::graph(), bundled::DIM, 0.999_9),
        ("float", network.onnx(Products::Float), DIM, 0.999_999),
        ("int8", network.onnx(Products::DynamicInt8), DIM, 0.999_9),
    ];
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, onnx, dim, bound) in graphs {
        for grid in GRIDS {
            let input = input(grid);
            fs::write(at("model.onnx"), &onnx).unwrap();
            let bytes: Vec<u8> = input.data.iter().flat_map(|v| v.to_le_bytes()).collect();
            fs::write(at("input"), bytes).unwrap();
            let output = Command::new(&python)
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/onnx_runtime.py"))
                .args([at("model.onnx"), at("input")])
                .args([input.height.to_string(), input.width.to_string()])
                .arg(at("output"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            let bytes = fs::read(at("output")).unwrap();
            let tokens: Vec<f32> = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            let mut backbone = backbone(&onnx, &GRIDS, None, &[]);
            let (least, _) = cosines(&embed(&mut backbone, &input), &features_of(&tokens, grid, dim, &[]));
            assert!(least > bound, "{name} at {grid:?}: {least}");
        }
    }
}
