//! The real model and the real session on the built-in scene, held to its exact masks: objects that leave the picture
//! or pass behind others and come back, and what their scores promise.

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::config::Config;
use tagalong::embed::{self, Embedder, ModelConfig};
use tagalong::track::Session;
use tagalong::types::{FrameMeta, Mask, PixelBuf, PixelFormat, Seed, Timestamp, TrackId};

const FPS: f32 = 10.0;
const FRAMES: u64 = 200;
/// Pixels that must show of an object for it to be in sight, and for it to be tagged.
const IN_SIGHT: usize = 1_000;
const WHOLE: usize = 1_500;
/// Frames that a returned object is given to be found.
const GRACE: u64 = 5;

/// What became of the objects.
#[derive(Default)]
struct Outcome {
    /// Frames in which those that had been out of sight are in sight again, after some grace.
    frames: u64,
    /// ... of them with a mask of an IoU of at least 0.4.
    followed: u64,
    /// How often one was lost again while it was in sight.
    lost_again: u64,
    /// Frames in which nothing of an object is to be seen, and those with a mask of it all the same.
    absent: u64,
    ghosts: u64,
    /// Score of each mask, and whether it was right: an IoU of at least 0.5.
    /// Each with the IoU that the mask had.
    scores: Vec<(f32, f64)>,
}

fn follow(seed: u64, outcome: &mut Outcome) {
    let options = SceneOptions { seed, fps: FPS, objects: 4, ..SceneOptions::default() };
    let scene = Scene::new(options.clone()).unwrap();
    let config = Config::builtin();
    let model = ModelConfig { input: "240x320".into(), threads: 1, ..config.model.clone() };
    let backbone = embed::load(&model).unwrap();
    let grid = backbone.spec().grids[0];
    let mut embedder = Embedder::new(backbone, grid);
    let mut features = embedder.empty_features();
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), grid, features.dim);
    let (mut drawn, mut tagged) = (SceneFrame::default(), [false; 4]);
    // For each object: frames in sight since it was gone, `None` where it was never gone; and whether it was seen.
    let mut back: [Option<u64>; 4] = [None; 4];
    let mut seen = [false; 4];
    for index in 0..FRAMES {
        scene.render(index, &mut drawn);
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, options.width, options.height, drawn.rgb.clone()).unwrap();
        embedder.embed(&pixels, &mut features).unwrap();
        let ns = (index as f64 * 1e9 / f64::from(FPS)) as u64;
        let meta = FrameMeta {
            camera: "scene".into(),
            seq: index,
            captured_at: Timestamp { mono_ns: ns, real_ns: ns },
            dropped: 0,
            width: options.width,
            height: options.height,
        };
        let report = session.step(&meta, &features);
        let truth = scene.truth(index);
        for track in &report.tracks {
            let object = track.id.0 as usize;
            let exact = truth.mask(object + 1);
            let mask = track.mask.as_ref().map(|mask| Mask::from_coco(mask).unwrap());
            outcome.scores.extend(mask.as_ref().map(|mask| (track.score, mask.iou(&exact))));
            if exact.is_empty() {
                back[object] = Some(0);
                outcome.absent += 1;
                outcome.ghosts += u64::from(mask.is_some());
            } else if let Some(frames) = &mut back[object]
                && exact.area() >= IN_SIGHT
            {
                *frames += 1;
                if *frames > GRACE {
                    outcome.frames += 1;
                    outcome.followed += u64::from(mask.as_ref().is_some_and(|mask| mask.iou(&exact) >= 0.4));
                    outcome.lost_again += u64::from(seen[object] && mask.is_none());
                }
            }
            seen[object] = mask.is_some();
        }
        for object in (0..4).filter(|object| !tagged[*object]).collect::<Vec<_>>() {
            let mask = truth.mask(object + 1);
            if mask.area() >= WHOLE && mask.area() == scene.silhouette(index, object + 1).area() {
                session.tag(&Seed::Mask(mask), None, TrackId(object as u64), object.to_string()).unwrap();
                tagged[object] = true;
            }
        }
    }
}

