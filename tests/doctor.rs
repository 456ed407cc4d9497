//! `tagalong doctor`: each thing that can be wrong is broken once, and must be told with what to do about it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A folder with a configuration that has nothing wrong with it.
fn healthy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Others may look in: one test asks as somebody else.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    configure(folder.path(), "source = \"synthetic\"");
    folder
}

fn configure(folder: &Path, camera: &str) {
    let here = folder.display();
    let text = format!(
        "state_dir = \"{here}/state\"\n[serve]\ndirectory = \"{here}/sockets\"\n[model]\ninput = \"240x320\"\n\
         [[camera]]\nname = \"front\"\ntimeout_ms = 300\n{camera}\n"
    );
    fs::write(folder.join("tagalong.toml"), text).unwrap();
}

struct Told {
    code: i32,
    findings: Vec<[String; 3]>,
}

impl Told {
    /// What was told of a subject, each as its level and what was found.
    fn of(&self, subject: &str) -> Vec<(&str, &str)> {
        let of_subject = self.findings.iter().filter(|[_, about, _]| about == subject);
        of_subject.map(|[level, _, told]| (level.as_str(), told.as_str())).collect()
    }

    /// Holds one finding of a subject to its level and to words that are in it.
    fn holds(&self, subject: &str, level: &str, words: &[&str]) {
        let found = self.of(subject);
        let is_told = |(found, told): &(&str, &str)| *found == level && words.iter().all(|word| told.contains(word));
        assert!(found.iter().any(is_told), "{subject}, {level}, {words:?}: {:?}", self.findings);
    }
}

fn tagalong(command: &mut Command, folder: &Path) -> Told {
    command.args(["doctor", "--json", "--config"]).arg(folder.join("tagalong.toml"));
    let output = command.env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |finding: &Value| ["level", "subject", "told"].map(|key| finding[key].as_str().unwrap().to_owned());
    let findings = answer["findings"].as_array().unwrap().iter().map(text).collect();
    Told { code: output.status.code().unwrap(), findings }
}

fn doctor(folder: &Path) -> Told {
    tagalong(&mut Command::new(env!("CARGO_BIN_EXE_tagalong")), folder)
}

#[test]
fn where_nothing_is_wrong_everything_is_told_as_it_is() {
    let folder = healthy();
    let told = doctor(folder.path());
    assert_eq!(told.code, 0, "{:?}", told.findings);
    told.holds("configuration", "good", &["tagalong.toml"]);
    told.holds("model", "good", &["bundled", "probe cosine 1.0000"]);
    told.holds("camera front", "good", &["gives RGB3 640x480"]);
    told.holds("daemon", "warning", &["none answers", "systemctl start tagalong"]);
    told.holds("state", "good", &["is not there yet"]);
    told.holds("processor", "good", &["cores"]);
    // A kernel without them is told of as that; the daemon runs all the same.
    let [(level, kernel)] = told.of("kernel")[..] else { panic!("{:?}", told.findings) };
    assert!(level == "good" || level == "warning" && kernel.contains("less confined"), "{kernel}");
    assert!(kernel.contains("Landlock") || kernel.contains("seccomp"), "{kernel}");
    // It leaves nothing behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    fs::create_dir(folder.path().join("state")).unwrap();
    doctor(folder.path()).holds("state", "good", &["can be written"]);
    assert_eq!(fs::read_dir(folder.path().join("state")).unwrap().count(), 0);
    // For people it is a line each.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    let text = command.args(["doctor", "--config"]).arg(folder.path().join("tagalong.toml")).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("good") && line.contains("camera front")), "{text}");
}

