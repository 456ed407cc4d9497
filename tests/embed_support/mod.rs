//! Networks of every family in small, and what is made of a picture by them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::Array2;
use tagalong::embed::{BareModel, Execution, Rewritten, TractBackbone, load_bare};
use tagalong::model::import::{Import, import};
use tagalong::model::vit::{Hints, Kind};
use tagalong::types::InputTensor;

/// Blocks of the fixtures' networks.
pub const DEPTH: usize = 3;

pub struct Case {
    pub checkpoint: &'static str,
    pub patch: usize,
}

pub const CASES: [Case; 7] = [
    Case { checkpoint: "vit-timm.safetensors", patch: 16 },
    Case { checkpoint: "dino.pth", patch: 8 },
    Case { checkpoint: "ibot.pth", patch: 16 },
    Case { checkpoint: "dinov2-reg.pth", patch: 14 },
    Case { checkpoint: "dinov2-swiglu.pth", patch: 14 },
    Case { checkpoint: "mae.pth", patch: 16 },
    Case { checkpoint: "scale-mae.pth", patch: 16 },
];

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

/// A model in floats of a checkpoint: its manifest, and the graph beside it.
pub fn imported(case: &Case, sizes: &[[usize; 2]], kind: Kind, folder: &Path) -> (PathBuf, PathBuf) {
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let input_sizes = sizes.to_vec();
    let wanted =
        Import { hints, input_sizes, layer: Some(DEPTH), kind: Some(kind), name: "small".into(), ..Import::default() };
    let manifest = import(&fixture(case.checkpoint), &wanted, folder).unwrap().manifest;
    let onnx = manifest.with_extension("onnx");
    (manifest, onnx)
}

/// The manifest of a model in 8-bit integers of a checkpoint.
pub fn quantized(case: &Case, size: [usize; 2], folder: &Path) -> PathBuf {
    let (manifest, _) = imported(case, &[size], Kind::Tokens, folder);
    let quantize = Command::new(env!("CARGO_BIN_EXE_tagalong"))
        .args(["model", "quantize", "--pictures", "2", "--name", "int8"])
        .arg(&manifest)
        .output()
        .unwrap();
    assert!(quantize.status.success(), "{}", String::from_utf8_lossy(&quantize.stderr));
    manifest.with_file_name("int8.toml")
}

/// A picture with structure, of 3 x height x width floats around zero.
pub fn picture([height, width]: [usize; 2]) -> InputTensor {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let pixel =
        |i: usize, noise: f32| ((i % width) as f32 / 9.0).sin() + ((i / width) as f32 / 7.0).cos() + 0.2 * noise;
    let data = (0..3 * height * width).map(|i| pixel(i, noise())).collect();
    InputTensor { width, height, data }
}

/// A graph as a backbone.
pub fn open(onnx: &Path, patch: usize, size: [usize; 2], execution: Execution) -> TractBackbone {
    let model = BareModel {
        onnx: onnx.to_owned(),
        output: "last_hidden_state".into(),
        patch,
        mean: [0.0; 3],
        std: [1.0; 3],
        input_sizes: vec![size],
    };
    load_bare(&model, execution).unwrap()
}

/// What a graph makes of a picture, and which of its operators are ours.
pub fn tokens(onnx: &Path, patch: usize, size: [usize; 2], execution: Execution) -> (Array2<f32>, Rewritten) {
    let mut backbone = open(onnx, patch, size, execution);
    (backbone.tokens(&picture(size)).unwrap(), backbone.rewritten())
}

/// Mean and least cosine of rows.
pub fn cosines(a: &Array2<f32>, b: &Array2<f32>) -> (f32, f32) {
    let cosine =
        |(a, b): (ndarray::ArrayView1<f32>, ndarray::ArrayView1<f32>)| a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt();
    let all: Vec<f32> = a.rows().into_iter().zip(b.rows()).map(cosine).collect();
    (all.iter().sum::<f32>() / all.len() as f32, all.iter().copied().fold(1.0, f32::min))
}
