//! Models on a graphics processor that fails: at load, and in mid-stream.

use std::time::Duration;

use super::*;
use crate::embed::gpu::{Gpu, Number, Resident, gpu_of_tests};
use crate::embed::{Execution, Runtime};
use crate::model::import::{Import, import};
use crate::model::vit::Hints;

/// A small model of two input sizes.
fn model() -> (tempfile::TempDir, ModelConfig) {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints/dinov2-reg.pth");
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let input_sizes = vec![[14 * 6, 14 * 9], [14 * 4, 14 * 4]];
    let wanted = Import { hints, input_sizes, layer: Some(3), name: "small".into(), ..Import::default() };
    let manifest = import(&checkpoint, &wanted, folder.path()).unwrap().manifest.to_string_lossy().into_owned();
    (folder, ModelConfig { threads: 1, runtime: Runtime::Wgpu, ..ModelConfig::new(manifest) })
}

/// The model on this processor.
fn opened(config: &ModelConfig, gpu: Gpu) -> Result<TractBackbone, LoadError> {
    let files = ModelFiles::read(&config.manifest)?;
    let sizes = files.manifest.input_sizes.clone();
    let start = Start::Graph(Box::new(files.graph()?));
    let execution = Execution { runtime: Runtime::Cpu, ..config.execution() };
    proved(config, files, &sizes, start, None, Arithmetic::on(Resident::new(gpu, Number::F32), execution))
}

fn features(backbone: &mut TractBackbone, grid: PatchGrid) -> Features {
    probe_features(backbone, grid).unwrap()
}

#[test]
fn a_driver_that_computes_something_else_is_given_up() {
    let Some(mut gpu) = gpu_of_tests() else { return };
    let (_folder, config) = model();
    gpu.garble();
    let backbone = opened(&config, gpu).unwrap();
    let running = backbone.running();
    assert_eq!(running.runtime(), "cpu");
    assert!(running.instead.as_ref().is_some_and(|why| why.contains("cosine to the model's probe is")), "{running:?}");
    assert!(backbone.spec().probe_cosine > 0.9999, "the CPU met it: {}", backbone.spec().probe_cosine);
}

#[test]
fn too_little_memory_is_told_and_the_cpu_computes() {
    let Some(mut gpu) = gpu_of_tests() else { return };
    let (_folder, config) = model();
    gpu.set_largest_buffer(10_000);
    let backbone = opened(&config, gpu).unwrap();
    let running = backbone.running();
    assert!(running.instead.as_ref().is_some_and(|why| why.contains("would take 1 MiB")), "{running:?}");
    assert_eq!(running.runtime(), "cpu");
}

#[test]
fn a_device_that_is_lost_in_mid_stream_leaves_no_frame_out() {
    let Some(gpu) = gpu_of_tests() else { return };
    let (_folder, config) = model();
    let mut backbone = opened(&config, gpu).unwrap();
    let grids = backbone.spec().grids.clone();
    let picture = |grid: PatchGrid| probe_input(backbone.spec(), grid).unwrap();
    let pictures: Vec<InputTensor> = grids.iter().map(|grid| picture(*grid)).collect();
    let run = |backbone: &mut TractBackbone, at: usize| {
        let mut out = Features::zeros(grids[at], backbone.spec().dim);
        backbone.embed(&pictures[at], &mut out).unwrap();
        out
    };
    let before: Vec<Features> = (0..2).map(|at| run(&mut backbone, at)).collect();
    assert_eq!(backbone.running().runtime(), "wgpu");
    backbone.resident().unwrap().gpu().lose();
    let after: Vec<Features> = (0..2).map(|at| run(&mut backbone, at)).collect();
    let running = backbone.running();
    assert_eq!(running.runtime(), "cpu");
    assert!(running.instead.as_ref().is_some_and(|why| why.contains("lost")), "{running:?}");
    for (before, after) in before.iter().zip(&after) {
        let dot: f32 = before.data.iter().zip(&after.data).map(|(a, b)| a * b).sum();
        assert!(dot / before.grid.len() as f32 > 0.9999);
    }
}

#[test]
fn a_device_that_hangs_is_left_alone() {
    let Some(mut gpu) = gpu_of_tests() else { return };
    let (_folder, config) = model();
    gpu.set_patience(Duration::ZERO);
    let mut backbone = opened(&config, gpu).unwrap();
    let running = backbone.running();
    assert!(running.instead.as_ref().is_some_and(|why| why.contains("did not answer")), "{running:?}");
    let grid = backbone.spec().grids[0];
    assert!(features(&mut backbone, grid).data.iter().all(|v| v.is_finite()));
}
