//! A whole frame, from the camera's picture to the report, on one thread: what tagged objects add to it, and how long
//! the published rule in NumPy takes behind ONNX Runtime with the same network.
//!
//! `cargo bench --bench frame` tells milliseconds of processor time, which are those of the clock where nothing else
//! runs, and change less where something does. The network is DINOv2 ViT-S/14 with random weights, at 336x448, rounded
//! to 8 bits at load: how long it takes is what it takes with trained ones, what it sees is meaningless. So objects are
//! followed through embeddings of a world of blocks instead, in which each of 64 objects has a look of its own.
//!
//! With `TAGALONG_REFERENCE_PYTHON` naming an interpreter that has NumPy, OpenCV, Pillow and ONNX Runtime, and
//! `TAGALONG_REFERENCE` the folder of `propagate.py`, that takes turns with us.

#[path = "frame/network.rs"]
mod network;
#[path = "frame/reference.rs"]
mod reference;
#[path = "frame/world.rs"]
mod world;

use std::path::Path;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::config::Config;
use tagalong::embed::{Backend, BareModel, Embedder, Execution, load_bare};
use tagalong::track::Session;
use tagalong::types::{FrameMeta, PatchGrid, PixelBuf, PixelFormat, Seed, Timestamp, TrackId};

use reference::Reference;
use world::World;

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const GRID: PatchGrid = PatchGrid { rows: 24, cols: 32, patch: network::PATCH };
const DIM: usize = network::DIM;
/// What follows labels alone, and the default, whose masks follow the picture's edges too.
const PRESETS: [&str; 2] = ["soft", "sharp"];
const OBJECTS: [usize; 4] = [1, 4, 16, 64];
/// Frames of each row that are measured.
const ROUNDS: usize = 15;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let onnx = network::make(folder.path());
    objects(&onnx);
    beside_the_reference(&onnx);
}

fn embedder(onnx: &Path, backend: Backend) -> Embedder {
    let model = BareModel {
        onnx: onnx.into(),
        output: "last_hidden_state".into(),
        patch: GRID.patch,
        mean: [0.5; 3],
        std: [0.5; 3],
        input_sizes: vec![[GRID.input_height(), GRID.input_width()]],
    };
    let backbone = load_bare(&model, Execution { threads: 1, backend, ..Execution::default() })
        .expect("the model that was made loads");
    Embedder::new(Box::new(backbone), GRID)
}

/// Frame 0 of the built-in scene, as a camera gives it.
fn picture() -> Vec<u8> {
    let scene = Scene::new(SceneOptions { width: WIDTH, height: HEIGHT, ..SceneOptions::default() });
    let mut drawn = SceneFrame::default();
    scene.expect("the options are in range").render(0, &mut drawn);
    drawn.rgb
}

fn pixels(rgb: Vec<u8>) -> PixelBuf {
    PixelBuf::packed(PixelFormat::Rgb3, WIDTH, HEIGHT, rgb).expect("a whole frame")
}

fn meta(seq: u64) -> FrameMeta {
    let ns = seq * 33_333_333;
    FrameMeta {
        camera: "world".into(),
        seq,
        captured_at: Timestamp { mono_ns: ns, real_ns: ns },
        dropped: 0,
        width: WIDTH,
        height: HEIGHT,
    }
}

fn session(preset: &str) -> Session {
    let config = Config::builtin();
    Session::new(config.presets[preset].clone(), config.track.clone(), GRID, DIM)
}

/// One row of the table: a session that follows some objects.
struct Row {
    preset: &'static str,
    objects: usize,
    tagged: &'static str,
    session: Session,
    seq: u64,
    seen: usize,
    propagate: Vec<f64>,
    observe: Vec<f64>,
}

impl Row {
    /// A session whose memory is full, and whose objects were all tagged on one frame or on one frame each.
    fn new(world: &World, preset: &'static str, objects: usize, apart: bool) -> Row {
        let tagged = if apart { "one by one" } else { "together" };
        let (session, propagate, observe) = (session(preset), Vec::new(), Vec::new());
        let mut row = Row { preset, objects, tagged, session, seq: 0, seen: 0, propagate, observe };
        row.step(world);
        for number in 0..objects {
            let (id, seed) = (TrackId(number as u64 + 1), Seed::Box(world.bounds(number, row.seq, WIDTH, HEIGHT)));
            row.session.tag(&seed, None, id, format!("object {number}")).expect("it is in view");
            if apart {
                row.step(world);
            }
        }
        (0..12).for_each(|_| row.step(world));
        row.propagate.clear();
        row.observe.clear();
        row
    }

    fn step(&mut self, world: &World) {
        self.seq += 1;
        let start = now();
        self.session.propagate(world.frame(self.seq));
        let between = now();
        let report = self.session.observe(&meta(self.seq), &world.frame(self.seq).picture);
        self.observe.push(now() - between);
        self.propagate.push(between - start);
        self.seen = report.tracks.iter().filter(|track| track.mask.is_some()).count();
    }

