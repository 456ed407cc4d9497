//! The daemon with a graphics processor: tried in a process of its own, then used in the sandbox; and with drivers that fail.

#![cfg(all(feature = "wgpu", target_os = "linux"))]

mod daemon_support;
mod embed_support;

use std::fs;
use std::path::Path;
use std::process::Command;

use daemon_support::{Daemon, SCENE, configuration};
use embed_support::{CASES, imported};
use serde_json::Value;
use tagalong::embed::adapters;
use tagalong::model::vit::Kind;

/// A daemon that is to run a vision transformer on a graphics processor, with these variables.
fn daemon(variables: &[(&str, &Path)]) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, _) = imported(&CASES[0], &[[240, 320]], Kind::Tokens, &folder.path().join("model"));
    let model = format!("[model]\nruntime = \"wgpu\"\nmanifest = {manifest:?}\n");
    let text = configuration(folder.path(), SCENE).replace("[model]\n", &model);
    fs::write(folder.path().join("tagalong.toml"), text).unwrap();
    Daemon::start_with(folder, variables)
}

fn status(daemon: &mut Daemon) -> Value {
    daemon.wait_for("a frame", |daemon| {
        let status = daemon.json(&["status", "--json"]);
        status["cameras"][0]["reported"].as_u64().is_some_and(|reported| reported > 2).then_some(status)
    })
}

/// A driver whose code is this: its manifest, in `folder`.
fn driver(folder: &Path, code: &str) -> std::path::PathBuf {
    let (source, library, manifest) = (folder.join("driver.c"), folder.join("driver.so"), folder.join("driver.json"));
    fs::write(&source, code).unwrap();
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(cc.success());
    let icd = format!(
        "{{\"file_format_version\":\"1.0.0\",\"ICD\":{{\"library_path\":{library:?},\"api_version\":\"1.3.0\"}}}}"
    );
    fs::write(&manifest, icd).unwrap();
    manifest
}

#[test]
fn it_runs_in_the_sandbox() {
    if !adapters().is_ok_and(|adapters| !adapters.is_empty()) {
        let required = std::env::var_os("TAGALONG_GPU_TESTS").is_some_and(|value| value == "required");
        assert!(!required, "no Vulkan driver offers a graphics processor");
        eprintln!("SKIPPED, NO GRAPHICS PROCESSOR");
        return;
    }
    let mut daemon = daemon(&[]);
    let status = status(&mut daemon);
    let model = &status["model"];
    assert_eq!(model["runtime"], "wgpu", "{model}\n{}", daemon.log());
    assert!(model["device"].is_string() && model["instead"].is_null(), "{model}");
    assert!(model["probe_cosine"].as_f64().unwrap() > 0.9999, "{model}");
    let sandbox = status["sandbox"].to_string();
    for layer in ["files", "system_calls"] {
        // A kernel that lacks a layer says so in its own words; the driver may be no reason.
        let layer = &status["sandbox"][layer];
        assert!(layer["confined"] == true || !layer["detail"].as_str().unwrap().contains("driver"), "{sandbox}");
    }
    assert_eq!(daemon.json(&["list", "--json"])["tracks"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_driver_that_ends_the_process_ends_a_trial_alone() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = driver(
        folder.path(),
        "#include <stdlib.h>\n__attribute__((constructor)) static void begin(void) { abort(); }\n",
    );
    let mut daemon = daemon(&[("VK_DRIVER_FILES", &manifest), ("VK_ICD_FILENAMES", &manifest)]);
    let status = status(&mut daemon);
    let model = &status["model"];
    assert_eq!(model["runtime"], "cpu", "{model}");
    assert!(model["instead"].as_str().is_some_and(|why| why.contains("ended a trial of it: signal: 6")), "{model}");
    let warnings = status["warnings"].to_string();
    assert!(
        warnings.contains("no graphics processor computes the model, the CPU does: its driver ended"),
        "{warnings}"
    );
}

#[test]
fn a_board_without_a_driver_is_told_of() {
    let nowhere = Path::new("/nonexistent");
    let mut daemon = daemon(&[("VK_DRIVER_FILES", nowhere), ("VK_ICD_FILENAMES", nowhere)]);
    let status = status(&mut daemon);
    let why = status["model"]["instead"].as_str().unwrap().to_owned();
    assert!(why.contains("no Vulkan driver offers a graphics processor here"), "{why}");
    assert!(daemon.good(&["status"]).contains("no graphics processor: no Vulkan driver"));
}
