//! Frames on more or fewer patches than a model was exported for.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tagalong::capture::{CameraConfig, SourceKind};
use tagalong::config::Config;
use tagalong::embed::{Backbone, BackboneSpec, Backend, EmbedError, Embedder, ModelConfig, load, probe_features};
use tagalong::model::import::{Import, import};
use tagalong::model::vit::Hints;
use tagalong::notify::Heart;
use tagalong::pipeline::Prepared;
use tagalong::serve::{Controller, Sink};
use tagalong::state::State;
use tagalong::types::{Command, Features, InputTensor, PatchGrid, PixelBuf, PixelFormat};

/// A small DINOv2 with patches of 14 pixels, exported for these input sizes.
fn model(folder: &Path, sizes: &[[usize; 2]], backend: Backend) -> Box<dyn Backbone> {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints/dinov2-reg.pth");
    let name = format!("small{}", sizes.len());
    let hints = Hints { heads: Some(2), ..Hints::default() };
    let wanted = Import { hints, input_sizes: sizes.to_vec(), name: name.clone(), ..Import::default() };
    let manifest = folder.join(name + ".toml");
    if !manifest.exists() {
        import(&checkpoint, &wanted, folder).unwrap();
    }
    load(&ModelConfig { threads: 1, backend, ..ModelConfig::new(manifest.to_string_lossy()) }).unwrap()
}

#[test]
fn a_network_sees_on_another_grid_what_it_would_if_exported_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (trained, wide) = (PatchGrid { rows: 5, cols: 7, patch: 14 }, PatchGrid { rows: 8, cols: 10, patch: 14 });
    let mut stretched = model(folder.path(), &[[70, 98]], Backend::Int8);
    assert!(probe_features(stretched.as_mut(), wide).is_err(), "nobody has asked for it yet");
    stretched.prepare(wide).unwrap();
    let mut exported = model(folder.path(), &[[70, 98], [112, 140]], Backend::Int8);
    let [got, expected] = [&mut stretched, &mut exported].map(|m| probe_features(m.as_mut(), wide).unwrap());
    assert_eq!((got.grid, got.dim), (wide, expected.dim));
    let cosines = (0..wide.len()).map(|i| got.row(i).iter().zip(expected.row(i)).map(|(a, b)| a * b).sum::<f32>());
    let mean = cosines.sum::<f32>() / wide.len() as f32;
    // What is trained at 4x4 is stretched twice, to 5x7 and then further: near, and not the same.
    assert!(mean > 0.97 && mean < 0.999_999, "{mean}");
    // The size that it was exported for is what it was.
    let [before, after] = [&mut exported, &mut stretched].map(|m| probe_features(m.as_mut(), trained).unwrap());
    assert_eq!(before.data, after.data);
}

#[test]
fn an_embedder_goes_to_a_density_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let backbone = model(folder.path(), &[[70, 98], [42, 56]], Backend::Int8);
    let sizes = backbone.spec().grids.clone();
    let mut embedder = Embedder::new(backbone, sizes[0]);
    let pixels = PixelBuf::packed(PixelFormat::Rgb3, 98, 70, (0..3 * 98 * 70).map(|i| (i * 7 % 251) as u8).collect());
    let (pixels, mut features) = (pixels.unwrap(), embedder.empty_features());
    let mut rows = |embedder: &mut Embedder| {
        embedder.embed(&pixels, &mut features).unwrap();
        assert_eq!(
            [features.picture.height, features.picture.width].map(|side| side / 14),
            [features.grid.rows, features.grid.cols]
        );
        assert!(features.data.iter().all(|v| v.is_finite()));
        [features.grid.rows, features.grid.cols]
    };
    for (size, density, expected) in
        [(0, 1.4, [7, 10]), (1, 1.4, [4, 6]), (1, 1.0, [3, 4]), (0, 0.01, [1, 1]), (0, 1.0, [5, 7]), (0, 1.4, [7, 10])]
    {
        embedder.change_grid(sizes[size].scaled(density)).unwrap();
        assert_eq!(rows(&mut embedder), expected);
    }
    // More than are kept: those of long ago are made again, and are the same.
    let mut at = |density: f32| {
        embedder.change_grid(sizes[0].scaled(density)).unwrap();
        embedder.embed(&pixels, &mut features).unwrap();
        features.data.clone()
    };
    let first = at(2.0);
    for step in 0..12 {
        at(2.2 + 0.2 * step as f32);
    }
    assert_eq!(at(2.0), first);
}

