//! A daemon that looks at the part of the frame where its objects are.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tagalong::capture::{CameraConfig, SourceKind};
use tagalong::config::Config;
use tagalong::embed::{Backbone, BackboneSpec, EmbedError};
use tagalong::notify::Heart;
use tagalong::picture;
use tagalong::pipeline::Prepared;
use tagalong::serve::{Controller, Sink};
use tagalong::state::State;
use tagalong::types::{Answer, Command, Features, InputTensor, PatchGrid, Seed};

const GRID: PatchGrid = PatchGrid { rows: 12, cols: 16, patch: 8 };
const WIDTH: usize = 320;
const HEIGHT: usize = 240;
/// x, y, width and height of what is red, and of what is blue.
const RED: [usize; 4] = [40, 120, 40, 40];
const BLUE: [usize; 4] = [240, 40, 40, 40];

/// Embeds each patch as its mean colour and a constant, and tells how many patches were red in the last frame.
struct Colours {
    spec: BackboneSpec,
    red: Arc<AtomicUsize>,
}

impl Backbone for Colours {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError> {
        let area = input.width * input.height;
        for (patch, row) in out.data.chunks_exact_mut(4).enumerate() {
            let (top, left) = (patch / GRID.cols * GRID.patch, patch % GRID.cols * GRID.patch);
            let pixels = (top..top + GRID.patch).flat_map(|y| (left..left + GRID.patch).map(move |x| (x, y)));
            row.fill(0.0);
            for (x, y) in pixels {
                (0..3).for_each(|channel| row[channel] += input.data[channel * area + y * input.width + x] / 64.0);
            }
            row[3] = 0.3;
        }
        let red = out.data.chunks_exact(4).filter(|row| row[0] > 0.5 && row[2] < 0.5).count();
        self.red.store(red, Relaxed);
        out.normalise();
        Ok(())
    }
}

fn within([x, y, width, height]: [usize; 4], px: usize, py: usize) -> bool {
    (x..x + width).contains(&px) && (y..y + height).contains(&py)
}

fn seed(bounds: [usize; 4]) -> Seed {
    Seed::Box(bounds.map(|v| v as f32))
}

#[test]
fn objects_are_looked_at_closely_and_what_lies_elsewhere_can_be_tagged() {
    let folder = tempfile::tempdir().unwrap();
    let pixel = |at: usize| match (at % WIDTH, at / WIDTH) {
        (px, py) if within(RED, px, py) => [230, 20, 20],
        (px, py) if within(BLUE, px, py) => [20, 20, 230],
        _ => [40, 90, 40],
    };
    let rgb: Vec<u8> = (0..WIDTH * HEIGHT).flat_map(pixel).collect();
    let pictures = folder.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    fs::write(pictures.join("0.png"), picture::encode_png(&rgb, WIDTH, HEIGHT).unwrap()).unwrap();
    let file = folder.path().join("tagalong.toml");
    fs::write(&file, "propagate.preset = \"near\"\n[presets.near]\nzoom = 2.0\n").unwrap();
    let mut config = Config::load(&file).unwrap();
    config.camera = vec![CameraConfig {
        source: SourceKind::Images,
        folder: pictures,
        width: 0,
        height: 0,
        ..config.camera[0].clone()
    }];
    let spec = BackboneSpec {
        name: "colours".into(),
        family: "test".into(),
        sha256: String::new(),
        features: String::new(),
        grids: vec![GRID],
        dim: 4,
        mean: [0.0; 3],
        std: [1.0; 3],
        probe_cosine: 1.0,
    };
    let red = Arc::new(AtomicUsize::new(0));
    let backbone = Box::new(Colours { spec, red: red.clone() });
    let prepared = Prepared::new(config, Some(file), backbone, GRID, State::ephemeral(), Heart::default);
    let daemon = prepared.daemon();
    let running = prepared.start(Vec::<Box<dyn Sink>>::new);
    let wait = |what: &str, is: &dyn Fn(usize) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is(red.load(Relaxed)) {
            assert!(Instant::now() < deadline, "{what}: {} patches are red", red.load(Relaxed));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let tag = |bounds: [usize; 4]| {
        let command = Command::Tag { camera: None, seed: seed(bounds), name: None, seq: None, save: false };
        match daemon.execute(command).unwrap() {
            Answer::Tagged { track, .. } => track,
            other => panic!("{other:?}"),
        }
    };
    // Of 2x2 patches of 20 pixels.
    wait("the first frame", &|red| (1..=9).contains(&red));
    let first = tag(RED);
    wait("looked at twice as large", &|red| red >= 12);
    let second = tag(BLUE);
    assert_ne!(first.id, second.id);
    let [x, y, width, height] = second.bounds.unwrap();
    let centre = [x + width / 2.0, y + height / 2.0];
    assert!((centre[0] - 260.0).abs() < 12.0 && (centre[1] - 60.0).abs() < 12.0, "{:?}", second.bounds);
    // The two are so far apart that no part holds both.
    wait("looked at whole", &|red| (1..=9).contains(&red));
    daemon.execute(Command::Untag { id: second.id }).unwrap();
    wait("looked at closely again", &|red| red >= 12);
    assert!(running.stop(Duration::from_secs(10)));
}
