//! Real video, followed with features of a graphics processor: masks are as true as with those of the CPU.

#![cfg(feature = "wgpu")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tagalong::embed::adapters;
use tagalong::model::import::{Import, import};

/// The shortest three.
const SEQUENCES: &str = "rollerblade,motorbike,soccerball";
/// How far mean J&F may be off that of the CPU in floats.
const MOST: f64 = 0.002;

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    path.exists().then_some(path)
}

#[test]
fn masks_are_as_true_as_with_features_of_the_cpu() {
    let (Some(davis), Some(checkpoint)) = (shared("data/davis"), shared("models/vit_tiny_patch16_224.safetensors"))
    else {
        println!("skipped: ../shared has no videos and weights");
        return;
    };
    if !adapters().is_ok_and(|adapters| !adapters.is_empty()) {
        let required = std::env::var_os("TAGALONG_GPU_TESTS").is_some_and(|value| value == "required");
        assert!(!required, "no Vulkan driver offers a graphics processor");
        eprintln!("SKIPPED, NO GRAPHICS PROCESSOR");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Small, for a driver that is a program.
    let wanted = Import { input_sizes: vec![[160, 288]], name: "tiny".into(), ..Import::default() };
    let manifest = import(&checkpoint, &wanted, folder.path()).unwrap().manifest;
    let eval = |options: &[&str]| -> f64 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
        command.args(["eval", "--preset", "soft", "--sequences", SEQUENCES, "--json", "-"]).args(options);
        let output = command.arg("--model").arg(&manifest).arg("--davis").arg(&davis).output().unwrap();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["mean"]["jf"].as_f64().unwrap_or_else(|| panic!("{report}"))
    };
    let cpu = eval(&["--runtime", "cpu", "--backend", "reference"]);
    for floats in ["f32", "f16"] {
        if floats == "f16" && !adapters().unwrap()[0].f16 {
            continue;
        }
        let gpu = eval(&["--runtime", "wgpu", "--gpu-floats", floats]);
        println!("mean J&F: {cpu:.4} on the CPU, {gpu:.4} on a graphics processor in {floats}");
        assert!((gpu - cpu).abs() <= MOST, "{floats}: {gpu} and not {cpu}");
    }
    assert!(cpu > 0.4, "objects are followed: {cpu}");
}
