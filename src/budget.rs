//! The budget: a rate of frames that is to be held, or a share of the CPU that is not to be exceeded, and the rule by
//! which the input size is lowered and frames are skipped for it.
//!
//! Without a clock and without threads: it takes what was measured over a while, and says what is in force from
//! then on. Down:
//!
//! 1. A camera reports fewer frames than are due: the next smaller input size.
//! 2. The daemon takes more than its share of the CPU: fewer frames, but not fewer than the target; then the next
//!    smaller input size; then fewer frames still, but never fewer than the floor.
//!
//! Up, by the same steps backwards, one at a time: where what the step would cost fits with some room to spare, and has
//! done so for a while. A step up that had to be taken back makes that while twice as long.

use crate::types::PatchGrid;
use crate::types::command::{BudgetReason, BudgetStatus};

/// What is to be held, and how. Defaults live in `config/default.toml` alone.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// Frames a second that each camera is to report, 0 to 1,000; 0 for no target.
    pub target_fps: f32,
    /// Fraction of the cores' time that the daemon may take, 0 to 1; 0 for no limit.
    pub cpu_share: f32,
    /// Input sizes of fewer pixels are not used: `auto` for all of the manifest's, or `HEIGHTxWIDTH` in pixels.
    pub min_input: String,
    /// Frames a second of each camera that are embedded whatever they cost, 0.1 to 1,000.
    pub min_fps: f32,
    /// Seconds over which the load is measured, 0.2 to 60.
    pub window_s: f32,
    /// Seconds for which there must have been room before a step up, 1 to 3,600.
    pub climb_after_s: f32,
}

impl BudgetConfig {
    /// Whether there is anything to hold.
    pub fn is_set(&self) -> bool {
        self.target_fps > 0.0 || self.cpu_share > 0.0
    }

    fn min_pixels(&self) -> usize {
        let sides = self.min_input.split_once('x');
        sides.and_then(|(h, w)| Some(h.parse::<usize>().ok()? * w.parse::<usize>().ok()?)).unwrap_or(0)
    }
}

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// That of the input size.
    pub grid: PatchGrid,
    /// Frames a second of each camera that are embedded at most; `None` for every frame.
    pub max_fps: Option<f32>,
}

/// What was measured since the last time, while one level was in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    pub seconds: f64,
    /// Time of all cores that the daemon took, over the time that they had; 0 to 1.
    pub cpu_share: f64,
    /// Seconds that the backbone's thread spent on frames.
    pub embedding_s: f64,
    /// Those that stream.
    pub cameras: Vec<CameraLoad>,
}

/// One camera's part of a [`Load`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CameraLoad {
    pub name: String,
    /// Frames that the camera produced, those that were lost too.
    pub offered: u64,
    pub reported: u64,
    /// Seconds that the camera's thread spent on following objects.
    pub tracking_s: f64,
}

/// A change of the level.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub from: Level,
    pub to: Level,
    /// What was measured, as a sentence without its stop.
    pub why: String,
}

/// Holds a budget.
#[derive(Clone, Debug)]
pub struct Governor {
    config: BudgetConfig,
    /// The configured one first, each with fewer patches than the one before.
    grids: Vec<PatchGrid>,
    /// Those of the grids that may be used.
    usable: usize,
    level: Level,
    reason: BudgetReason,
    /// Measurements in a row in which the budget was missed.
    misses: u32,
    /// Seconds for which there has been room for a step up.
    room_s: f64,
    /// Seconds for which there must be.
    wait_s: f64,
    /// Seconds since a step up, or since the wait became shorter after it; none once the step has proved itself.
    trial_s: Option<f64>,
    /// Of the last measurement.
    cpu_share: f64,
    /// Frames a second that the slowest camera produced.
    slowest_fps: f64,
    problem: Option<String>,
}

/// What of the budget was missed, as sentences without their stops.
struct Missed {
    fps: Option<String>,
    cpu: Option<String>,
    /// Whether frames are missing that were not skipped on purpose.
    late: bool,
}

/// Measurements in a row in which the budget must be missed before a step down: one alone may be a hiccup.
const PATIENCE: u32 = 2;
/// Frames that a measurement must hold at the lowest rate that it is held against.
const FRAMES: f64 = 20.0;
/// The longest that is waited for them, in seconds.
const LONGEST_WINDOW_S: f64 = 60.0;
/// This part of a rate counts as that rate.
const RATE_TOLERANCE: f64 = 0.9;
/// This many times the share of the CPU is not above it yet.
const CPU_TOLERANCE: f64 = 1.05;
/// A step up must fit into this part of what there is.
const ROOM: f64 = 0.85;
/// What the rate is set to takes this part of the share of the CPU: between [`ROOM`] and all of it, so that it stays.
const AIM: f64 = 0.95;
/// A rate of more than this part of what it was is no step down.
const LEAST_CUT: f64 = 0.97;
/// Measurements that must have shown room for a step up, and then that it lasts.
const WINDOWS: f64 = 4.0;
/// The longest wait for a step up, in times of the first.
const LONGEST_WAIT: f64 = 16.0;

