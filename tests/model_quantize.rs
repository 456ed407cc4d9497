//! Models in 8-bit integers: what they lose, that two runtimes compute them alike, and that they beat the plain way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::embed::{Backend, Embedder, Manifest, ModelConfig, ModelFiles, Precision, Preprocessor, load};
use tagalong::model::import::{Import, import};
use tagalong::model::quantize::{Bounds, QuantizeError, QuantizeReport, quantize};
use tagalong::model::vit::Hints;
use tagalong::picture;
use tagalong::types::{InputTensor, PixelBuf, PixelFormat, probe_image};

const LOOSE: Bounds = Bounds { layer: 0.02, whole: 0.02 };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

/// A model in floats of a small checkpoint; its manifest.
fn imported(checkpoint: &str, input_sizes: &[[usize; 2]], folder: &Path) -> PathBuf {
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let input_sizes = input_sizes.to_vec();
    let wanted = Import { hints, input_sizes, layer: Some(3), name: "small".into(), ..Import::default() };
    import(&fixture(checkpoint), &wanted, folder).unwrap().manifest
}

/// Two pairs of pictures of the built-in scene.
fn pictures() -> Vec<PixelBuf> {
    let scene = Scene::new(SceneOptions { width: 160, height: 120, ..SceneOptions::default() }).unwrap();
    let mut frame = SceneFrame::default();
    let render = |index| {
        scene.render(index, &mut frame);
        PixelBuf::packed(PixelFormat::Rgb3, 160, 120, frame.rgb.clone()).unwrap()
    };
    [0, 1, 60, 61].map(render).into()
}

fn quantized(
    manifest: &Path,
    pictures: &[PixelBuf],
    bounds: Bounds,
    folder: &Path,
) -> Result<(QuantizeReport, Manifest), QuantizeError> {
    let model = ModelFiles::read(&manifest.to_string_lossy()).unwrap();
    let (report, files) = quantize(model, pictures, bounds, "int8", folder, &mut |_| {})?;
    let text = fs::read_to_string(files.last().unwrap()).unwrap();
    Ok((report, Manifest::parse(&text).unwrap()))
}

fn probe([height, width]: [usize; 2]) -> PixelBuf {
    PixelBuf::packed(PixelFormat::Rgb3, width, height, probe_image(width, height)).unwrap()
}

/// What a model makes of a picture: L2-normalised rows.
fn features(manifest: &Path, size: [usize; 2], picture: &PixelBuf) -> (usize, Vec<f32>) {
    features_by(Backend::Auto, manifest, size, picture)
}

fn features_by(
    backend: Backend,
    manifest: &Path,
    [height, width]: [usize; 2],
    picture: &PixelBuf,
) -> (usize, Vec<f32>) {
    let manifest = manifest.to_string_lossy().into_owned();
    let model =
        load(&ModelConfig { input: format!("{height}x{width}"), threads: 1, backend, ..ModelConfig::new(manifest) })
            .unwrap();
    let grid = model.spec().grids[0];
    let mut embedder = Embedder::new(model, grid);
    let mut features = embedder.empty_features();
    embedder.embed(picture, &mut features).unwrap();
    (features.dim, features.data)
}

/// Mean and least cosine of rows.
fn cosines(a: &[f32], b: &[f32], dim: usize) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = |(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let all: Vec<f64> = a.chunks_exact(dim).zip(b.chunks_exact(dim)).map(cosine).collect();
    (all.iter().sum::<f64>() / all.len() as f64, all.iter().copied().fold(1.0, f64::min))
}

