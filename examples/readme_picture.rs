//! Makes the picture of the README: `cargo run --release --example readme_picture docs/scene.png`.
//!
//! The objects of the built-in scene are tagged in its first frame, by their exact masks; what is drawn two
//! seconds later is what the tracker followed.

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::config::Config;
use tagalong::embed::{self, Embedder};
use tagalong::track::Session;
use tagalong::types::{FrameMeta, Mask, PixelBuf, PixelFormat, Seed, Timestamp, TrackId};
use tagalong::{draw, picture};

const FRAMES: u64 = 60;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "docs/scene.png".into());
    let config = Config::builtin();
    let options = SceneOptions::default();
    let scene = Scene::new(options)?;
    let backbone = embed::load(&config.model)?;
    let grid = backbone.spec().grids[0];
    let mut embedder = Embedder::new(backbone, grid);
    let mut features = embedder.empty_features();
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), grid, embedder.dim());
    let mut rendered = SceneFrame::default();
    let mut report = None;
    for seq in 0..FRAMES {
        scene.render(seq, &mut rendered);
        let pixels = PixelBuf::packed(PixelFormat::Rgb3, options.width, options.height, rendered.rgb.clone())?;
        embedder.embed(&pixels, &mut features)?;
        let ns = seq * 1_000_000_000 / 30;
        let captured_at = Timestamp { mono_ns: ns, real_ns: ns };
        let (width, height) = (options.width, options.height);
        let meta = FrameMeta { camera: "scene".into(), seq, captured_at, dropped: 0, width, height };
        report = Some(session.step(&meta, &features));
        if seq == 0 {
            for number in 1..=options.objects {
                let mask = rendered.truth.mask(number);
                if mask.area() > 300 {
                    session.tag(&Seed::Mask(mask), None, TrackId(number as u64), format!("object {number}"))?;
                }
            }
        }
    }
    let tracks: Vec<(Mask, draw::Colour, String)> = report
        .iter()
        .flat_map(|report| &report.tracks)
        .filter_map(|track| {
            let mask = Mask::from_coco(track.mask.as_ref()?).ok()?;
            Some((mask, draw::colour(track.id.0), format!("{} {:.2}", track.name, track.score)))
        })
        .collect();
    draw::draw_tracks(&mut rendered.rgb, options.width, options.height, &tracks);
    std::fs::write(path, picture::encode_png(&rendered.rgb, options.width, options.height)?)?;
    Ok(())
}
