//! The two sockets against clients of every kind, the hostile ones foremost.

mod serve_support;

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve_support::*;
use tagalong::serve::client::{ClientError, ControlClient, Event, TracksClient};
use tagalong::serve::wire::{MAX_COMMAND_IN, MAX_LINE_IN, MAX_LINE_OUT, Subscribe};
use tagalong::serve::{Activated, ServeError, Server, Sink, SinkError};
use tagalong::types::report::Reason;
use tagalong::types::{Command, Seed, TrackId, TrackState};

#[test]
fn every_client_is_greeted() {
    let fixture = Fixture::start();
    let expected = json!({
        "class": "hello", "protocol": {"major": 1, "minor": 0}, "version": "9.9.9", "boot_id": "b00t",
        "cameras": [{"name": "front", "size": [640, 480], "model": "fake"}, {"name": "rear", "model": "fake"}],
    });
    assert_eq!(fixture.tracks().read(), expected);
    assert_eq!(fixture.control().read(), expected);
}

#[test]
fn a_client_that_sends_nothing_gets_the_state_and_then_every_camera_s_boxes() {
    let fixture = Fixture::start();
    fixture.send(report("front", 1));
    fixture.send(report("rear", 1));
    fixture.send(report("front", 2));
    fixture.sink().flush(PATIENCE).unwrap();
    let mut client = fixture.tracks().greeted();
    let (front, rear) = (client.read(), client.read());
    assert_eq!((&front["camera"], &front["seq"]), (&json!("front"), &json!(2)));
    assert_eq!((&rear["camera"], &rear["seq"]), (&json!("rear"), &json!(1)));
    fixture.send(report("rear", 2));
    let next = client.read();
    let mut expected = serde_json::to_value(report("rear", 2)).unwrap();
    expected["class"] = json!("tracks");
    expected["tracks"][0].as_object_mut().unwrap().remove("mask");
    assert_eq!(next, expected);
}