#[test]
fn the_runtimes_own_operators_say_that_they_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let backbone = model(folder.path(), &[[70, 98]], Backend::Reference);
    let grid = backbone.spec().grids[0];
    let mut embedder = Embedder::new(backbone, grid);
    let error = embedder.change_grid(grid.scaled(2.0)).unwrap_err();
    assert!(matches!(error, EmbedError::Fixed { .. }));
    let message = error.to_string();
    assert!(["140x196", "70x98", "int8", "density"].iter().all(|word| message.contains(word)), "{message}");
    assert_eq!(embedder.grid(), grid, "it stays where it was");
}

/// Slow, and tells how many rows of patches it was last given.
struct Rows {
    spec: BackboneSpec,
    rows: Arc<AtomicUsize>,
}

impl Backbone for Rows {
    fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    fn prepare(&mut self, grid: PatchGrid) -> Result<(), EmbedError> {
        if grid.rows > 20 { Err(EmbedError::Runtime("too many".into())) } else { Ok(()) }
    }

    fn embed(&mut self, _: &InputTensor, out: &mut Features) -> Result<(), EmbedError> {
        // Longer than a frame of the camera lasts, so that no size meets a budget.
        std::thread::sleep(Duration::from_millis(60));
        self.rows.store(out.grid.rows, Relaxed);
        out.data.fill(0.5);
        Ok(())
    }
}

#[test]
fn a_reload_changes_the_density_of_a_running_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagalong.toml");
    let preset = |density: f32| format!("propagate.preset = \"mine\"\n[presets.mine]\ndensity = {density}\n");
    fs::write(&file, preset(0.5)).unwrap();
    let mut config = Config::load(&file).unwrap();
    let camera = CameraConfig { source: SourceKind::Synthetic, width: 160, height: 120, ..config.camera[0].clone() };
    config.camera = vec![camera];
    let grid = PatchGrid { rows: 12, cols: 16, patch: 8 };
    let spec = BackboneSpec {
        name: "rows".into(),
        family: "test".into(),
        sha256: String::new(),
        features: String::new(),
        grids: vec![grid, grid.scaled(0.5)],
        dim: 4,
        mean: [0.0; 3],
        std: [1.0; 3],
        probe_cosine: 1.0,
    };
    let rows = Arc::new(AtomicUsize::new(0));
    let backbone = Box::new(Rows { spec, rows: rows.clone() });
    let prepared = Prepared::new(config, Some(file.clone()), backbone, grid, State::ephemeral(), Heart::default);
    let daemon = prepared.daemon();
    let running = prepared.start(Vec::<Box<dyn Sink>>::new);
    let wait = |expected: usize| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while rows.load(Relaxed) != expected {
            assert!(Instant::now() < deadline, "{} rows, and not {expected}", rows.load(Relaxed));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let reload = |density: f32| {
        fs::write(&file, preset(density)).unwrap();
        daemon.execute(Command::Reload).unwrap();
    };
    wait(6);
    reload(1.5);
    wait(18);
    // What cannot be had is said, and the daemon goes on as before.
    reload(3.0);
    std::thread::sleep(Duration::from_millis(300));
    rows.store(0, Relaxed);
    wait(18);
    reload(1.0);
    wait(12);
    // A budget that cannot be met goes down among sizes of the density in force, and a new density begins it anew.
    let budget = "[budget]\ntarget_fps = 30\nwindow_s = 0.2\nclimb_after_s = 3600\n";
    fs::write(&file, preset(0.5) + budget).unwrap();
    daemon.execute(Command::Reload).unwrap();
    wait(3);
    fs::write(&file, preset(1.5) + budget).unwrap();
    daemon.execute(Command::Reload).unwrap();
    wait(18);
    wait(9);
    assert!(running.stop(Duration::from_secs(5)));
}
