//! Features that a few dimensions of large variance drown, and what wins them back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::tensor::{SafeTensors, TensorView};
use tagalong::capture::synthetic::SceneOptions;
use tagalong::embed::{ModelConfig, load, probe_features};
use tagalong::model::import::{Import, import};
use tagalong::model::vit::Hints;

#[path = "davis_scene/mod.rs"]
mod davis_scene;
use davis_scene::write_video;

/// Dimensions that are blown up, and by how much.
const LOUD: [usize; 3] = [2, 7, 11];
const FACTOR: f32 = 50.0;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

/// A model of a small checkpoint; with `loud`, some dimensions of its features are far larger than they should be.
fn model(folder: &Path, name: &str, loud: bool) -> PathBuf {
    let bytes = fs::read(fixture("vit-timm.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = |name: &str, view: &TensorView<'_>| {
        let mut data = view.data().to_vec();
        if loud && ["norm.weight", "norm.bias"].contains(&name) {
            for d in LOUD {
                let number: &mut [u8; 4] = (&mut data[4 * d..4 * d + 4]).try_into().unwrap();
                *number = (f32::from_le_bytes(*number) * FACTOR).to_le_bytes();
            }
        }
        data
    };
    let changed: Vec<_> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), view.dtype(), view.shape().to_vec(), data(name, &view)))
        .collect();
    let views = changed
        .iter()
        .map(|(name, dtype, shape, data)| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let checkpoint = folder.join(format!("{name}.safetensors"));
    safetensors::serialize_to_file(views, None, &checkpoint).unwrap();
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let input_sizes = vec![[96, 128]];
    let wanted = Import { hints, input_sizes, layer: Some(3), name: name.into(), ..Import::default() };
    import(&checkpoint, &wanted, folder).unwrap().manifest
}

/// A data set in DAVIS layout: six frames of the built-in scene, with the masks of two objects.
fn davis(root: &Path) {
    write_video(root, "scene", SceneOptions::default().seed, [96, 128], 6, 5);
}

fn variance(manifest: &Path, frames: &Path, more: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tagalong"))
        .args(["model", "variance"])
        .arg(manifest)
        .arg("--frames")
        .arg(frames)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What a model makes of the probe's picture: dimensions, and L2-normalised rows.
fn features(manifest: &Path) -> (usize, Vec<f32>) {
    let manifest = manifest.to_string_lossy().into_owned();
    let mut model = load(&ModelConfig { threads: 1, ..ModelConfig::new(manifest) }).unwrap();
    let grid = model.spec().grids[0];
    let features = probe_features(model.as_mut(), grid).unwrap();
    (features.dim, features.data)
}

/// Share of the patches whose most similar other patch is the same in both.
fn same_neighbours(a: &(usize, Vec<f32>), b: &(usize, Vec<f32>)) -> f64 {
    let nearest = |(dim, rows): &(usize, Vec<f32>)| -> Vec<usize> {
        let rows: Vec<&[f32]> = rows.chunks_exact(*dim).collect();
        let similar = |a: usize, b: usize| rows[a].iter().zip(rows[b]).map(|(a, b)| a * b).sum::<f32>();
        let others = |a: usize| (0..rows.len()).filter(move |b| *b != a);
        (0..rows.len()).map(|a| others(a).max_by(|b, c| similar(a, *b).total_cmp(&similar(a, *c))).unwrap()).collect()
    };
    let (a, b) = (nearest(a), nearest(b));
    a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
}

#[test]
fn loud_dimensions_are_found_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    davis(&folder.path().join("davis"));
    let frames = folder.path().join("davis");
    let (quiet, loud) = (model(folder.path(), "quiet", false), model(folder.path(), "loud", true));
    let plot = folder.path().join("plot.svg");
    let (code, out, errors) = variance(&loud, &frames, &["--drop", "3", "--plot", plot.to_str().unwrap()]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert!(out.contains("loud over 6 pictures and 2 objects"), "{out}");
    let text = fs::read_to_string(folder.path().join("loud-drop3.toml")).unwrap();
    assert!(text.contains("dropped_dimensions = [2, 7, 11]"), "{text}");
    // What is left is what a model without them would have: the quiet one, with the same dimensions dropped.
    let dropped = features(&folder.path().join("loud-drop3.toml"));
    assert_eq!(dropped.0, 13);
    let same =
        fs::read_to_string(&quiet).unwrap().replace("dropped_dimensions = []", "dropped_dimensions = [2, 7, 11]");
    fs::write(folder.path().join("same.toml"), same).unwrap();
    let expected = features(&folder.path().join("same.toml"));
    assert!(dropped.1.iter().zip(&expected.1).all(|(a, b)| (a - b).abs() < 1e-4));
    let (before, after) = (features(&loud), features(&quiet));
    assert!(same_neighbours(&dropped, &after) > same_neighbours(&before, &after) + 0.1);

    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.matches("<title>dimension ").count() == 16, "{svg}");
    assert_eq!(svg.matches("<circle ").count(), 16, "variance over time is drawn too");

    // Drop more of what is left.
    let (code, out, _) = variance(&folder.path().join("loud-drop3.toml"), &frames, &["--drop", "2", "--name", "five"]);
    assert_eq!(code, 0, "{out}");
    assert_eq!(features(&folder.path().join("five.toml")).0, 11);
}

