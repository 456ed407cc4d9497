//! Data sets in DAVIS layout, good and bad, and the loop that runs a tracker over them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tagalong::eval::davis::{Annotation, VOID, palette, write_masks};
use tagalong::eval::run::{Progress, TrackerError, evaluate};
use tagalong::eval::{Corruption, Davis, Report, StageTimes, Tracked, VideoTracker};
use tagalong::picture;
use tagalong::types::{Frame, Mask};

const WIDTH: usize = 40;
const HEIGHT: usize = 24;

/// A PNG of packed samples.
fn png(width: usize, height: usize, colour: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width as u32, height as u32);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == png::ColorType::Indexed {
        encoder.set_palette(palette().as_flattened()[..3 << (depth as usize)].to_vec());
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    out
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The object of sequence `name` in frame `index`: a square that moves right by two pixels a frame.
fn square(index: usize) -> Mask {
    Mask::from_fn(WIDTH, HEIGHT, |x, y| (4 + 2 * index..14 + 2 * index).contains(&x) && (6..16).contains(&y))
}

fn frame_path(root: &Path, name: &str, index: usize) -> PathBuf {
    root.join(format!("JPEGImages/480p/{name}/{index:05}.jpg"))
}

fn mask_path(root: &Path, name: &str, index: usize) -> PathBuf {
    root.join(format!("Annotations/480p/{name}/{index:05}.png"))
}

/// A sequence of `frames` frames, the square bright on grey.
fn make_sequence(root: &Path, name: &str, frames: usize) {
    for index in 0..frames {
        let rgb: Vec<u8> = square_pixels(index).iter().flat_map(|set| [if *set { 250 } else { 90 }; 3]).collect();
        write(&frame_path(root, name, index), &picture::encode_jpeg(&rgb, WIDTH, HEIGHT, 95).unwrap());
        write_masks(&mask_path(root, name, index), &[square(index)]).unwrap();
    }
}

fn square_pixels(index: usize) -> Vec<bool> {
    square(index).to_pixels()
}

#[test]
fn a_resolution_is_found_or_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let open = |resolution| Davis::open(root.path(), resolution).map_err(|error| error.to_string());
    assert!(open(None).unwrap_err().contains("no data set in DAVIS layout"));
    fs::create_dir_all(root.path().join("JPEGImages/1080p/swan")).unwrap();
    assert_eq!(open(None).unwrap().names(), ["swan"]);
    fs::create_dir_all(root.path().join("JPEGImages/720p/goat")).unwrap();
    let error = open(None).unwrap_err();
    assert!(error.contains("no resolution \"480p\"") && error.contains("1080p, 720p"), "{error}");
    assert_eq!(open(Some("720p")).unwrap().names(), ["goat"]);
    fs::create_dir_all(root.path().join("JPEGImages/480p/bear")).unwrap();
    fs::create_dir_all(root.path().join("JPEGImages/480p/.hidden")).unwrap();
    assert_eq!(open(None).unwrap().names(), ["bear"]);
    assert!(open(Some("8k")).unwrap_err().contains("1080p, 480p, 720p"));
}