/// Mean IoU of the masks of what is in sight, in each third of the frames, where each third is embedded at a size of its
/// own. Every object keeps its identity throughout.
fn overlap_by_thirds(seed: u64, inputs: [(usize, usize); 3]) -> [f64; 3] {
    const THIRD: u64 = 40;
    let options = SceneOptions { seed, fps: FPS, objects: 4, ..SceneOptions::default() };
    let scene = Scene::new(options.clone()).unwrap();
    let config = Config::builtin();
    let backbone = embed::load(&ModelConfig { input: "336x448".into(), threads: 1, ..config.model.clone() }).unwrap();
    let grids = backbone.spec().grids.clone();
    let grid =
        |(height, width)| *grids.iter().find(|g| (g.input_height(), g.input_width()) == (height, width)).unwrap();
    let mut embedder = Embedder::new(backbone, grids[0]);
    // One buffer for all sizes, as the daemon has.
    let mut features = embedder.empty_features();
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), grid(inputs[0]), features.dim);
    let (mut drawn, mut tagged) = (SceneFrame::default(), [false; 4]);
    let mut thirds = [(0.0, 0); 3];
    for index in 0..3 * THIRD {
        let third = (index / THIRD) as usize;
        embedder.change_grid(grid(inputs[third])).unwrap();
        scene.render(index, &mut drawn);
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, options.width, options.height, drawn.rgb.clone()).unwrap();
        embedder.embed(&pixels, &mut features).unwrap();
        let ns = (index as f64 * 1e9 / f64::from(FPS)) as u64;
        let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
        let (width, height) = (options.width, options.height);
        let meta = FrameMeta { camera: "scene".into(), seq: index, captured_at, dropped: 0, width, height };
        let report = session.step(&meta, &features);
        let truth = scene.truth(index);
        let ids: Vec<u64> = report.tracks.iter().map(|track| track.id.0).collect();
        assert_eq!(ids.len(), tagged.iter().filter(|tagged| **tagged).count(), "{index}: {ids:?}");
        for track in &report.tracks {
            assert_eq!(track.name, track.id.0.to_string());
            let exact = truth.mask(track.id.0 as usize + 1);
            if exact.area() >= IN_SIGHT {
                let mask = track.mask.as_ref().map(|mask| Mask::from_coco(mask).unwrap());
                thirds[third].0 += mask.map_or(0.0, |mask| mask.iou(&exact));
                thirds[third].1 += 1;
            }
        }
        for object in (0..4).filter(|object| !tagged[*object]).collect::<Vec<_>>() {
            let mask = truth.mask(object + 1);
            if mask.area() >= WHOLE && mask.area() == scene.silhouette(index, object + 1).area() {
                session.tag(&Seed::Mask(mask), None, TrackId(object as u64), object.to_string()).unwrap();
                tagged[object] = true;
            }
        }
    }
    thirds.map(|(sum, count)| sum / f64::from(count))
}

#[test]
fn objects_are_followed_as_well_when_the_input_size_changes() {
    const FULL: (usize, usize) = (336, 448);
    const SMALL: (usize, usize) = (240, 320);
    let mean = |inputs| {
        let seeds = [1, 2, 3].map(|seed| overlap_by_thirds(seed, inputs));
        [0, 1, 2].map(|third| seeds.iter().map(|thirds| thirds[third]).sum::<f64>() / seeds.len() as f64)
    };
    let (full, small, changed) = (mean([FULL; 3]), mean([SMALL; 3]), mean([FULL, SMALL, FULL]));
    eprintln!("mean IoU by thirds: full {full:.3?}, small {small:.3?}, full, small, full {changed:.3?}");
    assert!((full[0] - changed[0]).abs() < 1e-9);
    // While it is small, as well as if it had always been; and afterwards as well as if it had never been.
    assert!(changed[1] > small[1] - 0.05, "{changed:.3?}, always small {small:.3?}");
    assert!(changed[2] > full[2] - 0.05, "{changed:.3?}, never small {full:.3?}");
}

#[test]
fn what_returns_is_found_and_kept_and_scores_hold() {
    let mut outcome = Outcome::default();
    [1, 2, 3].into_iter().for_each(|seed| follow(seed, &mut outcome));
    let Outcome { frames, followed, lost_again, absent, ghosts, scores } = outcome;
    assert!(frames > 100 && absent > 100, "the scenes show too little: {frames}, {absent}");
    assert!(followed * 10 >= frames * 7, "{followed} of {frames}");
    assert!(lost_again * 20 <= frames, "{lost_again} times in {frames} frames");
    assert!(ghosts * 50 <= absent, "{ghosts} in {absent} frames");
    // In tenths of the score: the IoU that it promises, against what it was.
    let error: f64 = (0..10)
        .map(|tenth| {
            let of_bin = |(score, _): &&(f32, f64)| ((score * 10.0) as usize).min(9) == tenth;
            scores.iter().filter(of_bin).map(|(score, iou)| f64::from(*score) - iou).sum()
        })
        .map(f64::abs)
        .sum();
    let error = error / scores.len() as f64;
    assert!(error < 0.05, "the expected calibration error is {error:.3}");
    eprintln!("{followed} of {frames} followed, {lost_again} lost again, calibration error {error:.3}");
}
