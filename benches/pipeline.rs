//! What the pipeline adds to the backbone and the propagation, at 640x480: at most 3 ms a frame is allowed.
//!
//! `cargo bench --bench pipeline` first runs the daemon's own threads and its server on the built-in scene, and
//! reads the reports as a client does, masks included: from a frame's capture to its report in the client's hands,
//! less what the backbone and the propagation took. Then divan's timings of the parts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::capture::{CameraConfig, SourceKind};
use tagalong::clock;
use tagalong::config::Config;
use tagalong::embed::{self, Backbone, Embedder, ModelConfig, Preprocessor};
use tagalong::notify::Heart;
use tagalong::pipeline::Prepared;
use tagalong::serve::client::{ControlClient, Event, TracksClient};
use tagalong::serve::wire::{ServerLine, Subscribe, Tracks};
use tagalong::serve::{Access, Activated, Hello, Server, Sink};
use tagalong::state::State;
use tagalong::track::Session;
use tagalong::types::{
    Features, FrameMeta, InputTensor, PatchGrid, PixelBuf, PixelFormat, Seed, Timestamp, TrackId, TrackReport,
};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const GRID: PatchGrid = PatchGrid { rows: 30, cols: 40, patch: 16 };
const OBJECTS: usize = 4;
/// Frames that are measured, after as many that warm up.
const FRAMES: usize = 150;

fn main() {
    summary();
    divan::main();
}

/// The bundled model, on one thread.
fn backbone() -> Box<dyn Backbone> {
    let model = ModelConfig { input: "480x640".into(), threads: 1, ..ModelConfig::new("bundled") };
    embed::load(&model).expect("the bundled model loads")
}

fn camera(format: &str) -> CameraConfig {
    CameraConfig {
        name: "scene".into(),
        source: SourceKind::Synthetic,
        format: format.into(),
        width: WIDTH,
        height: HEIGHT,
        fps: 30.0,
        objects: OBJECTS,
        ..Config::builtin().camera[0].clone()
    }
}

/// Boxes round the scene's objects in its frame `index`.
fn boxes(index: u64) -> Vec<Seed> {
    let scene = Scene::new(SceneOptions { width: WIDTH, height: HEIGHT, objects: OBJECTS, ..SceneOptions::default() });
    let scene = scene.expect("the options are in range");
    let seen = (1..=OBJECTS).filter_map(|number| scene.silhouette(index, number).bounds());
    seen.map(|bounds| Seed::Box(bounds.map(|side| side as f32))).collect()
}

fn median_and_p99(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() * 99 / 100])
}

fn summary() {
    println!("added to the backbone and the propagation, a frame of {WIDTH}x{HEIGHT}, ms:");
    for format in ["YUYV", "RGB3"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let reports = run(format, folder.path());
        let (median, p99) = median_and_p99(reports.iter().map(|m| m.added).collect());
        println!("{format}: median {median:5.2}, p99 {p99:5.2}, of which");
        let part = |name: &str, of: fn(&Measured) -> f64| {
            println!("    {name:26}: {:5.2}", median_and_p99(reports.iter().map(of).collect()).0);
        };
        part("wait for the embed thread", |m| f64::from(m.report.latency_ms.queue));
        part("convert, resize, normalise", |m| f64::from(m.report.latency_ms.preprocess));
        part("masks, measures, states", |m| f64::from(m.report.latency_ms.track));
        part("hand over, write, read", |m| {
            let latency = m.report.latency_ms;
            m.added - f64::from(latency.queue + latency.preprocess + latency.track)
        });
        let tracks = reports.iter().map(|m| m.report.tracks.len()).min().unwrap_or(0);
        let masks: usize = reports.iter().map(|m| m.report.tracks.iter().filter(|t| t.mask.is_some()).count()).sum();
        println!("    {tracks} tracks, {:.1} masks a report", masks as f64 / reports.len() as f64);
    }
}

struct Measured {
    report: Arc<TrackReport>,
    /// ms from capture to the client, less the backbone and the propagation.
    added: f64,
}

/// Reports of the daemon on the scene, as a client got them.
fn run(format: &str, folder: &Path) -> Vec<Measured> {
    let mut config = Config::builtin();
    config.camera = vec![camera(format)];
    config.serve.directory = folder.into();
    let serve = config.serve.clone();
    let state = State::ephemeral();
    let prepared = Prepared::new(config, None, backbone(), GRID, state, Heart::default);
    let daemon = prepared.daemon();
    let hello = Hello::new("benchmark", daemon.boot_id(), Vec::new());
    let access = Access::of(&serve).expect("no names to look up");
    let server = Server::start(&serve, hello, daemon, &access, Activated::default()).expect("the server starts");
    let running = prepared.start(|| vec![Box::new(server.sink()) as Box<dyn Sink>]);
    let patience = Duration::from_secs(10);
    let mut tracks = TracksClient::connect(&folder.join("tracks.sock"), patience).expect("the daemon serves");
    tracks.subscribe(Subscribe { masks: true, ..Subscribe::default() }).expect("the daemon listens");
    let mut control = ControlClient::connect(&folder.join("control.sock"), patience).expect("the daemon serves");
    let mut reports = Vec::new();
    let mut tagged = false;
    while reports.len() < 2 * FRAMES {
        let Some(Event::Tracks(Tracks { report, .. })) = tracks.next_event(patience).expect("reports come") else {
            continue;
        };
        let received = clock::now().mono_ns;
        if !tagged {
            for seed in boxes(report.seq) {
                // What has moved on, or is hidden, is not tagged.
                let _ = control.tag(None, seed, None, Some(report.seq), false);
            }
            tagged = true;
        }
        let model = f64::from(report.latency_ms.embed + report.latency_ms.propagate);
        let added = received.saturating_sub(report.t_mono_ns) as f64 * 1e-6 - model;
        reports.push(Measured { report, added });
    }
    running.stop(Duration::from_secs(5));
    reports.split_off(FRAMES)
}