#[test]
fn what_is_wrong_with_a_sequence_is_said_with_its_file() {
    struct Case {
        what: &'static str,
        spoil: fn(&Path),
        says: &'static str,
    }
    let cases = [
        Case {
            what: "short",
            spoil: |root| (2..5).for_each(|i| fs::remove_file(frame_path(root, "swan", i)).unwrap()),
            says: "swan holds 2 frames",
        },
        Case {
            what: "unannotated",
            spoil: |root| fs::remove_file(mask_path(root, "swan", 3)).unwrap(),
            says: "00003.png: no annotation for this frame",
        },
        Case {
            what: "no object",
            spoil: |root| write_masks(&mask_path(root, "swan", 0), &[Mask::empty(WIDTH, HEIGHT)]).unwrap(),
            says: "00000.png marks no object",
        },
        Case {
            what: "a colour picture",
            spoil: |root| {
                let rgb = picture::encode_png(&vec![7; WIDTH * HEIGHT * 3], WIDTH, HEIGHT).unwrap();
                write(&mask_path(root, "swan", 1), &rgb);
            },
            says: "00001.png: its pixels are Rgb of 8 bits",
        },
        Case {
            what: "a damaged annotation",
            spoil: |root| {
                let whole = fs::read(mask_path(root, "swan", 2)).unwrap();
                fs::write(mask_path(root, "swan", 2), &whole[..whole.len() / 2]).unwrap();
            },
            says: "00002.png: ",
        },
        Case {
            what: "a damaged frame",
            spoil: |root| {
                let whole = fs::read(frame_path(root, "swan", 2)).unwrap();
                fs::write(frame_path(root, "swan", 2), &whole[..whole.len() / 2]).unwrap();
            },
            says: "00002.jpg: the picture is damaged",
        },
        Case {
            what: "a frame of another size",
            spoil: |root| {
                let other = picture::encode_jpeg(&[9; 8 * 8 * 3], 8, 8, 90).unwrap();
                write(&frame_path(root, "swan", 3), &other);
            },
            says: "00003.jpg has 8x8 pixels, but the first annotation of its sequence 40x24",
        },
        Case {
            what: "an annotation of another size",
            spoil: |root| write_masks(&mask_path(root, "swan", 1), &[Mask::empty(8, 9)]).unwrap(),
            says: "00001.png has 8x9 pixels",
        },
    ];
    for Case { what, spoil, says } in cases {
        let root = tempfile::tempdir().unwrap();
        make_sequence(root.path(), "swan", 5);
        spoil(root.path());
        let davis = Davis::open(root.path(), None).unwrap();
        let error = evaluate(&davis, &[], None, &mut Lagging::default(), None, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{what}: {error}");
    }
}

#[test]
fn annotations_of_every_depth_are_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.png");
    use png::BitDepth::{Eight, Four, One, Two};
    use png::ColorType::{Grayscale, Indexed};
    // Ten pixels a row, so that the last byte of a row is not full.
    let pack = |bits: usize, row: [u8; 10]| -> Vec<u8> {
        let mut bytes = vec![0; (10 * bits).div_ceil(8)];
        row.iter().enumerate().for_each(|(i, v)| bytes[i * bits / 8] |= v << (8 - bits - i * bits % 8));
        bytes
    };
    for (colour, depth, rows) in [
        (Indexed, One, [[1, 0, 1, 1, 0, 0, 0, 0, 1, 1], [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]]),
        (Grayscale, One, [[1, 0, 1, 1, 0, 0, 0, 0, 1, 1], [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]]),
        (Indexed, Two, [[3, 0, 1, 2, 0, 0, 0, 0, 1, 3], [0, 1, 2, 3, 0, 0, 0, 0, 0, 2]]),
        (Indexed, Four, [[15, 0, 1, 2, 0, 9, 0, 0, 1, 3], [0, 1, 2, 3, 8, 0, 0, 0, 0, 12]]),
        (Indexed, Eight, [[255, 0, 1, 2, 0, 9, 0, 0, 1, 3], [0, 1, 200, 3, 8, 0, 0, 0, 0, 12]]),
        (Grayscale, Eight, [[255, 0, 1, 2, 0, 9, 0, 0, 1, 3], [0, 1, 200, 3, 8, 0, 0, 0, 0, 12]]),
    ] {
        let data: Vec<u8> = rows.iter().flat_map(|row| pack(depth as usize, *row)).collect();
        write(&path, &png(10, 2, colour, depth, &data));
        assert_eq!(Annotation::read(&path).unwrap().pixels, rows.concat(), "{colour:?} {depth:?}");
    }
}

#[test]
fn a_mask_of_0_and_255_alone_is_one_object() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.png");
    let read = |pixels: [u8; 4]| {
        write(&path, &png(4, 1, png::ColorType::Grayscale, png::BitDepth::Eight, &pixels));
        Annotation::read(&path).unwrap()
    };
    assert_eq!(read([0, 255, 255, 0]).pixels, [0, 1, 1, 0]);
    assert_eq!(read([0, 255, 2, 0]).pixels, [0, VOID, 2, 0]);
    assert_eq!(read([255; 4]).pixels, [VOID; 4]);
    assert_eq!((read([0, 255, 2, 0]).instances(), read([255; 4]).instances()), (2, 0));
}

#[test]
fn the_palette_is_that_of_voc() {
    // The colours that the VOC development kit lists: aeroplane, bicycle, bird, boat, cat, person, border.
    let known = [
        (0, [0, 0, 0]),
        (1, [128, 0, 0]),
        (2, [0, 128, 0]),
        (3, [128, 128, 0]),
        (4, [0, 0, 128]),
        (8, [64, 0, 0]),
        (15, [192, 128, 128]),
        (255, [224, 224, 192]),
    ];
    for (index, colour) in known {
        assert_eq!(palette()[index], colour, "{index}");
    }
}

/// Says in every frame that the objects are where the first frame showed them, moved on by `speed` pixels a frame.
#[derive(Default)]
struct Lagging {
    speed: usize,
    masks: Vec<Mask>,
    index: usize,
    begun: Vec<String>,
}

