//! From a TOML file to a checked [`Config`], with every problem told at once.
//!
//! `config/default.toml` is the one home of defaults, and what a user reads. It is built in; a user's file is
//! merged over it, checked key by key against one table ([`KEYS`]), and deserialised once into the structs
//! that the modules own.

mod changes;
mod keys;
mod problems;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::budget::BudgetConfig;
use crate::capture::CameraConfig;
use crate::discover::DiscoverConfig;
use crate::embed::ModelConfig;
use crate::propagate::PropagateConfig;
use crate::sandbox::SandboxMode;
use crate::serve::ServeConfig;
use crate::track::TrackConfig;

pub use changes::Changes;
pub use keys::{Effect, Holds, KEYS, Key};
pub use problems::{Place, Problem, Problems};

/// The defaults as a user reads them: every key with its unit, its range and why.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// Everything that can be set. Every value is within its range, and names are unique.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder for what outlives the daemon.
    pub state_dir: PathBuf,
    /// Whether the daemon confines itself.
    pub sandbox: SandboxMode,
    pub model: ModelConfig,
    /// At least one; their names differ.
    pub camera: Vec<CameraConfig>,
    pub propagate: PresetChoice,
    /// By name; never without the chosen one.
    pub presets: BTreeMap<String, PropagateConfig>,
    pub track: TrackConfig,
    pub discover: DiscoverConfig,
    pub budget: BudgetConfig,
    pub serve: ServeConfig,
    pub log: LogConfig,
}

/// Which preset of the propagation rule is in use.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct PresetChoice {
    pub preset: String,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    pub level: LogLevel,
    /// Seconds between summaries, 0 to 86,400; 0 for none.
    pub summary_interval_s: u64,
}

/// From which weight on lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> log::LevelFilter {
        match level {
            LogLevel::Off => log::LevelFilter::Off,
            LogLevel::Error => log::LevelFilter::Error,
            LogLevel::Warn => log::LevelFilter::Warn,
            LogLevel::Info => log::LevelFilter::Info,
            LogLevel::Debug => log::LevelFilter::Debug,
            LogLevel::Trace => log::LevelFilter::Trace,
        }
    }
}

impl Config {
    /// The defaults alone.
    pub fn builtin() -> Config {
        Config::parse("", Path::new("default.toml")).expect("a test holds default.toml to its own rules")
    }

    /// Reads a file and merges it over the defaults. Relative paths in it are meant from its folder.
    ///
    /// # Errors
    /// Every problem of the file, or that it cannot be read.
    pub fn load(file: &Path) -> Result<Config, Problems> {
        Config::parse(&read::text_of(file)?, file)
    }

    /// [`Config::load`] for a text that was read already; `file` is what problems call it, and its folder is
    /// what relative paths are meant from.
    pub fn parse(text: &str, file: &Path) -> Result<Config, Problems> {
        read::read(text, file)
    }

    /// The constants of the chosen preset.
    pub fn propagation(&self) -> &PropagateConfig {
        self.presets.get(&self.propagate.preset).expect("the chosen preset was checked to exist")
    }

    /// What differs between two configurations, and what can take effect without a restart.
    pub fn changes(old: &Config, new: &Config) -> Changes {
        changes::changes(old, new)
    }

    /// Takes over what can take effect without a restart, and leaves the rest as it is.
    pub fn take_live(&mut self, new: Config) {
        self.propagate = new.propagate;
        self.presets = new.presets;
        self.track = new.track;
        self.discover = new.discover;
        self.budget = new.budget;
        self.log = new.log;
    }
}
