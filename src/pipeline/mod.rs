//! The steps joined into a running daemon. The only place that starts threads of the flow.
//!
//! ```text
//! capture (one a camera) -> mailbox -> embed (one) -> channel(1) -> track (one a camera) -> sinks
//! ```
//!
//! Frames are lost only at the mailbox, where the newest wins, and at a slow sink; with a budget, some are skipped before
//! they are embedded. Commands visit the thread
//! that owns what they ask about, between two frames. There is one file for each kind of thread, and `daemon` is
//! what those hold who command them.

mod adapt;
mod capture;
mod daemon;
mod discover;
mod embed;
mod gallery;
mod track;
mod warnings;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::config::Config;
use crate::embed::{Backbone, Embedder};
use crate::mailbox::Mailbox;
use crate::notify::Heart;
use crate::serve::Sink;
use crate::state::State;
use crate::track::Session;
use crate::types::{Features, Frame, PatchGrid};

pub use daemon::Daemon;
use discover::Discovery;
use embed::Embedded;
use track::{Tracker, Visit};

/// How often a waiting thread looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// Running threads, in flow order.
pub struct Pipeline {
    daemon: Arc<Daemon>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads will own, made before the sinks are, because the sinks' server wants the [`Daemon`].
pub struct Prepared {
    daemon: Arc<Daemon>,
    backbone: Box<dyn Backbone>,
    grid: PatchGrid,
    visits: Vec<Receiver<Visit>>,
}

impl Prepared {
    /// Makes the daemon's handle for the cameras of `config`. `hearts` is asked for one heart a camera.
    pub fn new(
        config: Config,
        config_path: Option<PathBuf>,
        backbone: Box<dyn Backbone>,
        grid: PatchGrid,
        state: State,
        hearts: impl FnMut() -> Heart,
    ) -> Prepared {
        let (daemon, visits) = Daemon::new(config, config_path, backbone.spec(), backbone.running(), state, hearts);
        Prepared { daemon: Arc::new(daemon), backbone, grid, visits }
    }

    pub fn daemon(&self) -> Arc<Daemon> {
        self.daemon.clone()
    }

    /// Starts every thread. `sinks` is called once for each camera.
    pub fn start(self, sinks: impl Fn() -> Vec<Box<dyn Sink>>) -> Pipeline {
        let Prepared { daemon, backbone, grid, visits } = self;
        let config = daemon.config();
        let dim = backbone.spec().dim;
        let count = daemon.cameras.len();
        let mailbox =
            Arc::new(Mailbox::new(count, |newer: &mut Frame, older| newer.meta.dropped += older.meta.dropped + 1));
        let (spare_in, spare_out) = bounded::<Features>(2 * count);
        let (mut to_trackers, mut trackers) = (Vec::new(), Vec::new());
        for (index, visits) in visits.into_iter().enumerate() {
            let (sender, receiver) = bounded::<Embedded>(1);
            to_trackers.push(sender);
            let mut session = Session::new(config.propagation().clone(), config.track.clone(), grid, dim);
            let mut saved = Vec::new();
            for (id, object) in daemon.known(&daemon.cameras[index].name) {
                saved.extend(object.size.map(|size| (object.name.clone(), size)));
                session.know(id, object.name, &object.exemplars);
            }
            let tracker = Tracker {
                session,
                discovery: Discovery::new(config.discover.clone(), daemon.ids.clone()),
                saved,
                frame: None,
                report: None,
                camera_lost: false,
                losses_told: 0,
                sinks: sinks(),
                stats: daemon.cameras[index].stats.clone(),
                heart: daemon.cameras[index].heart.clone(),
                gaze: daemon.cameras[index].gaze.clone(),
            };
            let (spare, name) = (spare_in.clone(), daemon.cameras[index].name.clone());
            trackers.push(spawn(format!("track-{name}"), move || tracker.run(&receiver, &visits, &spare)));
        }
        let embedder = Embedder::new(backbone, grid);
        let (from, owner) = (mailbox.clone(), daemon.clone());
        let embed = spawn("embed".into(), move || embed::run(embedder, &from, &to_trackers, &spare_out, &owner));
        let mut threads: Vec<JoinHandle<()>> = config
            .camera
            .iter()
            .enumerate()
            .map(|(slot, camera)| {
                let (camera, mailbox, daemon) = (camera.clone(), mailbox.clone(), daemon.clone());
                spawn(format!("capture-{}", camera.name), move || capture::run(&camera, slot, &mailbox, &daemon))
            })
            .collect();
        threads.push(embed);
        threads.extend(trackers);
        Pipeline { daemon, threads }
    }
}

impl Pipeline {
    pub fn daemon(&self) -> &Arc<Daemon> {
        &self.daemon
    }

    /// Stops capture, lets what is under way flow out, and joins the threads in flow order; gives up on what
    /// has not ended by `at_most`. Returns whether all ended.
    pub fn stop(self, at_most: Duration) -> bool {
        self.daemon.stop.store(true, Relaxed);
        let deadline = Instant::now() + at_most;
        self.threads.into_iter().all(|thread| {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            thread.is_finished() && thread.join().is_ok()
        })
    }
}

/// Starts a named thread. One that panics ends the process: what it owned is in no known state, and the
/// service manager starts a fresh one.
fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let shown = name.clone();
    std::thread::Builder::new()
        .name(name.chars().take(15).collect())
        .spawn(move || {
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                log::error!("the thread {shown} panicked; the daemon ends so that it can be started afresh");
                std::process::exit(70);
            }
        })
        .expect("the system has room for a few threads at start")
}

fn ms(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1e3
}
