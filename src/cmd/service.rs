//! The daemon from its configuration to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::RecvTimeoutError;

use super::exit::{Kind, failure};
use super::gpu_trial;
use crate::capture::{CameraConfig, SourceKind};
use crate::config::Config;
use crate::embed;
use crate::notify::{self, Watchdog};
use crate::pipeline::Pipeline;
use crate::pipeline::{Daemon, Prepared};
use crate::sandbox::{self, Needs};
use crate::serve::{Access, Activated, Hello, HelloCamera, Server, Sink, make_folder};
use crate::shutdown::{self, Request};
use crate::state::{ModelIdentity, State};
use crate::stats::give_back_memory;
use crate::types::command::SandboxStatus;

/// How often the main thread looks after the watchdog, the greeting and the summary.
const ROUND: Duration = Duration::from_millis(200);
/// How often what was learnt of the gallery's objects is written, and how long that waits for busy cameras.
const KEEPING: Duration = Duration::from_secs(30);
const KEEPING_PATIENCE: Duration = Duration::from_millis(200);
/// How long frames that are under way may take to flow out at the end, and the last reports to be read: together less than the
/// `TimeoutStopSec` of the unit. The slowest machines take seconds for a frame.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const READING_PATIENCE: Duration = Duration::from_secs(3);

/// Runs the daemon until a signal ends it, or until every recording has been played. `file` is where a reload
/// reads the configuration again.
///
/// # Errors
/// When the model, the state directory or the sockets are not usable, or threads did not end in time.
pub fn run(config: Config, file: Option<&Path>) -> anyhow::Result<()> {
    // Before any thread starts, since it takes what it reads out of the environment.
    let activated = Activated::from_environment()?;
    let requests = shutdown::requests().context("signals cannot be received")?;
    let serve = config.serve.clone();
    let access = Access::of(&serve)?;
    // Before the sandbox: a driver may fail in ways that only a process survives, and only what is used is to be reached.
    let gpu = gpu_trial::is_wanted(&config).then(|| gpu_trial::run(&config));
    let needs = needs(&config, file, &activated, gpu == Some(Ok(())))?;
    let sandbox = sandbox::enter(config.sandbox, &needs).map_err(|e| failure(Kind::Config, e))?;
    tell(&sandbox);
    // A model that is refused stays refused: the service manager is told not to start the daemon over and over.
    let packed = packed(&config);
    let loaded = match &gpu {
        Some(Err(why)) => embed::load_on_cpu(&config.model, &packed, why),
        _ => embed::load_kept(&config.model, &packed),
    };
    let mut backbone = loaded.map_err(|error| failure(Kind::Config, error))?;
    give_back_memory();
    let grid = backbone.spec().grids[0];
    backbone
        .prepare(grid.scaled(config.propagation().density))
        .map_err(|error| failure(Kind::Config, format!("presets.{}.density: {error}", config.propagate.preset)))?;
    let spec = backbone.spec();
    let model = ModelIdentity { name: spec.name.clone(), features: spec.features.clone(), dim: spec.dim };
    let state = State::open(&config.state_dir, model)?;
    log::info!(
        "model {} ({}), {}x{} patches, probe cosine {:.4}, computed by {}",
        backbone.spec().name,
        backbone.spec().family,
        grid.rows,
        grid.cols,
        backbone.spec().probe_cosine,
        backbone.running(),
    );
    let mut watchdog = notify::watchdog_limit().map(|limit| Watchdog::new(limit, Instant::now()));
    let hearts = || watchdog.as_mut().map(Watchdog::add_heart).unwrap_or_default();
    let prepared = Prepared::new(config, file.map(Path::to_owned), backbone, grid, state, hearts);
    let daemon = prepared.daemon();
    daemon.set_sandbox(sandbox);
    let server = Server::start(&serve, hello(&daemon), daemon.clone(), &access, activated)?;
    let server = Arc::new(server);
    let counted = Arc::downgrade(&server);
    daemon.set_clients(move || counted.upgrade().map(|server| server.clients()).unwrap_or_default());
    let running = prepared.start(|| vec![Box::new(server.sink()) as Box<dyn Sink>]);
    notify::ready(&daemon.summary());
    log::info!("ready, sockets in {}", serve.directory.display());

    let mut greeted = daemon.cameras();
    let mut summed_up = Instant::now();
    let mut kept = Instant::now();
    while !daemon.ended() {
        match requests.recv_timeout(ROUND) {
            Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Request::Reload) => reload(&daemon),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if watchdog.as_mut().is_some_and(|watchdog| watchdog.due(Instant::now())) {
            notify::ping();
        }
        daemon.measure();
        let cameras = daemon.cameras();
        if cameras != greeted {
            server.set_hello(hello(&daemon));
            greeted = cameras;
        }
        if kept.elapsed() >= KEEPING {
            kept = Instant::now();
            daemon.keep_learnt(KEEPING_PATIENCE);
        }
        let every = daemon.config().log.summary_interval_s;
        if every > 0 && summed_up.elapsed() >= Duration::from_secs(every) {
            summed_up = Instant::now();
            let summary = daemon.summary();
            notify::status(&summary);
            log::info!("{summary}");
        }
    }
    stop(running, server)
}