/// Frame 0 of the scene.
fn rgb(objects: usize) -> (Scene, Vec<u8>) {
    let scene = Scene::new(SceneOptions { width: WIDTH, height: HEIGHT, objects, ..SceneOptions::default() });
    let scene = scene.expect("the options are in range");
    let mut drawn = SceneFrame::default();
    scene.render(0, &mut drawn);
    (scene, drawn.rgb)
}

#[divan::bench(args = [PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::Grey, PixelFormat::Rgb3, PixelFormat::Mjpg])]
fn preprocess(bencher: divan::Bencher, format: PixelFormat) {
    let (_, rgb) = rgb(OBJECTS);
    let bytes = match format.min_stride(WIDTH).and_then(|stride| format.frame_bytes(stride, HEIGHT)) {
        // What the colours are does not change how long it takes.
        Some(length) => rgb[..length].to_vec(),
        None => {
            let mut bytes = Vec::new();
            let encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
            encoder.encode(&rgb, WIDTH as u16, HEIGHT as u16, jpeg_encoder::ColorType::Rgb).expect("a whole picture");
            bytes
        }
    };
    let pixels = PixelBuf::packed(format, WIDTH, HEIGHT, bytes).expect("a whole frame");
    let mut preprocessor = Preprocessor::new(GRID.input_width(), GRID.input_height(), [0.5; 3], [0.5; 3]);
    let mut input = InputTensor::default();
    bencher.bench_local(|| preprocessor.run(&pixels, &mut input).expect("a whole frame"));
}

fn meta(seq: u64) -> FrameMeta {
    let ns = seq * 33_333_333;
    FrameMeta {
        camera: "scene".into(),
        seq,
        captured_at: Timestamp { mono_ns: ns, real_ns: ns },
        dropped: 0,
        width: WIDTH,
        height: HEIGHT,
    }
}

/// A session that follows `objects` of the scene, and the features of its frames.
fn session(objects: usize) -> (Session, Features) {
    let (scene, rgb) = rgb(objects);
    let pixels = PixelBuf::packed(PixelFormat::Rgb3, WIDTH, HEIGHT, rgb).expect("a whole frame");
    let mut embedder = Embedder::new(backbone(), GRID);
    let mut features = embedder.empty_features();
    embedder.embed(&pixels, &mut features).expect("a whole frame");
    let config = Config::builtin();
    let mut session = Session::new(config.propagation().clone(), config.track.clone(), GRID, embedder.dim());
    session.step(&meta(0), &features);
    for number in 1..=objects {
        if let Some(bounds) = scene.silhouette(0, number).bounds() {
            let seed = Seed::Box(bounds.map(|side| side as f32));
            let _ = session.tag(&seed, None, TrackId(number as u64), format!("object {number}"));
        }
    }
    session.step(&meta(1), &features);
    (session, features)
}

#[divan::bench(args = [1, 4, 16, 64])]
fn masks_measures_states(bencher: divan::Bencher, objects: usize) {
    let (mut session, features) = session(objects);
    session.propagate(&features);
    let mut seq = 1;
    bencher.bench_local(|| {
        seq += 1;
        session.observe(&meta(seq), &features.picture)
    });
}

/// Objects that were tagged and are not there any more: each is looked for.
#[divan::bench(args = [1, 4, 16, 64])]
fn lost_objects(bencher: divan::Bencher, objects: usize) {
    let (mut session, mut features) = session(objects);
    // A frame that is nothing like the one before it.
    let dim = features.dim;
    features.data.chunks_exact_mut(dim).for_each(|row| row.reverse());
    features.data.rotate_left(dim * GRID.len() / 3);
    for seq in 2..20 {
        session.step(&meta(seq), &features);
    }
    let mut seq = 20;
    bencher.bench_local(|| {
        seq += 1;
        session.observe(&meta(seq), &features.picture)
    });
}

#[divan::bench(args = [1, 4, 16, 64])]
fn write_a_line(bencher: divan::Bencher, objects: usize) {
    let (mut session, features) = session(objects);
    let report = Arc::new(session.step(&meta(2), &features));
    bencher.bench_local(|| ServerLine::Tracks(Tracks { report: report.clone(), masks_dropped: false }).to_bytes());
}
