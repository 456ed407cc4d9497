//! The files in `config/`: valid, whole, and documented as they are checked.

use std::path::Path;

use tagalong::capture::SourceKind;
use tagalong::config::{Config, DEFAULT, Effect, Holds, KEYS, LogLevel};
use tagalong::propagate::{SeedRule, Window};
use tagalong::sandbox::SandboxMode;
use tagalong::types::PixelFormat;

fn shipped(name: &str) -> Config {
    Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).unwrap_or_else(|p| panic!("{p}"))
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("/etc/tagalong/tagalong.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_file_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3);
    for file in files {
        Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

/// The keys of the default file: (path as in the table of keys, section header, comment above).
fn documented() -> Vec<(String, String, String)> {
    let (mut table, mut header, mut comment) = (String::new(), String::new(), Vec::new());
    let mut keys = Vec::new();
    for line in DEFAULT.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if line.starts_with('[') {
            let name = line.trim_matches(['[', ']']);
            table = if name.starts_with("presets.") { "presets.".into() } else { format!("{name}.") };
            if !comment.is_empty() {
                header = comment.join(" ");
            }
            comment.clear();
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.push((format!("{table}{key}"), header.clone(), comment.join(" ")));
            comment.clear();
        } else {
            assert_eq!(line, "", "a line that is no comment, table or key");
            comment.clear();
        }
    }
    keys
}

#[test]
fn every_key_is_documented_with_what_it_may_hold() {
    let documented = documented();
    for (path, header, comment) in &documented {
        let Some((_, holds, effect)) = KEYS.iter().find(|(known, ..)| known == path) else {
            panic!("{path} is not in the table of keys");
        };
        let says =
            |text: &str| assert!(comment.contains(text), "the comment of {path} does not say `{text}`: {comment}");
        match holds {
            Holds::Whole(least, most) => says(&format!("{least} to {most}")),
            Holds::WholeOrZero(least, most) => ["0", &format!("{least} to {most}")].into_iter().for_each(says),
            Holds::Number(least, most) => says(&format!("{least} to {most}")),
            Holds::Flag => says("true"),
            Holds::OneOf(choices) => choices.iter().for_each(|choice| says(&format!("`{choice}`"))),
            Holds::Name => says(if path == "camera.name" { "1 to 64 letters" } else { "Name" }),
            Holds::FilePath | Holds::FilePathOrNothing => says("ath"),
            Holds::TextOrNothing => says("text"),
            Holds::Device | Holds::InputSize => says("`auto`"),
            Holds::Words => says("array of strings"),
            Holds::Accounts => says("array of names of users, and of groups with an `@`"),
            Holds::Mode => says("octal"),
            Holds::GroupOrNothing => says("empty"),
        }
        // What stands above all tables is of the start alone, and says so where it matters.
        if path.contains('.') {
            let restart = header.contains("needs a restart");
            assert_eq!(restart, *effect == Effect::AtRestart, "what the section of {path} says of a reload");
        }
    }
    for (path, ..) in KEYS {
        assert!(documented.iter().any(|(known, ..)| known == path), "{path} is not in default.toml");
    }
}

/// The choices that the table of keys knows are those that the types know.
#[test]
fn choices_are_those_of_the_types() {
    fn all<T: serde::de::DeserializeOwned>(path: &str) {
        let (_, holds, _) = KEYS.iter().find(|(known, ..)| *known == path).unwrap();
        let Holds::OneOf(choices) = holds else { panic!("{path} is no choice") };
        let read = |text: &str| T::deserialize(toml::Value::String(text.into())).map_err(|error| error.to_string());
        for choice in *choices {
            read(choice).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        // Serde lists every variant where it knows none.
        let error = read("none of them").map(|_| ()).unwrap_err();
        assert_eq!(error.matches('`').count(), 2 + 2 * choices.len(), "{path}: {error}");
    }
    all::<SourceKind>("camera.source");
    let (_, holds, _) = KEYS.iter().find(|(known, ..)| *known == "camera.format").unwrap();
    let Holds::OneOf(formats) = holds else { panic!("camera.format is no choice") };
    assert_eq!(formats[0], "auto");
    assert_eq!(formats[1..], PixelFormat::ALL.map(|format| format.to_string()));
    all::<Window>("presets.window");
    all::<SeedRule>("presets.seed");
    all::<LogLevel>("log.level");
    all::<SandboxMode>("sandbox");
}

#[test]
fn a_file_is_merged_over_the_defaults() {
    let builtin = Config::builtin();
    assert_eq!(parse(""), builtin);
    assert_eq!(parse(DEFAULT), builtin);
    assert_eq!((builtin.camera.len(), builtin.camera[0].name.as_str()), (1, "camera"));
    assert_eq!(builtin.propagation(), &builtin.presets["sharp"]);

    let config = parse(
        "[[camera]]\nname = \"a\"\nfps = 5\n[[camera]]\nname = \"b\"\nsource = \"nokhwa\"\n[propagate]\npreset = \"mine\"\n\
         [presets.mine]\nradius = 9\n[presets.dino]\ntop_k = 10\n[track]\nlost_after_s = 1",
    );
    let names: Vec<&str> = config.camera.iter().map(|camera| camera.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!((config.camera[0].fps, config.camera[1].fps, config.camera[0].width), (5.0, 30.0, 640));
    assert_eq!((config.propagation().radius, config.propagation().seed), (9, SeedRule::Area));
    assert_eq!((config.presets["dino"].top_k, config.presets["dino"].seed), (10, SeedRule::Nearest));
    assert_eq!(config.presets["soft"], builtin.presets["soft"]);
    assert_eq!((config.track.lost_after_s, config.track.confirm_frames), (1.0, builtin.track.confirm_frames));
    assert_eq!(config.serve, builtin.serve);
}

#[test]
fn relative_paths_are_meant_from_the_folder_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("frames")).unwrap();
    std::fs::write(folder.path().join("m.toml"), "").unwrap();
    let file = folder.path().join("f.toml");
    let text = "state_dir = \"state\"\nmodel.manifest = \"m.toml\"\n[[camera]]\nsource = \"images\"\nfolder = \"frames\"\n\
                width = 0\n[serve]\ndirectory = \"/run/x\"";
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.state_dir, folder.path().join("state"));
    assert_eq!(Path::new(&config.model.manifest), folder.path().join("m.toml"));
    assert_eq!(config.camera[0].folder, folder.path().join("frames"));
    assert_eq!(config.serve.directory, Path::new("/run/x"));
    assert_eq!(Config::builtin().model.manifest, "bundled");
}

