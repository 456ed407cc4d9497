//! What the service manager is told: ready, reloading, stopping, and that frames still come through.
//!
//! Without `NOTIFY_SOCKET`, as in a terminal, everything here does nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Start-up is over: the model, the sockets and the configuration are good. Also ends a reload.
pub fn ready(status: &str) {
    send(&[State::Ready, State::Status(&one_line(status))]);
}

/// A new configuration is being read. [`ready`] must follow, whatever came of it.
pub fn reloading() {
    // systemd takes a reload for begun only with the time beside it.
    #[cfg(target_os = "linux")]
    match State::monotonic_usec_now() {
        Ok(now) => send(&[State::Reloading, now]),
        Err(error) => {
            log::warn!("the monotonic clock cannot be read, so the service manager is not told of the reload: {error}")
        }
    }
}

/// The daemon is going down in good order.
pub fn stopping(status: &str) {
    send(&[State::Stopping, State::Status(&one_line(status))]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[State::Status(&one_line(status))]);
}

/// Frames still come through; to be sent when [`Watchdog::due`] says so.
pub fn ping() {
    send(&[State::Watchdog]);
}

/// How long the service manager waits for a ping before it restarts the daemon; `None` when it does not watch.
pub fn watchdog_limit() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
    #[cfg(not(target_os = "linux"))]
    None
}

/// Decides when to ping. Each camera has a [`Heart`]; a ping is due at half the limit, and only if every camera has
/// got a frame through since the last one, or is known to be missing. A process that merely runs is not healthy.
///
/// Time is an argument, and nothing is sent from here.
#[derive(Debug)]
pub struct Watchdog {
    half: Duration,
    next: Instant,
    /// With the beats that were counted at the last ping.
    hearts: Vec<(Heart, u64)>,
}

/// One camera's signs of life, beaten from its threads.
#[derive(Clone, Debug, Default)]
pub struct Heart(Arc<Signs>);

#[derive(Debug, Default)]
struct Signs {
    beats: AtomicU64,
    missing: AtomicBool,
}

impl Heart {
    /// A frame came through, up to its report.
    pub fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the camera is known to be missing, or its stream to have ended, so that no frame is to be expected.
    pub fn set_missing(&self, missing: bool) {
        self.0.missing.store(missing, Ordering::Relaxed);
    }
}

impl Watchdog {
    /// `limit`: [`watchdog_limit`].
    pub fn new(limit: Duration, now: Instant) -> Watchdog {
        let half = limit / 2;
        Watchdog { half, next: now + half, hearts: Vec::new() }
    }

    /// A heart that must beat from now on.
    pub fn add_heart(&mut self) -> Heart {
        let heart = Heart::default();
        self.hearts.push((heart.clone(), 0));
        heart
    }

    /// Whether to ping now. Where a heart has not beaten in time, the ping is due as soon as it has.
    ///
    /// Ask several times within half the limit.
    pub fn due(&mut self, now: Instant) -> bool {
        let alive = |(heart, seen): &(Heart, u64)| {
            heart.0.beats.load(Ordering::Relaxed) != *seen || heart.0.missing.load(Ordering::Relaxed)
        };
        if now < self.next || !self.hearts.iter().all(alive) {
            return false;
        }
        for (heart, seen) in &mut self.hearts {
            *seen = heart.0.beats.load(Ordering::Relaxed);
        }
        self.next = now + self.half;
        true
    }
}

#[cfg(target_os = "linux")]
use sd_notify::NotifyState as State;

#[cfg(target_os = "linux")]
fn send(states: &[State<'_>]) {
    // The daemon works without its manager; a lost message shows in the log and, if it was a ping, in a restart.
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager could not be told `{}`: {error}", states[0]);
    }
}

/// Elsewhere there is no such service manager.
#[cfg(not(target_os = "linux"))]
enum State<'a> {
    Ready,
    Stopping,
    Watchdog,
    Status(&'a str),
}

#[cfg(not(target_os = "linux"))]
fn send(_: &[State<'_>]) {}

/// A line break would begin another message to the service manager.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds into the test.
    fn at(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn pings_at_half_the_limit_and_only_on_progress() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(10), start);
        let heart = watchdog.add_heart();
        heart.beat();
        assert!(!watchdog.due(at(start, 4.9)), "before half the limit");
        assert!(watchdog.due(at(start, 5.0)));
        assert!(!watchdog.due(at(start, 5.1)), "twice for one half");
        assert!(!watchdog.due(at(start, 10.0)), "without progress");
        heart.beat();
        assert!(watchdog.due(at(start, 11.0)), "late progress is progress");
        heart.beat();
        assert!(!watchdog.due(at(start, 15.9)), "half the limit counts from the last ping");
        assert!(watchdog.due(at(start, 16.0)));
    }

    #[test]
    fn every_camera_must_get_on_or_be_known_to_be_missing() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(2), start);
        let (front, rear) = (watchdog.add_heart(), watchdog.add_heart());
        front.beat();
        assert!(!watchdog.due(at(start, 1.0)), "the rear camera hangs");
        rear.set_missing(true);
        assert!(watchdog.due(at(start, 1.0)));
        assert!(!watchdog.due(at(start, 2.0)), "now the front camera hangs");
        front.set_missing(true);
        assert!(watchdog.due(at(start, 2.0)), "everything is known to be missing");
        assert!(watchdog.due(at(start, 3.0)), "and goes on to be");
        rear.set_missing(false);
        front.beat();
        assert!(!watchdog.due(at(start, 4.0)), "the rear camera is back and must get on");
        rear.beat();
        assert!(watchdog.due(at(start, 4.0)));
    }

    #[test]
    fn a_heart_beats_from_any_thread() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(2), start);
        let heart = watchdog.add_heart();
        std::thread::spawn(move || heart.beat()).join().unwrap();
        assert!(watchdog.due(at(start, 1.0)));
        assert!(!watchdog.due(at(start, 2.0)), "a heart that is gone beats no more");
    }

    #[test]
    fn status_is_one_line() {
        assert_eq!(one_line("two\nWATCHDOG=1"), "two WATCHDOG=1");
    }

    #[test]
    #[ignore = "run by the_manager_gets_each_message, in a process of its own"]
    fn child_notifies() {
        ready("2 cameras");
        reloading();
        ping();
        status("a\nb");
        stopping("bye");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_manager_gets_each_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let child = |socket: Option<&std::path::Path>| {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "notify::tests::child_notifies", "--ignored", "--test-threads=1"]);
            command.env_remove("NOTIFY_SOCKET").envs(socket.map(|socket| ("NOTIFY_SOCKET", socket)));
            assert!(command.output().unwrap().status.success());
        };
        let received = || {
            let mut bytes = [0; 4096];
            manager.recv(&mut bytes).map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        child(None);
        assert!(received().is_err(), "nobody to tell");
        child(Some(&path));
        assert_eq!(received().unwrap(), "READY=1\nSTATUS=2 cameras\n");
        let reloading = received().unwrap();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(received().unwrap(), "WATCHDOG=1\n");
        assert_eq!(received().unwrap(), "STATUS=a b\n");
        assert_eq!(received().unwrap(), "STOPPING=1\nSTATUS=bye\n");
        child(Some(&folder.path().join("gone")));
    }
}
