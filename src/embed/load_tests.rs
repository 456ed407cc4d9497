//! Models that are not what they should be.

use std::fs;

use super::*;
use proptest::prelude::*;

/// The bundled model's files in a folder of their own, and what a configuration says of it.
fn files() -> (tempfile::TempDir, ModelConfig) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bundled.onnx", "bundled.probe", "bundled.toml"] {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
        fs::copy(committed, folder.path().join(name)).unwrap();
    }
    let manifest = folder.path().join("bundled.toml").to_string_lossy().into_owned();
    (folder, ModelConfig { input: "240x320".into(), threads: 1, ..ModelConfig::new(manifest) })
}

/// Puts `onnx` in the place of the model's graph, and its digest into the manifest.
fn replace_graph(folder: &Path, onnx: &[u8]) {
    let digest = hex_digest(&fs::read(folder.join("bundled.onnx")).unwrap());
    let manifest = fs::read_to_string(folder.join("bundled.toml")).unwrap();
    fs::write(folder.join("bundled.toml"), manifest.replace(&digest, &hex_digest(onnx))).unwrap();
    fs::write(folder.join("bundled.onnx"), onnx).unwrap();
}

fn refusal(config: &ModelConfig) -> LoadError {
    load(config).err().expect("the model is refused")
}

#[test]
fn the_model_as_it_was_made_meets_its_probe() {
    let (_folder, config) = files();
    let backbone = load(&config).unwrap();
    assert!(backbone.spec().probe_cosine > 0.9999, "{}", backbone.spec().probe_cosine);
    assert_eq!(backbone.spec().grids[0], PatchGrid { rows: 15, cols: 20, patch: 16 });
}

#[test]
fn a_graph_that_computes_something_else_is_refused_with_its_cosine() {
    let (folder, config) = files();
    let mut onnx = fs::read(folder.path().join("bundled.onnx")).unwrap();
    // Flips the sign of a few weights of the bins: the graph stays well formed.
    let minus_two = (-2.0f32).to_le_bytes();
    let places: Vec<usize> = (0..onnx.len() - 4).filter(|at| onnx[*at..*at + 4] == minus_two).collect();
    assert!(places.len() >= 10, "the bins' weights are found");
    for at in places {
        onnx[at + 3] ^= 0x80;
    }
    replace_graph(folder.path(), &onnx);
    let error = refusal(&config);
    let LoadError::Probe { cosine, least, .. } = &error else { panic!("{error}") };
    assert!(*cosine < *least && *least == 0.999, "{cosine}");
    assert!(error.to_string().contains(&format!("{cosine:.4}")), "{error}");
}

#[test]
fn a_changed_file_is_found_by_its_digest() {
    let (folder, config) = files();
    let mut onnx = fs::read(folder.path().join("bundled.onnx")).unwrap();
    onnx[100] ^= 1;
    fs::write(folder.path().join("bundled.onnx"), &onnx).unwrap();
    assert!(matches!(refusal(&config), LoadError::Digest { .. }));
    fs::remove_file(folder.path().join("bundled.onnx")).unwrap();
    assert!(matches!(refusal(&config), LoadError::Read { .. }));
}

#[test]
fn an_input_size_that_the_model_has_not_is_refused_with_those_it_has() {
    let (_folder, config) = files();
    let error = refusal(&ModelConfig { input: "100x100".into(), ..config }).to_string();
    assert!(error.contains("100x100") && error.contains("480x640"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_damage_to_a_graph_makes_the_loader_panic(cut in 0usize..9000, at in 0usize..9000, byte: u8) {
        let (folder, config) = files();
        let mut onnx = fs::read(folder.path().join("bundled.onnx")).unwrap();
        let at = at % onnx.len();
        onnx[at] = byte;
        if cut % 3 == 0 {
            onnx.truncate(cut);
        }
        replace_graph(folder.path(), &onnx);
        let _ = load(&config);
    }

    #[test]
    fn no_manifest_makes_the_loader_panic(at in 0usize..500, text in "[ -~]{0,12}") {
        let (folder, config) = files();
        let path = folder.path().join("bundled.toml");
        let mut manifest = fs::read_to_string(&path).unwrap();
        manifest.insert_str(at % manifest.len(), &text);
        fs::write(&path, manifest).unwrap();
        let _ = load(&config);
    }
}
