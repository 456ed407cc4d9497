//! `trial` as a user runs it: the same numbers again, in a table and as JSON; and what it counts of the bundled model.

use std::process::{Command, Output};

#[path = "davis_scene/mod.rs"]
mod davis_scene;

fn trial(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tagalong")).arg("trial").args(arguments).output().unwrap()
}

#[test]
fn what_is_hidden_for_a_moment_is_found_again_and_what_is_gone_is_not() {
    let arguments =
        ["--films", "2", "--first", "7", "--case", "hidden 3", "--case", "away 10", "--case", "gone", "--json"];
    let output = trial(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["hidden 3", "away 10", "gone", "all"]);
    let number = |line: usize, key: &str| lines[line][key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"));
    assert_eq!((number(0, "cases"), number(3, "cases")), (2.0, 6.0));
    assert_eq!((number(0, "returns"), number(1, "returns"), number(2, "returns")), (2.0, 2.0, 0.0));
    assert_eq!((number(0, "gone"), number(2, "gone")), (0.0, 2.0));
    let counts = ["returns", "reacquired", "absent", "ghosts", "gone", "made_up", "followed", "swapped", "switches"];
    for key in counts.into_iter().chain(["explained", "explained_right"]) {
        assert_eq!((0..3).map(|line| number(line, key)).sum::<f64>(), number(3, key), "{key}");
    }
    assert!(number(3, "reacquired") >= 3.0, "{lines:?}");
    assert_eq!(number(3, "swapped"), 0.0, "{lines:?}");
    // What leaves by the edge is known to have done so.
    assert!(number(2, "explained") > 0.0 && number(2, "explained_right") >= 0.5 * number(2, "explained"), "{lines:?}");
    assert!((0.5..=1.0).contains(&number(3, "hota")) && (0.5..=1.0).contains(&number(3, "idf1")), "{lines:?}");
}

#[test]
fn a_table_has_a_line_for_each_kind_and_one_for_all() {
    let output = trial(&["--films", "1", "--case", "twins cross"]);
    assert_eq!(trial(&["--films", "1", "--case", "twins cross"]).stdout, output.stdout, "the same again");
    let table = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines.len() == 3
            && lines[0].contains("found again")
            && lines[0].contains("reason right")
            && lines[0].contains("HOTA"),
        "{table}"
    );
    assert!(lines[1].starts_with("twins cross") && lines[2].starts_with("all"), "{table}");
}

#[test]
fn what_the_gallery_keeps_is_recognised_after_a_restart() {
    let output = trial(&["--films", "2", "--first", "7", "--case", "restart", "--case", "restart absent", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let [restart, absent] = [&lines[0], &lines[1]];
    assert_eq!((&restart["kind"], &absent["kind"]), (&"restart".into(), &"restart absent".into()));
    assert_eq!((&restart["returns"], &restart["reacquired"]), (&2.into(), &2.into()), "{lines:?}");
    assert_eq!(
        (&absent["gone"], &absent["absent"], &absent["returns"]),
        (&2.into(), &120.into(), &0.into()),
        "{lines:?}"
    );
    assert_eq!((&absent["made_up"], &absent["ghosts"]), (&0.into(), &0.into()), "{lines:?}");
}

#[test]
fn real_video_is_spliced() {
    let folder = tempfile::tempdir().unwrap();
    for (name, seed) in [("goat", 1), ("swan", 5)] {
        davis_scene::write_video(folder.path(), name, seed, [240, 320], 12, 1);
    }
    let root = folder.path().to_str().unwrap();
    let davis = |more: &[&str]| trial(&[&["--davis", root, "--json"], more].concat());
    let output = davis(&["--sequences", "swan"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let number = |line: usize, key: &str| lines[line][key].as_u64().unwrap_or_else(|| panic!("{key} of {line}"));
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["spliced", "side by side", "all"]);
    assert_eq!((number(0, "cases"), number(2, "cases")), (1, 2));
    for (line, objects) in [(0, 2), (1, 4)] {
        assert_eq!((number(line, "followed"), number(line, "returns")), (objects, objects), "{lines:?}");
        assert_eq!((number(line, "absent"), number(line, "gone")), (55 * objects, 0), "{lines:?}");
    }
    // Neither is near an edge, so that in each frame of the interruption it is told to be seen, or why it is not.
    assert_eq!(number(0, "ghosts") + number(0, "explained"), number(0, "absent"), "{lines:?}");
    assert!(number(0, "reacquired") > 0 && number(0, "ghosts") < number(0, "absent"), "{lines:?}");

    let refused = |more: &[&str], code: i32, says: &str| {
        let output = davis(more);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains(says), "{message}");
    };
    refused(&["--sequences", "duck"], 65, "no sequence \"duck\"; it has goat, swan");
    refused(&["--case", "gone"], 64, "no kind of case 'gone' with --davis; there are 'spliced', 'side by side'");
    refused(&["--films", "3"], 64, "cannot be used with");
    refused(&["--model", "bundled", "--output", "x6"], 64, "a manifest says all of it");
    std::fs::remove_dir_all(folder.path().join("JPEGImages/480p/goat")).unwrap();
    refused(&[], 65, "swan is the only sequence");
}

#[test]
fn a_kind_that_there_is_not_is_refused_with_those_there_are() {
    let output = trial(&["--case", "hidden"]);
    assert_eq!(output.status.code(), Some(64));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("no kind of case 'hidden' without --davis") && message.contains("'hidden 10'"),
        "{message}"
    );
}