#[test]
fn standardising_and_projecting_win_back_what_was_drowned() {
    let folder = tempfile::tempdir().unwrap();
    davis(&folder.path().join("davis"));
    let frames = folder.path().join("davis");
    let (quiet, loud) = (model(folder.path(), "quiet", false), model(folder.path(), "loud", true));
    for (change, dims) in [(&["--standardise"][..], 16), (&["--project", "10", "--remove", "2"], 10)] {
        for manifest in [&quiet, &loud] {
            let (code, out, errors) = variance(manifest, &frames, change);
            assert_eq!(code, 0, "{change:?}: {out}{errors}");
        }
        let done = if dims == 16 { "standardised" } else { "project10" };
        let of = |name: &str| features(&folder.path().join(format!("{name}-{done}.toml")));
        assert_eq!((of("quiet").0, of("loud").0), (dims, dims));
        if dims == 16 {
            // However loud a dimension was, it counts as much as the others now.
            let (loud, quiet) = (of("loud"), of("quiet"));
            assert!(loud.1.iter().zip(&quiet.1).all(|(a, b)| (a - b).abs() < 1e-3));
        }
    }
    // A model that is transformed keeps its transform when it is quantized.
    let quantize = |name: &str| {
        Command::new(env!("CARGO_BIN_EXE_tagalong"))
            .args(["model", "quantize", "--pictures", "2", "--layer-bound", "0.5", "--bound", "0.5", "--out"])
            .args([folder.path().join("made"), folder.path().join(name)])
            .output()
            .unwrap()
    };
    let output = quantize("quiet-project10.toml");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (dim, rows) = features(&folder.path().join("made/quiet-project10-int8.toml"));
    let exact = features(&folder.path().join("quiet-project10.toml"));
    assert_eq!(dim, 10);
    let cosines = rows.chunks_exact(10).zip(exact.1.chunks_exact(10));
    let cosines = cosines.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>());
    assert!(cosines.sum::<f32>() / rows.len() as f32 * 10.0 > 0.99);
}

#[test]
fn what_cannot_be_done_is_told() {
    let folder = tempfile::tempdir().unwrap();
    davis(&folder.path().join("davis"));
    let davis = folder.path().join("davis");
    let manifest = model(folder.path(), "quiet", false);
    assert_eq!(variance(&manifest, &davis, &["--standardise"]).0, 0);
    let transformed = folder.path().join("quiet-standardised.toml");
    let pictures = davis.join("JPEGImages");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (manifest, frames, more, expected, problem) in [
        (&manifest, &davis, &["--standardise"][..], 73, "--force"),
        (&manifest, &davis, &["--drop", "16"], 64, "1 to 15 of the 16"),
        (&manifest, &davis, &["--project", "9"], 64, "1 to 8 of 16 can be kept"),
        (&manifest, &davis, &["--drop", "1", "--standardise"], 64, "cannot be used with"),
        (&manifest, &davis, &["--drop", "1", "--name", "a/b"], 64, "no name for a model"),
        (&transformed, &davis, &["--drop", "1"], 65, "transformed already"),
        (&manifest, &empty, &[], 66, "no JPEG or PNG picture"),
    ] {
        let (code, out, errors) = variance(manifest, frames, more);
        assert_eq!(code, expected, "{more:?}: {out}{errors}");
        assert!(errors.contains(problem), "{more:?}: {errors}");
    }
    // Without masks nothing is known over time.
    let (code, out, _) = variance(&manifest, &pictures, &["--project", "12"]);
    assert_eq!(code, 0);
    assert!(out.contains("plain PCA") && out.contains("0 objects"), "{out}");
    let (_, json, _) = variance(&manifest, &davis, &["--json", "-"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["temporal"].as_array().unwrap().len(), 16);

    // A transform that was changed, or that does not fit, is refused.
    let file = folder.path().join("quiet-standardised.transform");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let refusal = |manifest: &Path| {
        let manifest = manifest.to_string_lossy().into_owned();
        load(&ModelConfig { threads: 1, ..ModelConfig::new(manifest) }).err().unwrap().to_string()
    };
    assert!(refusal(&transformed).contains("quiet-standardised.transform: its sha256 is"));
    assert_eq!(variance(&manifest, &davis, &["--standardise", "--force"]).0, 0);
    let text = fs::read_to_string(&transformed).unwrap();
    fs::write(&transformed, text.replace("dropped_dimensions = []", "dropped_dimensions = [3]")).unwrap();
    let refused = refusal(&transformed);
    assert!(refused.contains("takes 16 dimensions, but 15 are left"), "{refused}");
}
