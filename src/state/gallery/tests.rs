use super::*;
use crate::types::{Features, PatchGrid};

const DIM: usize = 6;

fn model() -> ModelIdentity {
    ModelIdentity { name: "small".into(), features: "abc".into(), dim: DIM }
}

/// `of` patches of the object and twice as many of other things.
fn exemplars(of: usize, seed: u32) -> Exemplars {
    let count = 3 * of;
    let value = |i: usize| ((i as u32 * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.4;
    let grid = PatchGrid { rows: 1, cols: count, patch: 1 };
    let mut patches = Features::new(grid, DIM, (0..count * DIM).map(value).collect());
    patches.normalise();
    let labels = (0..count).map(|i| if i < of { 1.0 - i as f32 / 100.0 } else { 0.0 }).collect();
    Exemplars { patches, labels, given: 2 * of, share: 0.125 }
}

/// Whether `b` is `a` but for what 16-bit floats cannot tell.
fn are_alike(a: &Exemplars, b: &Exemplars) -> bool {
    let near = a.patches.data.iter().zip(&b.patches.data).all(|(a, b)| (a - b).abs() < 1e-3);
    near && a.patches.data.len() == b.patches.data.len()
        && (&a.labels, a.given, a.share) == (&b.labels, b.given, b.share)
}

fn opened(folder: &Path) -> Gallery {
    Gallery::open(folder, model()).unwrap()
}

#[test]
fn what_is_saved_is_there_after_a_restart_and_so_is_what_was_done_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut gallery = opened(folder.path());
    gallery.save("cup", exemplars(5, 1), None, "front", TrackId(7)).unwrap();
    gallery.save("pen", exemplars(4, 2), None, "rear", TrackId(8)).unwrap();
    gallery.save("hat", exemplars(3, 3), None, "rear", TrackId(9)).unwrap();
    gallery.assign("cup", "rear", TrackId(12)).unwrap();
    gallery.update("front", TrackId(7), exemplars(6, 4)).unwrap();
    gallery.update("front", TrackId(99), exemplars(9, 9)).unwrap();
    assert_eq!(gallery.rename("pen", "red pen").unwrap(), [("rear".to_owned(), TrackId(8))].into());
    assert_eq!(gallery.forget("hat").unwrap(), [("rear".to_owned(), TrackId(9))].into());
    let told = gallery.list();
    drop(gallery);
    let gallery = opened(folder.path());
    assert_eq!(gallery.list(), told);
    let names: Vec<&str> = told.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["cup", "red pen"]);
    assert_eq!((told[0].exemplars, &told[0].problem), ([6, 12], &None));
    let cup = gallery.get("cup", "rear").unwrap();
    assert_eq!(cup.id, Some(TrackId(12)));
    assert!(are_alike(&cup.exemplars, &exemplars(6, 4)));
    let known = gallery.known("front");
    assert_eq!(
        known.iter().map(|object| (object.name.as_str(), object.id)).collect::<Vec<_>>(),
        [("cup", Some(TrackId(7))), ("red pen", None)]
    );
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let mut gallery = Gallery { model: model(), ..Gallery::ephemeral() };
    gallery.save("cup", exemplars(5, 1), None, "front", TrackId(7)).unwrap();
    gallery.save("pen", exemplars(5, 2), None, "front", TrackId(8)).unwrap();
    let before = gallery.list();
    let unknown = |error: GalleryError| matches!(error, GalleryError::Unknown(name) if name == "hat");
    assert!(unknown(gallery.rename("hat", "cap").unwrap_err()));
    assert!(unknown(gallery.merge("hat", "cup").unwrap_err()) && unknown(gallery.merge("cup", "hat").unwrap_err()));
    assert!(unknown(gallery.forget("hat").unwrap_err()) && unknown(gallery.export("hat").unwrap_err()));
    assert!(unknown(gallery.get("hat", "front").unwrap_err()));
    let exists = |error: GalleryError| matches!(error, GalleryError::Exists(name) if name == "cup");
    assert!(exists(gallery.rename("pen", "cup").unwrap_err()));
    assert!(exists(gallery.merge("cup", "cup").unwrap_err()));
    assert!(exists(gallery.save("cup", exemplars(2, 1), None, "front", TrackId(9)).unwrap_err()));
    let exported = gallery.export("cup").unwrap();
    assert!(exists(gallery.import(&exported, None).unwrap_err()));
    assert_eq!(gallery.list(), before);
    for i in 2..MAX_OBJECTS {
        gallery.save(&format!("object {i}"), exemplars(1, 1), None, "front", TrackId(i as u64 + 100)).unwrap();
    }
    assert!(matches!(gallery.save("one more", exemplars(1, 1), None, "front", TrackId(1)), Err(GalleryError::Full)));
}

#[test]
fn two_that_are_merged_are_one_that_is_known_by_both() {
    let mut gallery = Gallery { model: model(), ..Gallery::ephemeral() };
    gallery.save("cup", exemplars(5, 1), None, "front", TrackId(7)).unwrap();
    gallery.save("cup from behind", exemplars(4, 2), None, "front", TrackId(8)).unwrap();
    let [gone, kept] = gallery.merge("cup from behind", "cup").unwrap();
    assert_eq!((gone["front"], kept["front"]), (TrackId(8), TrackId(7)));
    let merged = gallery.get("cup", "front").unwrap().exemplars;
    assert_eq!((gallery.list().len(), merged.counts(), merged.given), (1, [9, 18], 10));
    assert_eq!(merged.patches.row(15), exemplars(4, 2).patches.row(0));
    // However often they are merged, there is an end.
    for i in 0..100 {
        gallery.save("again", exemplars(10, i), None, "front", TrackId(100)).unwrap();
        gallery.merge("again", "cup").unwrap();
    }
    assert_eq!(gallery.get("cup", "front").unwrap().exemplars.labels.len(), MAX_MERGED);
}

