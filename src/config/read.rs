//! A text, merged over the defaults and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::keys::{Holds, KEYS, is_name, key};
use super::problems::{Gatherer, Problems};
use super::{Config, DEFAULT};
use crate::capture::{CameraConfig, SourceKind};
use crate::sandbox::SandboxMode;
use crate::suggest::suggestion;

/// Bytes of a file, at most: many times what any configuration needs.
const LARGEST: u64 = 256 << 10;
/// Cameras, at most.
const MOST_CAMERAS: usize = 64;
/// Bytes of a socket's folder, at most: with `/control.sock` and a final zero it fills `sockaddr_un`.
const LONGEST_DIRECTORY: usize = 108 - 1 - "/control.sock".len();

/// The text of a file, as long as it can be one.
pub(super) fn text_of(file: &Path) -> Result<String, Problems> {
    let problem = |message: String| Problems::of_file(&file.display().to_string(), message);
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(problem(format!("is larger than {LARGEST} bytes, and so no configuration")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        problem(format!("is not UTF-8: line {line} has a byte that no character begins with or goes on with"))
    })
}

/// Merges a text over the defaults, and checks it.
pub(super) fn read(text: &str, file: &Path) -> Result<Config, Problems> {
    let name = file.display().to_string();
    if text.len() as u64 > LARGEST {
        return Err(Problems::of_file(&name, format!("is larger than {LARGEST} bytes, and so no configuration")));
    }
    let mut reader = Reader { problems: Gatherer::new(text), offsets: BTreeMap::new(), refused: BTreeSet::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    // With a syntax error the text means nothing for certain, so nothing is said of keys and values.
    let config = if errors.is_empty() {
        let merged = reader.document(document.get_ref());
        reader.config(merged, file.parent().unwrap_or(Path::new("")))
    } else {
        reader.syntax_errors(&errors);
        None
    };
    match (reader.problems.finish(&name), config) {
        (None, Some(config)) => Ok(config),
        (Some(problems), _) => Err(problems),
        (None, None) => Err(Problems::of_file(&name, "cannot be merged over the defaults".into())),
    }
}

/// Walks a document, and notes problems and where each key of the user's stands.
struct Reader<'a> {
    problems: Gatherer<'a>,
    /// Byte offset of the value of each key path that the user's file has.
    offsets: BTreeMap<String, usize>,
    /// Key paths whose values were refused, and are as in the defaults.
    refused: BTreeSet<String>,
}

