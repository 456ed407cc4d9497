//! A state directory that another version of the program wrote: what is older is gone on with, what is newer is told and left as it
//! is, and in neither case is an id given twice.

use std::fs;
use std::path::Path;

use tagalong::state::{ModelIdentity, State};
use tagalong::types::{Exemplars, Features, PatchGrid, TrackId};

fn model() -> ModelIdentity {
    ModelIdentity { name: "small".into(), features: "abc".into(), dim: 4 }
}

fn exemplars() -> Exemplars {
    let grid = PatchGrid { rows: 1, cols: 3, patch: 1 };
    let data = vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    Exemplars { patches: Features::new(grid, 4, data), labels: vec![1.0, 0.0, 0.0], given: 1, share: 0.5 }
}

/// A directory in which this version has given ids up to 3 and saved `cup`.
fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::open(folder.path(), model()).unwrap();
    let ids: Vec<TrackId> = (0..3).map(|_| state.ids.give().unwrap()).collect();
    assert_eq!(ids, [TrackId(1), TrackId(2), TrackId(3)]);
    state.gallery.save("cup", exemplars(), Some([640, 480]), "front", TrackId(3)).unwrap();
    folder
}

/// Replaces a text in a file, for one of the same length: the file says how long its parts are.
fn replace(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("it is in the file");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(path, bytes).unwrap();
}

fn cup(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("gallery/0001.safetensors")
}

#[test]
fn what_an_older_version_wrote_is_gone_on_with() {
    let folder = written();
    // Before the size of pictures was noted, files had none; before there was a gallery or packed weights, no folders.
    replace(&cup(&folder), r#"\"size\""#, r#"\"none\""#);
    let mut state = State::open(folder.path(), model()).unwrap();
    let told = state.gallery.list();
    assert_eq!((told[0].name.as_str(), told[0].size, &told[0].problem), ("cup", None, &None));
    assert!(state.ids.give().unwrap() > TrackId(3));
    // Written again, it is of this version.
    state.gallery.rename("cup", "mug").unwrap();
    drop(state);
    assert_eq!(State::open(folder.path(), model()).unwrap().gallery.list()[0].name, "mug");

    let bare = tempfile::tempdir().unwrap();
    fs::write(bare.path().join("next-track-id"), "41").unwrap();
    let state = State::open(bare.path(), model()).unwrap();
    assert!(state.ids.give().unwrap() >= TrackId(41));
    assert!(state.gallery.list().is_empty());
}

#[test]
fn what_a_newer_version_wrote_is_told_and_left() {
    let folder = written();
    replace(&cup(&folder), r#"\"version\":1"#, r#"\"version\":2"#);
    let bytes = fs::read(cup(&folder)).unwrap();
    fs::create_dir(folder.path().join("maps")).unwrap();
    fs::write(folder.path().join("maps/of-a-later-day"), "what this version knows nothing of").unwrap();

    let mut state = State::open(folder.path(), model()).unwrap();
    let told = state.gallery.list();
    let problem = told[0].problem.as_deref().unwrap();
    assert!(problem.contains("format 2") && problem.contains("reads 1"), "{problem}");
    assert!(state.gallery.known("front").is_empty(), "nothing is looked for by what could not be read");
    let id = state.ids.give().unwrap();
    assert!(id > TrackId(3));
    state.gallery.save("pen", exemplars(), None, "front", id).unwrap();
    drop(state);
    assert_eq!(fs::read(cup(&folder)).unwrap(), bytes, "it is as the newer version left it");
    assert!(folder.path().join("maps/of-a-later-day").exists());

    // Back with the newer version, all is there: here by its number again.
    replace(&cup(&folder), r#"\"version\":2"#, r#"\"version\":1"#);
    let names: Vec<String> =
        State::open(folder.path(), model()).unwrap().gallery.list().into_iter().map(|o| o.name).collect();
    assert_eq!(names, ["cup", "pen"]);
}

#[test]
fn ids_that_cannot_be_gone_on_with_are_told_and_none_is_given() {
    let folder = written();
    let file = folder.path().join("next-track-id");
    fs::write(&file, "v2 300 per camera").unwrap();
    let error = State::open(folder.path(), model()).err().unwrap().to_string();
    assert!(error.contains("next-track-id") && error.contains("v2 300"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "v2 300 per camera");
}
