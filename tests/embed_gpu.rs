//! A graphics processor in place of the CPU: what it makes of models of every family is what floats make of them, and what it does
//! not know goes on on the CPU. Debian's `mesa-vulkan-drivers` has one that is a program; where there is none at all, most tests say
//! that they are skipped, or fail where `TAGALONG_GPU_TESTS` is `required`.

#![cfg(feature = "wgpu")]

mod embed_support;

use std::path::Path;
use std::process::Command;

use embed_support::{CASES, DEPTH, cosines, imported, open, picture, quantized, tokens};
use tagalong::embed::{Backbone, Backend, Execution, GpuFloats, ModelConfig, Rewritten, Runtime, adapters, load};
use tagalong::model::vit::Kind;
use tagalong::types::{Features, PatchGrid};

/// Least mean cosine of features to those of the CPU in floats.
const LEAST: f32 = 0.99999;

/// And of those in floats of 16 bits.
const LEAST_IN_HALF: f32 = 0.9995;

const GPU: Execution = Execution {
    threads: 1,
    runtime: Runtime::Wgpu,
    gpu_floats: GpuFloats::F32,
    gpu_patience_s: 300,
    backend: Backend::Auto,
    reuse: None,
};

fn has_gpu() -> bool {
    let there = adapters().is_ok_and(|adapters| !adapters.is_empty());
    let required = std::env::var_os("TAGALONG_GPU_TESTS").is_some_and(|value| value == "required");
    assert!(there || !required, "no Vulkan driver offers a graphics processor");
    if !there {
        eprintln!("SKIPPED, NO GRAPHICS PROCESSOR");
    }
    there
}

#[test]
fn models_of_every_family_are_what_floats_make_of_them() {
    if !has_gpu() {
        return;
    }
    for case in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let sizes = [[case.patch * 6, case.patch * 9], [case.patch * 13, case.patch * 5]];
        for kind in [Kind::Tokens, Kind::Keys] {
            let (_, onnx) = imported(case, &sizes, kind, folder.path());
            for size in sizes {
                let (expected, _) = tokens(&onnx, case.patch, size, Execution::REFERENCE);
                let mut backbone = open(&onnx, case.patch, size, GPU);
                let got = backbone.tokens(&picture(size)).unwrap();
                assert_eq!(backbone.running().runtime(), "wgpu", "{}: {:?}", case.checkpoint, backbone.running());
                let (mean, least) = cosines(&got, &expected);
                assert!(mean >= LEAST && least > 0.9999, "{} {kind:?} at {size:?}: {mean} {least}", case.checkpoint);
                if adapters().unwrap()[0].f16 {
                    let half = Execution { gpu_floats: GpuFloats::F16, ..GPU };
                    let mut backbone = open(&onnx, case.patch, size, half);
                    let halved = backbone.tokens(&picture(size)).unwrap();
                    let device = backbone.running().device;
                    assert!(device.as_ref().is_some_and(|device| device.ends_with("in f16")), "{device:?}");
                    let (mean, _) = cosines(&halved, &expected);
                    assert!(mean >= LEAST_IN_HALF, "{} {kind:?} at {size:?}: {mean}", case.checkpoint);
                    assert_ne!(halved, got, "computed otherwise");
                }
            }
        }
    }
}

/// In floats there, with the weights that the integers stand for.
#[test]
fn a_quantized_model_meets_its_probe() {
    if !has_gpu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let manifest = quantized(&CASES[4], [14 * 6, 14 * 9], folder.path()).to_string_lossy().into_owned();
    let config = ModelConfig { threads: 1, ..ModelConfig::new(manifest) };
    let gpu = load(&ModelConfig { runtime: Runtime::Wgpu, ..config.clone() }).unwrap();
    assert_eq!(gpu.running().runtime(), "wgpu", "{:?}", gpu.running());
    let cpu = load(&config).unwrap();
    assert_eq!(cpu.running().runtime(), "cpu");
    // What it loses is what the weights lost alone; the CPU rounds what comes in, too.
    let (there, here) = (gpu.spec().probe_cosine, cpu.spec().probe_cosine);
    assert!(there > here && there > 0.999, "{there} {here}");
}

