//! Models loaded a second time, from weights that the first time kept as they are computed with.

use std::fs;
use std::path::{Path, PathBuf};

use tagalong::embed::{Backbone, Backend, LoadError, ModelConfig, Rewritten, load, load_kept, probe_features};
use tagalong::model::import::{Import, import};
use tagalong::model::vit::Hints;

const SIZES: [[usize; 2]; 2] = [[70, 98], [56, 112]];

/// A small DINOv2 in floats, at two input sizes, computed on our own operators.
fn model(folder: &Path) -> ModelConfig {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints/dinov2-reg.pth");
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let wanted = Import { hints, input_sizes: SIZES.to_vec(), name: "small".into(), ..Import::default() };
    let manifest = import(&checkpoint, &wanted, folder).unwrap().manifest;
    ModelConfig { threads: 1, backend: Backend::Int8, ..ModelConfig::new(manifest.to_string_lossy()) }
}

fn packed_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect());
    files.sort();
    files
}

fn features(mut model: Box<dyn Backbone>, index: usize) -> Vec<f32> {
    let grid = model.spec().grids[index];
    probe_features(model.as_mut(), grid).unwrap().data
}

#[test]
fn a_second_start_computes_the_same_without_the_graph() {
    let folder = tempfile::tempdir().unwrap();
    let (config, packed) = (model(folder.path()), folder.path().join("packed"));
    let expected = [0, 1].map(|index| features(load(&config).unwrap(), index));
    assert!(packed_files(&packed).is_empty(), "who does not ask for it keeps nothing");
    let first = load_kept(&config, &packed).unwrap();
    assert_eq!(packed_files(&packed).len(), 1, "only the input size that runs");
    let spec = first.spec().clone();
    assert_eq!(features(first, 0), expected[0]);

    let written = fs::metadata(&packed_files(&packed)[0]).unwrap().modified().unwrap();
    let second = load_kept(&config, &packed).unwrap();
    assert_eq!(second.spec(), &spec);
    assert_eq!(features(second, 0), expected[0]);
    assert_eq!(fs::metadata(&packed_files(&packed)[0]).unwrap().modified().unwrap(), written, "it was used");

    // The other size is made when it is first asked for, and kept too.
    assert_eq!(features(load_kept(&config, &packed).unwrap(), 1), expected[1]);
    assert_eq!(packed_files(&packed).len(), 2);
    assert_eq!(features(load_kept(&config, &packed).unwrap(), 1), expected[1]);
    let other = ModelConfig { input: "56x112".into(), ..config };
    assert_eq!(features(load_kept(&other, &packed).unwrap(), 0), expected[1]);
    assert_eq!(packed_files(&packed).len(), 2);
}

#[test]
fn damaged_weights_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (config, packed) = (model(folder.path()), folder.path().join("packed"));
    let expected = features(load_kept(&config, &packed).unwrap(), 0);
    let [file] = &packed_files(&packed)[..] else { panic!("one file is kept") };
    let whole = fs::read(file).unwrap();
    let middle = whole.len() * 2 / 3;
    let mut flipped = whole.clone();
    flipped[middle] ^= 0x40;
    for damaged in [&whole[..middle], &flipped, b"", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"] {
        fs::write(file, damaged).unwrap();
        assert_eq!(features(load_kept(&config, &packed).unwrap(), 0), expected);
        assert!(same_numbers(&fs::read(file).unwrap(), &whole), "it was made again");
    }
    fs::remove_dir_all(&packed).unwrap();
    assert_eq!(features(load_kept(&config, &packed).unwrap(), 0), expected);
    assert!(same_numbers(&fs::read(file).unwrap(), &whole));
}

/// Weights that are whole but of something else: the probe finds them out.
#[test]
fn kept_weights_are_held_to_the_probe() {
    let folder = tempfile::tempdir().unwrap();
    let (config, packed) = (model(folder.path()), folder.path().join("packed"));
    let expected = features(load_kept(&config, &packed).unwrap(), 0);
    let [file] = &packed_files(&packed)[..] else { panic!("one file is kept") };
    // The last LayerNorm turns everything round, and the digest goes with it.
    let whole = fs::read(file).unwrap();
    let forged = forge(&whole, "6.gamma", &(-1.0f32).to_le_bytes().repeat(16));
    assert!(!same_numbers(&forged, &whole));
    fs::write(file, &forged).unwrap();
    assert_eq!(features(load_kept(&config, &packed).unwrap(), 0), expected);
    assert!(same_numbers(&fs::read(file).unwrap(), &whole), "it was made again");
}

/// Whether two files hold the same tensors; what else stands in their headers has no order.
fn same_numbers(one: &[u8], other: &[u8]) -> bool {
    let [one, other] = [one, other].map(|file| safetensors::SafeTensors::deserialize(file).unwrap());
    one.names().len() == other.names().len()
        && one.iter().all(|(name, tensor)| other.tensor(name).is_ok_and(|other| other.data() == tensor.data()))
}

/// `file` with other numbers in a tensor, its digest right.
fn forge(file: &[u8], name: &str, numbers: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
    let digest_of = |of: &dyn Fn(&str, &[u8]) -> Vec<u8>| {
        let mut names = tensors.names();
        names.sort_unstable();
        let mut all = Sha256::new();
        for name in names {
            all.update(name);
            all.update(Sha256::digest(of(name, tensors.tensor(name).unwrap().data())));
        }
        hex(&all.finalize())
    };
    let old = digest_of(&|_, data| data.to_vec());
    let new = digest_of(&|other, data| if other == name { numbers.to_vec() } else { data.to_vec() });
    let at = tensors.tensor(name).unwrap().data().as_ptr() as usize - file.as_ptr() as usize;
    let mut forged = file.to_vec();
    forged[at..at + numbers.len()].copy_from_slice(numbers);
    let place = forged.windows(old.len()).position(|bytes| bytes == old.as_bytes()).expect("the digest is in the file");
    forged[place..place + new.len()].copy_from_slice(new.as_bytes());
    forged
}

#[test]
fn a_graph_that_changed_is_refused_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (config, packed) = (model(folder.path()), folder.path().join("packed"));
    load_kept(&config, &packed).unwrap();
    let graph = folder.path().join("small.onnx");
    let mut bytes = fs::read(&graph).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&graph, bytes).unwrap();
    assert!(matches!(load_kept(&config, &packed), Err(LoadError::Digest { path, .. }) if path == graph));
    fs::remove_file(&graph).unwrap();
    assert!(matches!(load_kept(&config, &packed), Err(LoadError::Read { path, .. }) if path == graph));
}

/// What another backend would compute is not mistaken for it; tract's own plans are not kept.
#[test]
fn each_backend_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (config, packed) = (model(folder.path()), folder.path().join("packed"));
    let rounded = features(load_kept(&config, &packed).unwrap(), 0);
    for backend in [Backend::Auto, Backend::Reference] {
        let config = ModelConfig { backend, ..config.clone() };
        let model = load_kept(&config, &packed).unwrap();
        assert_eq!(model.running().kernel, None);
        assert_ne!(features(model, 0), rounded);
        assert_eq!(packed_files(&packed).len(), 1);
    }
    assert_eq!(
        tagalong::embed::load_tract(&config).unwrap().rewritten(),
        Rewritten { patch_embeddings: 1, attentions: 3, mlps: 3, linears: 0 }
    );
}
