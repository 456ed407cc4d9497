//! Numbers that every stage reports: kept here, read by the log, by `status`, and by whoever else asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::types::command::{CameraStatus, StageStatus};
use crate::types::report::Latency;

/// Frames over which medians and percentiles are taken.
const WINDOW: usize = 512;
/// Reports over which the rate is taken.
const RATE_WINDOW: usize = 64;

/// One camera's numbers. Every thread of the camera writes its own.
pub struct CameraStats {
    pub captured: AtomicU64,
    /// Captured, or lost by the driver.
    pub offered: AtomicU64,
    pub embedded: AtomicU64,
    pub reported: AtomicU64,
    /// Lost by the driver or overwritten before they were embedded.
    pub dropped: AtomicU64,
    /// Of those, the ones that were skipped to keep the budget.
    pub skipped: AtomicU64,
    /// Time spent on following objects through what was reported.
    pub tracking_us: AtomicU64,
    pub reopened: AtomicU64,
    pub tracks: AtomicUsize,
    inner: Mutex<Inner>,
}

struct Inner {
    state: CameraState,
    /// How often it was lost.
    losses: u64,
    since: Instant,
    format: Option<String>,
    size: [usize; 2],
    /// The newest last.
    latencies: VecDeque<Latency>,
    reports: VecDeque<Instant>,
    /// Shares of tokens that were computed, the newest last.
    computed: VecDeque<f32>,
}

/// Where a camera stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraState {
    /// It is being opened, or has not given a frame yet.
    Waiting,
    Streaming,
    /// Why it gives no frames.
    Lost(String),
    /// A folder was played to its end.
    Ended,
}