    /// Steps, sorted.
    fn steps(&self) -> Vec<f64> {
        sorted(self.propagate.iter().zip(&self.observe).map(|(a, b)| a + b))
    }
}

/// Processor time of this process so far, ms.
fn now() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 * 1e-3
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Median and least.
fn summary(values: &[f64]) -> (f64, f64) {
    let values = sorted(values.iter().copied());
    (values[values.len() / 2], values[0])
}

/// What objects add to a frame: the backbone runs before each step, as it does in the daemon, so that what a step needs
/// is not in the caches.
fn objects(onnx: &Path) {
    let mut embedder = embedder(onnx, Backend::Int8);
    let (picture, mut features) = (pixels(picture()), embedder.empty_features());
    let world = World::new(GRID, DIM);
    let kinds = PRESETS.into_iter().flat_map(|preset| [(preset, false), (preset, true)]);
    let rows = kinds.flat_map(|(preset, apart)| OBJECTS.map(|objects| Row::new(&world, preset, objects, apart)));
    let mut rows: Vec<Row> = rows.collect();
    let mut embed = Vec::new();
    for _ in 0..ROUNDS {
        for row in &mut rows {
            let start = now();
            embedder.embed(&picture, &mut features).expect("a whole frame");
            embed.push(now() - start);
            row.step(&world);
        }
    }
    let embed = summary(&embed);
    println!(
        "ViT-S/14 at 336x448 in 8-bit integers, camera {WIDTH}x{HEIGHT}, one thread; ms of processor time, medians (least)"
    );
    println!("picture to embeddings: {:.1} ({:.1})", embed.0, embed.1);
    println!("preset, objects, tagged        propagation      masks, states    whole frame      more than with one");
    for row in &rows {
        let (propagate, observe, steps) = (summary(&row.propagate), summary(&row.observe), row.steps());
        let whole = (embed.0 + steps[steps.len() / 2], embed.1 + steps[0]);
        let one = rows.iter().find(|one| (one.preset, one.tagged) == (row.preset, row.tagged)).map_or(whole, |one| {
            let steps = one.steps();
            (embed.0 + steps[steps.len() / 2], embed.1 + steps[0])
        });
        println!(
            "{:6}, {:7}, {:10}  {:7.2} ({:6.2})  {:7.2} ({:6.2})  {:7.1} ({:6.1})  {:5.1}% ({:4.1}%)  {} seen",
            row.preset,
            row.objects,
            row.tagged,
            propagate.0,
            propagate.1,
            observe.0,
            observe.1,
            whole.0,
            whole.1,
            100.0 * (whole.0 / one.0 - 1.0),
            100.0 * (whole.1 / one.1 - 1.0),
            row.seen
        );
    }
}

/// This program's pipeline in one arithmetic.
struct Ours {
    name: &'static str,
    frame: Box<dyn FnMut()>,
    times: Vec<f64>,
}

/// A frame of ours and one of the reference's in turns: picture, embeddings, propagation from a full memory, mask.
fn beside_the_reference(onnx: &Path) {
    let rgb = picture();
    let mut reference = match Reference::start(onnx, &rgb, [WIDTH, HEIGHT], GRID) {
        Ok(reference) => reference,
        Err(why) => {
            println!("the NumPy and ONNX Runtime reference was not timed: {why}");
            return;
        }
    };
    let picture = pixels(rgb);
    let mut ours: Vec<Ours> = Vec::new();
    for (name, backend) in [("in 8-bit integers", Backend::Int8), ("in 32-bit floats", Backend::Reference)] {
        let mut embedder = embedder(onnx, backend);
        let (mut session, mut features, mut seq, picture) =
            (session("soft"), embedder.empty_features(), 0, picture.clone());
        let mut frame = move || {
            embedder.embed(&picture, &mut features).expect("a whole frame");
            session.step(&meta(seq), &features);
            if seq == 0 {
                let seed = Seed::Box([200.0, 150.0, 200.0, 160.0]);
                session.tag(&seed, None, TrackId(1), "object".into()).expect("it is in view");
            }
            seq += 1;
        };
        (0..9).for_each(|_| frame());
        ours.push(Ours { name, frame: Box::new(frame), times: Vec::new() });
    }
    let mut theirs = Vec::new();
    for _ in 0..ROUNDS {
        for row in &mut ours {
            let start = now();
            (row.frame)();
            row.times.push(now() - start);
        }
        match reference.frame() {
            Ok(time) => theirs.push(time),
            Err(why) => {
                println!("the NumPy and ONNX Runtime reference was not timed: {why}");
                return;
            }
        }
    }
    let theirs = summary(&theirs);
    println!("picture to report beside propagate.py with ONNX Runtime, the same graph, one thread, one object:");
    println!("propagate.py            : {:7.1} ({:6.1}) ms a frame", theirs.0, theirs.1);
    for Ours { name, times, .. } in &ours {
        let (median, least) = summary(times);
        println!(
            "tagalong, {name:18}: {median:5.1} ({least:6.1}) ms a frame, {:.2} times as fast ({:.2})",
            theirs.0 / median,
            theirs.1 / least
        );
    }
}