/// A grid that the model was not exported for, and back.
#[test]
fn networks_are_stretched_as_on_the_cpu() {
    if !has_gpu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, onnx) = imported(&CASES[3], &[[14 * 6, 14 * 9]], Kind::Tokens, folder.path());
    let wide = PatchGrid { rows: 9, cols: 13, patch: 14 };
    let embedded = |execution: Execution| {
        let mut backbone = open(&onnx, 14, [14 * 6, 14 * 9], execution);
        let mut both = Vec::new();
        for grid in [backbone.spec().grids[0], wide] {
            backbone.prepare(grid).unwrap();
            let mut features = Features::zeros(grid, backbone.spec().dim);
            backbone.embed(&picture([grid.input_height(), grid.input_width()]), &mut features).unwrap();
            both.push(features);
        }
        both
    };
    let got = embedded(GPU);
    let expected = embedded(Execution { threads: 1, backend: Backend::Int8, ..Execution::default() });
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.grid, expected.grid);
        let dot: f32 = got.data.iter().zip(&expected.data).map(|(a, b)| a * b).sum();
        // The CPU's are in 8 bits.
        assert!(dot / got.grid.len() as f32 > 0.999, "{dot}");
    }
}

/// What the kernels do not know is told with the operator's name, and computed by the CPU, to the bit.
#[test]
fn a_graph_that_is_not_known_goes_on_on_the_cpu() {
    if !has_gpu() {
        return;
    }
    let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/bundled.onnx");
    let mut backbone = open(&onnx, 16, [240, 320], GPU);
    let running = backbone.running();
    assert_eq!(running.runtime(), "cpu");
    assert!(running.instead.as_ref().is_some_and(|why| why.contains("Concat")), "{running:?}");
    let got = backbone.tokens(&picture([240, 320])).unwrap();
    let (expected, _) = tokens(&onnx, 16, [240, 320], Execution { threads: 1, ..Execution::REFERENCE });
    assert_eq!(got, expected);
}

/// A driver that only plays a graphics processor is slower than the CPU itself, and is for who asks for it.
#[test]
fn what_is_left_to_the_program_is_no_program() {
    if !has_gpu() || adapters().unwrap().iter().any(|adapter| !adapter.is_software()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, onnx) = imported(&CASES[0], &[[16 * 6, 16 * 9]], Kind::Tokens, folder.path());
    let auto = open(&onnx, 16, [16 * 6, 16 * 9], Execution { runtime: Runtime::Auto, ..GPU });
    let running = auto.running();
    assert_eq!((running.runtime(), auto.rewritten()), ("cpu", Rewritten::default()));
    assert!(running.instead.is_some_and(|why| why.contains("program on the CPU")));
    // Who chooses the CPU's operators is not told of graphics processors.
    let ours = open(&onnx, 16, [16 * 6, 16 * 9], Execution { runtime: Runtime::Auto, backend: Backend::Int8, ..GPU });
    assert_eq!((ours.running().instead, ours.rewritten().attentions), (None, DEPTH));
}

/// As on a board without a driver.
#[test]
fn without_a_driver_the_cpu_computes_and_says_so() {
    let bench = |runtime: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
        command.args(["model", "bench", "bundled", "--frames", "1", "--input-size", "240x320", "--runtime", runtime]);
        command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent").output().unwrap()
    };
    let asked = bench("wgpu");
    assert_eq!(asked.status.code(), Some(69));
    let told = String::from_utf8_lossy(&asked.stderr);
    assert!(told.contains("no graphics processor computes it: no Vulkan driver"), "{told}");
    assert!(bench("auto").status.success());
}
