//! Makes pictures of the documentation: `cargo run --release --example readme_picture docs/scene.png docs/accuracy/strip.jpg`.
//!
//! The objects of the built-in scene are tagged as they come into sight, by their exact masks; what is drawn is what the tracker
//! followed. The first picture is of two seconds after the first frame; the second shows six moments of ten seconds, in which
//! objects leave, return and hide one another.

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::config::Config;
use tagalong::embed::{self, Embedder};
use tagalong::track::Session;
use tagalong::types::{FrameMeta, Mask, PixelBuf, PixelFormat, Seed, Timestamp, TrackId, TrackReport};
use tagalong::{draw, picture};

const FRAMES: u64 = 300;
/// The frame of the first picture, and those of the second.
const ALONE: u64 = 59;
const STRIP: [u64; 6] = [29, 79, 129, 179, 229, 279];
const COLUMNS: usize = 3;
/// Pixels of an object that must show before it is tagged.
const IN_SIGHT: usize = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [alone, strip] = &paths[..] else { return Err("give the files of the picture and of the strip".into()) };
    let config = Config::builtin();
    let options = SceneOptions::default();
    let (width, height) = (options.width, options.height);
    let scene = Scene::new(options.clone())?;
    let backbone = embed::load(&config.model)?;
    let grid = backbone.spec().grids[0];
    let mut embedder = Embedder::new(backbone, grid);
    let mut features = embedder.empty_features();
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), grid, embedder.dim());
    let mut rendered = SceneFrame::default();
    let mut tagged = vec![false; options.objects];
    let mut moments = Vec::new();
    for seq in 0..FRAMES {
        scene.render(seq, &mut rendered);
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, width, height, rendered.rgb.clone())?;
        features.view = session.gaze();
        embedder.embed(&pixels, &mut features)?;
        let ns = seq * 1_000_000_000 / 30;
        let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
        let meta = FrameMeta { camera: "scene".into(), seq, captured_at, dropped: 0, width, height };
        let report = session.step(&meta, &features);
        for (number, tagged) in (1..).zip(&mut tagged) {
            let mask = rendered.truth.mask(number);
            if !*tagged && mask.area() > IN_SIGHT {
                let id = TrackId(number as u64);
                *tagged = session.tag(&Seed::Mask(mask), None, id, format!("object {number}")).is_ok();
            }
        }
        if seq == ALONE || STRIP.contains(&seq) {
            draw(&mut rendered.rgb, width, height, &report);
        }
        if seq == ALONE {
            std::fs::write(alone, picture::encode_png(&rendered.rgb, width, height)?)?;
        }
        if STRIP.contains(&seq) {
            moments.push(rendered.rgb.clone());
        }
    }
    let (rgb, width, height) = tiled(&moments, width, height);
    std::fs::write(strip, picture::encode_jpeg(&rgb, width, height, 80)?)?;
    Ok(())
}

/// Draws what is told of every track that is seen.
fn draw(rgb: &mut [u8], width: usize, height: usize, report: &TrackReport) {
    let seen = report.tracks.iter().filter_map(|track| {
        let mask = Mask::from_coco(track.mask.as_ref()?).ok()?;
        Some((mask, draw::colour(track.id.0), format!("{} {:.2}", track.name, track.score)))
    });
    draw::draw_tracks(rgb, width, height, &seen.collect::<Vec<(Mask, draw::Colour, String)>>());
}

/// Pictures of one size beside and below each other, with the size of all.
fn tiled(pictures: &[Vec<u8>], width: usize, height: usize) -> (Vec<u8>, usize, usize) {
    let rows = pictures.len().div_ceil(COLUMNS);
    let mut rgb = vec![255; 3 * COLUMNS * width * rows * height];
    for (at, picture) in pictures.iter().enumerate() {
        let corner = (at / COLUMNS * height * COLUMNS + at % COLUMNS) * width;
        for (y, row) in picture.chunks_exact(3 * width).enumerate() {
            rgb[3 * (corner + y * COLUMNS * width)..][..3 * width].copy_from_slice(row);
        }
    }
    (rgb, COLUMNS * width, rows * height)
}
