use super::*;
use crate::embed::kernels::supported;
use crate::embed::layers::network_tests::{PATCH, SIZE, network, picture};
use crate::embed::layers::tests::Numbers;
use crate::embed::layers::{Picture, Workers};

const GRID: PatchGrid = PatchGrid { rows: SIZE[0] / PATCH, cols: SIZE[1] / PATCH, patch: PATCH };

fn packed(folder: &Path, source: &str) -> Packed {
    Packed { folder: folder.to_owned(), name: "small".into(), source: source.into() }
}

fn tokens(network: &Network) -> Vec<f32> {
    let workers = Workers::new(supported()[0].as_ref(), 1).unwrap();
    let (data, mut out) = (picture(&mut Numbers::new(2)), Vec::new());
    network.run(&workers, &[Picture { data: &data, size: SIZE }], &mut out);
    out
}

#[test]
fn what_was_kept_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(&mut Numbers::new(1));
    let packed = packed(&folder.path().join("made"), "a");
    assert!(packed.read(GRID).is_none(), "nothing is kept yet");
    packed.write(&network, GRID);
    assert_eq!(tokens(&packed.read(GRID).unwrap()), tokens(&network));
    // The crate's own reader is stricter than ours: places without gaps, shapes that fit.
    let bytes = fs::read(packed.path(GRID)).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let scale = theirs.tensor("0.scale").unwrap();
    assert_eq!((scale.shape(), scale.data()), (&[1][..], &0.5f32.to_le_bytes()[..]));
    let names: Vec<String> =
        fs::read_dir(&packed.folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(matches!(&names[..], [only] if only.starts_with("small-50x65-") && only.ends_with(".packed")), "{names:?}");
}

#[test]
fn what_belongs_to_another_model_or_size_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (packed(folder.path(), "a"), packed(folder.path(), "b"));
    one.write(&network(&mut Numbers::new(1)), GRID);
    assert!(other.read(GRID).is_none());
    // Not even under its name.
    fs::copy(one.path(GRID), other.path(GRID)).unwrap();
    assert!(other.read(GRID).is_none());
    let larger = PatchGrid { rows: GRID.rows + 1, ..GRID };
    assert!(one.read(larger).is_none());
    let renamed = Packed { source: one.source_of(larger), ..one.clone() };
    assert_ne!(renamed.path(GRID), one.path(GRID));
}

#[test]
fn what_is_damaged_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let packed = packed(folder.path(), "a");
    packed.write(&network(&mut Numbers::new(1)), GRID);
    let (path, whole) = (packed.path(GRID), fs::read(packed.path(GRID)).unwrap());
    let expected = tokens(&packed.read(GRID).unwrap());
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(packed.read(GRID).is_none(), "the first {length} bytes");
    }
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    // Every byte of the header, and some of the numbers. Blanks and the order of keys may change without harm.
    let places = (0..header).chain((header..whole.len()).step_by(whole.len() / 200));
    for at in places {
        for flip in [0x01, 0x10, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            fs::write(&path, &damaged).unwrap();
            if let Some(network) = packed.read(GRID) {
                assert!(at < header, "a number at byte {at} is another now");
                assert_eq!(tokens(&network), expected, "byte {at}");
            }
        }
    }
}

/// Ten thousand tensors over the same bytes would take ten thousand times their memory.
#[test]
fn tensors_that_overlap_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("overlap");
    let tensor = |name: usize| format!(r#""t{name}":{{"dtype":"I8","shape":[4096],"data_offsets":[0,4096]}}"#);
    let problem_of = |tensors: usize| {
        let header = format!("{{{}}}", (0..tensors).map(tensor).collect::<Vec<_>>().join(","));
        let parts = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4096]];
        fs::write(&path, parts.concat()).unwrap();
        Reader::open(&File::open(&path).unwrap()).err()
    };
    assert_eq!(problem_of(1), None);
    let problem = problem_of(8).unwrap();
    // Which of them is named depends on the order of a hash map.
    assert!(problem.contains("invalid offset for tensor"), "{problem}");
}

#[test]
fn a_folder_that_cannot_be_written_is_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let packed = packed(&file, "a");
    packed.write(&network(&mut Numbers::new(1)), GRID);
    assert!(packed.read(GRID).is_none());
    assert_eq!(fs::read_to_string(&file).unwrap(), "no folder");
}

#[test]
fn the_oldest_files_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(&mut Numbers::new(1));
    let beside = folder.path().join("notes.txt");
    fs::write(&beside, "somebody's").unwrap();
    for index in 0..MOST_FILES + 2 {
        let packed = packed(folder.path(), &index.to_string());
        packed.write(&network, GRID);
        let age = std::time::Duration::from_secs(1000 - index as u64);
        let file = File::options().write(true).open(packed.path(GRID)).unwrap();
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
    }
    let kept = |index: usize| packed(folder.path(), &index.to_string()).path(GRID).exists();
    let kept: Vec<bool> = (0..MOST_FILES + 2).map(kept).collect();
    assert_eq!(kept, [&[false; 2][..], &[true; MOST_FILES]].concat());
    assert!(beside.exists());
}
