//! `docs/protocol.md` against the types that make the lines: every field and code, both ways.

mod serve_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use serve_support::*;
use tagalong::serve::request::{self, CLASSES, Request};
use tagalong::serve::wire::*;
use tagalong::types::command::{BudgetReason, ErrorCode};
use tagalong::types::mask::{CocoRle, Mask};
use tagalong::types::report::Reason;
use tagalong::types::{Answer, Command, Seed, TrackId, TrackState};

const DOCUMENT: &str = include_str!("../docs/protocol.md");

/// The first column of every table, by the heading above it and the name of that column.
fn tables() -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut tables = BTreeMap::<_, BTreeSet<String>>::new();
    let (mut heading, mut column) = (String::new(), None);
    for line in DOCUMENT.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let Some(title) = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')) {
            heading = title.to_owned();
        } else if !line.starts_with('|') {
            column = None;
        } else if column.is_none() {
            column = Some(cells[1].to_owned());
            assert!(!tables.contains_key(&(heading.clone(), cells[1].to_owned())), "two tables: {heading}");
            tables.insert((heading.clone(), cells[1].to_owned()), BTreeSet::new());
        } else if !cells[1].starts_with("---") {
            let key = (heading.clone(), column.clone().unwrap());
            let name = cells[1].trim_matches('`').to_owned();
            assert!(tables.get_mut(&key).unwrap().insert(name), "{heading}: {} stands twice", cells[1]);
        }
    }
    tables
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("{value} is an object")).keys().cloned().collect()
}

fn value(line: &impl serde::Serialize) -> Value {
    serde_json::to_value(line).unwrap()
}

