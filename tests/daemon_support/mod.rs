//! The real binary as a daemon of its own folder, and a user of it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tagalong::capture::synthetic::{Scene, SceneOptions};
use tagalong::serve::client::{Event, TracksClient};
use tagalong::serve::wire::{Subscribe, Tracks};
use tagalong::types::report::Track;
use tagalong::types::{Mask, TrackReport, TrackState};

/// What a test waits for comes much sooner than this, unless it never does.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon, and the folder of its configuration, state and sockets.
pub struct Daemon {
    pub child: Child,
    pub folder: tempfile::TempDir,
}

/// The scene's camera, slow enough for a machine that is busy with other tests.
pub const SCENE: &str = "[[camera]]\nname = \"scene\"\nsource = \"synthetic\"\nfps = 10.0\n";

impl Daemon {
    pub fn start(cameras: &str) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tagalong.toml"), configuration(folder.path(), cameras)).unwrap();
        Daemon::start_in(folder)
    }

    pub fn start_in(folder: tempfile::TempDir) -> Daemon {
        Daemon::start_with(folder, &[])
    }

    /// With these variables in its environment.
    pub fn start_with(folder: tempfile::TempDir, variables: &[(&str, &Path)]) -> Daemon {
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let child = tagalong(folder.path(), &["run", "--config"])
            .arg(folder.path().join("tagalong.toml"))
            .envs(variables.iter().copied())
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
    pub fn wait_for<T>(&mut self, what: &str, mut ask: impl FnMut(&mut Daemon) -> Option<T>) -> T {
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

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Runs a command, and returns its exit code and what it printed.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = tagalong(self.folder.path(), arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn good(&self, arguments: &[&str]) -> String {
        let (code, out, errors) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{errors}\n{}", self.log());
        out
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(arguments)).unwrap()
    }

    /// A reader of every report, masks included.
    pub fn tracks(&self) -> TracksClient {
        let path = self.folder.path().join("sockets/tracks.sock");
        let mut client = TracksClient::connect(&path, PATIENCE).unwrap();
        client.subscribe(Subscribe { masks: true, ..Subscribe::default() }).unwrap();
        while !matches!(client.next_event(PATIENCE).unwrap(), Some(Event::Subscribed(_))) {}
        client
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Kills it, and starts another on what it left behind.
    pub fn restart(mut self) -> Daemon {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.end();
        self.succeed()
    }

    /// Starts another on what one that has ended left behind.
    pub fn succeed(mut self) -> Daemon {
        Daemon::start_in(std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()))
    }

    pub fn end(&mut self) -> ExitStatus {
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

pub fn configuration(folder: &Path, cameras: &str) -> String {
    let [state, sockets] = ["state", "sockets"].map(|name| folder.join(name));
    format!(
        "state_dir = {state:?}\n[model]\ninput = \"240x320\"\nthreads = 1\n[serve]\ndirectory = {sockets:?}\n{cameras}"
    )
}

pub fn tagalong(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("RUST_LOG")
        .env("TAGALONG_SOCKET_DIR", folder.join("sockets"));
    command
}

/// The next report of a camera.
pub fn next(client: &mut TracksClient, camera: &str) -> TrackReport {
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
pub fn scene() -> Scene {
    Scene::new(SceneOptions { objects: 3, fps: 10.0, ..SceneOptions::default() }).unwrap()
}

/// Tags the scene's object `number` as a robot would: by the box that it saw in a frame's report.
pub fn tag(daemon: &mut Daemon, camera: &str, number: usize, name: &str) -> Value {
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
pub fn overlap(report: &TrackReport, track: &Track, number: usize) -> f64 {
    let truth = scene().truth(report.seq).mask(number);
    track.mask.as_ref().map_or(0.0, |mask| Mask::from_coco(mask).unwrap().iou(&truth))
}

/// Follows `name` for some reports and holds it to the scene.
pub fn follow(daemon: &Daemon, camera: &str, number: usize, name: &str) {
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
