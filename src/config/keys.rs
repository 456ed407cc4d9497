//! What each key may hold, and when a change of it takes effect: one table.

use std::fmt;

use toml::Spanned;
use toml::Value;
use toml::de::{DeInteger, DeValue};

use Effect::{AtOnce, AtRestart};
use Holds::*;

/// Words of a command, at most.
const MOST_WORDS: usize = 64;

/// Users and groups that a socket lets in, at most.
const MOST_ACCOUNTS: usize = 64;

/// One key: where it stands (`[camera]` for every `[[camera]]`, `[presets]` for every preset), what it may hold,
/// and when a change of it takes effect.
pub type Key = (&'static str, Holds, Effect);

/// Every key. A test holds the table to `config/default.toml`, its keys and the ranges in its comments.
pub const KEYS: &[Key] = &[
    ("state_dir", FilePath, AtRestart),
    ("sandbox", OneOf(&["auto", "required", "off"]), AtRestart),
    ("model.manifest", FilePath, AtRestart),
    ("model.input", InputSize, AtRestart),
    ("model.threads", Whole(0, 64), AtRestart),
    ("model.runtime", OneOf(&["auto", "cpu", "wgpu"]), AtRestart),
    ("model.gpu_floats", OneOf(&["auto", "f32", "f16"]), AtRestart),
    ("model.gpu_patience_s", Whole(1, 3600), AtRestart),
    ("model.backend", OneOf(&["auto", "int8", "reference"]), AtRestart),
    ("model.together", Flag, AtRestart),
    ("model.reuse", Number(0.0, 1.0), AtRestart),
    ("model.refresh_frames", Whole(1, 10_000), AtRestart),
    ("camera.name", Name, AtRestart),
    ("camera.source", OneOf(&["v4l2", "nokhwa", "pipe", "gstreamer", "images", "synthetic"]), AtRestart),
    ("camera.device", Device, AtRestart),
    ("camera.command", Words, AtRestart),
    ("camera.pipeline", TextOrNothing, AtRestart),
    ("camera.format", OneOf(&["auto", "YUYV", "UYVY", "NV12", "GREY", "RGB3", "BGR3", "MJPG"]), AtRestart),
    ("camera.width", WholeOrZero(16, 8192), AtRestart),
    ("camera.height", WholeOrZero(16, 8192), AtRestart),
    ("camera.fps", Number(0.1, 1000.0), AtRestart),
    ("camera.timeout_ms", Whole(100, 20_000), AtRestart),
    ("camera.folder", FilePathOrNothing, AtRestart),
    ("camera.repeat", Flag, AtRestart),
    ("camera.seed", Whole(0, u32::MAX as i64), AtRestart),
    ("camera.objects", Whole(1, 64), AtRestart),
    ("propagate.preset", Name, AtOnce),
    ("presets.density", Number(0.25, 4.0), AtOnce),
    ("presets.zoom", Number(1.0, 8.0), AtOnce),
    ("presets.top_k", Whole(1, 64), AtOnce),
    ("presets.context_frames", Whole(0, 64), AtOnce),
    ("presets.radius", Whole(1, 1000), AtOnce),
    ("presets.window", OneOf(&["square", "circle"]), AtOnce),
    ("presets.temperature", Number(0.001, 10.0), AtOnce),
    ("presets.seed", OneOf(&["area", "nearest"]), AtOnce),
    ("presets.min_max", Flag, AtOnce),
    ("presets.refine_radius", Number(0.0, 4.0), AtOnce),
    ("presets.refine_epsilon", Number(0.0001, 1.0), AtOnce),
    ("track.confirm_frames", Whole(1, 1000), AtOnce),
    ("track.occluded_area", Number(0.0, 1.0), AtOnce),
    ("track.min_score", Number(0.0, 1.0), AtOnce),
    ("track.lost_after_s", Number(0.0, 3600.0), AtOnce),
    ("track.remove_after_s", Number(0.0, 31_536_000.0), AtOnce),
    ("track.recover", Flag, AtOnce),
    ("track.max_objects", Whole(1, 64), AtOnce),
    ("discover.mode", OneOf(&["off", "moving", "salient"]), AtOnce),
    ("discover.every_s", Number(0.1, 3600.0), AtOnce),
    ("discover.limit", Whole(1, 16), AtOnce),
    ("discover.tag", Whole(0, 64), AtOnce),
    ("budget.target_fps", Number(0.0, 1000.0), AtOnce),
    ("budget.cpu_share", Number(0.0, 1.0), AtOnce),
    ("budget.min_input", InputSize, AtOnce),
    ("budget.min_fps", Number(0.1, 1000.0), AtOnce),
    ("budget.window_s", Number(0.2, 60.0), AtOnce),
    ("budget.climb_after_s", Number(1.0, 3600.0), AtOnce),
    ("serve.directory", FilePath, AtRestart),
    ("serve.tracks_mode", Mode, AtRestart),
    ("serve.control_mode", Mode, AtRestart),
    ("serve.tracks_group", GroupOrNothing, AtRestart),
    ("serve.control_group", GroupOrNothing, AtRestart),
    ("serve.tracks_allow", Accounts, AtRestart),
    ("serve.control_allow", Accounts, AtRestart),
    ("serve.max_clients", Whole(1, 10_000), AtRestart),
    ("serve.queue", Whole(1, 1000), AtRestart),
    ("serve.write_timeout_ms", Whole(100, 600_000), AtRestart),
    ("log.level", OneOf(&["off", "error", "warn", "info", "debug", "trace"]), AtOnce),
    ("log.summary_interval_s", Whole(0, 86_400), AtOnce),
];

/// When a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With a reload.
    AtOnce,
    AtRestart,
}

