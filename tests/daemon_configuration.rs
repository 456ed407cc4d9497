//! The real binary and its configuration: what is taken, what is refused, and what it denies itself.

mod daemon_support;

use std::fs;

use serde_json::Value;

use daemon_support::{Daemon, SCENE, configuration, follow, tag, tagalong};

#[test]
fn a_new_configuration_is_taken_and_a_bad_one_is_not() {
    let mut daemon = Daemon::start(SCENE);
    tag(&mut daemon, "scene", 1, "cup");
    let file = daemon.folder.path().join("tagalong.toml");
    let folder = daemon.folder.path().to_owned();
    let write = |cameras: &str| fs::write(&file, configuration(&folder, cameras)).unwrap();
    write(&format!("{SCENE}[track]\nmin_scor = 0.9\n"));
    let (code, _, errors) = daemon.run(&["reload"]);
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains("min_scor") && errors.contains("min_score"), "{errors}");
    write(&format!("{}[track]\nmin_score = 0.3\n", SCENE.replace("10.0", "20.0")));
    let answer = daemon.good(&["reload", "--json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["applied"], serde_json::json!(["track.min_score"]), "{answer}");
    assert!(answer["restart_needed"].to_string().contains("camera"), "{answer}");
    assert!(warnings(&daemon).iter().any(|told| told.contains("in force after a restart: camera.scene.fps")));
    write(&format!("{SCENE}[track]\nmin_score = 7.0\n"));
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_for("the refusal", |daemon| daemon.log().contains("was not taken, the old one stays").then_some(()));
    assert!(warnings(&daemon).iter().any(|told| told.contains("file is wrong") && told.contains("min_score")));
    write(&format!("{SCENE}[track]\nmin_score = 0.2\n"));
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon
        .wait_for("the new one", |daemon| (daemon.log().matches("applied track.min_score").count() == 2).then_some(()));
    let told = |daemon: &Daemon| warnings(daemon).iter().any(|told| told.contains("configuration"));
    daemon.wait_for("the end of the warning", |daemon| (!told(daemon)).then_some(()));
    follow(&daemon, "scene", 1, "cup");
}

/// What the daemon's status warns of.
fn warnings(daemon: &Daemon) -> Vec<String> {
    let status = daemon.json(&["status", "--json"]);
    let warnings = status["warnings"].as_array().into_iter().flatten();
    warnings.map(|warning| warning.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_daemon_confines_itself_and_says_so() {
    let daemon = Daemon::start(SCENE);
    let status = daemon.json(&["status", "--json"]);
    let kernel = fs::read_to_string("/proc/self/status").unwrap();
    let of_daemon = fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let seccomp = |status: &str| status.lines().any(|line| line == "Seccomp:\t2");
    assert_eq!(status["sandbox"]["system_calls"]["confined"], seccomp(&of_daemon), "{status}");
    assert!(
        seccomp(&of_daemon) || !kernel.contains("Seccomp:"),
        "the kernel has filters, and none is in force: {of_daemon}"
    );
    // Landlock tells nobody of a process; its own test tries what it denies.
    assert!(daemon.log().contains("files confined: Landlock") || daemon.log().contains("files not confined: "));
    drop(daemon);

    let folder = tempfile::tempdir().unwrap();
    let file = format!("sandbox = \"off\"\n{}", configuration(folder.path(), SCENE));
    fs::write(folder.path().join("tagalong.toml"), file).unwrap();
    let off = Daemon::start_in(folder);
    let status = off.json(&["status", "--json"]);
    assert_eq!(status["sandbox"]["files"]["confined"], false, "{status}");
    assert!(warnings(&off).is_empty(), "what was asked for is no warning");
}

/// The exit code and the errors of a daemon that cannot start.
fn refused(extra: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagalong.toml");
    fs::write(folder.path().join("a-file"), "").unwrap();
    fs::write(&file, format!("state_dir = \"state\"\n{extra}\n{SCENE}")).unwrap();
    let output = tagalong(folder.path(), &["run", "--config"]).arg(file).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_only_another_configuration_mends_is_78() {
    // With 78 the service manager does not start it again and again.
    for (extra, code, expected) in [
        ("[serve]\ndirectory = \"sockets\"\ntracks_group = \"no-such-group\"", 78, "no-such-group"),
        ("[serve]\ndirectory = \"a-file\"", 73, "a-file"),
        ("[serve]\ndirectory = \"sockets\"\n[model]\ninput = \"16x16\"", 78, "480x640"),
        ("[serve]\ndirectory = \"sockets\"\n[model]\nmanifest = \"a-file\"", 78, "a-file"),
    ] {
        let (got, errors) = refused(extra);
        assert_eq!(got, Some(code), "{extra}: {errors}");
        assert!(errors.contains(expected), "{extra}: {errors}");
    }
}

#[test]
fn where_a_command_runs_system_calls_are_left_open_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let camera = "[[camera]]\nname = \"fed\"\nsource = \"pipe\"\nformat = \"MJPG\"\ncommand = [\"sleep\", \"60\"]\n";
    fs::write(folder.path().join("tagalong.toml"), configuration(folder.path(), camera)).unwrap();
    let daemon = Daemon::start_in(folder);
    let status = daemon.json(&["status", "--json"]);
    assert_eq!(status["sandbox"]["system_calls"]["confined"], false, "{status}");
    let warnings = warnings(&daemon);
    assert!(!warnings.iter().any(|told| told.contains("system calls")), "{warnings:?}");
}

/// The file in /etc may be a link into what looks after a whole fleet.
#[test]
fn a_configuration_behind_a_link_is_read_again() {
    let (folder, fleet) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (kept, link) = (fleet.path().join("robot.toml"), folder.path().join("tagalong.toml"));
    let file = configuration(folder.path(), SCENE);
    fs::write(&kept, &file).unwrap();
    std::os::unix::fs::symlink(&kept, link).unwrap();
    let daemon = Daemon::start_in(folder);
    fs::write(&kept, file + "[track]\nmin_score = 0.3\n").unwrap();
    let answer = daemon.json(&["reload", "--json"]);
    assert_eq!(answer["applied"], serde_json::json!(["track.min_score"]), "{answer}\n{}", daemon.log());
}
