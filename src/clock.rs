//! Both clocks of a frame's stamp, and time as a value that tests can simulate.

use std::time::{Duration, Instant};

use crate::types::Timestamp;

/// This moment on both clocks.
pub fn now() -> Timestamp {
    Timestamp { mono_ns: mono_ns(), real_ns: real_ns() }
}

/// A moment of the monotonic clock on both clocks: the wall clock's part is what the wall clock would have
/// shown then, had it run as it runs now.
pub fn at(mono_ns: u64) -> Timestamp {
    shift(now(), mono_ns)
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock that V4L2 stamps frames with.
#[cfg(unix)]
pub fn mono_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec, and the call writes nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } != 0;
    // The call fails only for a clock that does not exist, and POSIX demands this one.
    debug_assert!(!failed);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds since this was first called: what other platforms offer without a call into the system.
#[cfg(not(unix))]
pub fn mono_ns() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Nanoseconds that all threads of this process have run for.
#[cfg(unix)]
pub fn process_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec, and the call writes nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } != 0;
    if failed { 0 } else { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 }
}

/// Always 0: there is no such clock without a call into the system.
#[cfg(not(unix))]
pub fn process_cpu_ns() -> u64 {
    0
}

/// Nanoseconds since the Unix epoch; 0 for a wall clock that stands before it.
fn real_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// `now`, moved along both clocks to where the monotonic one shows `mono_ns`.
fn shift(now: Timestamp, mono_ns: u64) -> Timestamp {
    let real = i128::from(now.real_ns) + i128::from(mono_ns) - i128::from(now.mono_ns);
    Timestamp { mono_ns, real_ns: real.clamp(0, i128::from(u64::MAX)) as u64 }
}

/// The time and a way to let it pass. Whoever waits takes it as an argument, so that tests wait for nothing.
pub trait Time: Send {
    fn now(&self) -> Instant;

    fn sleep(&self, duration: Duration);
}

/// Time as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealTime;

impl Time for RealTime {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monotonic_stamp_moves_to_the_wall_clock_by_the_offset_of_the_two() {
        let now = Timestamp { mono_ns: 5_000, real_ns: 1_000_000 };
        struct Case(u64, u64);
        for Case(mono, real) in [Case(5_000, 1_000_000), Case(4_000, 999_000), Case(6_000, 1_001_000)] {
            assert_eq!(shift(now, mono), Timestamp { mono_ns: mono, real_ns: real });
        }
        let early = Timestamp { mono_ns: 5_000, real_ns: 1_000 };
        assert_eq!(shift(early, 0).real_ns, 0, "a wall clock near the epoch does not wrap");
    }

    #[test]
    #[cfg(unix)]
    fn the_process_s_clock_runs_while_it_works() {
        let (cpu, start) = (process_cpu_ns(), Instant::now());
        while start.elapsed() < Duration::from_millis(50) {}
        assert!(process_cpu_ns() - cpu >= 5_000_000);
    }

    #[test]
    fn both_clocks_run_alike() {
        let before = now();
        std::thread::sleep(Duration::from_millis(20));
        let after = now();
        assert!(after.mono_ns - before.mono_ns >= 20_000_000);
        let real = at(before.mono_ns).real_ns.abs_diff(before.real_ns);
        assert!(real < 1_000_000_000, "{real} ns apart");
    }
}