/// What of the system the daemon goes on to use. Makes the folders that it will write to, while it still may.
fn needs(config: &Config, file: Option<&Path>, activated: &Activated, gpu: bool) -> anyhow::Result<Needs> {
    let mut needs = needs_of_model(config, gpu);
    needs.programs = config.camera.iter().any(CameraConfig::runs_others);
    State::make_folder(&config.state_dir)?;
    needs.writes.push(config.state_dir.clone());
    if !activated.is_complete() {
        make_folder(&config.serve.directory)?;
        needs.sockets.push(config.serve.directory.clone());
    }
    if let Some(file) = file {
        needs.read(&folder(file));
    }
    for camera in &config.camera {
        match camera.source {
            SourceKind::Images => needs.read(&camera.folder),
            // The pipe may be made anew.
            SourceKind::Pipe if camera.command.is_empty() => needs.read(&folder(Path::new(&camera.device))),
            SourceKind::Pipe
            | SourceKind::Gstreamer
            | SourceKind::V4l2
            | SourceKind::Nokhwa
            | SourceKind::Synthetic => {}
        }
    }
    Ok(needs)
}

/// The folder of what need not be made again at the next start.
pub fn packed(config: &Config) -> PathBuf {
    config.state_dir.join("packed")
}

/// What running the model needs, on a graphics processor if it is to be one.
pub fn needs_of_model(config: &Config, gpu: bool) -> Needs {
    let mut needs = Needs { gpu, ..Needs::default() };
    if config.model.manifest != embed::BUNDLED {
        needs.read(&folder(Path::new(&config.model.manifest)));
    }
    // Drivers that lie elsewhere than the system's.
    for variable in ["VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().filter(|_| gpu) {
        let files = std::env::var_os(variable).unwrap_or_default();
        std::env::split_paths(&files).for_each(|file| needs.read(&folder(&file)));
    }
    needs
}

/// An editor replaces a file, so that it is the folder which is read. A model's files lie beside its manifest.
fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn tell(sandbox: &SandboxStatus) {
    for (what, layer) in [("files", &sandbox.files), ("system calls", &sandbox.system_calls)] {
        let confined = if layer.confined { "confined" } else { "not confined" };
        log::info!("{what} {confined}: {}", layer.detail);
    }
}

fn stop(running: Pipeline, server: Arc<Server>) -> anyhow::Result<()> {
    notify::stopping("stopping");
    log::info!("stopping");
    running.daemon().keep_learnt(KEEPING_PATIENCE);
    let ended = running.stop(STOP_PATIENCE);
    if let Ok(server) = Arc::try_unwrap(server) {
        server.shutdown(READING_PATIENCE);
    }
    if ended { Ok(()) } else { Err(failure(Kind::Internal, "some threads did not end in time")) }
}

/// A reload by signal: what comes of it stands in the log.
fn reload(daemon: &Daemon) {
    notify::reloading();
    if let Err(error) = daemon.reload() {
        log::error!("the configuration was not taken, the old one stays: {error}");
    }
    notify::ready(&daemon.summary());
}

/// What clients are greeted with.
fn hello(daemon: &Daemon) -> Hello {
    let model = daemon.status().model.name;
    let cameras = daemon
        .cameras()
        .into_iter()
        .map(|(name, size)| HelloCamera { name, size: (size != [0, 0]).then_some(size), model: model.clone() })
        .collect();
    Hello::new(env!("CARGO_PKG_VERSION"), daemon.boot_id(), cameras)
}