#[test]
fn families_keep_their_features() {
    for (checkpoint, sizes) in [
        ("vit-timm.safetensors", [[64, 64], [48, 112]]),
        ("dinov2-reg.pth", [[70, 70], [56, 112]]),
        ("dinov2-swiglu.pth", [[98, 98], [56, 112]]),
        ("mae.pth", [[96, 96], [48, 112]]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let manifest = imported(checkpoint, &sizes, folder.path());
        let (report, made) = quantized(&manifest, &pictures(), LOOSE, folder.path()).unwrap();
        assert_eq!((made.precision, made.name.as_str()), (Precision::Int8, "int8"));
        // Three blocks of four layers, and the patch embedding.
        assert_eq!(report.layers.len(), 13, "{checkpoint}: {report}");
        assert!(report.layers.iter().all(|layer| !layer.kept && layer.loss < 0.01), "{checkpoint}: {report}");
        assert!(report.agreement.mean_cosine > 0.995, "{checkpoint}: {report}");
        assert!(report.agreement.percentile_1_cosine <= report.agreement.mean_cosine, "{report}");
        assert!((0.5..=1.0).contains(&report.agreement.same_neighbour), "{report}");
        assert!(report.bytes < report.bytes_before, "{report}");
        assert_eq!(fs::metadata(folder.path().join("int8.onnx")).unwrap().len(), report.bytes as u64);
        for size in sizes {
            let (dim, exact) = features(&manifest, size, &probe(size));
            let (mean, _) = cosines(&features(&folder.path().join("int8.toml"), size, &probe(size)).1, &exact, dim);
            assert!((0.99..0.999_999_9).contains(&mean), "{checkpoint} {size:?}: {mean}");
        }
    }
}

#[test]
fn layers_that_lose_too_much_stay_in_floats() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = imported("vit-timm.safetensors", &[[64, 64]], folder.path());
    let (all, _) = quantized(&manifest, &pictures(), LOOSE, folder.path()).unwrap();
    let mut losses: Vec<f64> = all.layers.iter().map(|layer| layer.loss).collect();
    losses.sort_by(f64::total_cmp);

    // By itself.
    let layer = losses[9];
    let (some, _) = quantized(&manifest, &pictures(), Bounds { layer, ..LOOSE }, folder.path()).unwrap();
    for report in &some.layers {
        assert_eq!(report.kept, report.loss > layer, "{report:?}");
    }
    assert_eq!(some.layers.iter().filter(|layer| layer.kept).count(), 3);
    assert!(some.bytes > all.bytes && some.agreement.mean_cosine > all.agreement.mean_cosine, "{some}");

    // All together: those that lose most are given up until the rest is good enough.
    let whole = all.agreement.loss() / 2.0;
    let (half, _) = quantized(&manifest, &pictures(), Bounds { whole, ..LOOSE }, folder.path()).unwrap();
    assert!(half.agreement.loss() <= whole, "{half}");
    let kept = half.layers.iter().filter(|layer| layer.kept).map(|layer| layer.loss).fold(f64::INFINITY, f64::min);
    let left = half.layers.iter().filter(|layer| !layer.kept).map(|layer| layer.loss).fold(0.0, f64::max);
    assert!(kept >= left, "{half}");

    // Nothing is written where nothing is left, and what was there stays.
    let before = fs::read(folder.path().join("int8.toml")).unwrap();
    let nothing = quantized(&manifest, &pictures(), Bounds { layer: 0.0, whole: 0.0 }, folder.path());
    assert!(nothing.unwrap_err().to_string().contains("every layer loses more"));
    assert_eq!(fs::read(folder.path().join("int8.toml")).unwrap(), before);
    // Quantizing twice is a mistake.
    let twice = quantized(&folder.path().join("int8.toml"), &pictures(), LOOSE, folder.path());
    assert!(twice.unwrap_err().to_string().contains("8-bit integers already"));
    assert!(matches!(quantized(&manifest, &pictures()[..1], LOOSE, folder.path()), Err(QuantizeError::NoPictures)));
}

/// The Python that the reference tools run in.
fn python() -> Option<String> {
    let python = std::env::var("TAGALONG_REFERENCE_PYTHON").ok().filter(|python| !python.is_empty());
    if python.is_none() {
        eprintln!("SKIPPED: TAGALONG_REFERENCE_PYTHON names no Python with numpy, onnx and onnxruntime");
    }
    python
}

