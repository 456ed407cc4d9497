//! What the daemon runs on: its model on this processor, the clock, the memory.

use std::fs;
use std::time::SystemTime;

use nix::unistd::{User, geteuid};

use super::Finding;
use crate::cmd::{connect, exit};
use crate::embed::{self, ModelConfig};
use crate::sandbox;
use crate::state::ModelIdentity;

/// Bytes of memory that should be available to a daemon that starts: what it takes with the bundled model, and room for a larger one.
const MEMORY: u64 = 256 << 20;
/// No board that runs this was set to an earlier time by anything but a lost battery: 2025, in seconds since 1970.
const EARLIEST: u64 = 1_735_689_600;

/// What is found of the model, and what its gallery is known by.
pub(super) fn model(config: &ModelConfig) -> (Option<ModelIdentity>, Finding) {
    const SUBJECT: &str = "model";
    match embed::load(config) {
        Ok(backbone) => {
            let spec = backbone.spec();
            let told = format!(
                "{} ({}), probe cosine {:.4}, computed by {}",
                spec.name,
                spec.family,
                spec.probe_cosine,
                backbone.running(),
            );
            let identity = ModelIdentity { name: spec.name.clone(), features: spec.features.clone(), dim: spec.dim };
            (Some(identity), Finding::good(SUBJECT, told))
        }
        Err(error) => {
            let refused = connect::refused(error);
            (None, Finding::fault(SUBJECT, exit::sentence(&refused), exit::kind_of(&refused)))
        }
    }
}

/// Who asks, as "user robot".
pub(super) fn user() -> String {
    let id = geteuid();
    let name = User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name);
    format!("user {name}")
}

pub(super) fn machine() -> Vec<Finding> {
    vec![kernel(), clock(), processor(), memory()].into_iter().flatten().collect()
}

/// What the daemon could confine itself with.
fn kernel() -> Option<Finding> {
    const SUBJECT: &str = "kernel";
    let missing = sandbox::missing();
    Some(if missing.is_empty() {
        Finding::good(SUBJECT, "has Landlock and seccomp, by which the daemon confines itself")
    } else {
        Finding::warning(SUBJECT, format!("{}; the daemon runs, less confined", missing.join("; ")))
    })
}

/// Stamps are of two clocks: one that never jumps, and that of the day.
fn clock() -> Option<Finding> {
    const SUBJECT: &str = "clock";
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds < EARLIEST {
        return Some(Finding::warning(
            SUBJECT,
            "it stands before 2025; set it, or reports bear a wrong time of day until it jumps",
        ));
    }
    Some(if is_synchronised()? {
        Finding::good(SUBJECT, "synchronised")
    } else {
        Finding::warning(
            SUBJECT,
            "nothing keeps it right, so that the time of day in reports may drift or jump; `timedatectl set-ntp true` mends it",
        )
    })
}

/// Whether something keeps the clock right, as the kernel knows it.
#[cfg(target_os = "linux")]
fn is_synchronised() -> Option<bool> {
    // SAFETY: a plain C struct of integers, of which zero is a valid value, and which asks to change nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is valid for as long as the call takes.
    let told = unsafe { libc::adjtimex(&raw mut state) };
    (told >= 0).then_some(state.status & libc::STA_UNSYNC == 0)
}

#[cfg(not(target_os = "linux"))]
fn is_synchronised() -> Option<bool> {
    None
}

fn processor() -> Option<Finding> {
    const SUBJECT: &str = "processor";
    let cores = std::thread::available_parallelism().ok()?;
    let governor = |file: &str| fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cpufreq/{file}"));
    let (chosen, driver) =
        (governor("scaling_governor").unwrap_or_default(), governor("scaling_driver").unwrap_or_default());
    // Those two drivers raise the clock under load whatever they are called.
    let is_slow =
        chosen.trim() == "powersave" && !["intel_pstate", "amd-pstate", "amd-pstate-epp"].contains(&driver.trim());
    Some(if is_slow {
        Finding::warning(
            SUBJECT,
            format!(
                "{cores} cores, kept at their slowest by the governor `powersave`; `cpupower frequency-set -g schedutil` frees them"
            ),
        )
    } else {
        Finding::good(SUBJECT, format!("{cores} cores"))
    })
}

fn memory() -> Option<Finding> {
    const SUBJECT: &str = "memory";
    let told = fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let bytes = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10;
    let mebibytes = bytes >> 20;
    Some(if bytes < MEMORY {
        let least = MEMORY >> 20;
        Finding::warning(
            SUBJECT,
            format!("{mebibytes} MiB are available, less than {least}; stop other programs, or use a smaller model"),
        )
    } else {
        Finding::good(SUBJECT, format!("{mebibytes} MiB are available"))
    })
}