#[test]
fn subscribe_chooses_cameras_and_masks_and_begins_with_the_state() {
    let fixture = Fixture::start();
    for seq in 0..3 {
        fixture.send(report("front", seq));
        fixture.send(report("rear", seq));
    }
    fixture.sink().flush(PATIENCE).unwrap();
    let mut client = fixture.tracks().greeted();
    assert_eq!((client.read()["seq"].clone(), client.read()["seq"].clone()), (json!(2), json!(2)));
    let answer = client.ask(r#"{"class":"subscribe","id":"s","cameras":["rear"],"masks":true}"#);
    assert_eq!(answer, json!({"class": "subscribed", "id": "s", "cameras": ["rear"], "masks": true}));
    let state = client.read();
    assert_eq!((&state["camera"], &state["seq"]), (&json!("rear"), &json!(2)));
    assert_eq!(state["tracks"][0]["mask"], serde_json::to_value(report("rear", 2).tracks[0].mask.clone()).unwrap());
    fixture.send(report("front", 3));
    fixture.send(report("rear", 3));
    let next = client.read();
    assert_eq!((&next["camera"], &next["seq"]), (&json!("rear"), &json!(3)));
    assert!(next["tracks"][0]["mask"].is_object());

    // A camera that has not yet sent anything may be subscribed to; one that nobody knows may not.
    let answer = client.ask(r#"{"class":"subscribe","cameras":["rear","side"],"id":4}"#);
    assert_eq!((&answer["code"], &answer["id"]), (&json!("camera.unknown"), &json!(4)));
    fixture.send(report("rear", 4));
    assert_eq!(client.read()["seq"], 4, "a refused subscription leaves the old one in force");
}

#[test]
fn a_removed_track_appears_once() {
    let fixture = Fixture::start();
    let mut first = fixture.tracks().greeted();
    let mut slow = fixture.tracks().greeted();
    assert_eq!(slow.ask(r#"{"class":"subscribe","max_rate":0.01}"#)["class"], "subscribed");
    fixture.send(report("front", 1));
    assert_eq!((first.read()["seq"].clone(), slow.read()["seq"].clone()), (json!(1), json!(1)));
    let mut last = report("front", 2);
    (last.tracks[1].state, last.tracks[1].reason) = (TrackState::Removed, Reason::Untagged);
    fixture.send(last);
    for client in [&mut first, &mut slow] {
        let told = client.read();
        assert_eq!((&told["seq"], &told["tracks"][1]["state"]), (&json!(2), &json!("removed")));
    }
    // A state to begin with knows nothing of it.
    first.write("{\"class\":\"subscribe\"}\n");
    assert_eq!(first.read()["class"], "subscribed");
    for state in [first.read(), fixture.tracks().greeted().read()] {
        assert_eq!((&state["seq"], state["tracks"].as_array().unwrap().len()), (&json!(2), 1));
    }
}

#[test]
fn max_rate_thins_out_and_still_ends_with_the_newest() {
    let fixture = Fixture::start();
    let mut client = fixture.tracks().greeted();
    assert_eq!(client.ask(r#"{"class":"subscribe","max_rate":10}"#)["max_rate"], 10.0);
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        sent += 1;
        fixture.send(report("front", sent));
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut seqs = vec![client.read()["seq"].as_u64().unwrap()];
    while *seqs.last().unwrap() != sent {
        let line = client.read();
        assert_eq!(line["class"], "tracks");
        seqs.push(line["seq"].as_u64().unwrap());
    }
    let expected = 10.0 * start.elapsed().as_secs_f64();
    eprintln!("{} of {sent} reports at 10 Hz in {:?}", seqs.len(), start.elapsed());
    assert!((seqs.len() as f64) < expected + 2.0, "{seqs:?}");
    assert!(seqs.len() >= 8, "{seqs:?}");
    assert!(seqs.is_sorted());
}

#[test]
fn a_client_that_never_reads_slows_nobody_and_learns_of_its_gap() {
    let fixture = Fixture::start();
    let mut stuck = fixture.tracks();
    let mut reader = fixture.tracks().greeted();
    const REPORTS: u64 = 3000;
    let mut slowest = Duration::ZERO;
    for seq in 1..=REPORTS {
        let start = Instant::now();
        fixture.send(report("front", seq));
        assert!(start.elapsed() < Duration::from_secs(1), "`send` waited for a reader");
        assert_eq!(reader.read()["seq"], seq, "a gap for a client that keeps up");
        slowest = slowest.max(start.elapsed());
    }
    eprintln!("slowest report to the reader beside a stuck one: {slowest:?}");
    assert!(slowest < Duration::from_secs(1));
    let dropped = fixture.server.clients().dropped_reports;
    assert!(dropped > 0, "the stuck client's socket took everything; send more");

    // It wakes, and the gap stands exactly where the missing reports would.
    assert_eq!(stuck.read()["class"], "hello");
    let mut next = 1;
    let mut told = 0;
    while next <= REPORTS {
        let line = stuck.read();
        match line["class"].as_str() {
            Some("tracks") => {
                assert_eq!(line["seq"], next);
                next += 1;
            }
            Some("gap") => {
                let missing = line["dropped"].as_u64().unwrap();
                (next, told) = (next + missing, told + missing);
            }
            _ => panic!("{line}"),
        }
    }
    assert_eq!(told, dropped);
    fixture.send(report("front", REPORTS + 1));
    assert_eq!(stuck.read()["seq"], REPORTS + 1);
}

#[test]
fn a_burst_larger_than_the_queue_is_not_too_much_for_a_client_that_reads() {
    let fixture = Fixture::with(|config| config.queue = 1);
    let mut client = fixture.tracks().greeted();
    for round in 0..20 {
        let mut sink = fixture.sink();
        let reports: Vec<_> = (1..=30).map(|i| Arc::new(report("front", round * 30 + i))).collect();
        reports.iter().for_each(|report| sink.send(report).unwrap());
        (1..=30).for_each(|i| assert_eq!(client.read()["seq"], round * 30 + i));
    }
}

#[test]
fn what_waits_for_a_slow_client_is_replaced_by_the_state_when_it_subscribes() {
    let fixture = Fixture::start();
    let mut client = fixture.tracks();
    wait_until("it is taken in", || fixture.server.clients().connected == 1);
    let mut sent = 0;
    while fixture.server.clients().dropped_reports == 0 {
        sent += 1;
        fixture.send(report("front", sent));
    }
    client.write("{\"class\":\"subscribe\",\"masks\":true}\n");
    // Whatever came before this answer has been acted on.
    assert_eq!(fixture.control().greeted().ask(r#"{"class":"list","id":1}"#)["class"], "answer");
    let mut before = Vec::new();
    while before.last() != Some(&json!("subscribed")) {
        before.push(client.read()["class"].clone());
    }
    assert_eq!(before[before.len() - 2], "gap");
    let state = client.read();
    assert_eq!((&state["seq"], state["tracks"][0]["mask"].is_object()), (&json!(sent), true));
    fixture.send(report("front", sent + 1));
    assert_eq!(client.read()["seq"], sent + 1);
}

#[test]
fn a_hundred_clients_all_get_every_report() {
    let fixture = Fixture::with(|config| config.queue = 64);
    let clients: Vec<_> = (0..100).map(|_| fixture.tracks()).collect();
    wait_until("all are taken in", || fixture.server.clients().connected == 100);
    let start = Instant::now();
    let ready = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(index, client)| {
            let ready = ready.clone();
            std::thread::spawn(move || {
                let mut client = client.greeted();
                if index % 2 == 0 {
                    assert_eq!(client.ask(r#"{"class":"subscribe","masks":true}"#)["class"], "subscribed");
                }
                ready.fetch_add(1, Ordering::SeqCst);
                (1..=50).for_each(|seq| {
                    let line = client.read();
                    assert_eq!(line["seq"], seq);
                    assert_eq!(line["tracks"][0]["mask"].is_object(), index % 2 == 0);
                });
            })
        })
        .collect();
    // What is sent before a client has subscribed would come to it twice: as a report, and as the state.
    wait_until("all have subscribed", || ready.load(Ordering::SeqCst) == 100);
    for seq in 1..=50 {
        fixture.send(report("front", seq));
        std::thread::sleep(Duration::from_millis(5));
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    eprintln!("50 reports to each of 100 clients in {:?}", start.elapsed());
    wait_until("all have left", || fixture.server.clients().connected == 0);
    assert_eq!(fixture.server.clients().dropped_reports, 0);
}

#[test]
fn latency_from_send_to_reader() {
    let fixture = Fixture::start();
    let mut client = fixture.tracks().greeted();
    let mut times: Vec<Duration> = (1..=500)
        .map(|seq| {
            let start = Instant::now();
            fixture.send(report("front", seq));
            client.read();
            let taken = start.elapsed();
            std::thread::sleep(Duration::from_millis(1));
            taken
        })
        .collect();
    times.sort();
    let (median, p99) = (times[250], times[495]);
    eprintln!("report to reader, JSON parsed: median {median:?}, p99 {p99:?}");
    assert!(median < Duration::from_millis(5), "{median:?}");
}

#[test]
fn garbage_gets_a_typed_error_and_the_connection_stays() {
    let fixture = Fixture::start();
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let cases: [(&[u8], &str); 9] = [
        (b"hello?", "line.not_json"),
        (b"\xff\xfe\xfd", "line.not_utf8"),
        (b"\0\0\0", "line.not_json"),
        (b"{\"class\":\"status\",\"id\":1", "line.not_json"),
        (b"[]", "line.not_an_object"),
        (b"{}", "command.field_missing"),
        (b"{\"class\":\"fly\",\"id\":1}", "command.unknown"),
        (b"GET / HTTP/1.1\r", "line.not_json"),
        (deep.as_bytes(), "line.not_json"),
    ];
    for mut client in [fixture.control().greeted(), fixture.tracks().greeted()] {
        for (line, code) in cases {
            client.write(line);
            client.write("\n\n \t\r\n");
            let error = client.read();
            assert_eq!((&error["class"], &error["code"]), (&json!("error"), &json!(code)));
            assert!(error["message"].as_str().unwrap().len() > 10);
        }
    }
    // Each socket has its own lines.
    let mut tracks = fixture.tracks().greeted();
    let error = tracks.ask(r#"{"class":"untag","id":7,"track":1}"#);
    assert_eq!(
        (&error["code"], &error["id"], &error["command"]),
        (&json!("line.not_allowed"), &json!(7), &json!("untag"))
    );
    assert_eq!(tracks.ask(r#"{"class":"untag","id":8}"#)["code"], "line.not_allowed");
    assert_eq!(fixture.control().greeted().ask(r#"{"class":"subscribe"}"#)["code"], "line.not_allowed");
    assert_eq!(fixture.controller.executed.load(Ordering::SeqCst), 0);
}

#[test]
fn a_ten_megabyte_line_is_told_once() {
    let fixture = Fixture::start();
    for mut client in [fixture.control().greeted(), fixture.tracks().greeted()] {
        let chunk = vec![b'x'; 1 << 20];
        (0..10).for_each(|_| client.write(&chunk));
        client.write("\nnonsense\n");
        assert_eq!(client.read()["code"], "line.too_long");
        assert_eq!(client.read()["code"], "line.not_json");
    }
    // The limit itself.
    let status = |length: usize| {
        let line = r#"{"class":"status","id":1,"pad":""}"#;
        line.replace("\"pad\":\"", &format!("\"pad\":\"{}", "x".repeat(length - line.len())))
    };
    for (mut client, limit, taken) in [
        (fixture.control().greeted(), MAX_COMMAND_IN, json!(null)),
        (fixture.tracks().greeted(), MAX_LINE_IN, json!("line.not_allowed")),
    ] {
        assert_eq!(client.ask(&status(limit))["code"], taken);
        let error = client.ask(&status(limit + 1));
        assert_eq!(error["code"], "line.too_long");
        assert!(error["message"].as_str().unwrap().contains(&limit.to_string()), "{error}");
    }
}

#[test]
fn half_a_line_and_nothing_disturb_nobody() {
    let fixture = Fixture::start();
    let _silent = (fixture.control(), fixture.tracks());
    let mut half = fixture.control().greeted();
    half.write(r#"{"class":"rename","id":1,"#);
    let mut mid_line = fixture.control().greeted();
    mid_line.write(r#"{"class":"reset","id":"#);
    drop(mid_line);
    assert_eq!(fixture.control().greeted().ask(r#"{"class":"list","id":1}"#)["class"], "answer");
    half.write("\"track\":3,\"name\":\"x\"}\n");
    assert_eq!(half.read(), json!({"class": "answer", "id": 1, "command": "rename", "track": 3, "name": "x"}));
    wait_until("the one that left is gone", || fixture.server.clients().connected == 3);
}

#[test]
fn a_writer_that_shuts_its_half_is_still_served() {
    let fixture = Fixture::start();
    let mut control = fixture.control().greeted();
    control.write("{\"class\":\"list\",\"id\":1}\n{\"class\":\"status\",\"id\":2}\n{\"class\":\"li");
    control.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((control.read()["id"].clone(), control.read()["id"].clone()), (json!(1), json!(2)));
    assert_eq!(control.read_or_end(), None);
    let mut tracks = fixture.tracks().greeted();
    tracks.stream().shutdown(std::net::Shutdown::Write).unwrap();
    fixture.send(report("front", 1));
    assert_eq!(tracks.read()["seq"], 1);
    // And one that leaves at once has still given its command.
    fixture.control().write("{\"class\":\"reset\",\"id\":1}\n");
    wait_until("the command was carried out", || {
        fixture.controller.commands.lock().unwrap().contains(&Command::Reset { camera: None })
    });
}

#[test]
fn a_thousand_pipelined_commands_are_answered_in_order() {
    let fixture = Fixture::start();
    let mut client = fixture.control().greeted();
    let start = Instant::now();
    let lines: String = (0..1000)
        .map(|i| match i % 3 {
            0 => format!("{{\"class\":\"untag\",\"id\":{i},\"track\":{}}}\n", i + 1000),
            1 => format!("{{\"class\":\"untag\",\"id\":{i}}}\n"),
            _ => format!("{{\"class\":\"list\",\"id\":\"{i}\"}}\n"),
        })
        .collect();
    client.write(lines);
    for i in 0..1000 {
        let line = client.read();
        match i % 3 {
            0 => assert_eq!((&line["id"], &line["removed"]), (&json!(i), &json!([i + 1000]))),
            1 => assert_eq!((&line["id"], &line["code"]), (&json!(i), &json!("command.field_missing"))),
            _ => assert_eq!((&line["id"], &line["command"]), (&json!(i.to_string()), &json!("list"))),
        }
    }
    eprintln!("1000 pipelined commands in {:?}", start.elapsed());
}

#[test]
fn a_flood_of_garbage_is_held_back_until_its_answers_are_read() {
    let fixture = Fixture::start();
    let mut flood = fixture.tracks().greeted();
    flood.stream().set_nonblocking(true).unwrap();
    let mut written = 0;
    let (start, mut last_taken) = (Instant::now(), Instant::now());
    while last_taken.elapsed() < Duration::from_millis(300) {
        assert!(start.elapsed() < PATIENCE / 2, "{written} bytes were taken though no answer was read");
        match flood.reader.get_mut().write(&b"x\n".repeat(4096)) {
            Ok(n) => (written, last_taken) = (written + n, Instant::now()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    flood.stream().set_nonblocking(false).unwrap();
    let mut other = fixture.tracks().greeted();
    fixture.send(report("front", 1));
    assert_eq!(other.read()["seq"], 1);
    for _ in 0..written / 2 {
        let line = flood.read();
        assert!(line["code"] == "line.not_json" || line["seq"] == 1, "{line}");
    }
}

#[test]
fn a_client_that_takes_nothing_for_too_long_is_closed_and_told() {
    let fixture = Fixture::with(|config| config.write_timeout_ms = 300);
    let mut stuck = fixture.tracks();
    let _idle = fixture.tracks().greeted();
    wait_until("both are taken in", || fixture.server.clients().connected == 2);
    let mut reader = fixture.tracks().greeted();
    let start = Instant::now();
    let mut seq = 0;
    // The idle one is closed as well: it does not read either.
    while fixture.server.clients().connected > 1 {
        assert!(start.elapsed() < PATIENCE);
        seq += 1;
        fixture.send(report("front", seq));
        assert_eq!(reader.read()["seq"], seq);
    }
    eprintln!("a client that took nothing was closed after {:?}", start.elapsed());
    let mut last = Value::Null;
    while let Some(line) = stuck.read_or_end() {
        if line["class"] == "error" {
            last = line;
        }
    }
    assert_eq!(last["code"], "client.too_slow");
}

#[test]
fn one_client_too_many_is_told_and_closed() {
    let fixture = Fixture::with(|config| config.max_clients = 2);
    let first = fixture.tracks().greeted();
    let mut second = fixture.tracks().greeted();
    let mut third = fixture.tracks();
    let line = third.read();
    assert_eq!((&line["class"], &line["code"]), (&json!("error"), &json!("client.too_many")));
    assert_eq!(third.read_or_end(), None);
    let refused = TracksClient::connect(&fixture.path("tracks.sock"), PATIENCE).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
    // The other socket has its own limit, and a place that is given up is free again.
    let status = fixture.control().greeted().ask(r#"{"class":"status","id":1}"#);
    assert_eq!(status["clients"], json!({"connected": 3, "refused": 2, "dropped_reports": 0}));
    drop(first);
    wait_until("the place is free", || fixture.server.clients().connected < 2);
    fixture.tracks().greeted();
    fixture.send(report("front", 1));
    assert_eq!(second.read()["seq"], 1);
}

#[test]
fn a_slow_command_holds_up_neither_tracks_nor_other_commands() {
    let fixture = Fixture::start();
    let gate = fixture.controller.reload_gate.lock().unwrap();
    let mut slow = fixture.control().greeted();
    slow.write("{\"class\":\"reload\",\"id\":1}\n{\"class\":\"list\",\"id\":2}\n");
    wait_until("it is being carried out", || fixture.controller.executed.load(Ordering::SeqCst) == 1);
    assert_eq!(fixture.control().greeted().ask(r#"{"class":"status","id":1}"#)["uptime_s"], 12.5);
    let mut tracks = fixture.tracks().greeted();
    fixture.send(report("front", 1));
    assert_eq!(tracks.read()["seq"], 1);
    assert!(slow.is_silent(Duration::from_millis(50)), "the second command overtook the first");
    drop(gate);
    assert_eq!((slow.read()["id"].clone(), slow.read()["id"].clone()), (json!(1), json!(2)));
}

#[test]
fn a_command_that_panics_is_told_and_takes_nothing_with_it() {
    let fixture = Fixture::start();
    let mut client = fixture.control().greeted();
    for id in 0..10 {
        let error = client.ask(&format!(r#"{{"class":"untag","id":{id},"track":666}}"#));
        assert_eq!((&error["code"], &error["id"]), (&json!("daemon.failed"), &json!(id)));
    }
    assert_eq!(client.ask(r#"{"class":"list","id":"after"}"#)["class"], "answer");
}

/// Clients that come, do one thing of the kind that clients do wrong, and go, many at once.
#[test]
fn a_crowd_of_bad_clients_leaves_nothing_behind() {
    let fixture = Fixture::with(|config| (config.max_clients, config.write_timeout_ms) = (6, 200));
    let until = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        for thread in 0..12_usize {
            let path = fixture.path(if thread % 2 == 0 { "tracks.sock" } else { "control.sock" });
            scope.spawn(move || {
                for turn in thread.. {
                    if Instant::now() > until {
                        break;
                    }
                    let mut stream = UnixStream::connect(&path).unwrap();
                    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                    stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
                    // Whether it goes well is of no interest: the server may close at any time.
                    let _ = match turn % 7 {
                        0 => stream.write_all(b"{\"class\":\"status\",\"id\":1}\n"),
                        1 => stream.write_all(b"{\"class\":\"untag\",\"id\":1,\"track\":666}\n{\"class\":\"unt"),
                        2 => stream.write_all(&vec![0xf0; 200_000]),
                        3 => stream.write_all(&b"{}\n".repeat(10_000)),
                        4 => stream.write_all(
                            b"{\"class\":\"subscribe\",\"masks\":true,\"max_rate\":3}\n".repeat(300).as_slice(),
                        ),
                        5 => std::io::copy(&mut stream, &mut std::io::sink()).map(drop),
                        _ => stream.shutdown(std::net::Shutdown::Both),
                    };
                }
            });
        }
        let mut seq = 0;
        while Instant::now() < until {
            seq += 1;
            fixture.send(report(if seq % 2 == 0 { "front" } else { "rear" }, seq));
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    wait_until("all have left", || fixture.server.clients().connected == 0);
    eprintln!("{:?}", fixture.server.clients());
    assert_eq!(fixture.control().greeted().ask(r#"{"class":"list","id":1}"#)["class"], "answer");
    assert_eq!(fixture.tracks().greeted().read()["class"], "tracks");
}

#[test]
fn what_is_too_long_for_a_line_is_not_sent() {
    let fixture = Fixture::start();
    let error = fixture.control().greeted().ask(r#"{"class":"snapshot","id":1,"camera":"rear"}"#);
    assert_eq!((&error["code"], &error["command"]), (&json!("answer.too_long"), &json!("snapshot")));

    let mut client = fixture.tracks().greeted();
    client.ask(r#"{"class":"subscribe","masks":true}"#);
    let mut large = report("front", 1);
    large.tracks[0].mask.as_mut().unwrap().counts = "0".repeat(MAX_LINE_OUT);
    fixture.send(large);
    let line = client.read();
    assert_eq!((&line["seq"], &line["masks_dropped"]), (&json!(1), &json!(true)));
    assert!(line["tracks"][0].get("mask").is_none());
    fixture.send(report("front", 2));
    assert!(client.read().get("masks_dropped").is_none());
}

#[test]
fn numbers_that_json_cannot_hold_become_absent_or_zero() {
    let fixture = Fixture::start();
    let mut client = fixture.tracks().greeted();
    let mut bad = report("front", 1);
    bad.latency_ms.embed = f32::NAN;
    bad.tracks[0].bounds = Some([f32::INFINITY, 0.0, 1.0, 1.0]);
    (bad.tracks[0].score, bad.tracks[0].velocity) = (f32::NAN, [f32::NEG_INFINITY, 1.0]);
    fixture.send(bad);
    let line = client.read();
    assert_eq!((&line["latency_ms"]["embed"], &line["tracks"][0]["score"]), (&json!(0.0), &json!(0.0)));
    assert_eq!(line["tracks"][0]["velocity"], json!([0.0, 1.0]));
    assert!(line["tracks"][0].get("box").is_none());
}

#[test]
fn socket_files_have_their_modes_and_groups_and_go_with_the_server() {
    let own = nix::unistd::Group::from_gid(nix::unistd::getgid()).unwrap();
    let fixture = Fixture::with(|config| {
        config.directory = config.directory.join("made/for/it");
        (config.tracks_mode, config.control_mode) = ("0664".into(), "600".into());
        config.tracks_group = own.map(|group| group.name).unwrap_or_default();
    });
    let folder = fixture.path("made/for/it");
    for (name, mode) in [("tracks.sock", 0o664), ("control.sock", 0o600)] {
        let found = std::fs::metadata(folder.join(name)).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
        assert_eq!(found.gid(), nix::unistd::getgid().as_raw());
    }
    fixture.server.shutdown(PATIENCE);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

fn start_in(folder: &std::path::Path) -> Result<Server, ServeError> {
    serve(&config(folder), Arc::new(FakeController::default()), Activated::default())
}

#[test]
fn only_a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tracks.sock");

    // What a daemon that was killed leaves: a socket on which nobody listens.
    drop(UnixListener::bind(&path).unwrap());
    let server = start_in(folder.path()).unwrap();
    UnixStream::connect(&path).unwrap();

    // A live one is left to its owner, and so is its file.
    let error = start_in(folder.path()).unwrap_err();
    assert!(matches!(&error, ServeError::InUse { path: taken } if *taken == path), "{error}");
    UnixStream::connect(&path).unwrap();
    drop(server);
    assert!(!path.exists());

    // What is not a socket is never removed.
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(start_in(folder.path()).unwrap_err(), ServeError::NotASocket { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    let target = folder.path().join("elsewhere");
    drop(UnixListener::bind(&target).unwrap());
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(matches!(start_in(folder.path()).unwrap_err(), ServeError::NotASocket { .. }));
    assert!(target.exists() && path.is_symlink());
    std::fs::remove_file(&path).unwrap();

    // The second socket is at fault: the first one, just made, is taken away again.
    std::fs::create_dir(folder.path().join("control.sock")).unwrap();
    assert!(matches!(start_in(folder.path()).unwrap_err(), ServeError::NotASocket { .. }));
    assert!(!path.exists());
}

#[test]
fn a_file_that_replaced_ours_is_not_removed() {
    let fixture = Fixture::start();
    let path = fixture.path("tracks.sock");
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    fixture.server.shutdown(PATIENCE);
    assert!(path.exists());
    drop(other);
}

#[test]
fn a_configuration_that_cannot_be_served_is_refused() {
    let start = |change: &dyn Fn(&mut tagalong::serve::ServeConfig)| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let controller = Arc::new(FakeController::default());
        serve(&config, controller, Activated::default()).expect_err("refused").to_string()
    };
    for mode in ["", "66", "0888", "rw-rw----", "1777", "07770", "+660"] {
        let error = start(&|config| config.control_mode = mode.into());
        assert!(error.contains("`control_mode`"), "{mode}: {error}");
    }
    assert!(start(&|config| config.tracks_group = "no-such-group".into()).contains("`tracks_group`"));
    assert!(start(&|config| config.directory = "/proc/nowhere".into()).contains("/proc/nowhere"));
    assert!(start(&|config| config.directory = config.directory.join("x".repeat(120))).contains("xxx"));
}

#[test]
fn sockets_of_the_service_manager_are_told_apart_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let bind = |name: &str| UnixListener::bind(folder.path().join(name)).unwrap();
    // By name, whatever their order.
    let activated = Activated::assign(vec![bind("control.sock"), bind("tracks.sock")]).unwrap();
    let name = |listener: &Option<UnixListener>| {
        listener.as_ref().unwrap().local_addr().unwrap().as_pathname().unwrap().file_name().unwrap().to_owned()
    };
    assert_eq!((name(&activated.tracks), name(&activated.control)), ("tracks.sock".into(), "control.sock".into()));
    let controller = Arc::new(FakeController::default());
    let server = serve(&config(folder.path()), controller, activated).unwrap();
    let mut client = RawClient::connect(&folder.path().join("control.sock")).greeted();
    assert_eq!(client.ask(r#"{"class":"list","id":1}"#)["command"], "list");
    server.shutdown(PATIENCE);
    assert!(folder.path().join("tracks.sock").exists() && folder.path().join("control.sock").exists());

    // By order, where the names say nothing; one that is named keeps its place.
    let activated = Activated::assign(vec![bind("a"), bind("b")]).unwrap();
    assert_eq!((name(&activated.tracks), name(&activated.control)), ("a".into(), "b".into()));
    std::fs::remove_file(folder.path().join("tracks.sock")).unwrap();
    let activated = Activated::assign(vec![bind("c"), bind("tracks.sock")]).unwrap();
    assert_eq!((name(&activated.tracks), name(&activated.control)), ("tracks.sock".into(), "c".into()));
    let only = Activated::assign(vec![bind("d")]).unwrap();
    assert!(only.tracks.is_some() && only.control.is_none());
    assert!(Activated::assign(vec![bind("e"), bind("f"), bind("g")]).is_err());
}

#[test]
fn shutdown_sends_what_is_queued_and_ends_the_sinks() {
    let fixture = Fixture::start();
    let mut client = fixture.tracks().greeted();
    let mut sink = fixture.sink();
    (1..=5).for_each(|seq| fixture.send(report("front", seq)));
    fixture.server.shutdown(PATIENCE);
    (1..=5).for_each(|seq| assert_eq!(client.read()["seq"], seq));
    assert_eq!(client.read_or_end(), None);
    assert!(matches!(sink.send(&Arc::new(report("front", 6))), Err(SinkError::Closed)));
    assert!(matches!(sink.flush(PATIENCE), Err(SinkError::Closed)));
}

#[test]
fn shutdown_does_not_wait_for_a_client_that_does_not_read() {
    let fixture = Fixture::start();
    let _stuck = fixture.tracks();
    wait_until("it is taken in", || fixture.server.clients().connected == 1);
    while fixture.server.clients().dropped_reports == 0 {
        fixture.send(report("front", 1));
    }
    let start = Instant::now();
    assert!(fixture.sink().flush(Duration::from_millis(100)).is_ok());
    fixture.server.shutdown(Duration::from_millis(200));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_new_greeting_forgets_cameras() {
    let fixture = Fixture::start();
    fixture.send(report("front", 1));
    let mut hello = hello();
    hello.cameras.remove(0);
    fixture.server.set_hello(hello);
    let mut client = fixture.tracks();
    assert_eq!(client.read()["cameras"].as_array().unwrap().len(), 1);
    assert_eq!(client.ask(r#"{"class":"subscribe","cameras":["front"]}"#)["code"], "camera.unknown");
}

#[test]
fn the_rust_client_speaks_to_both_sockets() {
    let fixture = Fixture::start();
    let mut control = ControlClient::connect(&fixture.path("control.sock"), PATIENCE).unwrap();
    assert_eq!(control.hello(), &hello());
    let tagged = control.tag(None, Seed::Box([1.0, 2.0, 3.0, 4.5]), Some("mug"), Some(12), true).unwrap();
    assert_eq!((tagged.camera.as_str(), tagged.seq, tagged.track.name.as_str()), ("front", 12, "mug"));
    assert_eq!(tagged.track.bounds, Some([1.0, 2.0, 3.0, 4.5]));
    assert_eq!(control.untag(TrackId(5)).unwrap(), [TrackId(5)]);
    assert_eq!(control.reset(Some("rear")).unwrap(), [TrackId(1), TrackId(2)]);
    control.rename(TrackId(5), "cup").unwrap();
    assert_eq!(control.list(None).unwrap(), [listed()]);
    assert_eq!(control.snapshot(None).unwrap().jpeg, [0xff, 0xd8, 0xff, 0xd9]);
    assert_eq!(control.reload().unwrap().restart_needed, ["model.manifest"]);
    let mut expected = status();
    expected.clients = fixture.server.clients();
    assert_eq!(control.status().unwrap(), expected);
    let refused = control.untag(TrackId(404)).unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(error) if error.code.as_str() == "track.unknown"), "{refused}");

    let mut tracks = TracksClient::connect(&fixture.path("tracks.sock"), PATIENCE).unwrap();
    assert!(matches!(tracks.next_event(Duration::from_millis(20)), Err(ClientError::Timeout)));
    tracks.subscribe(Subscribe { masks: true, ..Subscribe::default() }).unwrap();
    assert!(matches!(tracks.next_event(PATIENCE).unwrap(), Some(Event::Subscribed(_))));
    fixture.send(report("front", 1));
    match tracks.next_event(PATIENCE).unwrap() {
        Some(Event::Tracks(tracks)) => assert_eq!(*tracks.report, report("front", 1)),
        other => panic!("{other:?}"),
    }
    fixture.server.shutdown(PATIENCE);
    assert_eq!(tracks.events().count(), 0);
    assert!(matches!(control.status().unwrap_err(), ClientError::Closed | ClientError::Io(_)));
    let gone = ControlClient::connect(&fixture.folder.path().join("control.sock"), PATIENCE).unwrap_err();
    assert!(gone.to_string().contains("is the daemon running"), "{gone}");
}
