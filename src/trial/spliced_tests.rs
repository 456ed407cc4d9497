//! Two sequences of a few pixels, told apart by their colours to the last one.

use std::fs;
use std::path::Path;

use super::*;
use crate::eval::davis::write_masks;
use crate::picture;
use crate::types::Frame;

const WIDTH: usize = 32;
const HEIGHT: usize = 16;
/// Frames of the sequence `goat`, and of `swan`.
const FRAMES: [usize; 2] = [10, 7];

/// The objects of frame `index`: one at the left edge, one that moves right in the middle and is not annotated at first.
fn objects(index: usize) -> [Mask; 2] {
    let object = |x0: usize| Mask::from_fn(WIDTH, HEIGHT, |x, y| (x0..x0 + 6).contains(&x) && (4..12).contains(&y));
    [object(0), object(10 + index)]
}

fn colour(x: usize, y: usize, index: usize, blue: u8) -> [u8; 3] {
    [(8 * x) as u8, (8 * y + index) as u8, blue]
}

/// PNGs, that are read whatever they are called: a JPEG would change their pixels.
fn make_sequence(root: &Path, name: &str, frames: usize, [width, height]: [usize; 2], blue: u8) {
    let folder = root.join("JPEGImages/480p").join(name);
    fs::create_dir_all(&folder).unwrap();
    for index in 0..frames {
        let rgb: Vec<u8> = (0..width * height).flat_map(|at| colour(at % width, at / width, index, blue)).collect();
        fs::write(folder.join(format!("{index:05}.jpg")), picture::encode_png(&rgb, width, height).unwrap()).unwrap();
        let masks = objects(index).map(|mask| {
            let pixels = mask.to_pixels();
            Mask::from_fn(width, height, |x, y| x < WIDTH && y < HEIGHT && pixels[y * WIDTH + x])
        });
        write_masks(&root.join(format!("Annotations/480p/{name}/{index:05}.png")), &masks).unwrap();
    }
}

fn film(root: &Path, name: &str, kind: &str) -> (Case, Vec<(Frame, Vec<GroundTruth>)>) {
    let davis = Davis::open(root, None).unwrap();
    let (names, wanted) = ([name.to_owned()], [kind.to_owned()]);
    let mut cases = cases(&davis, &names, &wanted).unwrap();
    let case = cases.next().unwrap().unwrap();
    assert!(cases.next().is_none());
    let shots = (0..case.frames).map(|index| case.film.shot(index).unwrap()).collect();
    (case, shots)
}

fn pixel(frame: &Frame, x: usize, y: usize) -> [u8; 3] {
    frame.pixels.bytes().as_chunks::<3>().0[y * frame.meta.width + x]
}

#[test]
fn a_sequence_goes_on_where_it_was_interrupted() {
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "goat", FRAMES[0], [WIDTH, HEIGHT], 40);
    make_sequence(root.path(), "swan", FRAMES[1], [2 * WIDTH, 2 * HEIGHT], 200);
    let (case, shots) = film(root.path(), "goat", "spliced");
    assert_eq!((case.kind.as_str(), case.name.as_str(), shots.len()), ("spliced", "goat", 70));
    assert_eq!(case.tagged, [1, 2]);
    for (index, (frame, truths)) in shots.iter().enumerate() {
        assert_eq!((frame.meta.seq, frame.meta.width, frame.meta.height), (index as u64, WIDTH, HEIGHT));
        let masks: Vec<&Mask> = truths.iter().map(|truth| &truth.mask).collect();
        if (5..65).contains(&index) {
            // Of twice the size, so that each pixel is the mean of four; and after seven frames from the first one again.
            let [a, b] = [colour(6, 10, (index - 5) % FRAMES[1], 200), colour(7, 11, (index - 5) % FRAMES[1], 200)];
            assert_eq!(
                pixel(frame, 3, 5),
                [0, 1, 2].map(|i| (usize::from(a[i]) + usize::from(b[i])).div_ceil(2) as u8)
            );
            assert!(masks.iter().all(|mask| mask.is_empty()), "{index}");
            // The one at the edge may have left by it.
            let reasons: Vec<&[Reason]> = truths.iter().map(|truth| truth.reasons).collect();
            assert_eq!(reasons, [&[][..], &[Reason::Unseen]], "{index}");
        } else {
            let own = if index < 5 { index } else { index - 60 };
            assert_eq!(pixel(frame, 3, 5), colour(3, 5, own, 40));
            assert_eq!(masks, objects(own).iter().collect::<Vec<_>>(), "{index}");
            assert!(truths.iter().all(|truth| truth.whole == 48.0 && truth.reasons.is_empty()));
        }
    }
    // After the last comes the first, of half the size.
    let (_, shots) = film(root.path(), "swan", "spliced");
    assert_eq!((shots.len(), shots[3].0.meta.width), (67, 2 * WIDTH));
    assert_eq!(pixel(&shots[3].0, 7, 11), colour(3, 5, 0, 40));
}

