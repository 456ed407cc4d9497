//! Holds the table of ARCHITECTURE.md: which room may import which.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The steps, none of which may import another; `track` alone may use `propagate`.
const STEPS: [&str; 8] = ["capture", "embed", "propagate", "track", "discover", "serve", "model", "eval"];

/// What a step may use beside itself.
fn allowed(room: &str) -> &'static [&'static str] {
    match room {
        // Values use nothing.
        "types" => &[],
        "capture" => &["types", "picture", "clock"],
        "embed" => &["types", "picture", "resample", "suggest"],
        "propagate" => &["types"],
        "track" => &["types", "propagate"],
        "discover" => &["types"],
        "serve" => &["types", "clock"],
        // What a model is stands in its manifest, and its probe is run to write it.
        "model" => &["types", "embed", "resample"],
        "eval" => &["types", "picture"],
        // No step, but a comparison of what the steps make of videos.
        "study" => &["types", "propagate", "track", "embed", "model", "eval"],
        // Nor this: it plays films to whatever it is given for a tracker.
        "trial" => &["types", "capture", "eval"],
        _ => unreachable!("{room} is not in the table"),
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// Every `crate::NAME` of a file, groups such as `crate::{a, b::c}` taken apart.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let mut depth = 0;
        let mut name = String::new();
        let mut naming = true;
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    found.insert(std::mem::take(&mut name));
                    naming = true;
                    continue;
                }
                c if naming && (c.is_alphanumeric() || c == '_') => name.push(c),
                c if c.is_whitespace() => {}
                _ => naming = false,
            }
            if depth <= 0 && !naming {
                break;
            }
        }
        found.insert(name);
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn imports_are_read_rightly() {
    let text =
        "use crate::types::{A, B};\nuse crate::{clock, stats::C};\n// use crate::serve;\nlet x = crate::track::f();";
    let found: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(found, ["clock", "stats", "track", "types"]);
}

#[test]
fn no_room_imports_what_it_may_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for room in STEPS.into_iter().chain(["types", "study", "trial"]) {
        for file in sources(&root.join(room)) {
            // Tests may use what they hold a room against.
            if file.to_string_lossy().ends_with("_tests.rs") {
                continue;
            }
            for name in imports(&fs::read_to_string(&file).unwrap()) {
                if name != room && !allowed(room).contains(&name.as_str()) {
                    wrong.push(format!("{} uses crate::{name}", file.strip_prefix(&root).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_pipeline_starts_threads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // A socket server and a camera library without time limits have threads of their own, behind their rooms' doors.
    // The study is no part of the flow. What a layer's threads do is over when the layer is.
    let may =
        ["pipeline/mod.rs", "serve", "capture/nokhwa.rs", "shutdown.rs", "study/mod.rs", "embed/layers/workers.rs"];
    for file in sources(&root) {
        let name = file.strip_prefix(&root).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let starts =
            ["thread::spawn", "thread::Builder", "thread::scope", "ThreadPool"].iter().any(|s| code.contains(s));
        let test = name.to_string_lossy().ends_with("tests.rs");
        assert!(!starts || test || may.iter().any(|m| name.starts_with(m)), "{} starts a thread", name.display());
    }
}

/// The page names the test that holds each threat off: each is there.
#[test]
fn every_test_that_the_security_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat")).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<(&str, &str)> = last.split('`').filter_map(|text| text.split_once(": ")).collect();
        assert!(!named.is_empty(), "no test: {row}");
        for (file, test) in named {
            let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(source.contains(&format!("fn {test}(")), "{file} has no {test}");
        }
    }
}