impl VideoTracker for Lagging {
    fn begin(&mut self, frame: &Frame, masks: &[Mask]) -> Result<StageTimes, TrackerError> {
        self.begun.push(frame.meta.camera.to_string());
        (self.masks, self.index) = (masks.to_vec(), 0);
        Ok(StageTimes { embed: Duration::from_millis(10), ..StageTimes::default() })
    }

    fn step(&mut self, frame: &Frame) -> Result<Tracked, TrackerError> {
        self.index += 1;
        assert_eq!(frame.meta.seq, self.index as u64);
        let moved = |mask: &Mask| {
            let (pixels, by) = (mask.to_pixels(), self.index * self.speed);
            Mask::from_fn(mask.width, mask.height, |x, y| x >= by && pixels[y * mask.width + x - by])
        };
        let times = StageTimes { embed: Duration::from_millis(10), ..StageTimes::default() };
        Ok(Tracked { masks: self.masks.iter().map(moved).collect(), times })
    }
}

#[test]
fn scores_are_of_the_frames_between_the_first_and_the_last() {
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "swan", 5);
    make_sequence(root.path(), "bear", 4);
    fs::remove_file(mask_path(root.path(), "swan", 4)).unwrap();
    let davis = Davis::open(root.path(), None).unwrap();
    let save = root.path().join("saved");
    let mut told = Vec::new();
    let mut progress = |p: Progress<'_>| told.push((p.sequence.to_owned(), p.done, p.total));
    let asked = ["swan".to_owned(), "bear".to_owned(), "swan".to_owned()];
    let mut tracker = Lagging::default();
    let report = evaluate(&davis, &asked, None, &mut tracker, Some(&save), &mut progress).unwrap();

    assert_eq!(tracker.begun, ["swan", "bear"], "in the order asked for, each once");
    assert_eq!(told.len(), 9);
    assert_eq!((told[0].clone(), told[8].clone()), (("swan".into(), 1, 9), ("bear".into(), 9, 9)));
    // The square of 10 pixels moves by 2 a frame and the tracker stands still: 8, 6 and 4 columns are met.
    let j = |met: f64| met / (20.0 - met);
    let (swan, bear) = (&report.sequences[0], &report.sequences[1]);
    assert_eq!((swan.frames, bear.frames), (5, 4));
    assert!((swan.score.j - (j(8.0) + j(6.0) + j(4.0)) / 3.0).abs() < 1e-12, "{swan:?}");
    assert!((bear.score.j - (j(8.0) + j(6.0)) / 2.0).abs() < 1e-12, "{bear:?}");
    assert!((report.mean().j - (swan.score.j + bear.score.j) / 2.0).abs() < 1e-12);
    assert_eq!(report.times.embed, Duration::from_millis(90));
    assert!(report.times.decode > Duration::ZERO);
    for index in 0..5 {
        let saved = Annotation::read(&save.join(format!("swan/{index:05}.png"))).unwrap();
        assert_eq!(saved.masks(1), [square(0)]);
    }

    let mut perfect = Lagging { speed: 2, ..Lagging::default() };
    let report = evaluate(&davis, &[], None, &mut perfect, None, &mut |_| ()).unwrap();
    assert_eq!(perfect.begun, ["bear", "swan"]);
    assert_eq!((report.mean().j, report.mean().f), (1.0, 1.0));
}

/// Says of every frame that the square is where it is seen, bright, and keeps what it saw: sequence numbers, frames lost
/// before them, and pictures.
#[derive(Default)]
struct Seeing {
    seen: Vec<(u64, u64)>,
    pictures: Vec<Vec<u8>>,
}

impl Seeing {
    fn keep(&mut self, frame: &Frame) {
        self.seen.push((frame.meta.seq, frame.meta.dropped));
        self.pictures.push(frame.pixels.bytes().to_vec());
    }
}

impl VideoTracker for Seeing {
    fn begin(&mut self, frame: &Frame, masks: &[Mask]) -> Result<StageTimes, TrackerError> {
        assert_eq!(masks, [square(0)], "the first frame's masks stay as they are");
        self.keep(frame);
        Ok(StageTimes::default())
    }

    fn step(&mut self, frame: &Frame) -> Result<Tracked, TrackerError> {
        self.keep(frame);
        let rgb = frame.pixels.bytes();
        let mask = Mask::from_fn(WIDTH, HEIGHT, |x, y| rgb[3 * (y * WIDTH + x)] > 170);
        Ok(Tracked { masks: vec![mask], times: StageTimes::default() })
    }
}

