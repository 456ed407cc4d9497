//! What one client of `tracks.sock` wants to read, and when.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::encode::EncodedReport;
use super::wire::{Subscribe, Subscribed};

/// For how long a report that came too early waits to be replaced by a fresher one, once its time has come.
/// It is then sent as it is, so that a client's last picture is true also when a camera stops.
const HOLD: Duration = Duration::from_millis(50);

/// A client's choice of cameras, masks and rate. The default is every report's boxes.
#[derive(Default)]
pub struct Subscription {
    wants: Subscribe,
    paces: HashMap<String, Pace>,
}

/// When a camera's next report is due.
struct Pace {
    due: Instant,
    held: Option<Rc<EncodedReport>>,
}

impl Subscription {
    pub fn new(wants: Subscribe) -> Subscription {
        Subscription { wants, paces: HashMap::new() }
    }

    /// The line that answers it.
    pub fn acknowledgement(&self) -> Subscribed {
        let Subscribe { id, cameras, masks, max_rate } = self.wants.clone();
        Subscribed { id, cameras, masks, max_rate }
    }

    pub fn masks(&self) -> bool {
        self.wants.masks
    }

    pub fn includes(&self, camera: &str) -> bool {
        self.wants.cameras.as_ref().is_none_or(|cameras| cameras.iter().any(|name| name == camera))
    }

    /// Whether `report`, which has just come, is to be sent now. One that comes too early is held; one that
    /// tells a removal is never too early.
    pub fn admits(&mut self, report: &Rc<EncodedReport>, now: Instant) -> bool {
        if !self.includes(report.camera()) {
            return false;
        }
        let Some(interval) = self.interval() else { return true };
        let pace = self.paces.entry(report.camera().to_owned()).or_insert_with(|| Pace { due: now, held: None });
        if now < pace.due && !report.tells_removal() {
            pace.held = Some(report.clone());
            return false;
        }
        pace.sent(now, interval);
        true
    }

    /// Notes that a camera's state was sent, so that its next report comes one interval later.
    pub fn began(&mut self, camera: &str, now: Instant) {
        if let Some(interval) = self.interval() {
            self.paces.insert(camera.to_owned(), Pace { due: now + interval, held: None });
        }
    }

    /// When a held report is to be sent.
    pub fn next_release(&self) -> Option<Instant> {
        self.paces.values().filter(|pace| pace.held.is_some()).map(|pace| pace.due + HOLD).min()
    }

    /// The held reports whose time has come; all of them when `closing`.
    pub fn release(&mut self, now: Instant, closing: bool) -> Vec<Rc<EncodedReport>> {
        let Some(interval) = self.interval() else { return Vec::new() };
        let ripe = self.paces.values_mut().filter(|pace| closing || pace.due + HOLD <= now);
        ripe.filter_map(|pace| {
            let held = pace.held.take()?;
            pace.sent(now, interval);
            Some(held)
        })
        .collect()
    }

    fn interval(&self) -> Option<Duration> {
        self.wants.max_rate.and_then(|rate| Duration::try_from_secs_f64(rate.recip()).ok())
    }
}

impl Pace {
    /// A report that was a little late does not make the next one later, so the mean rate is the one asked for.
    fn sent(&mut self, now: Instant, interval: Duration) {
        self.held = None;
        let on_time = now.checked_duration_since(self.due).is_some_and(|late| late < interval);
        let next = if on_time { self.due.checked_add(interval) } else { now.checked_add(interval) };
        self.due = next.unwrap_or(now);
    }
}