/// What an operator looks up is what is printed.
#[test]
fn every_line_is_in_the_operators_page() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let rows = page.lines().skip_while(|line| *line != "| line | what is looked at |").skip(2);
    let documented: BTreeSet<&str> =
        rows.map_while(|row| row.strip_prefix("| `")?.split_once('`')).map(|(subject, _)| subject).collect();
    let folder = healthy();
    fs::create_dir_all(folder.path().join("state/gallery")).unwrap();
    let file = folder.path().join("tagalong.toml");
    let wrong = fs::read_to_string(&file).unwrap().replace("[serve]\n", "[serve]\ntracks_group = \"no-such-group\"\n");
    fs::write(&file, wrong).unwrap();
    let told = doctor(folder.path());
    let printed: BTreeSet<&str> = told.findings.iter().map(|[_, subject, _]| subject.as_str()).collect();
    let documented: BTreeSet<&str> =
        documented.into_iter().map(|line| if line == "camera NAME" { "camera front" } else { line }).collect();
    assert_eq!(printed, documented);
}

#[test]
fn a_bad_configuration_is_told_by_its_lines_and_the_rest_all_the_same() {
    let folder = healthy();
    configure(folder.path(), "source = \"synthetic\"\nfps = -3.0\nnonsense = 1");
    let told = doctor(folder.path());
    assert_eq!(told.code, 78);
    told.holds("configuration", "fault", &["tagalong.toml", "nonsense"]);
    told.holds("configuration", "warning", &["built-in"]);
    told.holds("model", "good", &[]);
}

#[test]
fn a_camera_that_gives_nothing_is_told_with_what_to_do() {
    struct Case<'a> {
        camera: &'a str,
        words: &'static [&'static str],
        code: i32,
    }
    let folder = healthy();
    let file = folder.path().join("file");
    fs::write(&file, "no camera").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let file = format!("device = \"{}\"", file.display());
    let empty = format!("source = \"images\"\nfolder = \"{}/empty\"", folder.path().display());
    let missing = "device = \"/dev/video77\"";
    let cases = [
        Case { camera: missing, words: &["/dev/video77 does not exist", "tagalong devices"], code: 66 },
        Case { camera: "device = \"usb-Nothing\"", words: &["usb-Nothing", "does not exist"], code: 66 },
        Case { camera: &file, words: &["file"], code: 74 },
        Case { camera: &empty, words: &["empty"], code: 66 },
    ];
    for Case { camera, words, code } in cases {
        configure(folder.path(), camera);
        let told = doctor(folder.path());
        told.holds("camera front", "fault", words);
        assert_eq!(told.code, code, "{camera}: {:?}", told.findings);
    }
}