impl Governor {
    /// Begins with the first of `grids`, those that the model takes, and every frame.
    ///
    /// # Panics
    /// When there is no grid.
    pub fn new(config: BudgetConfig, grids: &[PatchGrid]) -> Governor {
        let configured = grids[0];
        let mut smaller: Vec<PatchGrid> = grids.iter().copied().filter(|grid| grid.len() < configured.len()).collect();
        smaller.sort_by_key(|grid| std::cmp::Reverse(grid.len()));
        smaller.dedup_by_key(|grid| grid.len());
        let mut governor = Governor {
            wait_s: f64::from(config.climb_after_s),
            config,
            grids: std::iter::once(configured).chain(smaller).collect(),
            usable: 1,
            level: Level { grid: configured, max_fps: None },
            reason: BudgetReason::Start,
            misses: 0,
            room_s: 0.0,
            trial_s: None,
            cpu_share: 0.0,
            slowest_fps: f64::INFINITY,
            problem: None,
        };
        governor.count_usable();
        governor
    }

    pub fn config(&self) -> &BudgetConfig {
        &self.config
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// How many input sizes there are to choose from, the configured one among them.
    pub fn sizes(&self) -> usize {
        self.usable
    }

    /// Takes another budget, and begins anew with the configured size and every frame.
    pub fn configure(&mut self, config: BudgetConfig) -> Option<Change> {
        let grids = std::mem::take(&mut self.grids);
        let from = std::mem::replace(self, Governor::new(config, &grids)).level;
        let to = self.level;
        (from != to).then(|| Change { from, to, why: "the configuration changed".into() })
    }

    /// Gives up a grid that cannot be used after all, for the next larger one. False for the configured one, which
    /// nothing is larger than.
    pub fn give_up(&mut self, grid: PatchGrid) -> bool {
        let Some(at) = self.grids.iter().position(|known| *known == grid).filter(|at| *at > 0) else { return false };
        self.grids.remove(at);
        if self.level.grid == grid {
            self.level.grid = self.grids[at - 1];
        }
        self.count_usable();
        true
    }

    /// Seconds over which the next load is to be measured, so that it holds frames enough to tell.
    pub fn window_s(&self) -> f64 {
        let slowest = if self.config.target_fps > 0.0 { self.slowest_fps } else { f64::INFINITY };
        let least = self.target().min(self.limit()).min(slowest);
        f64::from(self.config.window_s).max((FRAMES / least).min(LONGEST_WINDOW_S))
    }

    /// Takes in what was measured, and changes the level by a step where that is due.
    pub fn observe(&mut self, load: &Load) -> Option<Change> {
        self.cpu_share = load.cpu_share;
        self.problem = None;
        self.slowest_fps = load.slowest_camera_fps();
        if !self.config.is_set() || load.seconds <= 0.0 || load.cameras.iter().all(|camera| camera.offered == 0) {
            return None;
        }
        let missed = self.missed(load);
        self.problem = missed.fps.clone().or_else(|| missed.cpu.clone());
        if let Some((to, reason, why)) = self.step_down(load, &missed) {
            self.room_s = 0.0;
            self.misses += 1;
            if self.misses < PATIENCE {
                return None;
            }
            if self.trial_s.take().is_some() {
                self.wait_s = (2.0 * self.wait_s).min(LONGEST_WAIT * self.shortest_wait_s());
            }
            return Some(self.change(to, reason, why));
        }
        self.misses = 0;
        self.prove(load.seconds);
        let may_climb = !missed.late && missed.cpu.is_none();
        let Some(to) = self.step_up(load).filter(|_| may_climb) else {
            self.room_s = 0.0;
            return None;
        };
        self.room_s += load.seconds;
        if self.room_s < self.wait_s {
            return None;
        }
        self.trial_s = Some(0.0);
        Some(self.change(to, BudgetReason::Room, "there is room".into()))
    }

    /// For a person or a program to read; `None` without a budget. There is no clock here: `since_s` is 0.
    pub fn status(&self) -> Option<BudgetStatus> {
        let given = |value: f32| Some(value).filter(|value| *value > 0.0);
        let size = |grid: PatchGrid| [grid.input_width(), grid.input_height()];
        self.config.is_set().then(|| BudgetStatus {
            target_fps: given(self.config.target_fps),
            cpu_share: given(self.config.cpu_share),
            met: self.problem.is_none(),
            problem: self.problem.clone(),
            cpu: self.cpu_share as f32,
            input: size(self.level.grid),
            configured_input: size(self.grids[0]),
            max_fps: self.level.max_fps,
            reason: self.reason,
            since_s: 0.0,
        })
    }

    fn missed(&self, load: &Load) -> Missed {
        let (target, share) = (self.target(), f64::from(self.config.cpu_share));
        let too_slow = load.cameras.iter().find(|camera| falls_short(camera, target, load.seconds));
        let fps = too_slow.map(|camera| {
            let fps = camera.reported as f64 / load.seconds;
            format!("{} reports {fps:.1} of {:.1} frames a second", camera.name, camera.due(target, load.seconds))
        });
        let cpu = (share > 0.0 && load.cpu_share > CPU_TOLERANCE * share)
            .then(|| format!("{:.0}% of the CPU is taken, of {:.0}%", 100.0 * load.cpu_share, 100.0 * share));
        // What is skipped on purpose is not late: there may be room for it again.
        let due = target.min(self.limit());
        let late = fps.is_some() && load.cameras.iter().any(|camera| falls_short(camera, due, load.seconds));
        Missed { fps, cpu, late }
    }

    /// The step down that is due, and why.
    fn step_down(&self, load: &Load, missed: &Missed) -> Option<(Level, BudgetReason, String)> {
        match (&missed.fps, self.smaller()) {
            (Some(why), Some(grid)) => Some((Level { grid, ..self.level }, BudgetReason::FpsMissed, why.clone())),
            _ => {
                let why = missed.cpu.clone()?;
                self.cheaper(load).map(|level| (level, BudgetReason::CpuExceeded, why))
            }
        }
    }

    /// Takes in that a step up has lasted so much longer: the wait for the next one becomes shorter again.
    fn prove(&mut self, seconds: f64) {
        let least = self.shortest_wait_s();
        self.wait_s = self.wait_s.max(least);
        if let Some(trial_s) = &mut self.trial_s {
            *trial_s += seconds;
            if *trial_s >= self.wait_s {
                self.trial_s = (self.wait_s > least).then_some(0.0);
                self.wait_s = (0.5 * self.wait_s).max(least);
            }
        }
    }

    fn change(&mut self, to: Level, reason: BudgetReason, why: String) -> Change {
        let from = std::mem::replace(&mut self.level, to);
        self.reason = reason;
        (self.misses, self.room_s) = (0, 0.0);
        Change { from, to, why }
    }

    /// The next step down where the CPU is short.
    fn cheaper(&self, load: &Load) -> Option<Level> {
        let fps = load.highest_fps();
        let affordable = (fps * AIM * f64::from(self.config.cpu_share) / load.cpu_share) as f32;
        let fewer = |least: f32| {
            let max_fps = affordable.max(least);
            (f64::from(max_fps) < LEAST_CUT * fps).then_some(Level { max_fps: Some(max_fps), ..self.level })
        };
        let BudgetConfig { target_fps, min_fps, .. } = self.config;
        let down_to_target = if target_fps > 0.0 { fewer(target_fps.max(min_fps)) } else { None };
        let smaller = || self.smaller().map(|grid| Level { grid, ..self.level });
        down_to_target.or_else(smaller).or_else(|| fewer(min_fps))
    }

    /// The next step up, where it fits.
    fn step_up(&self, load: &Load) -> Option<Level> {
        // Below the target, or below every frame where there is none, frames are worth more than pixels.
        if self.limit() < self.target() {
            return self.more_frames(load, self.target());
        }
        match self.larger() {
            Some(grid) => self.fits(load, grid).then_some(Level { grid, ..self.level }),
            None => self.more_frames(load, f64::INFINITY),
        }
    }

    /// As many more frames as the CPU has room for, up to `most` a second.
    fn more_frames(&self, load: &Load, most: f64) -> Option<Level> {
        let limit = f64::from(self.level.max_fps?);
        let share = f64::from(self.config.cpu_share);
        if share > 0.0 && load.cpu_share > ROOM * share {
            return None;
        }
        let affordable = if share > 0.0 { limit * AIM * share / load.cpu_share.max(1e-6) } else { f64::INFINITY };
        let fps = affordable.min(most);
        let every = load.cameras.iter().all(|camera| camera.offered as f64 / load.seconds <= fps);
        Some(Level { max_fps: (!every).then_some(fps as f32), ..self.level })
    }

    /// Whether a larger input is likely to keep the budget: time is taken to grow with the number of patches.
    fn fits(&self, load: &Load, grid: PatchGrid) -> bool {
        let growth = grid.len() as f64 / self.level.grid.len() as f64;
        let share = f64::from(self.config.cpu_share);
        let target = self.target().min(self.limit());
        let due = |camera: &CameraLoad| camera.due(target, load.seconds);
        let embedding =
            growth * load.embedding_s / load.frames().max(1) as f64 * load.cameras.iter().map(due).sum::<f64>();
        let tracking =
            |camera: &CameraLoad| growth * camera.tracking_s / camera.reported.max(1) as f64 * due(camera) <= ROOM;
        let in_time = self.config.target_fps <= 0.0 || embedding <= ROOM && load.cameras.iter().all(tracking);
        in_time && (share <= 0.0 || growth * load.cpu_share <= ROOM * share)
    }

    fn smaller(&self) -> Option<PatchGrid> {
        self.grids[..self.usable].get(self.index() + 1).copied()
    }

    fn larger(&self) -> Option<PatchGrid> {
        self.index().checked_sub(1).map(|at| self.grids[at])
    }

    fn index(&self) -> usize {
        self.grids.iter().position(|grid| *grid == self.level.grid).unwrap_or(0)
    }

    /// Seconds for which there must have been room, where no step up has failed.
    fn shortest_wait_s(&self) -> f64 {
        f64::from(self.config.climb_after_s).max(WINDOWS * self.window_s())
    }

    fn count_usable(&mut self) {
        let least = self.config.min_pixels();
        let is_usable = |grid: &&PatchGrid| grid.input_width() * grid.input_height() >= least;
        self.usable = self.grids.iter().take_while(is_usable).count().max(1);
    }

    /// Frames a second; infinite without a target.
    fn target(&self) -> f64 {
        if self.config.target_fps > 0.0 { f64::from(self.config.target_fps) } else { f64::INFINITY }
    }

    /// Frames a second; infinite where none is skipped.
    fn limit(&self) -> f64 {
        self.level.max_fps.map_or(f64::INFINITY, f64::from)
    }
}

impl Load {
    fn frames(&self) -> u64 {
        self.cameras.iter().map(|camera| camera.reported).sum()
    }

