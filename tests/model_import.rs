//! Checkpoints of every family, made models and held to what timm and transformers compute of them.
//!
//! The checkpoints and the expected features come from `tests/fixtures/checkpoints/make.py`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tagalong::embed::{ModelConfig, load, probe_features};
use tagalong::model::checkpoint::Checkpoint;
use tagalong::model::import::{Import, ImportError, Imported, import, normalised};
use tagalong::model::vit::{Family, Hints, Kind, Tap, Vit};
use tagalong::types::probe_image;

/// How far features may be from the expected ones, relative to their length: an epsilon of 1e-5 in place of 1e-6 shows.
const TOLERANCE: f64 = 1e-5;
const DEPTH: usize = 3;

struct Case {
    file: &'static str,
    family: &'static str,
    patch: usize,
    grid: usize,
    /// Said on the command line, where the file does not tell.
    said: Option<&'static str>,
}

const CASES: [Case; 17] = [
    Case { file: "vit-timm.safetensors", family: "vit", patch: 16, grid: 4, said: None },
    Case { file: "half.safetensors", family: "vit", patch: 16, grid: 4, said: None },
    Case { file: "vit-hf.safetensors", family: "vit", patch: 16, grid: 4, said: None },
    Case { file: "dino.pth", family: "dino", patch: 8, grid: 5, said: None },
    Case { file: "dino-training.pth", family: "dino", patch: 16, grid: 4, said: None },
    // Without LayerScale and heads, iBOT's files look like DINO's.
    Case { file: "dino.pth", family: "ibot", patch: 8, grid: 5, said: Some("ibot") },
    Case { file: "ibot.pth", family: "ibot", patch: 16, grid: 4, said: None },
    Case { file: "dinov2.pth", family: "dinov2", patch: 14, grid: 5, said: None },
    Case { file: "dinov2-reg.pth", family: "dinov2", patch: 14, grid: 5, said: None },
    Case { file: "dinov2-reg-timm.safetensors", family: "dinov2", patch: 14, grid: 5, said: None },
    Case { file: "dinov2-swiglu.pth", family: "dinov2", patch: 14, grid: 5, said: None },
    Case { file: "dinov2-hf.safetensors", family: "dinov2", patch: 14, grid: 5, said: None },
    Case { file: "dinov2-reg-hf.safetensors", family: "dinov2", patch: 14, grid: 5, said: None },
    Case { file: "mae.pth", family: "mae", patch: 16, grid: 4, said: None },
    Case { file: "mae-encoder.safetensors", family: "mae", patch: 16, grid: 4, said: None },
    Case { file: "mae-hf.safetensors", family: "mae", patch: 16, grid: 4, said: None },
    Case { file: "scale-mae.pth", family: "scale-mae", patch: 16, grid: 4, said: None },
];

impl Case {
    /// Height and width: the grid that the positions were trained on, another square, and one that is not square.
    fn sizes(&self) -> [[usize; 2]; 3] {
        let (p, g) = (self.patch, self.grid);
        [[p * g, p * g], [p * (g + 2), p * (g + 2)], [p * (g - 1), p * (g + 3)]]
    }

    fn expected(&self) -> Expected {
        Expected::read(&format!("{}.expected.safetensors", self.file.split('.').next().unwrap()))
    }

    fn hints(&self) -> Hints {
        Hints { family: self.said.and_then(Family::named), heads: Some(2), ..Hints::default() }
    }
}

/// Rows of features by their names.
struct Expected(HashMap<String, (usize, Vec<f32>)>);

