use super::*;

pub fn track(id: u64, name: &str) -> Track {
    Track {
        id: TrackId(id),
        name: name.into(),
        state: TrackState::Tracked,
        reason: Reason::Seen,
        score: 0.9,
        bounds: Some([10.0, 20.0, 30.0, 40.0]),
        centroid: Some([25.0, 40.0]),
        area: 1000,
        velocity: [12.0, -3.0],
        age: 431,
        since_seen: 0,
        mask: None,
    }
}

pub fn report(camera: &str, seq: u64, tracks: Vec<Track>) -> TrackReport {
    TrackReport {
        camera: camera.into(),
        seq,
        dropped: 0,
        t_mono_ns: seq * 40_000_000,
        t_real_ns: seq * 40_000_000,
        size: [640, 480],
        latency_ms: Latency { queue: 1.0, preprocess: 2.0, embed: 30.0, propagate: 5.0, track: 1.5, total: 40.0 },
        tracks,
    }
}

/// A table after ten reports of one camera, 40 ms apart, and the time of the last.
fn table(tracks: &[Track]) -> (Table, Instant) {
    let (mut table, start) = (Table::default(), Instant::now());
    let at = |seq: u64| start + Duration::from_millis(40 * seq);
    for seq in 0..10 {
        let report = TrackReport { dropped: u64::from(seq == 4) * 3, ..report("front", seq, tracks.to_vec()) };
        table.update(&report, at(seq));
    }
    (table, at(9))
}

#[test]
fn a_wide_terminal_shows_everything() {
    let lost = Track {
        state: TrackState::Lost,
        reason: Reason::LeftView,
        score: 0.0,
        bounds: None,
        since_seen: 75,
        ..track(12, "the blue one")
    };
    let (table, now) = table(&[lost, track(3, "cup")]);
    let expected = [
        "ID  NAME          STATE                 SCORE          BOX                PX/S            AGE  SEEN",
        " 3  cup           tracked (seen)        0.90 ███████▎  10,20 30x40        +12,-3          431  now",
        "12  the blue one  lost (left view)      0.00           -                  -               431  75 frames ago",
        "",
        "front  640x480  25.0 fps  40 ms from capture: queue 1.0, preprocess 2.0, embed 30.0, propagate 5.0, track 1.5  3 dropped",
    ];
    assert_eq!(table.lines(now, 160, false), expected);
}

#[test]
fn a_narrow_terminal_keeps_id_name_and_state() {
    let (table, now) = table(&[track(3, "cup")]);
    for width in 1..160 {
        let lines = table.lines(now, width, true);
        assert!(lines.iter().all(|line| measure_text_width(line) <= width), "{width}: {lines:?}");
    }
    let narrow = table.lines(now, 30, false);
    assert_eq!(narrow[..2], ["ID  NAME  STATE", " 3  cup   tracked (seen)"]);
}

#[test]
fn several_cameras_are_told_apart() {
    let (mut table, now) = table(&[track(3, "cup")]);
    table.update(&report("back door", 1, vec![track(4, "dog")]), now);
    let lines = table.lines(now, 200, false);
    assert!(lines[0].starts_with("CAMERA     ID"), "{lines:?}");
    assert!(lines[1].starts_with("back door   4  dog"), "{lines:?}");
    assert!(lines[2].starts_with("front       3  cup"), "{lines:?}");
}

#[test]
fn colours_go_with_states_and_only_where_wanted() {
    let (table, now) = table(&[track(3, "cup")]);
    assert!(table.lines(now, 160, false).iter().all(|line| !line.contains('\u{1b}')));
    assert!(table.lines(now, 160, true)[1].contains("\u{1b}[32mtracked (seen)"));
}

#[test]
fn a_track_that_is_gone_is_seen_to_go() {
    let gone = Track { state: TrackState::Removed, reason: Reason::Untagged, ..track(3, "cup") };
    let (mut table, now) = table(&[track(3, "cup")]);
    table.update(&report("front", 10, vec![gone]), now);
    table.update(&report("front", 11, vec![]), now + Duration::from_millis(40));
    assert!(table.lines(now + Duration::from_secs(1), 160, false)[1].contains("removed (untagged)"));
    let later = table.lines(now + Duration::from_millis(1900), 160, false);
    assert!(later[1].contains("removed"), "{later:?}");
    table.update(&report("front", 12, vec![]), now + Duration::from_millis(3100));
    assert!(table.lines(now + Duration::from_millis(3100), 160, false)[0].contains("no object is tagged"));
}

#[test]
fn silence_and_losses_are_told() {
    let (mut table, now) = table(&[]);
    table.missed(17);
    let lines = table.lines(now + Duration::from_secs(75), 160, false);
    assert!(lines.contains(&"front  640x480  no frame for 1 min 15 s".to_owned()), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("17 reports were missed"));
    assert_eq!(Table::default().lines(now, 160, false)[0], "waiting for a camera's first frame");
}

#[test]
fn a_name_cannot_break_out_of_its_cell() {
    let (table, now) = table(&[track(3, "cup\n\u{1b}[2J")]);
    let lines = table.lines(now, 160, false);
    assert!(lines.iter().all(|line| !line.contains(['\n', '\u{1b}'])), "{lines:?}");
}

#[test]
fn bars_grow_with_the_score() {
    for (score, expected) in [(0.0, ""), (0.5, "████"), (1.0, "████████"), (2.0, "████████"), (0.57, "████▌")]
    {
        assert_eq!(bar(score), expected, "{score}");
    }
    assert_eq!(bar(f32::NAN), "");
}

#[test]
fn durations_are_told_in_two_units() {
    for (seconds, words) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (12_000, "3 h 20 min"), (200_000, "2 d 7 h")]
    {
        assert_eq!(duration_words(Duration::from_secs(seconds)), words);
    }
}
