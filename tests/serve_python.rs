//! The Python client against a real server. Skipped, loudly, where there is no `python3`.

mod serve_support;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serve_support::*;
use tagalong::serve::{Activated, Sink};
use tagalong::types::Mask;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python")
}

/// A program that has imported everything of the client; `None` where Python is missing.
fn python(program: &str) -> Option<Command> {
    let version = Command::new("python3").args(["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]).status();
    if !version.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no `python3` of version 3.9 or later; the Python client is not tested");
        return None;
    }
    let mut command = Command::new("python3");
    command.args(["-B", "-W", "error", "-c", &format!("from tagalong import *\n{program}")]);
    command.env("PYTHONPATH", folder()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

fn output(child: Child) -> String {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert!(status.success(), "{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn the_client_is_of_python_3_9_and_the_standard_library() {
    let program = r#"
import ast, sys
source = open(sys.argv[1]).read()
tree = ast.parse(source, feature_version=(3, 9))
for node in ast.walk(tree):
    names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
    for name in names:
        if name.split(".")[0] not in getattr(sys, "stdlib_module_names", names):
            sys.exit(f"{name} is not of the standard library")
"#;
    let Some(mut command) = python(program) else { return };
    output(command.arg(folder().join("tagalong.py")).spawn().unwrap());
}

#[test]
fn commands_and_their_errors() {
    let program = r#"
with Control() as control:
    assert control.hello["version"] == "9.9.9"
    tagged = control.tag(box=(1, 2, 3, 4.5), name="mug", camera="rear", seq=12)
    assert (tagged.camera, tagged.seq, tagged.track.name, tagged.track.box) == ("rear", 12, "mug", (1, 2, 3, 4.5))
    assert tagged.track.state == "tentative"
    assert control.tag(point=(20, 30)).track.box == (15, 25, 10, 10)
    rows = [[0] * 8, [0, 0, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0], [0] * 8]
    assert control.tag(mask=encode_rle(rows)).track.box == (2, 1, 3, 2)
    assert control.tag(gallery="mug").track.reason == "recognised"
    accepted = control.tag(proposal=12, name="hat", save=True).track
    assert (accepted.id, accepted.name, accepted.reason) == (12, "hat", "tagged")
    (known,) = control.gallery()
    assert (known.name, known.exemplars, known.tracks, known.changed_ns) == ("mug", (64, 128), {"front": 3}, 1767225660000000000)
    assert known.problem == "it was saved with another model"
    for done in [
        control.save(3), control.save(3, "cup"), control.gallery_rename("mug", "cup"), control.gallery_merge("mug", "cup"),
        control.gallery_import(b"object"), control.gallery_import(b"object", name="cup"),
    ]:
        assert done == [known]
    assert control.gallery_export("mug") == b"object"
    assert control.untag(5) == [5]
    assert control.rename(5, "Tasse") is None
    assert control.reset() == [1, 2]
    (track,) = control.list("front")
    assert (track.name, track.state, track.since_seen) == ("mug", "occluded", 2)
    assert control.status()["clients"] == {"connected": 1, "refused": 0, "dropped_reports": 0}
    picture = control.snapshot()
    assert (picture.jpeg, picture.size) == (b"\xff\xd8\xff\xd9", (640, 480))
    assert control.reload() == Reloaded(["track.min_score"], ["model.manifest"])
    for wrong, code in [
        (lambda: control.untag(404), "track.unknown"),
        (lambda: control.gallery_forget("hat"), "gallery.unknown"),
        (lambda: control.gallery_rename("mug", "\n"), "tag.name_invalid"),
        (lambda: control.tag(gallery="mug", name="cup"), "command.field_invalid"),
        (lambda: control.tag(gallery="mug", save=True), "command.field_invalid"),
        (lambda: control.tag(proposal=12, seq=3), "command.field_invalid"),
        (lambda: control.tag(), "command.field_missing"),
        (lambda: control.tag(box=(0, 0, 0, 0)), "command.field_invalid"),
        (lambda: control.rename(1, " "), "tag.name_invalid"),
        (lambda: control.call("fly"), "command.unknown"),
    ]:
        try:
            wrong()
        except TagalongError as error:
            assert error.code == code and error.message, error
        else:
            raise AssertionError(code)
print("good")
"#;
    let fixture = Fixture::start();
    let Some(mut command) = python(program) else { return };
    let child = command.env("TAGALONG_SOCKET_DIR", fixture.folder.path()).spawn().unwrap();
    assert_eq!(output(child), "good\n");
}

#[test]
fn tracks_gaps_and_reconnecting() {
    let program = r#"
import os
from pathlib import Path
folder = Path(os.environ["TAGALONG_SOCKET_DIR"])
try:
    next(Tracks(timeout=0.05))
except TimeoutError:
    pass
reports = Tracks(cameras=["front"], masks=True, reconnect=True)
print("first", flush=True)
report = next(reports)
assert (report.camera, report.seq, report.size, report.missed) == ("front", 1, (640, 480), 0), report
assert report.latency_ms["embed"] == 20.25
seen, lost = report.tracks
assert seen.box == (100, 50, 60, 40) and lost.box is None and lost.mask is None
rows = decode_rle(seen.mask)
assert len(rows) == 480 and len(rows[0]) == 640
assert sum(map(sum, rows)) == 60 * 40 and rows[50][100] and rows[89][159] and not rows[90][159]
# The server goes away, and another comes.
(folder / "restart").touch()
report = next(reports)
assert (report.camera, report.seq) == ("front", 2), report
assert reports.hello["version"] == "9.9.9"
(folder / "stop").touch()
print("second", flush=True)
# Without reconnecting, the end is the end.
reports = Tracks()
assert next(reports).seq == 2
(folder / "end").touch()
print(sum(1 for report in reports))
try:
    Tracks()
except OSError as error:
    assert "tracks.sock" in str(error), error
else:
    raise AssertionError
"#;
    let fixture = Fixture::start();
    let Some(mut command) = python(program) else { return };
    let folder = fixture.folder.path().to_owned();
    let mut child = command.env("TAGALONG_SOCKET_DIR", &folder).spawn().unwrap();
    // A child that fails must not be waited for in vain.
    let mut wait_for = |what: &str, condition: &dyn Fn() -> bool| {
        while !condition() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        eprintln!("{what}");
    };
    fixture.send(report("rear", 9));
    fixture.send(report("front", 1));
    wait_for("the first server is left", &|| folder.join("restart").exists());
    let Fixture { server, controller, folder: keep } = fixture;
    server.shutdown(PATIENCE);
    std::thread::sleep(Duration::from_millis(50));
    let server = serve(&config(&folder), controller, Activated::default()).unwrap();
    server.sink().send(&std::sync::Arc::new(report("front", 2))).unwrap();
    wait_for("the second server is left", &|| folder.join("stop").exists());
    wait_for("the last reader has its state", &|| folder.join("end").exists());
    server.sink().send(&std::sync::Arc::new(report("rear", 3))).unwrap();
    server.shutdown(PATIENCE);
    let printed = output(child);
    assert_eq!(printed, "first\nsecond\n1\n");
    drop(keep);
}

#[test]
fn a_gap_is_told_with_the_next_report() {
    let program = r#"
import os, time
from pathlib import Path
folder = Path(os.environ["TAGALONG_SOCKET_DIR"])
reports = Tracks()
(folder / "ready").touch()
while not (folder / "sent").exists():
    time.sleep(0.002)
total = 0
for report in reports:
    # The first is the state, whichever it was when the subscription came.
    assert total in (0, report.seq - report.missed - 1), (report.seq, total, report.missed)
    total = report.seq
    if total == 3000:
        break
print("good")
"#;
    let fixture = Fixture::start();
    let Some(mut command) = python(program) else { return };
    let mut child = command.env("TAGALONG_SOCKET_DIR", fixture.folder.path()).spawn().unwrap();
    while !fixture.path("ready").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    wait_until("it is there", || fixture.server.clients().connected > 0);
    for seq in 1..=3000 {
        fixture.send(report("front", seq));
        std::thread::sleep(Duration::from_micros(100));
    }
    assert!(fixture.server.clients().dropped_reports > 0);
    std::fs::write(fixture.path("sent"), "").unwrap();
    assert_eq!(output(child), "good\n");
}

#[test]
fn the_program_prints_tracks() {
    let fixture = Fixture::start();
    if python("").is_none() {
        return;
    }
    fixture.send(report("front", 5));
    let mut command = Command::new("python3");
    command.arg("-B").arg(folder().join("tagalong.py")).arg(fixture.path("tracks.sock")).args(["--count", "1"]);
    let printed = output(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(printed, "front 5: 1 'object 1' tracked 0.88 at 100 50 60 40\nfront 5: 2 'object 2' lost 0.88 unseen\n");
    command.arg("--camera=nowhere");
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("[camera.unknown]"));
}

/// Random masks, here and there: rows of 0 and 1, and COCO's counts.
#[test]
fn run_lengths_are_those_of_the_rust_side() {
    let program = r#"
import json, sys
for line in open(sys.argv[1]):
    case = json.loads(line)
    rows = ["".join(map(str, row)) for row in decode_rle(case["mask"])]
    assert rows == case["rows"], case
    assert encode_rle(decode_rle(case["mask"])) == case["mask"], case
for counts in ["", "d", "e0", "\x1f", "52200030", "P"]:
    try:
        decode_rle({"size": [4, 5], "counts": counts})
    except ValueError:
        continue
    raise AssertionError(counts)
"#;
    let Some(mut command) = python(program) else { return };
    let lines = RefCell::new(String::new());
    let strategy = (1usize..40, 1usize..40, 1u8..=255, prop::collection::vec(any::<u8>(), 1600));
    TestRunner::new(ProptestConfig::with_cases(300))
        .run(&strategy, |(width, height, density, noise)| {
            // Long runs and short ones, by how many pixels are set.
            let mask =
                Mask::from_fn(width, height, |x, y| noise[(y * width + x) / (1 + density as usize / 32)] < density);
            let pixels = mask.to_pixels();
            let rows: Vec<String> =
                pixels.chunks(width).map(|row| row.iter().map(|set| if *set { '1' } else { '0' }).collect()).collect();
            let rle = mask.to_coco();
            let case = serde_json::json!({"mask": rle, "rows": rows});
            lines.borrow_mut().push_str(&format!("{case}\n"));
            Ok(())
        })
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.into_inner()).unwrap();
    output(command.arg(file.path()).spawn().unwrap());
}
