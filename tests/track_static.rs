//! A scene in which nothing moves but the camera's noise: masks stay where they are, however long it is watched.

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::config::Config;
use tagalong::embed::{self, Embedder, ModelConfig};
use tagalong::eval::Degradation;
use tagalong::track::Session;
use tagalong::types::{Features, FrameMeta, Mask, PixelBuf, PixelFormat, Seed, Timestamp, TrackId};

const STEPS: u64 = 10_000;
/// Pictures of the scene that differ in their noise. Each is embedded once.
const RENDERINGS: u64 = 16;
/// Standard deviation of the noise, of full scale: 4 of 255 levels, as of a small camera indoors.
const NOISE: f32 = 4.0 / 255.0;
/// How much less of the tagged masks may be met than in the first frame after them.
const DRIFT: f64 = 0.02;

fn options() -> SceneOptions {
    SceneOptions { width: 320, height: 240, seed: 1, objects: 4, ..SceneOptions::default() }
}

fn meta(seq: u64) -> FrameMeta {
    let SceneOptions { width, height, .. } = options();
    let ns = seq * 33_333_333;
    let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
    FrameMeta { camera: "scene".into(), seq, captured_at, dropped: 0, width, height }
}

/// Masks of the scene's objects in frame 0, and its pictures with noise, each moved right by `creep` pixels more than the one
/// before.
fn watch(creep: usize) -> (Vec<Mask>, Vec<Features>) {
    let SceneOptions { width, height, .. } = options();
    let scene = Scene::new(options()).unwrap();
    let config = Config::builtin();
    let model = ModelConfig { input: "240x320".into(), threads: 1, ..config.model.clone() };
    let backbone = embed::load(&model).unwrap();
    let grid = backbone.spec().grids[0];
    let mut embedder = Embedder::new(backbone, grid);
    let mut drawn = SceneFrame::default();
    scene.render(0, &mut drawn);
    let rendering = |index: u64| {
        let mut rgb = drawn.rgb.clone();
        rgb.chunks_exact_mut(3 * width).for_each(|row| row.rotate_right(3 * creep * index as usize));
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, width, height, rgb).unwrap();
        let mut features = embedder.empty_features();
        embedder.embed(&Degradation::Noise(NOISE).picture(&pixels, index), &mut features).unwrap();
        features
    };
    let truth = scene.truth(0);
    let masks = (1..=4).map(|object| truth.mask(object)).filter(|mask| mask.area() >= 400).collect();
    (masks, (0..RENDERINGS).map(rendering).collect())
}

/// How much J against the tagged masks falls below that of the first frame after them, at most, of any object in any of
/// `steps` frames. `pick` says which rendering each shows.
fn worst_drift(masks: &[Mask], renderings: &[Features], steps: u64, pick: impl Fn(u64) -> usize) -> f64 {
    let config = Config::builtin();
    let (grid, dim) = (renderings[0].grid, renderings[0].dim);
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), grid, dim);
    session.step(&meta(0), &renderings[pick(0)]);
    for (id, mask) in masks.iter().enumerate() {
        session.tag(&Seed::Mask(mask.clone()), None, TrackId(id as u64), id.to_string()).unwrap();
    }
    let mut met_at_first: Vec<f64> = Vec::new();
    let mut worst = 0.0_f64;
    for step in 1..=steps {
        let report = session.step(&meta(step), &renderings[pick(step)]);
        assert_eq!(report.tracks.len(), masks.len(), "step {step}");
        let met: Vec<f64> = masks
            .iter()
            .enumerate()
            .map(|(id, mask)| {
                let track = report.tracks.iter().find(|track| track.id.0 == id as u64).unwrap();
                track.mask.as_ref().map_or(0.0, |seen| Mask::from_coco(seen).unwrap().iou(mask))
            })
            .collect();
        if step == 1 {
            met_at_first.clone_from(&met);
        }
        worst = met_at_first.iter().zip(&met).map(|(first, now)| first - now).fold(worst, f64::max);
    }
    worst
}

/// Numbers that look random, the same each time.
fn scattered(step: u64) -> usize {
    let mixed = (step ^ step >> 7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % RENDERINGS as usize
}

#[test]
fn masks_of_a_static_scene_do_not_drift_in_ten_thousand_frames() {
    let (masks, renderings) = watch(0);
    assert!(masks.len() >= 2, "the scene shows too little: {}", masks.len());
    assert!(renderings[0].data != renderings[1].data, "noise tells the renderings apart");
    let worst = worst_drift(&masks, &renderings, STEPS, scattered);
    eprintln!("J falls by {worst:.4} at most, of {} objects", masks.len());
    assert!(worst <= DRIFT, "J falls by {worst:.4}");
}

#[test]
fn a_scene_that_creeps_away_is_not_taken_for_a_static_one() {
    let (masks, renderings) = watch(1);
    let worst = worst_drift(&masks, &renderings, RENDERINGS - 1, |step| step as usize);
    assert!(worst > 5.0 * DRIFT, "{worst:.4}");
}
