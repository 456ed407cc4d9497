//! The real binary from end to end: a user with the README, from a configuration to tracks and to a clean end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tagalong::capture::synthetic::{Scene, SceneFrame, SceneOptions};
use tagalong::picture;
use tagalong::serve::client::{ControlClient, Event, TracksClient};
use tagalong::serve::wire::{Subscribe, Tracks};
use tagalong::types::report::Track;
use tagalong::types::{Mask, TrackReport, TrackState};

/// What a test waits for comes much sooner than this, unless it never does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon, and the folder of its configuration, state and sockets.
struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

/// The scene's camera, slow enough for a machine that is busy with other tests.
const SCENE: &str = "[[camera]]\nname = \"scene\"\nsource = \"synthetic\"\nfps = 10.0\n";

impl Daemon {
    fn start(cameras: &str) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tagalong.toml"), configuration(folder.path(), cameras)).unwrap();
        Daemon::start_in(folder)
    }

    fn start_in(folder: tempfile::TempDir) -> Daemon {
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let child = tagalong(folder.path(), &["run", "--config"])
            .arg(folder.path().join("tagalong.toml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Daemon { child, folder };
        let sockets = daemon.folder.path().join("sockets");
        daemon.wait_for("the sockets", |_| TracksClient::connect(&sockets.join("tracks.sock"), PATIENCE).ok());
        daemon
    }

    /// Asks again and again until there is an answer.
    fn wait_for<T>(&mut self, what: &str, mut ask: impl FnMut(&mut Daemon) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{what}: the daemon ended, {ended:?}:\n{}", self.log());
            assert!(start.elapsed() < PATIENCE, "{what} did not come:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Runs a command, and returns its exit code and what it printed.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = tagalong(self.folder.path(), arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// Runs a command that must succeed, and returns what it printed.
    fn good(&self, arguments: &[&str]) -> String {
        let (code, out, errors) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{errors}\n{}", self.log());
        out
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(arguments)).unwrap()
    }

    /// A reader of every report, masks included.
    fn tracks(&self) -> TracksClient {
        let path = self.folder.path().join("sockets/tracks.sock");
        let mut client = TracksClient::connect(&path, PATIENCE).unwrap();
        client.subscribe(Subscribe { masks: true, ..Subscribe::default() }).unwrap();
        while !matches!(client.next_event(PATIENCE).unwrap(), Some(Event::Subscribed(_))) {}
        client
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Kills it, and starts another on what it left behind.
    fn restart(mut self) -> Daemon {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.end();
        self.succeed()
    }

    /// Starts another on what one that has ended left behind.
    fn succeed(mut self) -> Daemon {
        Daemon::start_in(std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()))
    }

    fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the daemon does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(folder: &Path, cameras: &str) -> String {
    let [state, sockets] = ["state", "sockets"].map(|name| folder.join(name));
    format!(
        "state_dir = {state:?}\n[model]\ninput = \"240x320\"\nthreads = 1\n[serve]\ndirectory = {sockets:?}\n{cameras}"
    )
}

fn tagalong(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("RUST_LOG")
        .env("TAGALONG_SOCKET_DIR", folder.join("sockets"));
    command
}

/// The next report of a camera.
fn next(client: &mut TracksClient, camera: &str) -> TrackReport {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "{camera} reports nothing");
        if let Some(Event::Tracks(Tracks { report, .. })) = client.next_event(PATIENCE).unwrap()
            && report.camera == camera
        {
            return (*report).clone();
        }
    }
}

/// The scene that a camera of the configuration films.
fn scene() -> Scene {
    Scene::new(SceneOptions { objects: 3, fps: 10.0, ..SceneOptions::default() }).unwrap()
}

/// Tags the scene's object `number` as a robot would: by the box that it saw in a frame's report.
fn tag(daemon: &mut Daemon, camera: &str, number: usize, name: &str) -> Value {
    let (scene, mut client) = (scene(), daemon.tracks());
    daemon.wait_for("a tag", |daemon| {
        let seq = next(&mut client, camera).seq;
        let [x, y, w, h] = scene.truth(seq).mask(number).bounds()?;
        let place = format!("{x},{y},{w},{h}");
        let seq = seq.to_string();
        let arguments = ["tag", "--json", "--camera", camera, "--box", &place, "--seq", &seq, "--name", name];
        let (code, out, errors) = daemon.run(&arguments);
        // On a busy machine the frame may be forgotten before the command has arrived.
        assert!(code == 0 || errors.contains("no longer remembered"), "{errors}");
        (code == 0).then(|| serde_json::from_str(&out).unwrap())
    })
}

/// How well the track's mask covers what is seen of the scene's object.
fn overlap(report: &TrackReport, track: &Track, number: usize) -> f64 {
    let truth = scene().truth(report.seq).mask(number);
    track.mask.as_ref().map_or(0.0, |mask| Mask::from_coco(mask).unwrap().iou(&truth))
}

/// Follows `name` for some reports and holds it to the scene.
fn follow(daemon: &Daemon, camera: &str, number: usize, name: &str) {
    let mut client = daemon.tracks();
    // The first is the state before the tag.
    next(&mut client, camera);
    let (mut sum, mut tracked, reports) = (0.0, 0, 15);
    for _ in 0..reports {
        let report = next(&mut client, camera);
        let track = report.tracks.iter().find(|track| track.name == name).expect("a tag stays in the reports");
        sum += overlap(&report, track, number);
        tracked += u32::from(track.state == TrackState::Tracked);
        assert_eq!(report.size, [640, 480]);
        assert!(report.t_mono_ns > 0 && report.t_real_ns > 0 && report.latency_ms.total > 0.0, "{report:?}");
        assert!((0.0..=1.0).contains(&track.score), "{track:?}");
    }
    let mean = sum / f64::from(reports);
    assert!(mean > 0.5, "the masks of {name} overlap the truth by {mean:.2}:\n{}", daemon.log());
    assert!(tracked >= reports - 5, "{name} is tracked in {tracked} of {reports}");
}

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

/// Waits until `name` is tracked without a tag, and lies where the scene's object `number` is.
fn wait_until_recognised(daemon: &mut Daemon, number: usize, name: &str) -> Track {
    let mut client = daemon.tracks();
    daemon.wait_for("a recognised object", |_| {
        let report = next(&mut client, "scene");
        let track = report.tracks.iter().find(|track| track.name == name && track.state == TrackState::Tracked)?;
        (overlap(&report, track, number) > 0.5).then(|| track.clone())
    })
}

#[test]
fn what_is_proposed_becomes_a_tag() {
    let mut daemon = Daemon::start(&format!("{SCENE}[discover]\nmode = \"salient\"\nevery_s = 0.5\n"));
    let mut client = daemon.tracks();
    let proposed = daemon.wait_for("a proposal", |_| {
        next(&mut client, "scene").tracks.iter().find(|track| track.state == TrackState::Proposal).cloned()
    });
    assert_eq!(proposed.name, format!("object-{}", proposed.id));
    assert!(proposed.area > 0 && proposed.bounds.is_some(), "{proposed:?}");
    assert!(daemon.good(&["list"]).contains("proposal"));
    let id = proposed.id.to_string();
    daemon.good(&["tag", "--proposal", &id, "--name", "cup"]);
    let (code, _, errors) = daemon.run(&["tag", "--proposal", &id]);
    assert!(code == 65 && errors.contains(&format!("no proposal {id}")), "{code} {errors}");
    daemon.wait_for("the track", |_| {
        let report = next(&mut client, "scene");
        report.tracks.iter().find(|t| t.id == proposed.id && t.name == "cup" && t.state == TrackState::Tracked).cloned()
    });
    // None is left behind when nothing is looked for any more.
    let off = configuration(daemon.folder.path(), SCENE);
    fs::write(daemon.folder.path().join("tagalong.toml"), off).unwrap();
    assert!(daemon.good(&["reload"]).contains("discover.mode: applied"));
    daemon.wait_for("no proposals", |_| {
        let report = next(&mut client, "scene");
        report.tracks.iter().all(|track| track.state != TrackState::Proposal).then_some(())
    });
}

#[test]
fn what_is_found_is_tagged_where_that_is_configured() {
    let discover = "[discover]\nmode = \"salient\"\nevery_s = 0.2\ntag = 1\n";
    let mut daemon = Daemon::start(&format!("{SCENE}{discover}"));
    let mut client = daemon.tracks();
    let tracked = |report: &TrackReport| report.tracks.iter().filter(|t| t.state == TrackState::Tracked).count();
    daemon.wait_for("a track", |_| (tracked(&next(&mut client, "scene")) == 1).then_some(()));
    for _ in 0..20 {
        assert!(tracked(&next(&mut client, "scene")) <= 1, "no more than one was asked for");
    }
    assert!(daemon.log().contains("by itself"), "{}", daemon.log());
}

#[test]
fn what_was_saved_from_pictures_of_another_size_is_told() {
    let mut daemon = Daemon::start(SCENE);
    tag(&mut daemon, "scene", 1, "cup");
    daemon.good(&["gallery", "save", "1"]);
    assert!(!daemon.good(&["gallery", "list"]).contains("it was saved from"));
    let larger = configuration(daemon.folder.path(), &format!("{SCENE}width = 800\nheight = 600\n"));
    fs::write(daemon.folder.path().join("tagalong.toml"), larger).unwrap();
    let mut daemon = daemon.restart();
    let says = "it was saved from pictures of 640x480 pixels, and those of camera scene have 800x600";
    daemon.wait_for("a remark", |daemon| daemon.good(&["gallery", "show", "cup"]).contains(says).then_some(()));
    assert_eq!(daemon.log().matches(says).count(), 1, "{}", daemon.log());
    assert_eq!(daemon.json(&["gallery", "show", "cup", "--json"])["problem"], Value::Null, "it is used all the same");
}

#[test]
fn what_is_saved_is_recognised_after_a_kill_and_elsewhere() {
    let mut daemon = Daemon::start(SCENE);
    tag(&mut daemon, "scene", 1, "cup");
    daemon.good(&["gallery", "save", "1"]);
    let (code, _, errors) = daemon.run(&["gallery", "save", "1"]);
    assert!(code == 65 && errors.contains("has a \"cup\" already"), "{code} {errors}");
    let mut daemon = daemon.restart();
    let track = wait_until_recognised(&mut daemon, 1, "cup");
    assert_eq!(track.id.0, 1, "it goes on under its id");

    daemon.good(&["gallery", "rename", "cup", "blue cup"]);
    assert!(daemon.good(&["list"]).contains("blue cup"));
    let shown = daemon.json(&["gallery", "show", "blue cup", "--json"]);
    assert_eq!((&shown["tracks"]["scene"], &shown["problem"]), (&1.into(), &Value::Null), "{shown}");
    let file = daemon.folder.path().join("cup.safetensors");
    let file = file.to_str().unwrap();
    daemon.good(&["gallery", "export", "blue cup", file]);
    daemon.good(&["gallery", "forget", "blue cup"]);
    assert!(daemon.good(&["gallery", "list"]).contains("empty"));
    let (code, _, errors) = daemon.run(&["tag", "--gallery", "blue cup"]);
    assert!(code == 65 && errors.contains("nothing called \"blue cup\""), "{code} {errors}");

    // Another daemon, to which it is new.
    let mut other = Daemon::start(SCENE);
    other.good(&["gallery", "import", file, "--name", "imported"]);
    wait_until_recognised(&mut other, 1, "imported");
    // A file that was garbled is told, and nothing else is the worse for it.
    let kept = other.folder.path().join("state/gallery/0001.safetensors");
    let whole = fs::read(&kept).unwrap();
    fs::write(&kept, &whole[..whole.len() / 2]).unwrap();
    let other = other.restart();
    assert!(other.good(&["gallery", "list"]).contains("no whole safetensors file"), "{}", other.log());
    assert!(other.log().contains("0001.safetensors: not used, and left as it is"), "{}", other.log());
    assert_eq!(other.run(&["gallery", "import", "/dev/null"]).0, 65);
    assert_eq!(other.run(&["gallery", "import", "/nowhere"]).0, 66);
    other.good(&["gallery", "forget", "0001.safetensors"]);
    assert!(!kept.exists());
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
