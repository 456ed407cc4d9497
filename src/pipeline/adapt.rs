//! The input size on the embed thread: what the preset's density makes of the model's, what the load is, and what the budget's
//! rule makes of both.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Daemon;
use crate::budget::{CameraLoad, DutyCycle, Governor, Load};
use crate::clock;
use crate::embed::Embedder;
use crate::stats::{CameraState, CameraStats};
use crate::types::PatchGrid;

/// Measures the load, asks the [`Governor`], and does what it says.
pub(super) struct Adapting {
    governor: Governor,
    /// The input sizes of the model: the configured one, then all.
    sizes: Vec<PatchGrid>,
    /// Patches along a side for one of these: the preset's, or the last that could be had.
    density: f32,
    /// One a camera.
    duty: Vec<DutyCycle>,
    /// Reloads of the configuration that it was told of.
    reloads: u64,
    /// Those that this process may use.
    cores: usize,
    level_since: Instant,
    begun: Begun,
}

/// A measurement that has begun: the counters as they stood then.
struct Begun {
    at: Instant,
    cpu_ns: u64,
    /// What the embed thread spent on frames since then.
    embedding: Duration,
    /// One a camera.
    cameras: Vec<Counts>,
}

#[derive(Clone, Copy)]
struct Counts {
    offered: u64,
    reported: u64,
    tracking_us: u64,
}

impl Adapting {
    /// The embedder is at the configured input size, and goes over to the preset's density of it.
    pub fn new(daemon: &Daemon, embedder: &mut Embedder) -> Adapting {
        let sizes: Vec<PatchGrid> = std::iter::once(embedder.grid()).chain(embedder.grids()).collect();
        let mut adapting = Adapting {
            governor: Governor::new(daemon.config().budget, &sizes),
            sizes,
            density: 1.0,
            duty: vec![DutyCycle::default(); daemon.cameras.len()],
            reloads: daemon.reloads.load(Relaxed),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            level_since: Instant::now(),
            begun: Begun::now(daemon),
        };
        adapting.follow_density(embedder, daemon);
        adapting.advise();
        daemon.set_budget(adapting.governor.status(), adapting.level_since);
        adapting
    }

    /// Whether a frame of that time of capture is to be embedded.
    pub fn takes(&mut self, slot: usize, captured_ns: u64) -> bool {
        self.duty[slot].takes(captured_ns, self.governor.level().max_fps)
    }

    /// Takes in that this thread spent so long on a frame.
    pub fn spent(&mut self, time: Duration) {
        self.begun.embedding += time;
    }

    /// Where a measurement has come to its end, or the configuration was read again: does what follows from it.
    pub fn review(&mut self, embedder: &mut Embedder, daemon: &Daemon) {
        let reloads = daemon.reloads.load(Relaxed);
        let change = if reloads != self.reloads {
            self.reloads = reloads;
            let denser = self.follow_density(embedder, daemon);
            let config = daemon.config().budget;
            if !denser && config == *self.governor.config() {
                return;
            }
            let change = if denser { None } else { self.governor.configure(config) };
            self.level_since = Instant::now();
            self.advise();
            change
        } else if self.begun.at.elapsed().as_secs_f64() >= self.governor.window_s() {
            self.governor.observe(&self.begun.load(daemon, self.cores))
        } else {
            return;
        };
        if let Some(change) = change {
            log::info!("budget: {change}");
            self.follow(embedder);
            self.level_since = Instant::now();
        }
        daemon.set_budget(self.governor.status(), self.level_since);
        // What it took to make a size ready is no part of the next measurement.
        self.begun = Begun::now(daemon);
    }

    /// Goes over to the density of the preset in force, and begins anew with all of the model's input sizes. False where it is the
    /// same as before, or cannot be had: then everything stays as it is.
    fn follow_density(&mut self, embedder: &mut Embedder, daemon: &Daemon) -> bool {
        let config = daemon.config();
        let density = config.propagation().density;
        if density == self.density {
            return false;
        }
        let grids: Vec<PatchGrid> = self.sizes.iter().map(|size| size.scaled(density)).collect();
        if let Err(error) = embedder.change_grid(grids[0]) {
            log::error!("presets.{}.density: it stays at {}: {error}", config.propagate.preset, self.density);
            return false;
        }
        log::info!("density {density}: the model's input is {}x{}", grids[0].input_width(), grids[0].input_height());
        self.density = density;
        self.governor = Governor::new(config.budget, &grids);
        true
    }

    /// Goes over to the governor's input size; one that cannot be used is given up for the next larger one.
    fn follow(&mut self, embedder: &mut Embedder) {
        while embedder.grid() != self.governor.level().grid {
            let (grid, start) = (self.governor.level().grid, Instant::now());
            match embedder.change_grid(grid) {
                Ok(()) => log::debug!("the input size was made ready in {:.0} ms", 1e3 * start.elapsed().as_secs_f64()),
                Err(error) => {
                    let (width, height) = (grid.input_width(), grid.input_height());
                    log::warn!("budget: {width}x{height} pixels are left out from now on: {error}");
                    if !self.governor.give_up(grid) {
                        break;
                    }
                }
            }
        }
    }

    /// Tells of a target that nothing can be done for.
    fn advise(&self) {
        if self.governor.config().target_fps > 0.0 && self.governor.sizes() == 1 {
            log::warn!(
                "budget.target_fps: there is no smaller input size to go to when it is missed; `tagalong model import \
                 --input-sizes` makes a model with several, and budget.min_input may leave some out"
            );
        }
    }
}

impl Begun {
    fn now(daemon: &Daemon) -> Begun {
        let cameras = daemon.cameras.iter().map(|camera| Counts::of(&camera.stats)).collect();
        Begun { at: Instant::now(), cpu_ns: clock::process_cpu_ns(), embedding: Duration::ZERO, cameras }
    }

    /// What was measured by now. A camera that does not stream says nothing of the load.
    fn load(&self, daemon: &Daemon, cores: usize) -> Load {
        let seconds = self.at.elapsed().as_secs_f64();
        let cpu_s = clock::process_cpu_ns().saturating_sub(self.cpu_ns) as f64 * 1e-9;
        let streaming = daemon.cameras.iter().zip(&self.cameras);
        let streaming = streaming.filter(|(camera, _)| camera.stats.state() == CameraState::Streaming);
        let cameras = streaming.map(|(camera, begun)| {
            let now = Counts::of(&camera.stats);
            CameraLoad {
                name: camera.name.clone(),
                offered: now.offered - begun.offered,
                reported: now.reported - begun.reported,
                tracking_s: (now.tracking_us - begun.tracking_us) as f64 * 1e-6,
            }
        });
        Load {
            seconds,
            cpu_share: cpu_s / (seconds * cores as f64),
            embedding_s: self.embedding.as_secs_f64(),
            cameras: cameras.collect(),
        }
    }
}

impl Counts {
    fn of(stats: &CameraStats) -> Counts {
        Counts {
            offered: stats.offered.load(Relaxed),
            reported: stats.reported.load(Relaxed),
            tracking_us: stats.tracking_us.load(Relaxed),
        }
    }
}