/// What is said of a sequence of 13 frames made worse, and what was seen of it.
fn degraded(root: &Path, how: &str) -> (Report, Seeing) {
    let davis = Davis::open(root, None).unwrap();
    let mut tracker = Seeing::default();
    let corruption = Corruption::parse(how).unwrap()[0];
    let report = evaluate(&davis, &[], Some(corruption), &mut tracker, None, &mut |_| ()).unwrap();
    (report, tracker)
}

#[test]
fn a_video_is_made_worse_before_it_is_seen() {
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "swan", 13);
    let davis = Davis::open(root.path(), None).unwrap();
    let clean = evaluate(&davis, &[], None, &mut Seeing::default(), None, &mut |_| ()).unwrap();
    assert!(clean.mean().j > 0.97, "the square can be seen: {:?}", clean.mean());

    // Every other frame: what is left is all seen, knows of what is missing, and is scored but for the first and last.
    let (report, Seeing { seen, .. }) = degraded(root.path(), "drop");
    assert_eq!(seen, [(0, 0), (2, 1), (4, 1), (6, 1), (8, 1), (10, 1), (12, 1)]);
    assert_eq!((report.frames(), report.scored()), (7, 5));
    assert!(report.mean().j > 0.97);

    // Of one in ten frames something else is shown. It is seen, and not scored.
    let spoilt = |how: &str| {
        let (report, Seeing { seen, pictures }) = degraded(root.path(), how);
        assert_eq!((seen.len(), report.frames(), report.scored()), (13, 13, 10), "{how}");
        assert!(report.mean().j > 0.97, "{how}: {:?}", report.mean());
        pictures
    };
    assert!(spoilt("black=strong")[5].iter().all(|v| *v == 0));
    let repeated = spoilt("repeated=strong");
    assert!(repeated[5] == repeated[4] && repeated[5] != repeated[6]);
    let torn = spoilt("torn=strong");
    assert!(torn[5] != repeated[5] && torn[4] == repeated[4]);

    // Truth turns with the picture: the square is where it is seen, and it is not where it was.
    let (report, Seeing { pictures, .. }) = degraded(root.path(), "rotation=strong");
    assert!(report.mean().j > 0.85, "{:?}", report.mean());
    let turned = Mask::from_fn(WIDTH, HEIGHT, |x, y| pictures[3][3 * (y * WIDTH + x)] > 170);
    assert!(turned.iou(&square(3)) < 0.7, "{}", turned.iou(&square(3)));
}

#[test]
fn what_is_made_worse_is_the_same_again() {
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "swan", 6);
    for how in Corruption::parse("all=strong").unwrap() {
        let [(once, first), (again, second)] = [(); 2].map(|()| degraded(root.path(), &how.to_string()));
        assert_eq!(once.sequences, again.sequences, "{how}");
        assert!(first.pictures == second.pictures, "{how}");
    }
    let (_, noisy) = degraded(root.path(), "noise");
    let still = |i: usize| noisy.pictures[i].iter().zip(&noisy.pictures[i + 1]).filter(|(a, b)| a == b).count();
    assert!(still(0) < noisy.pictures[0].len() / 4, "each frame has noise of its own");
}

#[test]
fn an_unknown_sequence_is_refused_before_any_work() {
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "swan", 4);
    let davis = Davis::open(root.path(), None).unwrap();
    let mut tracker = Lagging::default();
    let names = ["swan".to_owned(), "swam".to_owned()];
    let error = evaluate(&davis, &names, None, &mut tracker, None, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("no sequence \"swam\"; it has swan"), "{error}");
    assert!(tracker.begun.is_empty());
}

#[test]
fn a_tracker_that_breaks_its_promise_is_told_so() {
    struct Broken(Vec<Mask>);
    impl VideoTracker for Broken {
        fn begin(&mut self, _: &Frame, _: &[Mask]) -> Result<StageTimes, TrackerError> {
            Ok(StageTimes::default())
        }
        fn step(&mut self, _: &Frame) -> Result<Tracked, TrackerError> {
            if self.0.len() == 3 {
                return Err("out of steam".into());
            }
            Ok(Tracked { masks: self.0.clone(), times: StageTimes::default() })
        }
    }
    let root = tempfile::tempdir().unwrap();
    make_sequence(root.path(), "swan", 4);
    let davis = Davis::open(root.path(), None).unwrap();
    for (masks, says) in [
        (vec![], "swan, frame 1: the tracker gave 0 masks, but 1 are due"),
        (vec![Mask::empty(3, 4)], "swan, frame 1: the tracker gave a mask of 3x4 pixels, but 40x24 are due"),
        (vec![Mask::empty(3, 4); 3], "swan, frame 1: out of steam"),
    ] {
        let error = evaluate(&davis, &[], None, &mut Broken(masks), None, &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), says);
    }
}