#[test]
fn what_is_exported_is_taken_in_by_another_gallery_and_read_by_another_reader() {
    let mut here = Gallery { model: model(), ..Gallery::ephemeral() };
    here.save("cup", exemplars(5, 1), Some([640, 480]), "front", TrackId(7)).unwrap();
    let bytes = here.export("cup").unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("patches").unwrap().shape(), [15, DIM]);
    let mut there = Gallery { model: model(), ..Gallery::ephemeral() };
    let told = there.import(&bytes, Some("robot cup")).unwrap();
    assert_eq!((told.name.as_str(), told.problem, told.tracks.len()), ("robot cup", None, 0));
    let known = there.get("robot cup", "front").unwrap();
    assert_eq!((told.size, known.size), (Some([640, 480]), Some([640, 480])));
    assert!(known.id.is_none() && are_alike(&known.exemplars, &exemplars(5, 1)));
    // One that runs another model takes it in, and says that it means nothing.
    for other in [ModelIdentity { features: "abd".into(), ..model() }, ModelIdentity { dim: 7, ..model() }] {
        let mut other = Gallery { model: other, ..Gallery::ephemeral() };
        assert!(other.import(&bytes, None).unwrap().problem.unwrap().contains("small"));
        assert!(other.known("front").is_empty());
        assert!(matches!(other.get("cup", "front"), Err(GalleryError::Unusable { .. })));
        assert_eq!(other.export("cup").unwrap(), bytes, "it is passed on as it came");
    }
}

#[test]
fn a_garbled_file_is_told_and_left_and_the_others_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut gallery = opened(folder.path());
    gallery.save("cup", exemplars(5, 1), None, "front", TrackId(7)).unwrap();
    gallery.save("pen", exemplars(5, 2), None, "front", TrackId(8)).unwrap();
    let path = folder.path().join("0001.safetensors");
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (bad, says) in [(good[..good.len() - 7].to_vec(), "whole"), (flipped, "digest"), (b"{}".to_vec(), "whole")] {
        fs::write(&path, &bad).unwrap();
        let mut gallery = opened(folder.path());
        let told = gallery.list();
        assert_eq!((told[0].name.as_str(), told[1].name.as_str()), ("0001.safetensors", "pen"));
        assert!(told[0].problem.as_ref().unwrap().contains(says), "{told:?}");
        assert_eq!(gallery.known("front").len(), 1);
        // What is saved now does not take its place.
        gallery.save("hat", exemplars(5, 2), None, "front", TrackId(9)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bad);
        gallery.forget("hat").unwrap();
    }
    let mut gallery = opened(folder.path());
    gallery.forget("0001.safetensors").unwrap();
    assert!(!path.exists() && gallery.list().len() == 1);
    // What is not a numbered file of the gallery is nobody's business here.
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    fs::write(folder.path().join("0001.new"), "unfinished").unwrap();
    assert_eq!(opened(folder.path()).list().len(), 1);
    fs::write(&path, vec![0; MAX_BYTES as usize + 1]).unwrap();
    assert!(opened(folder.path()).list()[0].problem.as_ref().unwrap().contains("bytes"));
}

#[test]
fn a_disk_that_takes_nothing_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut gallery = opened(folder.path());
    gallery.save("cup", exemplars(5, 1), None, "front", TrackId(7)).unwrap();
    // In the way of the file that is written first.
    fs::create_dir(folder.path().join("0001.new")).unwrap();
    let before = gallery.list();
    assert!(matches!(gallery.update("front", TrackId(7), exemplars(6, 2)), Err(GalleryError::Io { .. })));
    assert!(matches!(gallery.rename("cup", "mug"), Err(GalleryError::Io { .. })));
    assert_eq!(gallery.list(), before);
    assert_eq!(opened(folder.path()).list(), before);
}

#[test]
fn no_byte_of_a_file_makes_it_panic_or_pass_for_another() {
    let mut gallery = Gallery { model: model(), ..Gallery::ephemeral() };
    gallery.save("cup", exemplars(2, 1), None, "front", TrackId(7)).unwrap();
    let good = gallery.export("cup").unwrap();
    let read = Entry::from_bytes(&good).unwrap();
    for at in 0..good.len() {
        for bits in [1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= bits;
            // A letter of a name may be another; what is compared may not.
            if let Ok(other) = Entry::from_bytes(&bad) {
                assert_eq!(other.exemplars.patches.data, read.exemplars.patches.data, "byte {at}");
                assert_eq!(other.exemplars.labels, read.exemplars.labels, "byte {at}");
            }
        }
        assert!(Entry::from_bytes(&good[..at]).is_err(), "{at} bytes of it");
    }
    for name in ["", "cup\u{1b}[2J", &"x".repeat(65)] {
        let problem = Entry::from_bytes(&Entry::new(name, model(), exemplars(2, 1), 0).to_bytes()).unwrap_err();
        assert!(problem.contains("name"), "{problem}");
    }
}