impl Reader<'_> {
    /// The first error of each line; what follows it on its line follows from it.
    fn syntax_errors(&mut self, errors: &[toml::de::Error]) {
        let mut lines = BTreeSet::new();
        // Placing each takes time, and nobody reads a thousand.
        for error in errors.iter().take(1000) {
            let offset = error.span().map(|span| span.start);
            if lines.insert(offset.map(|offset| self.problems.place(offset).line)) {
                self.problems.add(offset, "", format!("not TOML: {}", one_line(error.message())));
            }
        }
    }

    /// The whole document over the defaults. What is wrong stays as in the defaults, so that the rest can still be
    /// checked.
    fn document(&mut self, document: &DeTable<'_>) -> Table {
        let defaults: Table = toml::from_str(DEFAULT).expect("a test holds default.toml to be valid");
        let mut merged = defaults.clone();
        for (key, value) in document {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("camera", _) => self.cameras(value, &mut merged),
                ("presets", DeValue::Table(presets)) => self.presets(presets, &mut merged),
                _ => self.entry(key, value, &mut merged, "", ""),
            }
        }
        merged
    }

    /// Each entry over the default one; none of the defaults' own stays.
    fn cameras(&mut self, value: &Spanned<DeValue<'_>>, merged: &mut Table) {
        let at = Some(value.span().start);
        let entries = match value.get_ref() {
            DeValue::Array(entries) if entries.iter().all(|entry| entry.get_ref().is_table()) => entries,
            other => {
                let message = format!("must be written as [[camera]], once for each camera, not as {}", shown(other));
                return self.problems.add(at, "camera", message);
            }
        };
        if !(1..=MOST_CAMERAS).contains(&entries.len()) {
            let message = format!("there must be 1 to {MOST_CAMERAS} cameras, not {}", entries.len());
            return self.problems.add(at, "camera", message);
        }
        let default = merged["camera"][0].as_table().expect("default.toml has a [[camera]]").clone();
        let mut cameras = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let (path, mut camera) = (format!("camera[{i}]"), default.clone());
            self.offsets.insert(path.clone(), entry.span().start);
            if let DeValue::Table(table) = entry.get_ref() {
                self.table(table, &mut camera, "camera", &path);
            }
            cameras.push(Value::Table(camera));
        }
        merged.insert("camera".into(), Value::Array(cameras));
    }

    /// Each preset over the default one of its name, or over `soft`.
    fn presets(&mut self, presets: &DeTable<'_>, merged: &mut Table) {
        let defaults = merged["presets"].as_table().expect("default.toml has [presets]").clone();
        for (name, value) in presets {
            let (path, at) = (join("presets", name.get_ref()), Some(name.span().start));
            if !is_name(name.get_ref()) {
                self.problems.add(at, &path, format!("a preset's name must be {}", Holds::Name));
            }
            let default = defaults.get(name.get_ref().as_ref()).unwrap_or(&defaults["soft"]);
            let mut preset = default.as_table().expect("the presets of default.toml are tables").clone();
            match value.get_ref() {
                DeValue::Table(table) => self.table(table, &mut preset, "presets", &path),
                other => self.problems.add(at, &path, format!("must be a table, [{path}], not {}", shown(other))),
            }
            let all = merged["presets"].as_table_mut().expect("default.toml has [presets]");
            all.insert(name.get_ref().to_string(), Value::Table(preset));
        }
    }

    fn table(&mut self, table: &DeTable<'_>, merged: &mut Table, pattern: &str, path: &str) {
        for (key, value) in table {
            self.entry(key, value, merged, pattern, path);
        }
    }

    /// One key: a table is walked, a value checked and taken over.
    fn entry(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        merged: &mut Table,
        pattern: &str,
        path: &str,
    ) {
        let (pattern, path) = (join(pattern, name.get_ref()), join(path, name.get_ref()));
        let at = Some(value.span().start);
        self.offsets.insert(path.clone(), value.span().start);
        match (merged.get_mut(name.get_ref().as_ref()), value.get_ref()) {
            (None, _) => {
                let message = unknown_key(name.get_ref(), merged);
                self.problems.add(Some(name.span().start), &path, message);
            }
            (Some(Value::Table(merged)), DeValue::Table(table)) => self.table(table, merged, &pattern, &path),
            (Some(Value::Table(_)), other) => {
                self.problems.add(at, &path, format!("must be a table, [{pattern}], not {}", shown(other)));
            }
            (Some(slot), found) => {
                let (_, holds, _) = key(&pattern).expect("a test holds KEYS to have every key of default.toml");
                match holds.read(found) {
                    Some(value) => *slot = value,
                    None => {
                        self.problems.add(at, &path, must_be(*holds, found));
                        self.refused.insert(path);
                    }
                }
            }
        }
    }

    /// The merged values as structs, and what only several of them together can tell.
    fn config(&mut self, merged: Table, base: &Path) -> Option<Config> {
        let mut config: Config = match serde_path_to_error::deserialize(Value::Table(merged)) {
            Ok(config) => config,
            Err(error) => {
                let path = error.path().to_string();
                self.problems.add(self.offset(&path), &path, one_line(&error.into_inner().to_string()));
                return None;
            }
        };
        if config.model.manifest != "bundled" {
            let manifest = base.join(&config.model.manifest);
            self.check("model.manifest", manifest.is_file(), || format!("there is no file {}", manifest.display()));
            config.model.manifest = manifest.display().to_string();
        }
        config.state_dir = base.join(&config.state_dir);
        config.serve.directory = base.join(&config.serve.directory);
        let length = config.serve.directory.as_os_str().len();
        self.check("serve.directory", length <= LONGEST_DIRECTORY, || {
            format!("is {length} bytes long; the path of a socket has room for {LONGEST_DIRECTORY}")
        });
        let (chosen, presets) = (&config.propagate.preset, &config.presets);
        self.check("propagate.preset", presets.contains_key(chosen), || {
            let names: Vec<&str> = presets.keys().map(String::as_str).collect();
            format!("there is no preset `{chosen}`{}", suggestion(chosen, &names))
        });
        for (name, preset) in &config.presets {
            self.check(
                &format!("presets.{name}.refine_radius"),
                !preset.min_max || preset.refine_radius == 0.0,
                || "must be 0 with `min_max = true`: edges are looked for in labels as they are".into(),
            );
        }
        self.cameras_together(&mut config.camera, base);
        let other = config.camera.iter().find(|camera| camera.runs_others());
        self.check("sandbox", config.sandbox != SandboxMode::Required || other.is_none(), || {
            let name = other.map_or("", |camera| &camera.name);
            format!(
                "cannot be \"required\" with camera `{name}`: what is run for it needs system calls that nobody knows"
            )
        });
        Some(config)
    }

    fn cameras_together(&mut self, cameras: &mut [CameraConfig], base: &Path) {
        let mut names = BTreeMap::new();
        self.devices(cameras);
        for (i, camera) in cameras.iter_mut().enumerate() {
            let path = |key: &str| format!("camera[{i}].{key}");
            let first = *names.entry(camera.name.clone()).or_insert(i);
            self.check(&path("name"), first == i, || {
                format!("camera[{first}] is named `{}` too; give each camera a name of its own", camera.name)
            });
            if self.refused.contains(&path("source")) {
                continue;
            }
            if camera.source == SourceKind::Pipe {
                self.pipe(camera, &path, base);
            } else {
                self.check(&path("command"), camera.command.is_empty(), || "is for `source = \"pipe\"` alone".into());
            }
            self.pipeline(camera, &path);
            let images = camera.source == SourceKind::Images;
            for (key, side) in [("width", camera.width), ("height", camera.height)] {
                self.check(&path(key), side > 0 || images, || {
                    "0 is for `source = \"images\"` alone; ask for 16 to 8192 pixels".into()
                });
            }
            if images {
                let given = camera.folder != PathBuf::new();
                camera.folder = base.join(&camera.folder);
                self.check(&path("folder"), given, || "`source = \"images\"` needs the folder that they are in".into());
                self.check(&path("folder"), !given || camera.folder.is_dir(), || {
                    format!("there is no folder {}", camera.folder.display())
                });
            }
        }
    }

    /// What writes frames is named, and what it writes.
    fn pipe(&mut self, camera: &mut CameraConfig, path: &dyn Fn(&str) -> String, base: &Path) {
        let is_named = camera.device != "auto";
        self.check(&path("device"), !is_named || camera.command.is_empty(), || {
            "is not read where there is a `command`; leave one of them out".into()
        });
        self.check(&path("device"), is_named || !camera.command.is_empty(), || {
            "`source = \"pipe\"` needs the path of a named pipe, or a `command`".into()
        });
        self.check(&path("command"), camera.command.first().is_none_or(|program| !program.is_empty()), || {
            "must begin with a program".into()
        });
        self.check(&path("format"), camera.format != "auto", || {
            "`source = \"pipe\"` needs the format that is written: nothing tells it of raw pixels".into()
        });
        if is_named && camera.command.is_empty() {
            camera.device = base.join(&camera.device).display().to_string();
        }
    }

    /// A pipeline is there where one is run, and there alone.
    fn pipeline(&mut self, camera: &CameraConfig, path: &dyn Fn(&str) -> String) {
        if self.refused.contains(&path("pipeline")) {
            return;
        }
        let (is_run, is_given) = (camera.source == SourceKind::Gstreamer, !camera.pipeline.trim().is_empty());
        self.check(&path("pipeline"), is_given || !is_run, || {
            "`source = \"gstreamer\"` needs a pipeline, such as \"videotestsrc is-live=true ! appsink\"".into()
        });
        self.check(&path("pipeline"), is_run || !is_given, || "is for `source = \"gstreamer\"` alone".into());
    }

    /// A device streams to one reader, and which one `auto` finds is not known before.
    fn devices(&mut self, cameras: &[CameraConfig]) {
        for source in [SourceKind::V4l2, SourceKind::Nokhwa, SourceKind::Pipe] {
            let is_of = |camera: &CameraConfig| camera.source == source && camera.command.is_empty();
            let of_source: Vec<_> = cameras.iter().enumerate().filter(|(_, camera)| is_of(camera)).collect();
            let mut first = BTreeMap::new();
            for (i, camera) in &of_source {
                let path = format!("camera[{i}].device");
                let taken_by = *first.entry(&camera.device).or_insert(*i);
                if self.refused.contains(&path) || self.refused.contains(&format!("camera[{i}].source")) {
                    continue;
                }
                let numbered = camera.device == "auto" || camera.device.parse::<u32>().is_ok();
                self.check(&path, numbered || source != SourceKind::Nokhwa, || {
                    format!("must be the camera's number or `auto` with `source = \"nokhwa\"`, not {:?}", camera.device)
                });
                if source == SourceKind::Pipe && camera.device == "auto" {
                    continue;
                }
                if camera.device == "auto" {
                    self.check(&path, of_source.len() == 1, || {
                        "`auto` may find the device of another camera; with several, name the device of each \
                         (`tagalong devices` lists them)"
                            .into()
                    });
                } else {
                    self.check(&path, taken_by == *i, || {
                        format!("camera[{taken_by}] has `{}` too; a device can be read once", camera.device)
                    });
                }
            }
        }
    }

    /// Notes a problem with a key unless it is good.
    fn check(&mut self, path: &str, good: bool, message: impl FnOnce() -> String) {
        if !good {
            self.problems.add(self.offset(path), path, message());
        }
    }

    /// Where a key stands, or the table that it is left out of.
    fn offset(&self, path: &str) -> Option<usize> {
        let table = path.rsplit_once('.').map_or("", |(table, _)| table);
        self.offsets.get(path).or_else(|| self.offsets.get(table)).copied()
    }
}