fn reference(python: &str, script: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What ONNX Runtime makes of a picture: the tokens, of all patches and those before them.
fn onnx_runtime(python: &str, model: &Path, picture: &PixelBuf, size: [usize; 2], manifest: &Manifest) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["input", "output"].map(|name| folder.path().join(name));
    let [height, width] = size;
    let mut prepared = InputTensor::default();
    Preprocessor::new(width, height, manifest.mean, manifest.std).run(picture, &mut prepared).unwrap();
    fs::write(&input, prepared.data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let [height, width] = size.map(|side| side.to_string());
    let paths = [model, &input, &output].map(|path| path.to_str().unwrap().to_owned());
    reference(python, "onnx_runtime.py", &[&paths[0], &paths[1], &height, &width, &paths[2]]);
    let bytes = fs::read(&output).unwrap();
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// tract and ONNX Runtime read the same numbers out of the file; our own operators, which round inside attention too, stay
/// near both.
#[test]
fn onnx_runtime_computes_the_same() {
    let Some(python) = python() else { return };
    for checkpoint in ["vit-timm.safetensors", "dinov2-reg.pth", "dinov2-swiglu.pth"] {
        let folder = tempfile::tempdir().unwrap();
        let side = if checkpoint.starts_with("vit") { 16 } else { 14 };
        let sizes = [[4 * side, 7 * side], [6 * side, 6 * side]];
        let manifest = imported(checkpoint, &sizes, folder.path());
        let (_, made) = quantized(&manifest, &pictures(), LOOSE, folder.path()).unwrap();
        for size in sizes {
            let tokens = onnx_runtime(&python, &folder.path().join("int8.onnx"), &probe(size), size, &made);
            for (backend, bound) in [(Backend::Reference, 0.999_9), (Backend::Auto, 0.999_5)] {
                let (dim, ours) = features_by(backend, &folder.path().join("int8.toml"), size, &probe(size));
                let (_, least) = cosines(&tokens[tokens.len() - ours.len()..], &ours, dim);
                assert!(least > bound, "{checkpoint} {size:?} {backend:?}: {least}");
            }
        }
    }
}

/// On real weights and real video: a quarter of the size, next to nothing lost, and far less than ONNX Runtime's own
/// tool loses.
#[test]
fn real_weights_keep_their_features() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let checkpoint = shared.join("models/vit_tiny_patch16_224.safetensors");
    let video = shared.join("data/davis/JPEGImages/480p");
    if !checkpoint.exists() || !video.exists() {
        eprintln!("SKIPPED: {} is not there", checkpoint.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let size = [240, 432];
    let wanted = Import { input_sizes: vec![size], name: "tiny".into(), ..Import::default() };
    let manifest = import(&checkpoint, &wanted, folder.path()).unwrap().manifest;
    let mut rgb = Vec::new();
    let mut frame = |name: &str| {
        let (width, height) = picture::decode(&fs::read(video.join(name)).unwrap(), &mut rgb).unwrap();
        PixelBuf::packed(PixelFormat::Rgb3, width, height, rgb.clone()).unwrap()
    };
    let frames = ["boat/00010.jpg", "boat/00011.jpg", "swing/00030.jpg", "swing/00031.jpg"].map(&mut frame);
    let bounds = Bounds { layer: 0.001, whole: 0.005 };
    let (report, made) = quantized(&manifest, &frames, bounds, folder.path()).unwrap();
    println!("{report}");
    assert!(report.layers.iter().all(|layer| !layer.kept), "{report}");
    assert!(report.agreement.mean_cosine > 0.998 && report.agreement.percentile_1_cosine > 0.993, "{report}");
    let share = report.bytes as f64 / report.bytes_before as f64;
    assert!(share <= 0.27, "{share:.3} of the size");

    // Pictures that were not measured on.
    let python = python();
    for picture in [frame("rollerblade/00005.jpg"), frame("surf/00005.jpg"), probe(size)] {
        let (dim, exact) = features(&manifest, size, &picture);
        let (ours, _) = cosines(&features(&folder.path().join("int8.toml"), size, &picture).1, &exact, dim);
        assert!(ours > 0.995, "{ours}");
        let Some(python) = &python else { continue };
        let [float, plain] = ["tiny.onnx", "plain.onnx"].map(|name| folder.path().join(name));
        reference(python, "quantize_dynamic.py", &[float.to_str().unwrap(), plain.to_str().unwrap()]);
        let tokens = onnx_runtime(python, &plain, &picture, size, &made);
        let (theirs, _) = cosines(&tokens[tokens.len() - exact.len()..], &exact, dim);
        println!("mean cosine: {ours:.5}, ONNX Runtime's own tool {theirs:.5}");
        assert!(1.0 - ours < 0.5 * (1.0 - theirs), "{ours} is not clearly better than {theirs}");
    }
}
