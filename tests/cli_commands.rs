//! The real binary, as a user or a script meets it, without a daemon.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

#[path = "davis_scene/mod.rs"]
mod davis_scene;

/// Every command that a user sees, and the hidden ones.
const COMMANDS: [&[&str]; 40] = [
    &[],
    &["run"],
    &["demo"],
    &["check"],
    &["watch"],
    &["tag"],
    &["gallery"],
    &["gallery", "list"],
    &["gallery", "show"],
    &["gallery", "save"],
    &["gallery", "rename"],
    &["gallery", "merge"],
    &["gallery", "forget"],
    &["gallery", "export"],
    &["gallery", "import"],
    &["untag"],
    &["rename"],
    &["reset"],
    &["list"],
    &["status"],
    &["snapshot"],
    &["reload"],
    &["devices"],
    &["doctor"],
    &["eval"],
    &["study"],
    &["trial"],
    &["replay"],
    &["model"],
    &["model", "list"],
    &["model", "fetch"],
    &["model", "check"],
    &["model", "bench"],
    &["model", "import"],
    &["model", "quantize"],
    &["model", "variance"],
    &["model", "bundled"],
    &["model", "manifest"],
    &["generate"],
    &["generate", "man"],
];

fn tagalong(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    command.args(arguments).stdin(Stdio::null());
    command.env_remove("TAGALONG_SOCKET_DIR").env_remove("RUST_LOG").env_remove("COLUMNS");
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = tagalong(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

#[test]
fn the_help_of_every_command_teaches() {
    for command in COMMANDS {
        let (code, long, errors) = run(&[command, &["--help"]].concat());
        assert_eq!((code, errors.as_str()), (0, ""), "{command:?}");
        if command != ["generate", "man"] {
            assert!(long.contains("EXAMPLES\n"), "{command:?}: {long}");
        }
        let (code, short, _) = run(&[command, &["-h"]].concat());
        assert_eq!(code, 0, "{command:?}");
        assert!(short.len() < long.len(), "{command:?}: the short help is no shorter");
        assert!(long.lines().all(|line| line.chars().count() <= 120), "{command:?}: {long}");
    }
}

#[test]
fn examples_parse() {
    // Every line of an example that runs tagalong, up to a pipe or the like, is a command line that it understands.
    let mut examples = 0;
    for command in COMMANDS {
        let (_, help, _) = run(&[command, &["--help"]].concat());
        let help = help.split("EXAMPLES").nth(1).unwrap_or_default().replace("\\\n", " ");
        for line in help.lines().filter(|line| line.starts_with("      ")) {
            let commands = line.split(['|', '&', '(', ')', ';', '>']).map(str::trim);
            let parts = commands.map(|part| part.rsplit("xargs -n1 ").next().unwrap_or(part));
            for part in parts.filter(|part| part.starts_with("tagalong ")) {
                // What is quoted is one word.
                let quoted =
                    |(i, text): (usize, &str)| if i % 2 == 1 { text.replace(' ', "_") } else { text.to_owned() };
                let part: String = part.split('\'').enumerate().map(quoted).collect();
                let mut words: Vec<&str> = part.split_whitespace().skip(1).collect();
                if line.contains("xargs") && words == ["untag"] {
                    words.push("3");
                }
                // With `--help` at its end, a line is read up to there and nothing is run.
                let known = words.iter().take_while(|word| !word.starts_with('-')).count();
                assert!(known > 0, "{line}");
                // `help` takes no options of its own.
                if words[0] != "help" {
                    words.push("--help");
                }
                let (code, _, errors) = run(&words);
                assert_eq!(code, 0, "{line}: {words:?}: {errors}");
                examples += 1;
            }
        }
    }
    assert!(examples > 30, "{examples}");
}

#[test]
fn the_version_is_told() {
    let (code, out, _) = run(&["--version"]);
    assert_eq!((code, out), (0, format!("tagalong {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn bad_usage_is_64_and_says_what_is_right() {
    for (arguments, expected) in [
        (&[][..], "Usage:"),
        (&["wacth"], "a similar subcommand exists"),
        (&["tag"], "--box"),
        (&["tag", "--box", "10,20,30"], "a box is X,Y,WIDTH,HEIGHT in pixels; got 3 numbers"),
        (&["tag", "--box", "1,2,3,4", "--point", "1,2"], "cannot be used with"),
        (&["tag", "--point", "1,two"], "\"two\" is no number"),
        (&["untag", "first"], "invalid value"),
        (&["watch", "--max-rate", "0"], "above 0"),
        (&["watch", "--masks"], "--json"),
        (&["demo", "--objects", "65"], "65"),
        (&["replay", "."], "--tag"),
        (&["replay", ".", "--tag", "cup=7"], "a box X,Y,WIDTH,HEIGHT, a point X,Y or a mask FILE.png"),
        (&["eval", "--model", "bundled"], "--davis"),
        (&["eval", "--degrade", "fog"], "there is no kind \"fog\"; there are blur, noise, jpeg,"),
        (&["eval", "--degrade", "blur,jpeg=bad"], "there is no level \"bad\"; there are mild, moderate, strong"),
        (&["model", "manifest", "vit.onnx"], "--output"),
        (&["model", "manifest", "vit.onnx", "--output", "x", "--input-sizes", "640"], "HEIGHTxWIDTH"),
        (&["generate", "pdf", "x"], "unrecognized"),
    ] {
        let (code, out, errors) = run(arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}

#[test]
fn without_a_daemon_commands_say_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = ["--socket-dir", folder.path().to_str().unwrap()];
    for command in [
        &["tag", "--box", "1,2,3,4"][..],
        &["untag", "1"],
        &["rename", "1", "cup"],
        &["reset"],
        &["list"],
        &["status"],
        &["snapshot", "-"],
        &["reload"],
        &["watch"],
    ] {
        let (code, out, errors) = run(&[command, &place].concat());
        assert_eq!((code, out.as_str()), (69, ""), "{command:?}: {errors}");
        assert!(errors.starts_with("tagalong: no daemon answers at "), "{command:?}: {errors}");
        assert!(errors.contains("`tagalong run --config FILE`"), "{command:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{command:?}: {errors}");
    }
}

#[test]
fn the_environment_names_the_folder_of_the_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let output = tagalong(&["list"]).env("TAGALONG_SOCKET_DIR", folder.path()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains(folder.path().to_str().unwrap()), "{errors}");
}

#[test]
fn a_file_that_is_not_there_or_damaged_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mask.png");
    let name = file.to_str().unwrap();
    let (code, _, errors) = run(&["tag", "--mask", name]);
    assert_eq!(code, 66, "{errors}");
    assert!(errors.contains(name), "{errors}");
    fs::write(&file, "no picture").unwrap();
    let (code, _, errors) = run(&["tag", "--mask", name]);
    assert_eq!(code, 65, "{errors}");
    assert!(errors.contains(name), "{errors}");
}

#[test]
fn bad_configurations_are_78_with_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    fs::write(&file, "[track]\nmin_scor = 0.5\n\n[log]\nlevel = \"loud\"\n").unwrap();
    let name = file.to_str().unwrap();
    for command in
        [&["check", name][..], &["run", "--config", name], &["replay", ".", "--tag", "1,2", "--config", name]]
    {
        let (code, _, errors) = run(command);
        assert_eq!(code, 78, "{command:?}: {errors}");
        for expected in [format!("{name}:2:1"), "min_score".into(), format!("{name}:5:"), "level".into()] {
            assert!(errors.contains(&expected), "{command:?}: {expected} in {errors}");
        }
    }
}

#[test]
fn a_manifest_is_written_for_a_graph_that_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (code, _, errors) = run(&["model", "bundled", "--out", folder.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{errors}");
    let onnx = at("bundled.onnx");
    let describe = |more: &[&str]| {
        let plain = ["--mean", "0,0,0", "--std", "1,1,1", "--name", "mine"];
        run(&[&["model", "manifest", &onnx][..], &plain, more].concat())
    };
    let sizes = ["--output", "last_hidden_state", "--input-sizes", "240x320,480x640"];
    for (more, code, expected) in [
        (&["--output", "last_hidden_state"][..], 65, "name its input sizes"),
        (&["--output", "x6", "--input-sizes", "240x320"], 65, "it has no output `x6`; it has last_hidden_state"),
        (&["--output", "last_hidden_state", "--input-sizes", "240x321"], 65, "whole number of patches"),
        (&[&sizes[..], &["--reference", &at("none.onnx")]].concat(), 66, "none.onnx"),
    ] {
        let (got, out, errors) = describe(more);
        assert_eq!((got, out.as_str()), (code, ""), "{more:?}: {errors}");
        assert!(errors.contains(expected), "{more:?}: {errors}");
        assert!(!Path::new(&at("mine.toml")).exists() && !Path::new(&at("mine.probe")).exists());
    }
    let (code, out, errors) = describe(&sizes);
    assert_eq!((code, out), (0, format!("{}\n{}\n", at("mine.probe"), at("mine.toml"))), "{errors}");
    let (code, out, errors) = run(&["check", &at("mine.toml")]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("mine (vit), 15x20 patches") && out.contains("probe cosine 1.0000"), "{out}");
    let (code, _, errors) = describe(&sizes);
    assert_eq!(code, 73, "{errors}");
    assert!(errors.contains("--force"), "{errors}");
    assert_eq!(describe(&[&sizes[..], &["--force"]].concat()).0, 0);
}

#[test]
fn a_checkpoint_becomes_a_model_that_the_daemon_takes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let fixture = |name: &str| format!("{}/tests/fixtures/checkpoints/{name}", env!("CARGO_MANIFEST_DIR"));
    let import = |name: &str, more: &[&str]| {
        let out = at("models");
        let fixed = ["model", "import", &fixture(name), "--heads", "2", "--out", &out, "--input-sizes", "70x84,98x98"];
        run(&[&fixed[..], more].concat())
    };
    let (code, out, errors) = import("dinov2.pth", &["--name", "small"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.starts_with("DINOv2 ("), "{out}");
    let (code, out, _) = run(&["check", &at("models/small.toml")]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("5x6 patches of 14 pixels, 16 dimensions, probe cosine 1.0000"), "{out}");

    let before = fs::read(at("models/small.onnx")).unwrap();
    let (code, _, errors) = import("dinov2.pth", &["--name", "small", "--layer", "1"]);
    assert_eq!(code, 73, "{errors}");
    assert!(errors.contains("--force"), "{errors}");
    assert_eq!(fs::read(at("models/small.onnx")).unwrap(), before);
    let (code, _, errors) = import("dinov2.pth", &["--name", "small", "--layer", "1", "--force"]);
    assert_eq!(code, 0, "{errors}");
    assert_ne!(fs::read(at("models/small.onnx")).unwrap(), before);

    for (name, more, expected, problem) in [
        ("hostile/calls-system.pth", &[][..], 65, "posix.system"),
        ("not-there.pth", &[], 66, "not-there.pth"),
        ("dinov2.pth", &["--name", "a/b"], 64, "no name for a model"),
        ("dinov2.pth", &["--family", "dinov3"], 64, "did you mean `dinov2`?"),
        ("dino.pth", &[], 65, "no whole number of patches of 8 pixels"),
    ] {
        let (code, _, errors) = import(name, more);
        assert_eq!(code, expected, "{name} {more:?}: {errors}");
        assert!(errors.contains(problem), "{name} {more:?}: {errors}");
    }
    assert_eq!(fs::read_dir(at("models")).unwrap().count(), 3);

    // And then a quantized one.
    let quantize = |more: &[&str]| run(&[&["model", "quantize", &at("models/small.toml")][..], more].concat());
    let (code, out, errors) = quantize(&["--pictures", "2", "--layer-bound", "0.05", "--bound", "0.05"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.contains("blocks.0.attn.qkv.weight") && out.contains("mean cosine 0.99"), "{out}");
    let (code, out, _) = run(&["check", &at("models/small-int8.toml")]);
    assert_eq!(code, 0, "{out}");
    let (code, out, _) = run(&["model", "check", &at("models/small-int8.toml")]);
    assert_eq!(code, 0, "{out}");
    for part in
        ["small-int8, of the family dinov2", "8-bit integers", "16 dimensions", "70x84: cosine", "98x98: cosine"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (code, out, _) = run(&["model", "bench", &at("models/small-int8.toml"), "--frames", "3", "--json"]);
    assert_eq!(code, 0, "{out}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let stages: Vec<&str> = report["stages"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(stages, ["preprocess", "embed", "propagate", "mask", "total"]);
    let median = |at: usize| report["stages"][at]["median_ms"].as_f64().unwrap();
    assert!((0..4).all(|stage| median(stage) > 0.0 && median(stage) <= median(4)), "{out}");
    for (more, expected, problem) in [
        (&["--pictures", "2"][..], 73, "--force"),
        (&["--calibrate", &at("models"), "--force"], 66, "fewer than two JPEG or PNG pictures"),
        (&["--calibrate", &at("none"), "--force"], 66, "none"),
        (&["--name", "a b"], 64, "no name for a model"),
        (&["--layer-bound", "2"], 64, "a loss is 0 to 1"),
    ] {
        let (code, _, errors) = quantize(more);
        assert_eq!(code, expected, "{more:?}: {errors}");
        assert!(errors.contains(problem), "{more:?}: {errors}");
    }
}

#[test]
fn published_checkpoints_are_listed_with_their_licences() {
    let (code, out, _) = run(&["model", "list"]);
    assert_eq!(code, 0);
    for (name, licence) in [("dinov2-vits14 ", "Apache-2.0"), ("mae-vitb16 ", "CC-BY-NC-4.0")] {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {out}"));
        assert!(line.contains(licence), "{line}");
    }
    let (_, json, _) = run(&["model", "list", "--json"]);
    let entries: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(entries.len(), out.lines().count());
    assert!(entries.iter().all(|entry| entry["url"].as_str().unwrap().starts_with("https://")));
}

#[test]
fn an_unknown_preset_is_told_with_those_that_there_are() {
    let (code, _, errors) = run(&["eval", "--model", "bundled", "--davis", ".", "--preset", "dyno"]);
    assert_eq!(code, 64, "{errors}");
    assert!(errors.contains("best, crw, dino, dinov3, fast, sharp, soft"), "{errors}");
}

#[test]
fn a_preset_of_ones_own_is_evaluated_and_a_density_that_is_not_to_be_had_is_told_first() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    davis_scene::write_video(folder.path(), "alone", 1, [120, 160], 4, 3);
    // The model has an input size that is 0.7 times as dense as its first, and none that is 1.4 times as dense.
    fs::write(at("own.toml"), "[presets.mine]\ndensity = 0.7\n[presets.dense]\ndensity = 1.4\n").unwrap();
    let eval = ["eval", "--model", "bundled", "--davis", &at(""), "--config", &at("own.toml"), "--preset"];
    let (code, out, errors) = run(&[&eval[..], &["mine,soft", "--json", "-"]].concat());
    assert_eq!(code, 0, "{errors}");
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["presets"].as_object().unwrap().keys().collect::<Vec<_>>(), ["mine", "soft"]);
    let (code, out, errors) = run(&[&eval[..], &["mine", "--degrade", "drop,jpeg=mild,drop", "--json", "-"]].concat());
    assert_eq!(code, 0, "{errors}");
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["degraded"].as_object().unwrap().keys().collect::<Vec<_>>(), ["drop=moderate", "jpeg=mild"]);
    let (code, _, errors) = run(&[&eval[..], &["mine,soft", "--degrade", "drop"]].concat());
    assert_eq!(code, 64, "{errors}");
    assert!(errors.contains("give one with --preset"), "{errors}");
    let (code, out, errors) = run(&[&eval[..], &["soft,dense"]].concat());
    assert_eq!((code, out.as_str()), (78, ""), "{errors}");
    assert!(errors.contains("preset dense") && errors.contains("672x896"), "{errors}");

    // `check` says so of the one that is chosen, as the daemon does.
    for (preset, expected) in [("mine", 0), ("dense", 78)] {
        let text = fs::read_to_string(at("own.toml")).unwrap();
        fs::write(at("chosen.toml"), format!("propagate.preset = \"{preset}\"\n{text}")).unwrap();
        let (code, out, errors) = run(&["check", &at("chosen.toml")]);
        assert_eq!(code, expected, "{out}{errors}");
        assert!(expected == 0 || errors.contains("presets.dense.density: an input of 672x896"), "{errors}");
    }
    // The last one that was chosen is the one that is not to be had.
    let (code, out, errors) = run(&["trial", "--config", &at("chosen.toml")]);
    assert_eq!((code, out.as_str()), (78, ""), "{errors}");
    assert!(errors.contains("672x896"), "{errors}");
}

#[test]
fn devices_are_listed_for_people_and_programs() {
    let (code, out, errors) = run(&["devices"]);
    assert_eq!(code, 0, "{errors}");
    assert!(!out.is_empty());
    let (code, out, _) = run(&["devices", "--json"]);
    assert_eq!(code, 0);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(value["devices"].is_array());
}

#[test]
fn nobody_minds_a_closed_standard_output() {
    for arguments in [&["devices"][..], &["devices", "--json"], &["--help"], &["help", "tag"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = tagalong(arguments).stdout(writer).output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn man_pages_and_completions_are_generated() {
    let folder = tempfile::tempdir().unwrap();
    let generate = |what: &str| {
        let target = folder.path().join(what);
        let (code, _, errors) = run(&["generate", what, target.to_str().unwrap()]);
        assert_eq!(code, 0, "{errors}");
        let files = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = files
            .map(|file| {
                assert!(fs::metadata(&file).unwrap().len() > 100, "{}", file.display());
                name_of(&file)
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(generate("completions"), ["_tagalong", "tagalong.bash", "tagalong.fish"]);
    let pages = generate("man");
    for command in COMMANDS.iter().filter(|command| command.first() != Some(&"generate")) {
        let page = [&["tagalong"], *command].concat().join("-") + ".1";
        assert!(pages.contains(&page), "{page} in {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("generate")), "{pages:?}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(run(&["generate", "man", file.to_str().unwrap()]).0, 73);
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap().to_str().unwrap().to_owned()
}
