//! The real binary from end to end: a user with the README, from a configuration to tracks and to a clean end.

mod daemon_support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tagalong::capture::synthetic::SceneFrame;
use tagalong::picture;
use tagalong::serve::client::ControlClient;
use tagalong::types::TrackState;

use daemon_support::{Daemon, PATIENCE, SCENE, configuration, follow, next, scene, tag, tagalong};

#[test]
fn an_object_is_tagged_read_renamed_and_dropped() {
    let mut daemon = Daemon::start(SCENE);
    let tagged = tag(&mut daemon, "scene", 1, "cup");
    assert_eq!((&tagged["track"]["id"], &tagged["track"]["name"]), (&1.into(), &"cup".into()), "{tagged}");
    follow(&daemon, "scene", 1, "cup");

    let listed = daemon.json(&["list", "--json"]);
    assert_eq!((&listed["tracks"][0]["name"], &listed["tracks"][0]["camera"]), (&"cup".into(), &"scene".into()));
    assert!(daemon.good(&["list"]).contains("cup"));
    let status = daemon.good(&["status"]);
    for part in ["camera scene: streaming", "1 track", "probe 1.0000", "embed"] {
        assert!(status.contains(part), "{part}: {status}");
    }

    let picture_path = daemon.folder.path().join("now.jpg");
    daemon.good(&["snapshot", picture_path.to_str().unwrap()]);
    let mut rgb = Vec::new();
    assert_eq!(picture::decode(&fs::read(&picture_path).unwrap(), &mut rgb).unwrap(), (640, 480));

    daemon.good(&["rename", "1", "mug"]);
    let mut watch = tagalong(daemon.folder.path(), &["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines().skip(1).take(5);
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(lines.iter().all(|line| line["class"] == "tracks" && line["tracks"][0]["name"] == "mug"), "{lines:?}");

    let mut client = daemon.tracks();
    daemon.good(&["untag", "1"]);
    let removed = daemon.wait_for("the removal", |_| {
        let report = next(&mut client, "scene");
        report.tracks.first().filter(|track| track.state == TrackState::Removed).cloned()
    });
    assert_eq!(removed.id.0, 1);
    assert!(next(&mut client, "scene").tracks.is_empty(), "a removal is told once");
    let (code, _, errors) = daemon.run(&["untag", "1"]);
    assert!(code != 0 && errors.contains("no track 1"), "{errors}");

    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.end().success(), "{}", daemon.log());
    assert_eq!(fs::read_dir(daemon.folder.path().join("sockets")).unwrap().count(), 0, "sockets are left behind");
}

#[test]
fn the_readme_s_python_program_reads_tracks() {
    if !Command::new("python3").arg("-V").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: there is no python3");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let program = readme.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    // The box of the example is wherever the reader's object is: here that of the scene's first.
    let daemon = Daemon::start(SCENE);
    let seq = next(&mut daemon.tracks(), "scene").seq;
    let place = scene().truth(seq + 2).mask(1).bounds().unwrap();
    assert!(program.contains("box=[220, 140, 160, 120]"), "{program}");
    let program = program.replace("[220, 140, 160, 120]", &format!("{place:?}"));
    let mut child = Command::new("python3")
        .args(["-B", "-u", "-c", &program])
        .env("PYTHONPATH", root.join("clients/python"))
        .env("TAGALONG_SOCKET_DIR", daemon.folder.path().join("sockets"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap()).lines().take(3).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(lines.len(), 3, "{}", daemon.log());
    assert!(lines.iter().all(|line| line.contains(" cup: ") && line.ends_with("px/s")), "{lines:?}");
}

#[test]
fn a_folder_of_pictures_is_followed_to_its_end() {
    let frames = tempfile::tempdir().unwrap();
    let (scene, mut drawn) = (scene(), SceneFrame::default());
    for index in 0..60 {
        scene.render(index, &mut drawn);
        let path = frames.path().join(format!("{index:05}.jpg"));
        fs::write(path, picture::encode_jpeg(&drawn.rgb, 640, 480, 92).unwrap()).unwrap();
    }
    let camera = format!(
        "[[camera]]\nname = \"folder\"\nsource = \"images\"\nfps = 10.0\nrepeat = false\nfolder = {:?}\n",
        frames.path()
    );
    let mut daemon = Daemon::start(&camera);
    tag(&mut daemon, "folder", 2, "ball");
    follow(&daemon, "folder", 2, "ball");
    assert!(daemon.end().success(), "{}", daemon.log());
    assert!(daemon.log().contains("the recording has ended"), "{}", daemon.log());
}

#[test]
fn a_camera_that_is_not_there_does_not_disturb_the_others() {
    let missing = "[[camera]]\nname = \"missing\"\nsource = \"v4l2\"\ndevice = \"/dev/no-such-camera\"\n";
    let second = SCENE.replace("\"scene\"", "\"other\"");
    let mut daemon = Daemon::start(&format!("{missing}{SCENE}{second}"));
    tag(&mut daemon, "scene", 1, "cup");
    tag(&mut daemon, "other", 2, "bowl");
    follow(&daemon, "scene", 1, "cup");
    follow(&daemon, "other", 2, "bowl");
    // Each camera has tracks of its own, and their ids are of one series.
    let listed = daemon.json(&["list", "--json"]);
    let of = |i: usize| (listed["tracks"][i]["camera"].clone(), listed["tracks"][i]["id"].clone());
    assert_eq!([of(0), of(1)], [("scene".into(), 1.into()), ("other".into(), 2.into())], "{listed}");
    let (code, _, errors) = daemon.run(&["tag", "--box", "1,1,50,50"]);
    assert!(code != 0 && errors.contains("missing, scene, other"), "{errors}");
    let (code, _, errors) = daemon.run(&["tag", "--camera", "missing", "--box", "1,1,50,50"]);
    assert!(code != 0 && errors.contains("no frame"), "{errors}");
    let status = daemon.good(&["status"]);
    assert!(status.contains("camera missing: lost") && status.contains("/dev/no-such-camera"), "{status}");
    // It is told once, however often it is tried.
    let told = daemon.log().lines().filter(|line| line.contains("it is tried again")).count();
    assert_eq!(told, 1, "{}", daemon.log());
}

#[test]
fn who_waits_for_a_camera_finds_a_frame_of_it_then() {
    let folder = tempfile::tempdir().unwrap();
    // So much for the model to do that the camera streams long before its first frame is through.
    let configured = configuration(folder.path(), SCENE).replace("240x320", "720x1280");
    fs::write(folder.path().join("tagalong.toml"), configured).unwrap();
    let daemon = Daemon::start_in(folder);
    let picture_path = daemon.folder.path().join("now.jpg");
    daemon.good(&["snapshot", "--wait", "60", picture_path.to_str().unwrap()]);
    let status = daemon.json(&["status", "--json"]);
    assert!(status["cameras"][0]["reported"].as_u64() >= Some(1), "{status}");
}

#[test]
fn every_frame_is_reported_or_counted() {
    // More frames than the model can take, so that many are overwritten.
    let daemon = Daemon::start(&SCENE.replace("10.0", "500.0"));
    let mut client = daemon.tracks();
    let mut last = next(&mut client, "scene").seq;
    let mut lost = 0;
    for _ in 0..60 {
        let report = next(&mut client, "scene");
        assert_eq!(report.seq - last - 1, report.dropped, "between {last} and {}", report.seq);
        (last, lost) = (report.seq, lost + report.dropped);
    }
    assert!(lost > 0, "none was lost, so that nothing is shown");
}

#[test]
fn the_demonstration_ends_by_itself_with_a_fair_summary() {
    let folder = tempfile::tempdir().unwrap();
    let output = tagalong(folder.path(), &["demo", "--seconds", "8"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let number = |after: &str| {
        let rest = text.rsplit(after).next().unwrap_or_default().trim_start();
        rest.split(|c: char| !c.is_ascii_digit() && c != '.').next().and_then(|n| n.parse::<f64>().ok())
    };
    let iou = number("mean IoU").unwrap_or_else(|| panic!("no IoU: {text}"));
    assert!(iou > 0.4, "{text}");
    assert!(text.contains("FPS"), "{text}");
}

#[test]
fn a_replay_gives_the_same_bytes_every_time() {
    let frames = tempfile::tempdir().unwrap();
    let (scene, mut drawn) = (scene(), SceneFrame::default());
    for index in 0..20 {
        scene.render(index, &mut drawn);
        let path = frames.path().join(format!("{index:05}.jpg"));
        fs::write(path, picture::encode_jpeg(&drawn.rgb, 640, 480, 92).unwrap()).unwrap();
    }
    let [x, y, w, h] = scene.truth(0).mask(1).bounds().unwrap();
    let replay = || {
        let place = format!("cup={x},{y},{w},{h}");
        let arguments = ["replay", frames.path().to_str().unwrap(), "--tag", &place, "--masks"];
        let output = tagalong(frames.path(), &arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let first = replay();
    assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), 20, "a line for each frame");
    assert!(String::from_utf8_lossy(&first).contains("\"cup\""));
    assert!(first == replay(), "two runs differ");
}

/// Files under a folder, by their paths within it.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = entries.flat_map(|path| match path.is_dir() {
        true => {
            files(&path).into_iter().map(|file| format!("{}/{file}", path.file_name().unwrap().display())).collect()
        }
        false => vec![path.file_name().unwrap().display().to_string()],
    });
    below.collect()
}

/// Whatever a client says, it names no file and no program: the daemon writes where it always does.
#[test]
fn no_command_reaches_a_file_or_a_program_that_a_client_names() {
    let daemon = Daemon::start(SCENE);
    daemon.good(&["status", "--wait", "60"]);
    let escaped = daemon.folder.path().join("escaped");
    let absolute = escaped.display().to_string();
    let touching = format!("$(touch {absolute})");
    let names = ["../escaped", "../../escaped", &absolute, &touching, "a; touch escaped", "/etc/passwd", "-rf", "%s%n"];
    for name in names {
        let tagged = daemon.json(&["tag", "--box", "200,150,120,120", "--save", "--json", &format!("--name={name}")]);
        let id = tagged["id"].as_u64().unwrap_or_else(|| tagged["track"]["id"].as_u64().unwrap()).to_string();
        let to = format!("{name}.new");
        daemon.good(&["rename", &id, "--", &to]);
        daemon.good(&["gallery", "rename", "--", name, &to]);
        let listed = daemon.good(&["gallery", "list", "--json"]);
        assert!(listed.contains(&serde_json::to_string(&to).unwrap()), "{listed}");
        let shown = daemon.good(&["gallery", "show", "--json", "--", &to]);
        assert!(!shown.contains("root:"), "{shown}");
        daemon.good(&["untag", &id]);
    }
    let found = files(daemon.folder.path());
    let is_known = |file: &String| {
        let number = file.strip_prefix("state/gallery/").and_then(|file| file.strip_suffix(".safetensors"));
        number.is_some_and(|number| number.parse::<u64>().is_ok())
            || ["tagalong.toml", "log", "state/lock", "state/next-track-id"].contains(&file.as_str())
            || file.starts_with("sockets/")
    };
    assert!(found.iter().all(is_known), "{found:?}");
    assert_eq!(found.iter().filter(|file| file.starts_with("state/gallery/")).count(), names.len());
    assert!(!escaped.exists() && !daemon.folder.path().parent().unwrap().join("escaped").exists());
}

#[test]
fn after_a_kill_the_next_daemon_takes_over_and_gives_new_ids() {
    let mut daemon = Daemon::start(SCENE);
    tag(&mut daemon, "scene", 1, "cup");
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    daemon.end();
    let left: Vec<PathBuf> =
        fs::read_dir(daemon.folder.path().join("sockets")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "a kill leaves the sockets: {left:?}");
    let mut daemon = daemon.succeed();
    let tagged = tag(&mut daemon, "scene", 1, "cup");
    assert!(tagged["track"]["id"].as_u64() > Some(1), "{tagged}");
    // Another daemon on the same sockets is refused, and disturbs nobody.
    let mut second = tagalong(daemon.folder.path(), &["run", "--config"]);
    let output = second.arg(daemon.folder.path().join("tagalong.toml")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{errors}");
    assert!(errors.contains("another daemon") && errors.contains("state_dir"), "{errors}");
    // ... also where only the sockets are the same.
    let file = daemon.folder.path().join("second.toml");
    let sockets = daemon.folder.path().join("sockets");
    fs::write(&file, format!("state_dir = \"own\"\n[serve]\ndirectory = {sockets:?}\n{SCENE}")).unwrap();
    let output = tagalong(daemon.folder.path(), &["run", "--config"]).arg(file).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{errors}");
    assert!(errors.contains("in use by another daemon"), "{errors}");
    let control = ControlClient::connect(&daemon.folder.path().join("sockets/control.sock"), PATIENCE);
    assert_eq!(control.unwrap().list(None).unwrap().len(), 1);
}