    /// Of the cameras that produced any.
    fn slowest_camera_fps(&self) -> f64 {
        let offered = self.cameras.iter().map(|camera| camera.offered).filter(|offered| *offered > 0);
        offered.min().map_or(f64::INFINITY, |offered| offered as f64 / self.seconds)
    }

    /// Of the camera that reports most frames a second.
    fn highest_fps(&self) -> f64 {
        self.cameras.iter().map(|camera| camera.reported).max().unwrap_or(0) as f64 / self.seconds
    }
}

impl CameraLoad {
    /// Frames a second that are to be reported: a camera cannot report more than it produces.
    fn due(&self, target: f64, seconds: f64) -> f64 {
        target.min(self.offered as f64 / seconds)
    }
}

/// Whether a camera reports too few frames. Without a target none does.
fn falls_short(camera: &CameraLoad, target: f64, seconds: f64) -> bool {
    target.is_finite() && (camera.reported as f64) < RATE_TOLERANCE * camera.due(target, seconds) * seconds
}

/// Which of a camera's frames are embedded, where not all are: one each time that another is due by the times of
/// capture.
#[derive(Clone, Copy, Debug, Default)]
pub struct DutyCycle {
    /// When the next one is due.
    due_ns: u64,
}

impl DutyCycle {
    /// Whether a frame is to be embedded. The times between frames are whole times of the camera's; their mean is
    /// that of the rate.
    pub fn takes(&mut self, captured_ns: u64, max_fps: Option<f32>) -> bool {
        let Some(max_fps) = max_fps else {
            *self = DutyCycle::default();
            return true;
        };
        if captured_ns < self.due_ns {
            return false;
        }
        let interval = (1e9 / f64::from(max_fps)) as u64;
        // At most one interval is made up for: after a pause, frames do not come in a burst.
        self.due_ns = self.due_ns.max(captured_ns.saturating_sub(interval)) + interval;
        true
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Change { from, to, why } = self;
        write!(f, "{why}: from now on {to}, instead of {from}")
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "input {}x{}", self.grid.input_width(), self.grid.input_height())?;
        match self.max_fps {
            Some(fps) => write!(f, " and at most {fps:.1} frames a second"),
            None => write!(f, " and every frame"),
        }
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