/// An object with every field that it can have, for each heading of the document.
fn samples() -> BTreeMap<&'static str, BTreeSet<String>> {
    let id = CommandId::Number(1);
    let mut full = report("front", 1);
    full.tracks.truncate(1);
    let hello = value(&ServerLine::Hello(hello()));
    let tracks = value(&ServerLine::Tracks(Tracks { report: Arc::new(full.clone()), masks_dropped: true }));
    let subscribed = Subscribed { id: Some(id.clone()), cameras: Some(vec![]), masks: true, max_rate: Some(1.0) };
    let subscribe = Subscribe { id: Some(id.clone()), cameras: Some(vec![]), masks: true, max_rate: Some(1.0) };
    let error = ErrorLine { id: Some(id.clone()), command: Some("tag".into()), ..ErrorLine::new(ErrorCode::Busy, "") };
    let camera = Some("front".to_owned());
    let command = |command: Command| keys(&value(&ClientLine::command(id.clone(), &command)));
    let answer = |answer: Answer| value(&AnswerLine { id: id.clone(), command: "x".into(), answer });
    let tag =
        |seed| command(Command::Tag { camera: camera.clone(), seed, name: Some("n".into()), seq: Some(1), save: true });
    let recognise = command(Command::Recognise { camera: camera.clone(), name: "n".into() });
    let name = || "n".to_owned();
    let accept = command(Command::Accept { id: TrackId(1), name: Some(name()), save: true });
    let gallery = answer(Answer::Gallery { gallery: vec![known()] });
    let exported = answer(Answer::Exported { name: name(), object_base64: String::new() });
    let seeds = [Seed::Box([0.0; 4]), Seed::Point([0.0; 2]), Seed::Mask(Mask::empty(1, 1))];
    let tagged = answer(Answer::Tagged { camera: "front".into(), seq: 1, track: full.tracks[0].clone() });
    let listed = answer(Answer::Listed { tracks: vec![listed()] });
    let status = answer(Answer::Status(Box::new(status())));
    let removed = answer(Answer::Removed { removed: vec![] });
    let renamed = answer(Answer::Renamed { track: TrackId(1), name: "n".into() });
    let snapshot =
        answer(Answer::Snapshot { camera: "front".into(), seq: 1, size: [1, 1], jpeg_base64: String::new() });
    let reloaded = answer(Answer::Reloaded { applied: vec![], restart_needed: vec![] });
    // What an answer has beside the fields of every answer.
    let own = |value: &Value| &keys(value) - &BTreeSet::from(["id".into(), "command".into()]);
    assert_eq!(keys(&tagged["track"]), keys(&tracks["tracks"][0]));
    BTreeMap::from([
        ("hello", keys(&hello)),
        ("hello.protocol", keys(&hello["protocol"])),
        ("hello.cameras", keys(&hello["cameras"][0])),
        ("tracks", keys(&tracks)),
        ("tracks.tracks", keys(&tracks["tracks"][0])),
        ("tracks.tracks.mask", keys(&tracks["tracks"][0]["mask"])),
        ("tracks.latency_ms", keys(&tracks["latency_ms"])),
        ("subscribe", keys(&value(&ClientLine::Subscribe(subscribe)))),
        ("subscribed", keys(&value(&ServerLine::Subscribed(subscribed)))),
        ("gap", keys(&value(&ServerLine::Gap(Gap { dropped: 1 })))),
        ("answer", BTreeSet::from(["class".into(), "id".into(), "command".into()])),
        ("error", keys(&value(&ServerLine::Error(error)))),
        ("tag", seeds.into_iter().flat_map(tag).chain(recognise).chain(accept).collect()),
        ("tag, answered", own(&tagged)),
        ("untag", command(Command::Untag { id: TrackId(1) })),
        ("untag, answered", own(&removed)),
        ("rename", command(Command::Rename { id: TrackId(1), name: "n".into() })),
        ("rename, answered", own(&renamed)),
        ("reset", command(Command::Reset { camera: camera.clone() })),
        ("reset, answered", own(&removed)),
        ("list", command(Command::List { camera: camera.clone() })),
        ("list, answered", own(&listed)),
        ("list, answered: tracks", keys(&listed["tracks"][0])),
        ("status", command(Command::Status)),
        ("status, answered", own(&status)),
        ("status, answered: model", keys(&status["model"])),
        ("status, answered: budget", keys(&status["budget"])),
        ("status, answered: sandbox", keys(&status["sandbox"])),
        ("status, answered: a layer of the sandbox", keys(&status["sandbox"]["files"])),
        ("status, answered: cameras", keys(&status["cameras"][0])),
        ("status, answered: stages", keys(&status["cameras"][0]["stages"][0])),
        ("status, answered: clients", keys(&status["clients"])),
        ("snapshot", command(Command::Snapshot { camera })),
        ("snapshot, answered", own(&snapshot)),
        ("reload", command(Command::Reload)),
        ("reload, answered", own(&reloaded)),
        ("save", command(Command::Save { id: TrackId(1), name: Some(name()) })),
        ("gallery", command(Command::Gallery)),
        ("gallery, answered", own(&gallery)),
        ("gallery, answered: gallery", keys(&gallery["gallery"][0])),
        ("gallery_rename", command(Command::GalleryRename { name: name(), to: name() })),
        ("gallery_merge", command(Command::GalleryMerge { name: name(), into: name() })),
        ("gallery_forget", command(Command::GalleryForget { name: name() })),
        ("gallery_export", command(Command::GalleryExport { name: name() })),
        ("gallery_export, answered", own(&exported)),
        ("gallery_import", command(Command::GalleryImport { object: vec![], name: Some(name()) })),
    ])
}

#[test]
fn every_field_is_documented_and_every_documented_field_is_there() {
    let documented: BTreeMap<String, BTreeSet<String>> = tables()
        .into_iter()
        .filter(|((_, column), _)| column == "field")
        .map(|((heading, _), rows)| (heading, rows))
        .collect();
    let samples: BTreeMap<String, BTreeSet<String>> =
        samples().into_iter().map(|(heading, fields)| (heading.to_owned(), fields)).collect();
    for (heading, fields) in &samples {
        assert_eq!(documented.get(heading), Some(fields), "the table under `{heading}`");
    }
    assert_eq!(documented.keys().collect::<Vec<_>>(), samples.keys().collect::<Vec<_>>());
    for class in CLASSES {
        assert!(samples.contains_key(class), "{class}");
    }
}

