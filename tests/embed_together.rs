//! Frames of several cameras in one pass over the weights: each is what it is alone.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use tagalong::capture::{CameraConfig, SourceKind};
use tagalong::config::Config;
use tagalong::embed::{Backbone, BackboneSpec, Backend, EmbedError, Embedder, ModelConfig, load};
use tagalong::model::import::{Import, import};
use tagalong::model::vit::Hints;
use tagalong::notify::Heart;
use tagalong::pipeline::Prepared;
use tagalong::serve::{Sink, SinkError};
use tagalong::state::State;
use tagalong::types::{Features, InputTensor, PatchGrid, PixelBuf, PixelFormat, TrackReport};

const SIZES: [[usize; 2]; 2] = [[70, 98], [42, 56]];

fn model(folder: &Path, backend: Backend) -> Box<dyn Backbone> {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints/dinov2-reg.pth");
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let wanted = Import { hints, input_sizes: SIZES.to_vec(), name: "small".into(), ..Import::default() };
    let manifest = folder.join("small.toml");
    if !manifest.exists() {
        import(&checkpoint, &wanted, folder).unwrap();
    }
    load(&ModelConfig { threads: 2, backend, ..ModelConfig::new(manifest.to_string_lossy()) }).unwrap()
}

/// A picture like no other.
fn pixels(seed: usize) -> PixelBuf {
    let (width, height) = (98, 70);
    let data = (0..3 * width * height).map(|i| (i * (seed + 3) % 251) as u8).collect();
    PixelBuf::packed(PixelFormat::Rgb3, width, height, data).unwrap()
}

#[test]
fn each_is_what_it_is_alone() {
    let folder = tempfile::tempdir().unwrap();
    for backend in [Backend::Int8, Backend::Reference] {
        let model = model(folder.path(), backend);
        let grid = model.spec().grids[0];
        let mut embedder = Embedder::new(model, grid);
        let pictures = [0, 1, 2].map(pixels);
        let alone = pictures.each_ref().map(|pixels| {
            let mut features = embedder.empty_features();
            embedder.follow(0, pixels, &mut features).unwrap();
            // With the picture that they are of.
            assert_eq!([features.picture.height, features.picture.width], SIZES[0]);
            features
        });
        for count in [3, 1, 2] {
            let frames: Vec<(usize, &PixelBuf)> = pictures.iter().enumerate().take(count).collect();
            let mut together = vec![embedder.empty_features(); count];
            let results = embedder.follow_together(&frames, &mut together);
            assert!(results.len() == count && results.iter().all(Result::is_ok));
            assert_eq!(together, alone[..count], "{backend:?}, {count} frames");
        }
    }
}

#[test]
fn a_frame_that_cannot_be_decoded_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), Backend::Int8);
    let grid = model.spec().grids[0];
    let mut embedder = Embedder::new(model, grid);
    let torn = PixelBuf::packed(PixelFormat::Mjpg, 98, 70, vec![0xff, 0xd8, 1, 2, 3]).unwrap();
    let (first, last) = (pixels(0), pixels(1));
    let alone = [&first, &last].map(|pixels| {
        let mut features = embedder.empty_features();
        embedder.follow(0, pixels, &mut features).unwrap();
        features
    });
    let mut together = vec![embedder.empty_features(); 3];
    let results = embedder.follow_together(&[(0, &first), (1, &torn), (2, &last)], &mut together);
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!([&together[0], &together[2]], alone.each_ref());
}

#[test]
fn pictures_of_two_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = model(folder.path(), Backend::Int8);
    let inputs = SIZES.map(|[height, width]| InputTensor { height, width, data: vec![0.1; 3 * height * width] });
    let mut outs = [0, 1].map(|grid| Features::zeros(model.spec().grids[grid], model.spec().dim));
    let mut frames: Vec<(&InputTensor, &mut Features)> = inputs.iter().zip(&mut outs).collect();
    let error = model.embed_together(&mut frames).unwrap_err().to_string();
    assert!(error.contains("one size"), "{error}");
}

/// Tells how many frames come at once, and takes its time, so that others come to wait.
struct Counting {
    spec: BackboneSpec,
    counts: Sender<usize>,
}

impl Backbone for Counting {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn embed(&mut self, input: &InputTensor, out: &mut Features) -> Result<(), EmbedError> {
        self.embed_together(&mut [(input, out)])
    }

    fn embed_together(&mut self, frames: &mut [(&InputTensor, &mut Features)]) -> Result<(), EmbedError> {
        self.counts.send(frames.len()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        for (input, out) in frames {
            out.data.iter_mut().zip(&input.data).for_each(|(to, from)| *to = from + 0.1);
            out.normalise();
        }
        Ok(())
    }
}

struct Pass(Sender<Arc<TrackReport>>);

impl Sink for Pass {
    fn send(&mut self, report: &Arc<TrackReport>) -> Result<(), SinkError> {
        let _ = self.0.send(Arc::clone(report));
        Ok(())
    }

    fn flush(&mut self, _at_most: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Runs two fast cameras for a while: how many frames were embedded at once, and which cameras reported.
fn two_cameras(together: bool, reuse: f32) -> (Vec<usize>, [usize; 2]) {
    let grid = PatchGrid { rows: 6, cols: 8, patch: 8 };
    let mut config = Config::builtin();
    (config.model.together, config.model.reuse) = (together, reuse);
    config.camera = ["left", "right"]
        .map(|name| CameraConfig {
            name: name.into(),
            source: SourceKind::Synthetic,
            width: 160,
            height: 120,
            fps: 200.0,
            ..config.camera[0].clone()
        })
        .into();
    let spec = BackboneSpec {
        name: "counting".into(),
        family: "test".into(),
        sha256: String::new(),
        features: String::new(),
        grids: vec![grid],
        dim: 4,
        mean: [0.0; 3],
        std: [1.0; 3],
        probe_cosine: 1.0,
    };
    let ((counts, counted), (sender, reports)) = (unbounded(), unbounded());
    let backbone = Box::new(Counting { spec, counts });
    let prepared = Prepared::new(config, None, backbone, grid, State::ephemeral(), Heart::default);
    let pipeline = prepared.start(|| vec![Box::new(Pass(sender.clone())) as Box<dyn Sink>]);
    // From when both are there.
    let (mut reported, mut begun) = ([0; 2], [false; 2]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while reported.iter().any(|count| *count < 20) {
        let report = reports.recv_deadline(deadline).expect("both cameras report");
        let camera = usize::from(&*report.camera == "right");
        begun[camera] = true;
        reported[camera] += usize::from(begun == [true; 2]);
    }
    assert!(pipeline.stop(Duration::from_secs(20)));
    (counted.try_iter().collect(), reported)
}

#[test]
fn frames_that_wait_are_embedded_together_where_that_is_asked_for() {
    let (counts, _) = two_cameras(true, 0.0);
    assert!(counts.iter().all(|count| (1..=2).contains(count)));
    assert!(counts.contains(&2), "no pass was of both cameras");
    for (together, reuse) in [(false, 0.0), (true, 0.02)] {
        let (counts, reported) = two_cameras(together, reuse);
        assert!(counts.iter().all(|count| *count == 1), "{together} {reuse}");
        // Neither is starved.
        assert!(reported.iter().max() < Some(&40), "{reported:?}");
    }
}