#[test]
fn a_pair_is_a_picture_and_its_mirror_image() {
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "goat", FRAMES[0], [WIDTH, HEIGHT], 40);
    make_sequence(root.path(), "swan", FRAMES[1], [WIDTH, HEIGHT], 200);
    let (case, shots) = film(root.path(), "goat", "side by side");
    assert_eq!((case.tagged.as_slice(), shots.len()), (&[1, 2, 3, 4][..], 70));
    for (index, (frame, truths)) in shots.iter().enumerate().filter(|(index, _)| !(5..65).contains(index)) {
        for (x, y) in (0..WIDTH).flat_map(|x| (0..HEIGHT).map(move |y| (x, y))) {
            let here = pixel(frame, x, y);
            assert_eq!(here, pixel(frame, WIDTH - 1 - x, y), "{index}: {x}, {y}");
            assert_eq!(here == BAR, !(4..12).contains(&y), "{index}: {x}, {y}");
        }
        for object in 0..2 {
            let [left, right] = [object, object + 2].map(|at| truths[at].mask.to_pixels());
            let mirror = |at: usize| at / WIDTH * WIDTH + WIDTH - 1 - at % WIDTH;
            assert!((0..left.len()).all(|at| left[at] == right[mirror(at)]), "{index}");
            // A quarter of the pixels of each, and none of them in the other's half.
            assert_eq!(truths[object].mask.area(), 12, "{index}");
            assert!(truths[object].mask.spans().all(|(x, ..)| x < WIDTH / 2), "{index}");
        }
    }
    for (frame, truths) in &shots[5..65] {
        assert_eq!(pixel(frame, 3, 5)[2], 200, "what interrupts is shown whole");
        assert!(truths.len() == 4 && truths.iter().all(|truth| truth.mask.is_empty()));
    }
}

#[test]
fn what_is_too_small_is_not_tagged_and_void_is_nobody() {
    let pixels = vec![1, 1, 2, 2, 1, 1, 2, 2, VOID, VOID, 0, 0, VOID, VOID, 0, 0];
    let halves = mirrored_labels(&Annotation { width: 4, height: 4, pixels }, 2);
    assert_eq!(halves.pixels, [0, 0, 0, 0, 1, 2, 4, 3, VOID, 0, 0, VOID, 0, 0, 0, 0]);
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "goat", 4, [WIDTH, HEIGHT], 40);
    make_sequence(root.path(), "swan", 4, [WIDTH, HEIGHT], 200);
    let speck = Mask::from_fn(WIDTH, HEIGHT, |x, y| (x, y) == (8, 8));
    let folder = root.path().join("Annotations/480p/goat");
    write_masks(&folder.join("00000.png"), &[Mask::empty(WIDTH, HEIGHT), speck]).unwrap();
    // The speck is a 512th of the picture, but nothing of it is left at half the size.
    assert_eq!(film(root.path(), "goat", "spliced").0.tagged, [2]);
    assert!(film(root.path(), "goat", "side by side").0.tagged.is_empty());
}

#[test]
fn what_cannot_be_spliced_is_told_first() {
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "goat", 4, [WIDTH, HEIGHT], 40);
    let davis = Davis::open(root.path(), None).unwrap();
    let refused = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        cases(&davis, &names, &[]).err().unwrap().to_string()
    };
    assert!(refused(&["goat"]).contains("goat is the only sequence"), "{}", refused(&["goat"]));
    assert!(refused(&["swan"]).contains("no sequence \"swan\"; it has goat"), "{}", refused(&["swan"]));
}