impl Expected {
    fn read(name: &str) -> Expected {
        let bytes = fs::read(fixture(name)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let floats =
            |view: &TensorView<'_>| view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Expected(tensors.iter().map(|(name, view)| (name.to_owned(), (view.shape()[1], floats(&view)))).collect())
    }

    fn of(&self, name: &str) -> (usize, &[f32]) {
        let (dim, rows) = self.0.get(name).unwrap_or_else(|| panic!("{name} was not made"));
        (*dim, rows)
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

fn length(row: &[f32]) -> f64 {
    row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// The largest distance of a row from the expected one, relative to its length.
fn error(got: &[f32], expected: &[f32], dim: usize) -> f64 {
    assert_eq!(got.len(), expected.len());
    let distance = |(a, b): (&[f32], &[f32])| {
        let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        length(&difference) / length(b)
    };
    got.chunks_exact(dim).zip(expected.chunks_exact(dim)).map(distance).fold(0.0, f64::max)
}

/// What the model makes of the probe's picture: L2-normalised rows.
fn features(manifest: &Path, [height, width]: [usize; 2]) -> Vec<f32> {
    let manifest = manifest.to_string_lossy().into_owned();
    let mut model =
        load(&ModelConfig { input: format!("{height}x{width}"), threads: 1, ..ModelConfig::new(manifest) }).unwrap();
    let grid = model.spec().grids[0];
    probe_features(model.as_mut(), grid).unwrap().data
}

fn normalise(rows: &[f32], dim: usize) -> Vec<f32> {
    rows.chunks_exact(dim).flat_map(|row| row.iter().map(move |v| (f64::from(*v) / length(row)) as f32)).collect()
}

fn imported(case: &Case, wanted: Import, folder: &Path) -> Imported {
    let wanted = Import { hints: Hints { heads: Some(2), ..wanted.hints }, name: "small".into(), ..wanted };
    import(&fixture(case.file), &wanted, folder).unwrap_or_else(|error| panic!("{}: {error}", case.file))
}

/// Every layer and kind, computed plainly.
#[test]
fn a_checkpoint_computes_what_its_authors_code_does() {
    let mut worst = 0.0f64;
    for case in &CASES {
        let checkpoint = Checkpoint::open(&fixture(case.file)).unwrap();
        let vit = Vit::find(&checkpoint, &case.hints()).unwrap();
        assert_eq!(vit.family.name, case.family, "{}: {}", case.file, vit.because);
        let expected = case.expected();
        for size in case.sizes() {
            let [height, width] = size;
            let picture = normalised(&probe_image(width, height), vit.family.mean, vit.family.std);
            for (name, layer, kind) in
                [("2.tokens", 2, Kind::Tokens), ("3.tokens", DEPTH, Kind::Tokens), ("3.keys", DEPTH, Kind::Keys)]
            {
                let got = vit.forward(&picture, size, Tap { layer, kind }).unwrap();
                let (dim, rows) = expected.of(&format!("{name}.{height}x{width}"));
                let error = error(got.as_standard_layout().as_slice().unwrap(), rows, dim);
                assert!(error < TOLERANCE, "{} {name} {height}x{width}: {error:e}", case.file);
                worst = worst.max(error);
            }
        }
    }
    println!("largest relative error: {worst:e}");
}

/// The models that are written, run as the daemon runs them: one graph for three input sizes, and graphs for one.
#[test]
fn an_imported_model_computes_what_its_authors_code_does() {
    let mut worst = 0.0f64;
    for case in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let expected = case.expected();
        let mut compare = |model: &Imported, name: &str, size: [usize; 2]| {
            let [height, width] = size;
            let (dim, rows) = expected.of(&format!("{name}.{height}x{width}"));
            let error = error(&features(&model.manifest, size), &normalise(rows, dim), dim);
            assert!(error < TOLERANCE, "{} {name} {height}x{width}: {error:e}", case.file);
            worst = worst.max(error);
        };
        let hints = Hints { family: case.said.and_then(Family::named), ..Hints::default() };
        let all = Import { hints, input_sizes: case.sizes().to_vec(), layer: Some(DEPTH), ..Import::default() };
        let model = imported(case, all.clone(), folder.path());
        assert!(model.cosine > 0.999_999, "{}: {}", case.file, model.cosine);
        case.sizes().into_iter().for_each(|size| compare(&model, "3.tokens", size));
        for size in [case.sizes()[0], case.sizes()[2]] {
            let one = Import { input_sizes: vec![size], ..all.clone() };
            let model = imported(case, Import { layer: Some(2), ..one.clone() }, folder.path());
            compare(&model, "2.tokens", size);
            let model = imported(case, Import { kind: Some(Kind::Keys), ..one }, folder.path());
            compare(&model, "3.keys", size);
        }
    }
    println!("largest relative error: {worst:e}");
}

#[test]
fn positions_of_scale_mae_follow_the_ground_sample_distance() {
    let case = CASES.iter().find(|case| case.family == "scale-mae").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hints = Hints { ground_sample_distance: Some(0.3), ..Hints::default() };
    let wanted = Import { hints, input_sizes: case.sizes().to_vec(), ..Import::default() };
    let model = imported(case, wanted, folder.path());
    let expected = case.expected();
    for size in case.sizes() {
        let [height, width] = size;
        let got = features(&model.manifest, size);
        let (dim, rows) = expected.of(&format!("3.tokens.{height}x{width}.gsd0.3"));
        let near = error(&got, &normalise(rows, dim), dim);
        assert!(near < TOLERANCE, "{height}x{width}: {near:e}");
        let (dim, rows) = expected.of(&format!("3.tokens.{height}x{width}"));
        let far = error(&got, &normalise(rows, dim), dim);
        assert!(far > 0.01, "another distance makes a difference: {far:e}");
    }
}

/// Numbers that `make.py` makes by the same formula.
fn formula(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let number = |index: u32| {
        let value = seed.wrapping_add(index);
        let value = (value ^ (value >> 16)).wrapping_mul(0x7feb_352d);
        let value = (value ^ (value >> 15)).wrapping_mul(0x846c_a68b);
        let value = value ^ (value >> 16);
        (value >> 8) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let flat = name.ends_with("bias");
    let norm = name.contains("norm") && name.ends_with("weight") || name.contains("gamma");
    let scaled = |value: f32| match name {
        _ if norm => value * 0.5 + 1.0,
        _ if flat => value * 0.25,
        "pos_embed" | "cls_token" => value,
        _ => value * 0.125,
    };
    (0..count as u32).map(|index| scaled(number(index))).collect()
}

/// DINOv2 ViT-S/14 as its authors lay it out, `mask_token` and all.
fn full_size(file: &Path) {
    let (dim, depth, grid) = (384, 12, 37);
    let mut shapes = vec![
        ("cls_token".to_owned(), vec![1, 1, dim]),
        ("pos_embed".into(), vec![1, 1 + grid * grid, dim]),
        ("mask_token".into(), vec![1, dim]),
        ("patch_embed.proj.weight".into(), vec![dim, 3, 14, 14]),
        ("patch_embed.proj.bias".into(), vec![dim]),
        ("norm.weight".into(), vec![dim]),
        ("norm.bias".into(), vec![dim]),
    ];
    for block in 0..depth {
        let mut part = |name: &str, shape: Vec<usize>| shapes.push((format!("blocks.{block}.{name}"), shape));
        for (name, outputs, inputs) in
            [("attn.qkv", 3 * dim, dim), ("attn.proj", dim, dim), ("mlp.fc1", 4 * dim, dim), ("mlp.fc2", dim, 4 * dim)]
        {
            part(&format!("{name}.weight"), vec![outputs, inputs]);
            part(&format!("{name}.bias"), vec![outputs]);
        }
        for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"] {
            part(name, vec![dim]);
        }
    }
    let bytes = |name: &str, shape: &[usize]| -> Vec<u8> {
        formula(name, shape.iter().product()).iter().flat_map(|v| v.to_le_bytes()).collect()
    };
    let data: Vec<Vec<u8>> = shapes.iter().map(|(name, shape)| bytes(name, shape)).collect();
    let views = shapes
        .iter()
        .zip(&data)
        .map(|((name, shape), bytes)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, file).unwrap();
}

#[test]
fn dinov2_of_full_size_computes_what_its_authors_code_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dinov2_vits14.safetensors");
    full_size(&file);
    let sizes = [[224, 224], [210, 322]];
    let wanted = Import { input_sizes: sizes.to_vec(), name: "dinov2-s".into(), ..Import::default() };
    let model = import(&file, &wanted, folder.path()).unwrap();
    assert!(model.summary.starts_with("DINOv2"), "{}", model.summary);
    let expected = Expected::read("dinov2-small.expected.safetensors");
    for size in sizes {
        let [height, width] = size;
        let (dim, rows) = expected.of(&format!("{height}x{width}"));
        let all = features(&model.manifest, size);
        let got: Vec<f32> = all.chunks_exact(dim).step_by(8).flatten().copied().collect();
        let error = error(&got, &normalise(rows, dim), dim);
        println!("{height}x{width}: {error:e}");
        assert!(error < TOLERANCE, "{height}x{width}: {error:e}");
    }
}

/// A model too large for one file has its weights in another, and both are checked.
#[test]
fn weights_apart_compute_the_same() {
    let case = &CASES[0];
    let folder = tempfile::tempdir().unwrap();
    let size = case.sizes()[2];
    let one = Import { input_sizes: vec![size], layer: Some(DEPTH), ..Import::default() };
    let whole = features(&imported(case, one.clone(), folder.path()).manifest, size);
    let model = imported(case, Import { split_above: Some(1_000), ..one }, folder.path());
    assert_eq!(model.files.len(), 4, "{:?}", model.files);
    assert_eq!(features(&model.manifest, size), whole);

    let weights = folder.path().join("small.weights");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[100] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let manifest = model.manifest.to_string_lossy().into_owned();
    let refusal = load(&ModelConfig { threads: 1, ..ModelConfig::new(manifest) }).err().unwrap().to_string();
    assert!(refusal.contains("small.weights: its sha256 is"), "{refusal}");
}

/// The files are standard ONNX: the reference runtime reads them, weights apart or not, and computes the same.
#[test]
fn onnx_runtime_agrees() {
    let python = match std::env::var("TAGALONG_REFERENCE_PYTHON") {
        Ok(python) if !python.is_empty() => python,
        _ => {
            eprintln!("SKIPPED: TAGALONG_REFERENCE_PYTHON names no Python with numpy and onnxruntime");
            return;
        }
    };
    for case in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let expected = case.expected();
        let hints = Hints { family: case.said.and_then(Family::named), ..Hints::default() };
        let wanted = Import { hints, input_sizes: case.sizes().to_vec(), layer: Some(DEPTH), ..Import::default() };
        let split_above = (case.family == "dinov2").then_some(1_000);
        imported(case, Import { split_above, ..wanted }, folder.path());
        let family = Family::named(case.family).unwrap();
        for [height, width] in case.sizes() {
            let picture = normalised(&probe_image(width, height), family.mean, family.std);
            fs::write(at("input"), picture.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
            let output = Command::new(&python)
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/onnx_runtime.py"))
                .args([at("small.onnx"), at("input")])
                .args([height.to_string(), width.to_string()])
                .arg(at("output"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}: {}", case.file, String::from_utf8_lossy(&output.stderr));
            let bytes = fs::read(at("output")).unwrap();
            let tokens: Vec<f32> = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            let (dim, rows) = expected.of(&format!("3.tokens.{height}x{width}"));
            let error = error(&tokens[tokens.len() - rows.len()..], rows, dim);
            assert!(error < TOLERANCE, "{} {height}x{width}: {error:e}", case.file);
        }
    }
}

#[test]
fn what_cannot_be_used_gets_one_clear_sentence() {
    struct Case {
        file: &'static str,
        expected: &'static str,
    }
    let cases = [
        Case { file: "hostile/calls-system.pth", expected: "wants `posix.system`, which no checkpoint needs" },
        Case { file: "hostile/compressed.pth", expected: "is compressed or encrypted, which torch.save never does" },
        Case { file: "hostile/truncated.pth", expected: "archive is damaged or was cut off" },
        Case { file: "hostile/truncated.safetensors", expected: "lies beyond the end of its data" },
        Case { file: "hostile/legacy.pth", expected: "the format of PyTorch before 1.6" },
        Case { file: "hostile/nan.safetensors", expected: "`blocks.1.mlp.fc2.weight` holds NaN at place 100" },
        Case {
            file: "hostile/transposed.safetensors",
            expected: "`blocks.1.mlp.fc2.weight` has the shape [32, 16], and [16, 32]",
        },
        Case {
            file: "hostile/resnet.safetensors",
            expected: "holds no vision transformer: 3 tensors such as `conv1.weight`",
        },
        Case { file: "make.py", expected: "neither a safetensors file nor one that PyTorch's torch.save wrote" },
        Case { file: "hostile", expected: "is a folder" },
    ];
    for Case { file, expected } in cases {
        let folder = tempfile::tempdir().unwrap();
        let hints = Hints { heads: Some(2), ..Hints::default() };
        let wanted =
            Import { hints, input_sizes: vec![[64, 64]], layer: Some(DEPTH), name: "none".into(), ..Import::default() };
        let refusal = import(&fixture(file), &wanted, &folder.path().join("out")).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{file}: {refusal}");
        assert!(refusal.contains(file) && !refusal.contains('\n'), "{file}: {refusal}");
        assert!(!folder.path().join("out").exists(), "{file} left something behind");
    }
}

#[test]
fn what_does_not_fit_the_network_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |file: &str, wanted: Import| {
        let wanted = Import { name: "none".into(), ..wanted };
        import(&fixture(file), &wanted, folder.path()).unwrap_err()
    };
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let fits = Import { hints: hints.clone(), input_sizes: vec![[64, 64]], layer: Some(DEPTH), ..Import::default() };
    let case = |change: fn(Import) -> Import| refusal("vit-timm.safetensors", change(fits.clone())).to_string();
    for (got, expected) in [
        (case(|w| Import { layer: Some(4), ..w }), "blocks 1 to 3, and no 4"),
        (case(|w| Import { layer: Some(0), ..w }), "blocks 1 to 3, and no 0"),
        (case(|w| Import { input_sizes: vec![[64, 70]], ..w }), "64x64 is"),
        (case(|w| Import { hints: Hints { heads: Some(3), ..w.hints }, ..w }), "cannot be split over 3 heads"),
        (case(|w| Import { hints: Hints { heads: None, ..w.hints }, ..w }), "say how many heads"),
        (case(|w| Import { hints: Hints { prefix: Some("teacher".into()), ..w.hints }, ..w }), "no vision transformer"),
        (case(|w| Import { std: Some([0.0; 3]), ..w }), "0.001 to 10"),
    ] {
        assert!(got.contains(expected), "{got}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    // A family that the file cannot be of.
    for (file, said, shown) in [
        ("dinov2.pth", "mae", "DINOv2, for it has LayerScale and a mask token, and not of MAE"),
        ("mae.pth", "dinov2", "MAE, for it has `model.decoder_"),
        ("scale-mae.pth", "mae", "of the family Scale-MAE"),
        ("dinov2-reg-hf.safetensors", "vit", "DINOv2, for it has register tokens"),
    ] {
        let hints = Hints { family: Family::named(said), ..hints.clone() };
        let got = refusal(file, Import { hints, ..fits.clone() }).to_string();
        assert!(got.contains(shown), "{file}: {got}");
    }

    // What is there already stays when the new one fails.
    let written = import(
        &fixture("dino.pth"),
        &Import { name: "kept".into(), input_sizes: vec![[40, 40]], ..fits.clone() },
        folder.path(),
    )
    .unwrap();
    let before = fs::read(&written.manifest).unwrap();
    let nan = Import { name: "kept".into(), ..fits };
    assert!(matches!(
        import(&fixture("hostile/nan.safetensors"), &nan, folder.path()),
        Err(ImportError::Checkpoint(_))
    ));
    assert_eq!(fs::read(&written.manifest).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_network_is_chosen_by_its_prefix() {
    let checkpoint = Checkpoint::open(&fixture("dino-training.pth")).unwrap();
    let hints = |prefix: &str| Hints { heads: Some(2), prefix: Some(prefix.into()), ..Hints::default() };
    let first = |hints: &Hints| {
        let vit = Vit::find(&checkpoint, hints).unwrap();
        vit.forward(
            &normalised(&probe_image(64, 64), [0.5; 3], [0.5; 3]),
            [64, 64],
            Tap { layer: 1, kind: Kind::Tokens },
        )
        .unwrap()
    };
    let teacher = first(&Hints { heads: Some(2), ..Hints::default() });
    assert_eq!(first(&hints("teacher.backbone")), teacher);
    assert_ne!(first(&hints("student.module.backbone.")), teacher);
}

/// Bytes changed at random, in the tables of contents above all, never make a reader panic.
#[test]
fn a_damaged_checkpoint_is_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("damaged");
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for name in ["dino.pth", "scale-mae.pth", "dino-training.pth", "vit-timm.safetensors", "half.safetensors"] {
        let whole = fs::read(fixture(name)).unwrap();
        for round in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(4) {
                // A zip's table of contents is at its end; a pickle and a header are at the start.
                let at = match round % 3 {
                    0 => random(bytes.len()),
                    1 => random(bytes.len().min(6_000)),
                    _ => bytes.len() - 1 - random(bytes.len().min(6_000)),
                };
                bytes[at] = random(256) as u8;
            }
            if round % 10 == 0 {
                bytes.truncate(random(bytes.len()));
            }
            fs::write(&file, bytes).unwrap();
            let hints = Hints { heads: Some(2), family: Family::named("dino"), ..Hints::default() };
            let read = Checkpoint::open(&file).and_then(|checkpoint| {
                checkpoint.names().for_each(|name| drop(checkpoint.floats(name)));
                Vit::find(&checkpoint, &hints).map(drop)
            });
            refused += usize::from(read.is_err());
        }
    }
    assert!((200..2_000).contains(&refused), "{refused} of 2000 were refused");
}
