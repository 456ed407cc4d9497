//! The real binary, and what it remembers of objects: proposals, tags that are saved, and their return.

mod daemon_support;

use std::fs;

use serde_json::Value;
use tagalong::types::report::Track;
use tagalong::types::{TrackReport, TrackState};

use daemon_support::{Daemon, SCENE, configuration, next, overlap, tag};

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
