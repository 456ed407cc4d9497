//! A graphics processor, tried in a process of its own before the daemon uses one.
//!
//! A driver is others' code that may crash, hang, or ask for more of the system than the daemon's sandbox leaves it. The trial does all
//! that the daemon would, in the same sandbox: it opens the processor, has its shaders compiled and the model meet its probe. What
//! becomes of the trial, the daemon knows before it has given anything up.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::out;
use super::service;
use crate::config::Config;
use crate::embed::{self, Backend, Runtime};
use crate::sandbox;
use crate::state::State;

/// What a trial may take, as often as the first frame may: a model is loaded too, on the CPU where that fails.
const PATIENCE: u64 = 3;
const GLANCE: Duration = Duration::from_millis(5);

/// Try a graphics processor, as the daemon does before it uses one.
///
/// Reads a configuration as JSON on standard input, and prints what came of it as JSON.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Args {}

/// What a trial tells.
#[derive(serde::Deserialize, serde::Serialize)]
struct Told {
    /// The processor on which the model ran.
    device: Option<String>,
    /// Why there is none.
    instead: Option<String>,
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let config: Config = serde_json::from_reader(std::io::stdin().lock())?;
        State::make_folder(&config.state_dir)?;
        let mut needs = service::needs_of_model(&config, true);
        needs.writes.push(config.state_dir.clone());
        sandbox::enter(config.sandbox, &needs)?;
        // On a board without one, no model is read twice.
        if let Err(why) = embed::find_gpu(&config.model) {
            return out::json(&Told { device: None, instead: Some(why) });
        }
        // What the driver compiles is kept, and need not be compiled again.
        let running = embed::load_kept(&config.model, &service::packed(&config))?.running();
        out::json(&Told { device: running.device, instead: running.instead })
    }
}

/// Whether a graphics processor is to compute, as far as the configuration goes.
pub fn is_wanted(config: &Config) -> bool {
    match config.model.runtime {
        Runtime::Cpu => false,
        Runtime::Auto => cfg!(feature = "wgpu") && config.model.backend == Backend::Auto,
        Runtime::Wgpu => true,
    }
}

/// Tries the graphics processor that the configuration wants.
///
/// # Errors
/// Why the daemon had better not use one.
pub fn run(config: &Config) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("it could not be tried: {error}");
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut child = Command::new(program)
        .arg("gpu-trial")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(&error))?;
    let told = tell(&mut child, config)
        .and_then(|()| outcome(&mut child, Duration::from_secs(PATIENCE * config.model.gpu_patience_s)));
    // It is gone by then, or not to be waited for.
    let _ = child.kill();
    let _ = child.wait();
    match told? {
        Told { device: Some(_), .. } => Ok(()),
        Told { instead, .. } => Err(instead.unwrap_or_else(|| "the CPU took over".into())),
    }
}

fn tell(child: &mut Child, config: &Config) -> Result<(), String> {
    let text = serde_json::to_string(config).map_err(|error| error.to_string())?;
    let mut input = child.stdin.take().ok_or("it has no standard input")?;
    input.write_all(text.as_bytes()).map_err(|error| format!("it could not be tried: {error}"))
}

fn outcome(child: &mut Child, patience: Duration) -> Result<Told, String> {
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if started.elapsed() > patience => {
                return Err(format!("its driver was still busy with a trial of it after {} s", patience.as_secs()));
            }
            None => std::thread::sleep(GLANCE),
        }
    };
    let mut text = String::new();
    if let Some(output) = &mut child.stdout {
        let _ = output.take(1 << 16).read_to_string(&mut text);
    }
    serde_json::from_str(&text).map_err(|_| format!("its driver ended a trial of it: {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn outcome_of(script: &str, patience: Duration) -> Result<Told, String> {
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let outcome = outcome(&mut child, patience);
        child.kill().unwrap();
        child.wait().unwrap();
        outcome
    }

    #[test]
    fn whatever_becomes_of_a_trial_is_told() {
        let hanging = outcome_of("exec sleep 60", Duration::from_millis(100)).err();
        assert!(hanging.as_ref().is_some_and(|why| why.contains("still busy with a trial")), "{hanging:?}");
        let crashed = outcome_of("kill -SEGV $$", LONG).err();
        assert!(crashed.as_ref().is_some_and(|why| why.contains("signal: 11")), "{crashed:?}");
        let silent = outcome_of("exit 1", LONG).err();
        assert!(silent.as_ref().is_some_and(|why| why.contains("exit status: 1")), "{silent:?}");
        let told = outcome_of("echo '{\"device\":\"Orin\",\"instead\":null}'", LONG).unwrap();
        assert_eq!(told.device.as_deref(), Some("Orin"));
    }
}