#[test]
fn every_code_state_and_reason_is_documented() {
    let tables = tables();
    let rows = |heading: &str, column: &str| &tables[&(heading.to_owned(), column.to_owned())];
    let codes: BTreeSet<String> = ErrorCode::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(rows("error", "code"), &codes);
    for code in ErrorCode::ALL {
        assert_eq!(value(code), code.as_str());
        assert_eq!(serde_json::from_value::<ErrorCode>(value(code)).unwrap(), *code);
    }
    assert_eq!(serde_json::from_str::<ErrorCode>("\"from.later\"").unwrap(), ErrorCode::Unknown);

    use TrackState::{Lost, Occluded, Proposal, Removed, Tentative, Tracked};
    let states = [Tentative, Tracked, Occluded, Lost, Removed, Proposal];
    let names = |values: Vec<Value>| values.iter().map(|v| v.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(rows("tracks.tracks", "state"), &names(states.iter().map(value).collect()));
    // A reason that the document has and the types have not is refused by the reader; the other way round, the
    // match makes a new one be entered here.
    let reasons = rows("tracks.tracks", "reason");
    for reason in reasons {
        let reason: Reason = serde_json::from_value(Value::String(reason.clone())).unwrap();
        match reason {
            Reason::Tagged | Reason::Confirmed | Reason::Shrunk | Reason::Unseen | Reason::LeftView => {}
            Reason::Seen | Reason::Reacquired | Reason::TimedOut | Reason::Untagged => {}
            Reason::Reset | Reason::CameraLost | Reason::Recognised | Reason::Ambiguous => {}
            Reason::Proposed | Reason::Withdrawn => {}
        }
    }
    assert_eq!(reasons.len(), 15);
    let budget = rows("status, answered: budget", "reason");
    for reason in budget {
        match serde_json::from_value(Value::String(reason.clone())).unwrap() {
            BudgetReason::Start | BudgetReason::FpsMissed | BudgetReason::CpuExceeded | BudgetReason::Room => {}
            BudgetReason::Unknown => panic!("{reason}"),
        }
    }
    assert_eq!(budget.len(), 4);
}

#[test]
fn every_example_is_a_line_of_the_protocol() {
    let mut shown = BTreeSet::new();
    let examples = DOCUMENT.split("```json\n").skip(1).map(|block| block.split("```").next().unwrap());
    for line in examples.flat_map(str::lines) {
        let example: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let class = example["class"].as_str().unwrap();
        shown.insert(class.to_owned());
        let written = if CLASSES.contains(&class) {
            match request::read(line.as_bytes()).request.unwrap_or_else(|e| panic!("{e}: {line}")) {
                Request::Subscribe(wants) => value(&ClientLine::Subscribe(wants)),
                Request::Command(id, command) => value(&ClientLine::command(id, &command)),
            }
        } else {
            value(&serde_json::from_str::<ServerLine>(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        };
        assert_eq!(written, example);
        if let Some(mask) = example.pointer("/tracks/0/mask") {
            let rle: CocoRle = serde_json::from_value(mask.clone()).unwrap();
            let mask = Mask::from_coco(&rle).unwrap();
            assert_eq!(mask.area() as u64, example["tracks"][0]["area"].as_u64().unwrap());
            assert_eq!(value(&[mask.width, mask.height]), example["size"]);
        }
    }
    let expected = ["answer", "error", "gap", "hello", "subscribed", "tracks"].into_iter().chain(CLASSES);
    assert_eq!(shown, expected.map(str::to_owned).collect());
}

#[test]
fn what_a_newer_daemon_adds_is_passed_over() {
    let line: ServerLine = serde_json::from_str(r#"{"class":"weather","sun":true}"#).unwrap();
    assert_eq!(line, ServerLine::Unknown);
    let line: ServerLine = serde_json::from_str(r#"{"class":"gap","dropped":3,"since":1}"#).unwrap();
    assert_eq!(line, ServerLine::Gap(Gap { dropped: 3 }));
}

#[test]
fn the_limits_in_the_document_are_those_of_the_code() {
    for number in [MAX_LINE_IN, MAX_COMMAND_IN, MAX_LINE_OUT] {
        let (high, low) = (number / 1000, number % 1000);
        let text = if high >= 1000 {
            format!("{},{:03},{low:03}", high / 1000, high % 1000)
        } else {
            format!("{high},{low:03}")
        };
        assert!(DOCUMENT.contains(&format!("{text} bytes")), "{text}");
    }
    assert!(DOCUMENT.contains(&format!("Version {}.{}.", PROTOCOL.major, PROTOCOL.minor)));
}
