//! How well objects of the synthetic scene are followed by the bundled model, by the way they were tagged.
//!
//! `cargo run --release --example tagging [SCENES [FIRST]]` tags every object when it first shows as a whole, by its
//! exact mask, its box or its centre, follows it for ten seconds, and holds every report against the exact masks.

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::config::Config;
use tagalong::embed::{self, Embedder};
use tagalong::track::Session;
use tagalong::types::{Features, FrameMeta, Mask, PixelBuf, PixelFormat, Seed, Timestamp, TrackId};

const FRAMES: u64 = 300;
/// Pixels that must show of an object for it to be in sight, and for it to be tagged.
const IN_SIGHT: usize = 100;
const WHOLE: usize = 1_500;

/// What came of one way of tagging, over all objects and frames.
#[derive(Default)]
struct Tally {
    in_sight: u64,
    overlap: f64,
    /// ... of them followed with an IoU of at least 0.5.
    right: u64,
    /// ... of them with no mask at all.
    unseen: u64,
    out_of_sight: u64,
    /// ... of them with a mask all the same.
    ghosts: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let scenes = arguments.next().unwrap_or(Ok(4))?;
    let first = arguments.next().unwrap_or(Ok(1))?;
    let mut tallies = [("mask", Tally::default()), ("box", Tally::default()), ("point", Tally::default())];
    for seed in first..first + scenes {
        let options = SceneOptions { seed, ..SceneOptions::default() };
        let scene = Scene::new(options.clone())?;
        let frames = embed_all(&scene, &options)?;
        for (way, tally) in &mut tallies {
            follow(&scene, &options, &frames, way, tally)?;
        }
        eprintln!("scene {seed} is done");
    }
    println!(
        "| tagged by | mean IoU | IoU of 0.5 or more | no mask in sight | mask out of sight |\n|---|---|---|---|---|"
    );
    for (way, tally) in tallies {
        let of = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        println!(
            "| {way} | {:.3} | {:.1}% | {:.1}% | {:.1}% |",
            tally.overlap / tally.in_sight.max(1) as f64,
            of(tally.right, tally.in_sight),
            of(tally.unseen, tally.in_sight),
            of(tally.ghosts, tally.out_of_sight),
        );
    }
    Ok(())
}

fn embed_all(scene: &Scene, options: &SceneOptions) -> Result<Vec<Features>, Box<dyn std::error::Error>> {
    let backbone = embed::load(&Config::builtin().model)?;
    let grid = backbone.spec().grids[0];
    let mut embedder = Embedder::new(backbone, grid);
    let mut drawn = SceneFrame::default();
    let mut embed = |index| {
        scene.render(index, &mut drawn);
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, options.width, options.height, drawn.rgb.clone())?;
        let mut features = embedder.empty_features();
        embedder.embed(&pixels, &mut features)?;
        Ok(features)
    };
    (0..FRAMES).map(&mut embed).collect()
}

fn follow(
    scene: &Scene,
    options: &SceneOptions,
    frames: &[Features],
    way: &str,
    tally: &mut Tally,
) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::builtin();
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), frames[0].grid, frames[0].dim);
    let mut tagged = vec![false; options.objects + 1];
    for (index, features) in (0u64..).zip(frames) {
        let ns = (index as f64 * 1e9 / f64::from(options.fps)) as u64;
        let meta = FrameMeta {
            camera: "scene".into(),
            seq: index,
            captured_at: Timestamp { mono_ns: ns, real_ns: ns },
            dropped: 0,
            width: options.width,
            height: options.height,
        };
        let report = session.step(&meta, features);
        let truth = scene.truth(index);
        for track in &report.tracks {
            let exact = truth.mask(track.id.0 as usize);
            let mask = track.mask.as_ref().map(Mask::from_coco).transpose()?;
            if exact.area() >= IN_SIGHT {
                let overlap = mask.as_ref().map_or(0.0, |mask| mask.iou(&exact));
                tally.in_sight += 1;
                tally.overlap += overlap;
                tally.right += u64::from(overlap >= 0.5);
                tally.unseen += u64::from(mask.is_none());
            } else if exact.is_empty() {
                tally.out_of_sight += 1;
                tally.ghosts += u64::from(mask.is_some());
            }
        }
        for number in (1..=options.objects).filter(|number| !tagged[*number]).collect::<Vec<_>>() {
            let (mask, outline) = (truth.mask(number), scene.silhouette(index, number));
            if mask.area() < WHOLE || mask.area() < outline.area() {
                continue;
            }
            let seed = match way {
                "mask" => Seed::Mask(mask),
                "box" => Seed::Box(mask.bounds().ok_or("a mask of many pixels has bounds")?.map(|side| side as f32)),
                _ => Seed::Point(truth.objects[number - 1].centre),
            };
            session.tag(&seed, None, TrackId(number as u64), format!("object {number}"))?;
            tagged[number] = true;
        }
    }
    Ok(())
}