/// What is wrong with a key that is not in the table `known`, and which was meant.
fn unknown_key(name: &str, known: &Table) -> String {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let near = suggestion(name, &names);
    if !near.is_empty() {
        return format!("unknown key{near}");
    }
    // The right key in the wrong table, most often after a [[camera]].
    let homes: BTreeSet<&str> = KEYS
        .iter()
        .filter_map(|(path, ..)| path.rsplit_once('.'))
        .filter(|(_, last)| *last == name)
        .map(|(t, _)| t)
        .collect();
    let home = homes.iter().map(|table| match *table {
        "camera" => "[[camera]]".to_string(),
        "presets" => "[presets.NAME]".to_string(),
        other => format!("[{other}]"),
    });
    match home.collect::<Vec<_>>().join(" or ") {
        nowhere if nowhere.is_empty() => format!("unknown key; known here are `{}`", names.join("`, `")),
        home => format!("unknown key here; it belongs in {home}"),
    }
}

/// What is wrong with a value that its key may not hold.
fn must_be(holds: Holds, found: &DeValue<'_>) -> String {
    let meant = match (holds, found) {
        (Holds::OneOf(choices), DeValue::String(text)) => suggestion(text, choices),
        _ => String::new(),
    };
    match (holds, found) {
        // It may hold a password.
        (Holds::TextOrNothing, DeValue::String(text)) => {
            format!("must be {holds}, without control characters; it has {} bytes", text.len())
        }
        _ => format!("must be {holds}, not {}{meant}", shown(found)),
    }
}

/// Values of an array that a message shows, at most.
const SHOWN: usize = 8;

/// A value as a message shows it: on one line, and short.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", shortened(text)),
        DeValue::Integer(integer) => shortened(&integer.to_string()),
        DeValue::Float(float) => shortened(float.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(values) if values.len() > SHOWN => format!("an array of {}", values.len()),
        DeValue::Array(values) => {
            let nested = |value: &DeValue<'_>| matches!(value, DeValue::Array(_) | DeValue::Table(_));
            if values.iter().any(|value| nested(value.get_ref())) {
                return "an array of arrays or tables".into();
            }
            let values: Vec<String> = values.iter().map(|value| shown(value.get_ref())).collect();
            format!("[{}]", values.join(", "))
        }
        DeValue::Table(_) => "a table".into(),
    }
}

/// The path of a key in a table; a key that is not bare is quoted, as TOML would have it.
fn join(table: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let key = if bare { shortened(key) } else { format!("{:?}", shortened(key)) };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', ", ")
}
