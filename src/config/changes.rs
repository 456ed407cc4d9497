//! What differs between two configurations.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::Config;
use super::keys::{Effect, key};

/// Key paths of what differs, sorted. Cameras go by name: `camera.front.width`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Takes effect at once.
    pub applied: Vec<String>,
    /// Takes effect when the daemon is started again.
    pub restart_needed: Vec<String>,
}

pub(super) fn changes(old: &Config, new: &Config) -> Changes {
    let (old, new) = (leaves(old), leaves(new));
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut changes = Changes::default();
    for path in paths {
        let (before, after) = (old.get(path), new.get(path));
        if before.map(|leaf| &leaf.value) == after.map(|leaf| &leaf.value) {
            continue;
        }
        let pattern = before.or(after).map(|leaf| leaf.pattern.as_str());
        match pattern.and_then(key) {
            Some((_, _, Effect::AtOnce)) => changes.applied.push(path.clone()),
            _ => changes.restart_needed.push(path.clone()),
        }
    }
    changes
}

/// A value with the row of the table of keys that it belongs to.
struct Leaf {
    pattern: String,
    value: Value,
}

/// Every value by its path.
fn leaves(config: &Config) -> BTreeMap<String, Leaf> {
    let mut leaves = BTreeMap::new();
    let whole = Value::try_from(config).expect("a configuration has only keys and values that TOML can write");
    gather(&whole, "", "", &mut leaves);
    leaves
}

fn gather(value: &Value, path: &str, pattern: &str, leaves: &mut BTreeMap<String, Leaf>) {
    let join = |path: &str, key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                // Presets share the rows of the table of keys.
                let below = if path == "presets" { pattern.to_string() } else { join(pattern, key) };
                gather(value, &join(path, key), &below, leaves);
            }
        }
        // Other arrays are values, of words or of names.
        Value::Array(cameras) if cameras.iter().any(Value::is_table) => {
            for camera in cameras {
                let name = camera.get("name").and_then(Value::as_str).unwrap_or_default();
                gather(camera, &join(path, name), pattern, leaves);
            }
        }
        leaf => {
            leaves.insert(path.to_string(), Leaf { pattern: pattern.to_string(), value: leaf.clone() });
        }
    }
}