impl CameraStats {
    pub fn new(now: Instant) -> CameraStats {
        CameraStats {
            captured: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            embedded: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            tracking_us: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
            tracks: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                state: CameraState::Waiting,
                losses: 0,
                since: now,
                format: None,
                size: [0, 0],
                latencies: VecDeque::with_capacity(WINDOW),
                reports: VecDeque::with_capacity(RATE_WINDOW),
                computed: VecDeque::with_capacity(RATE_WINDOW),
            }),
        }
    }

    /// Takes a new state, and returns whether it is of another kind than the one before: a lost camera that
    /// is missing for another reason by now is still lost, and has been since it was.
    pub fn set_state(&self, state: CameraState, now: Instant) -> bool {
        let mut inner = self.lock();
        let changed = std::mem::discriminant(&inner.state) != std::mem::discriminant(&state);
        inner.losses += u64::from(changed && matches!(state, CameraState::Lost(_)));
        inner.state = state;
        if changed {
            inner.since = now;
        }
        changed
    }

    /// How often the camera was lost so far.
    pub fn losses(&self) -> u64 {
        self.lock().losses
    }

    pub fn state(&self) -> CameraState {
        self.lock().state.clone()
    }

    /// What the device really gives.
    pub fn set_format(&self, format: String, width: usize, height: usize) {
        let mut inner = self.lock();
        inner.format = Some(format);
        inner.size = [width, height];
    }

    /// Width, height in pixels; zeros before the camera is open.
    pub fn size(&self) -> [usize; 2] {
        self.lock().size
    }

    /// Takes in one report.
    pub fn record(&self, latency: Latency, now: Instant) {
        self.reported.fetch_add(1, Relaxed);
        self.tracking_us.fetch_add(((latency.propagate + latency.track) * 1e3) as u64, Relaxed);
        let mut inner = self.lock();
        if inner.latencies.len() == WINDOW {
            inner.latencies.pop_front();
        }
        inner.latencies.push_back(latency);
        if inner.reports.len() == RATE_WINDOW {
            inner.reports.pop_front();
        }
        inner.reports.push_back(now);
    }

    /// Takes in one embedded frame, and the share of its tokens that were computed.
    pub fn record_embedded(&self, computed: f32) {
        self.embedded.fetch_add(1, Relaxed);
        let mut inner = self.lock();
        if inner.computed.len() == RATE_WINDOW {
            inner.computed.pop_front();
        }
        inner.computed.push_back(computed);
    }

    /// Everything, for a person or a program to read.
    pub fn status(&self, name: &str, now: Instant) -> CameraStatus {
        let inner = self.lock();
        let (state, problem) = match &inner.state {
            CameraState::Waiting => ("waiting", None),
            CameraState::Streaming => ("streaming", None),
            CameraState::Lost(problem) => ("lost", Some(problem.clone())),
            CameraState::Ended => ("ended", None),
        };
        CameraStatus {
            name: name.to_owned(),
            state: state.to_owned(),
            problem,
            since_s: now.saturating_duration_since(inner.since).as_secs_f64(),
            format: inner.format.clone(),
            size: inner.size,
            captured: self.captured.load(Relaxed),
            embedded: self.embedded.load(Relaxed),
            computed: match inner.computed.len() {
                0 => 1.0,
                frames => inner.computed.iter().sum::<f32>() / frames as f32,
            },
            reported: self.reported.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            reopened: self.reopened.load(Relaxed),
            fps: inner.fps(now),
            stages: inner.stages(),
            tracks: self.tracks.load(Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Reports a second: over the last ones, and falling when none come.
    fn fps(&self, now: Instant) -> f32 {
        match (self.reports.front(), self.reports.len()) {
            (Some(first), n) if n > 1 => {
                let seconds = now.saturating_duration_since(*first).as_secs_f32();
                if seconds > 0.0 { (n - 1) as f32 / seconds } else { 0.0 }
            }
            _ => 0.0,
        }
    }

    fn stages(&self) -> Vec<StageStatus> {
        type Stage = (&'static str, fn(&Latency) -> f32);
        const STAGES: [Stage; 6] = [
            ("queue", |l| l.queue),
            ("preprocess", |l| l.preprocess),
            ("embed", |l| l.embed),
            ("propagate", |l| l.propagate),
            ("track", |l| l.track),
            ("total", |l| l.total),
        ];
        let Some(last) = self.latencies.back() else { return Vec::new() };
        let summary = |(name, of): Stage| {
            let mut sorted: Vec<f32> = self.latencies.iter().map(of).collect();
            sorted.sort_by(f32::total_cmp);
            let at = |fraction: f32| sorted[((sorted.len() - 1) as f32 * fraction).round() as usize];
            StageStatus { stage: name.to_owned(), last_ms: of(last), median_ms: at(0.5), p99_ms: at(0.99) }
        };
        STAGES.into_iter().map(summary).collect()
    }
}

/// How much of the cores' time the process takes.
#[derive(Debug)]
pub struct CpuMeter {
    cores: usize,
    /// Moments, and the time that all threads had taken by then, in ns; the oldest is what the newest is compared with.
    samples: VecDeque<(Instant, u64)>,
}

impl CpuMeter {
    /// Over which time the share is taken, and how often it is looked at.
    const WINDOW: Duration = Duration::from_secs(10);
    const STEP: Duration = Duration::from_secs(1);

    pub fn new(cores: usize) -> CpuMeter {
        CpuMeter { cores: cores.max(1), samples: VecDeque::new() }
    }

    /// Takes in that all threads together have taken `cpu_ns` by `now`. May come as often as one likes.
    pub fn note(&mut self, now: Instant, cpu_ns: u64) {
        if self.samples.back().is_some_and(|(last, _)| now.saturating_duration_since(*last) < Self::STEP) {
            return;
        }
        self.samples.push_back((now, cpu_ns));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= Self::WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Fraction of the cores' time, 0 to 1, over the last seconds; none before there is a second of them.
    pub fn share(&self) -> Option<f32> {
        let ((first, from), (last, to)) = (self.samples.front()?, self.samples.back()?);
        let available = last.saturating_duration_since(*first).as_secs_f64() * self.cores as f64;
        (available > 0.0).then(|| (to.saturating_sub(*from) as f64 * 1e-9 / available).min(1.0) as f32)
    }
}

/// Memory that this process holds, in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(4096)
}

/// Gives memory that was freed back to the system. The allocator keeps it for itself otherwise, and loading a model takes
/// several times what running it does.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_rate_are_of_the_last_frames() {
        let start = Instant::now();
        let stats = CameraStats::new(start);
        for i in 1..=1000u32 {
            let latency = Latency { embed: i as f32, ..Latency::default() };
            stats.record(latency, start + Duration::from_millis(100 * u64::from(i)));
        }
        let status = stats.status("front", start + Duration::from_secs(100));
        let embed = status.stages.iter().find(|s| s.stage == "embed").unwrap();
        // The last 512 are 489 to 1000.
        assert_eq!((embed.last_ms, embed.median_ms, embed.p99_ms), (1000.0, 745.0, 995.0));
        assert!((status.fps - 10.0).abs() < 1e-3, "{}", status.fps);
        assert_eq!(status.reported, 1000);
        let later = stats.status("front", start + Duration::from_secs(200));
        assert!(later.fps < 1.0, "a camera that stopped does not keep its rate");
    }

    #[test]
    fn a_lost_camera_is_lost_since_it_first_was() {
        let start = Instant::now();
        let stats = CameraStats::new(start);
        let at = |s| start + Duration::from_secs(s);
        assert!(stats.set_state(CameraState::Lost("it is gone".into()), at(5)));
        assert!(!stats.set_state(CameraState::Lost("it does not exist".into()), at(7)));
        let status = stats.status("front", at(10));
        assert_eq!((status.since_s, status.problem.as_deref()), (5.0, Some("it does not exist")));
        assert_eq!(stats.losses(), 1);
        assert!(stats.set_state(CameraState::Streaming, at(11)));
        assert!(stats.set_state(CameraState::Lost("it is gone".into()), at(12)));
        assert_eq!(stats.losses(), 2);
    }

    #[test]
    fn the_share_of_the_cpu_is_of_the_last_seconds() {
        let start = Instant::now();
        let mut meter = CpuMeter::new(2);
        assert_eq!(meter.share(), None);
        // A second and a half of work each second for a minute, then half a second.
        let mut cpu_ns = 0;
        let mut at = |seconds: u32, work_ms: u64, meter: &mut CpuMeter| {
            for tick in 0..5 {
                cpu_ns += work_ms * 200_000;
                meter.note(start + Duration::from_secs(seconds.into()) + Duration::from_millis(200 * tick), cpu_ns);
            }
        };
        (0..60).for_each(|second| at(second, 1500, &mut meter));
        assert!((meter.share().unwrap() - 0.75).abs() < 1e-3, "{:?}", meter.share());
        (60..75).for_each(|second| at(second, 500, &mut meter));
        assert!((meter.share().unwrap() - 0.25).abs() < 1e-3, "{:?}", meter.share());
    }

    #[test]
    fn this_process_holds_some_memory() {
        assert!(resident_bytes() > 100_000);
    }
}