/// What a key may hold. Ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holds {
    Whole(i64, i64),
    WholeOrZero(i64, i64),
    Number(f64, f64),
    Flag,
    OneOf(&'static [&'static str]),
    /// A name that goes into reports and commands.
    Name,
    FilePath,
    FilePathOrNothing,
    /// Some lines.
    TextOrNothing,
    Device,
    /// A program and its arguments, or nothing.
    Words,
    /// Names of users, and of groups with an `@` before them.
    Accounts,
    InputSize,
    /// File permissions.
    Mode,
    GroupOrNothing,
}

/// The table's row for a key.
pub fn key(pattern: &str) -> Option<&'static Key> {
    KEYS.iter().find(|(known, ..)| *known == pattern)
}

impl Holds {
    /// The value as its struct takes it, or `None` where it is not what the key may hold.
    pub fn read(self, value: &DeValue<'_>) -> Option<Value> {
        match (self, value) {
            (Whole(least, most), DeValue::Integer(integer)) => {
                whole(integer).filter(|n| (least..=most).contains(n)).map(Value::Integer)
            }
            (WholeOrZero(least, most), DeValue::Integer(integer)) => {
                whole(integer).filter(|n| *n == 0 || (least..=most).contains(n)).map(Value::Integer)
            }
            (Number(least, most), DeValue::Integer(_) | DeValue::Float(_)) => {
                number(value).filter(|n| (least..=most).contains(n)).map(Value::Float)
            }
            (Flag, DeValue::Boolean(flag)) => Some(Value::Boolean(*flag)),
            (Words, DeValue::Array(words)) if words.len() <= MOST_WORDS => {
                let word = |word: &Spanned<DeValue<'_>>| match word.get_ref() {
                    DeValue::String(text) if is_printable(text, 0) => Some(Value::String(text.to_string())),
                    _ => None,
                };
                words.iter().map(word).collect::<Option<Vec<Value>>>().map(Value::Array)
            }
            (Accounts, DeValue::Array(names)) if names.len() <= MOST_ACCOUNTS => {
                let name = |name: &Spanned<DeValue<'_>>| match name.get_ref() {
                    DeValue::String(text) if is_account(text.strip_prefix('@').unwrap_or(text)) => {
                        Some(Value::String(text.to_string()))
                    }
                    _ => None,
                };
                names.iter().map(name).collect::<Option<Vec<Value>>>().map(Value::Array)
            }
            (_, DeValue::String(text)) if self.takes(text) => Some(Value::String(text.to_string())),
            _ => None,
        }
    }

    /// Whether a key that holds text may hold this one.
    fn takes(self, text: &str) -> bool {
        match self {
            Whole(..) | WholeOrZero(..) | Number(..) | Flag | Words | Accounts => false,
            OneOf(choices) => choices.contains(&text),
            Name => is_name(text),
            FilePath | Device => is_printable(text, 1),
            FilePathOrNothing => is_printable(text, 0),
            TextOrNothing => text.len() <= 4096 && !text.chars().any(|c| c.is_control() && !c.is_whitespace()),
            InputSize => text == "auto" || text.split_once('x').is_some_and(|(h, w)| is_side(h) && is_side(w)),
            Mode => {
                let octal = text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
                octal && (text.len() == 3 || text.len() == 4 && text.starts_with('0'))
            }
            GroupOrNothing => text.is_empty() || is_account(text),
        }
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whole(least, most) => write!(f, "a whole number, {least} to {most}"),
            WholeOrZero(least, most) => write!(f, "a whole number, {least} to {most}, or 0"),
            Number(least, most) => write!(f, "a number, {least} to {most}"),
            Flag => write!(f, "true or false"),
            OneOf(choices) => {
                for (i, choice) in choices.iter().enumerate() {
                    let before = ["", ", ", " or "][(i > 0) as usize + (i > 0 && i + 1 == choices.len()) as usize];
                    write!(f, "{before}`{choice}`")?;
                }
                Ok(())
            }
            Name => write!(f, "1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit"),
            FilePath | FilePathOrNothing => write!(f, "a path"),
            TextOrNothing => write!(f, "at most 4096 bytes of text"),
            Device => write!(f, "a path, a name or `auto`"),
            Words => write!(f, "an array of at most {MOST_WORDS} strings, a program and its arguments"),
            Accounts => {
                write!(f, "an array of at most {MOST_ACCOUNTS} names of users, and of groups with an `@` before them")
            }
            InputSize => write!(f, "HEIGHTxWIDTH in pixels or `auto`"),
            Mode => write!(f, "an octal string, \"000\" to \"0777\""),
            GroupOrNothing => write!(f, "a name of a group or empty"),
        }
    }
}

/// Whether a text is one line, of at least so many bytes.
fn is_printable(text: &str, least: usize) -> bool {
    (least..=4096).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a text can name a user or a group.
fn is_account(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Whether a text can name a camera or a preset.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Whether a text is a side of a model's input in pixels.
fn is_side(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<usize>().is_ok_and(|side| (1..=8192).contains(&side))
}

fn whole(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(integer) => whole(integer).map(|n| n as f64),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}