#[test]
fn changes_say_what_needs_a_restart() {
    let old = parse("[[camera]]\nname = \"a\"\ndevice = \"video0\"\n[[camera]]\nname = \"b\"\ndevice = \"video1\"");
    let new = parse(
        "state_dir = \"/x\"\n[[camera]]\nname = \"b\"\ndevice = \"video1\"\nfps = 5\n[[camera]]\nname = \"c\"\ndevice = \"video2\"\n[track]\nmin_score = 0.5\n\
         [presets.soft]\ntop_k = 9\n[log]\nlevel = \"debug\"\n[serve]\nqueue = 1",
    );
    let changes = Config::changes(&old, &new);
    assert_eq!(changes.applied, ["log.level", "presets.soft.top_k", "track.min_score"]);
    let of_a_camera = KEYS.iter().filter(|(key, ..)| key.starts_with("camera.")).count();
    let restart: Vec<&str> = changes.restart_needed.iter().map(String::as_str).collect();
    assert_eq!(
        restart.iter().filter(|key| key.starts_with("camera.a.")).count(),
        of_a_camera,
        "the camera that is gone"
    );
    assert_eq!(restart.iter().filter(|key| key.starts_with("camera.c.")).count(), of_a_camera, "the new camera");
    let rest: Vec<&&str> =
        restart.iter().filter(|key| !key.starts_with("camera.a.") && !key.starts_with("camera.c.")).collect();
    assert_eq!(rest, [&"camera.b.fps", &"serve.queue", &"state_dir"]);

    let piped = |command: &str| {
        parse(&format!("[[camera]]\nname = \"a\"\nsource = \"pipe\"\nformat = \"MJPG\"\ncommand = {command}"))
    };
    let changes = Config::changes(&piped("[\"cat\", \"film\"]"), &piped("[\"head\", \"film\"]"));
    assert_eq!(changes.restart_needed, ["camera.a.command"]);

    let mut running = old.clone();
    running.take_live(new.clone());
    assert_eq!(Config::changes(&running, &new).applied, [] as [&str; 0]);
    assert_eq!(
        Config::changes(&running, &new).restart_needed,
        Config::changes(&old, &new).restart_needed,
        "told again until it is done"
    );
    assert_eq!(Config::changes(&old, &old), Default::default());
}

#[test]
fn jetson_has_two_cameras_named_for_good() {
    let config = shipped("jetson.toml");
    assert_eq!(config.camera.len(), 2);
    assert!(config.camera.iter().all(|camera| !camera.device.starts_with("/dev/video") && camera.device != "auto"));
    assert_eq!(shipped("minimal.toml").camera.len(), 1);
}