/// Whoever writes to a pipe would lose what is read here.
#[test]
fn pipes_are_looked_at_and_not_read_and_commands_are_not_run() {
    let folder = healthy();
    let (pipe, ran) = (folder.path().join("pipe"), folder.path().join("ran"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let of = |camera: String| {
        configure(folder.path(), &format!("source = \"pipe\"\nformat = \"MJPG\"\n{camera}"));
        doctor(folder.path())
    };
    let held = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    (&held).write_all(b"frames").unwrap();
    of(format!("device = \"{}\"", pipe.display())).holds("camera front", "good", &["is a named pipe"]);
    let mut kept = [0; 6];
    (&held).read_exact(&mut kept).unwrap();
    assert_eq!(&kept, b"frames");
    of("device = \"tagalong.toml\"".into()).holds("camera front", "fault", &["is no named pipe", "mkfifo"]);
    of("device = \"none\"".into()).holds("camera front", "fault", &["No such file", "mkfifo"]);
    of(format!("command = [\"touch\", \"{}\"]", ran.display())).holds("camera front", "good", &["/touch is there"]);
    assert!(!ran.exists());
    of("command = [\"no-such-program\"]".into()).holds("camera front", "fault", &["no-such-program", "install it"]);
}

#[test]
fn a_model_that_is_not_there_is_a_fault() {
    let folder = healthy();
    let file = folder.path().join("tagalong.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("[model]\n", "[model]\nmanifest = \"/nowhere/model.toml\"\n")).unwrap();
    let told = doctor(folder.path());
    assert_ne!(told.code, 0);
    let faults =
        told.findings.iter().filter(|[level, _, told]| level == "fault" && told.contains("/nowhere/model.toml"));
    assert_eq!(faults.count(), 1, "{:?}", told.findings);
}

#[test]
fn a_state_directory_that_the_daemon_would_refuse_is_a_fault() {
    let folder = healthy();
    let state = folder.path().join("state");
    fs::write(&state, "a file").unwrap();
    let told = doctor(folder.path());
    told.holds("state", "fault", &["is no folder"]);
    assert_eq!(told.code, 73);

    fs::remove_file(&state).unwrap();
    fs::create_dir_all(state.join("gallery")).unwrap();
    fs::write(state.join("next-track-id"), "many\n").unwrap();
    fs::write(state.join("gallery/1.safetensors"), "garbage").unwrap();
    let told = doctor(folder.path());
    told.holds("state", "fault", &["next-track-id", "remove the file"]);
    told.holds("gallery", "warning", &["1 of 1 cannot be used"]);
    assert_eq!(fs::read_to_string(state.join("next-track-id")).unwrap(), "many\n");
    assert_eq!(fs::read_to_string(state.join("gallery/1.safetensors")).unwrap(), "garbage");
}

/// A command that a shell runs as root in a namespace of its own, where there may be one.
fn in_namespace(prepare: &str) -> Option<Command> {
    let can =
        Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !can {
        eprintln!("SKIPPED: a disk that is full or read-only: this user may not mount one");
        return None;
    }
    let mut command = Command::new("unshare");
    let script = format!("{prepare} && exec \"$0\" \"$@\"");
    command.args(["--mount", "sh", "-ec", &script, env!("CARGO_BIN_EXE_tagalong")]);
    Some(command)
}

#[test]
fn a_disk_that_takes_nothing_is_a_fault() {
    let folder = healthy();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let here = state.display();
    let full = format!("mount -t tmpfs -o size=64k none {here} && (cat /dev/zero > {here}/all 2>/dev/null || true)");
    let Some(mut command) = in_namespace(&full) else { return };
    let told = tagalong(&mut command, folder.path());
    assert_eq!(told.code, 73);
    told.holds("state", "fault", &["No space left", "make room"]);
    told.holds("disk", "fault", &["0 MiB are free"]);

    let mut command = in_namespace(&format!("mount -t tmpfs -o ro none {here}")).unwrap();
    let told = tagalong(&mut command, folder.path());
    assert_eq!(told.code, 73);
    told.holds("state", "fault", &["Read-only", "state_dir"]);

    let mut command = in_namespace(&format!("mount -t tmpfs -o size=16m none {here}")).unwrap();
    let told = tagalong(&mut command, folder.path());
    assert_eq!(told.code, 0);
    told.holds("disk", "warning", &["only 1", "MiB are free"]);
}

#[test]
fn who_may_not_is_told_who_asks() {
    let folder = healthy();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let device = folder.path().join("video");
    fs::write(&device, "").unwrap();
    fs::set_permissions(&device, fs::Permissions::from_mode(0o600)).unwrap();
    configure(folder.path(), &format!("device = \"{}\"", device.display()));
    let as_nobody = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", program]);
        command
    };
    // A build folder that others may not enter holds a program that they may not run.
    let visible = Path::new(env!("CARGO_BIN_EXE_tagalong")).ancestors().skip(1).all(|folder| {
        folder.as_os_str().is_empty()
            || fs::metadata(folder).is_ok_and(|folder| folder.permissions().mode() & 0o001 != 0)
    });
    if !visible || !as_nobody("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: what another user is told: this user may not become one, or it may not run the program");
        return;
    }
    let told = tagalong(&mut as_nobody(env!("CARGO_BIN_EXE_tagalong")), folder.path());
    told.holds("camera front", "fault", &["may not be opened", "group `video`", "user nobody"]);
    told.holds("state", "fault", &["Permission denied", "user nobody"]);
    assert_eq!(told.code, 77);
}
