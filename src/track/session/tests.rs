//! A session on a toy world: patches of a few kinds, each kind an embedding of its own with some noise.

use std::sync::Arc;

use super::seek::SOUGHT;
use super::*;
use crate::propagate::{SeedRule, Window};
use crate::track::lookalikes::Expected;
use crate::types::{InputTensor, Timestamp};

mod beside;
mod proposals;
mod scene;
mod views;

const GRID: PatchGrid = PatchGrid { rows: 16, cols: 24, patch: 16 };
const DIM: usize = 24;
const SIZE: (usize, usize) = (384, 256);
const FPS: u64 = 10;

fn propagate() -> PropagateConfig {
    PropagateConfig {
        top_k: 5,
        context_frames: 3,
        radius: 4,
        window: Window::Square,
        temperature: 0.1,
        seed: SeedRule::Area,
        min_max: false,
        refine_radius: 0.0,
        refine_epsilon: 0.002,
        zoom: 1.0,
        density: 1.0,
    }
}

fn track() -> TrackConfig {
    TrackConfig {
        confirm_frames: 3,
        occluded_area: 0.35,
        min_score: 0.46,
        lost_after_s: 0.5,
        remove_after_s: 0.0,
        recover: true,
        max_objects: 3,
    }
}

fn session() -> Session {
    Session::new(propagate(), track(), GRID, DIM)
}

/// A block of 3x3 patches: its kind, and the row and column of its corner.
type Block = (usize, isize, isize);

/// Embeddings of a textured background with blocks over it.
fn frame(seq: u64, blocks: &[Block]) -> Features {
    let mut features = Features::zeros(GRID, DIM);
    for patch in 0..GRID.len() {
        let (row, col) = ((patch / GRID.cols) as isize, (patch % GRID.cols) as isize);
        let over = blocks.iter().rev().find(|(_, r, c)| (*r..r + 3).contains(&row) && (*c..c + 3).contains(&col));
        // A block's patches differ by their place in it, the background's by their place in the frame.
        let (kind, detail) = match over {
            Some((kind, r, c)) => (*kind, ((row - r) * 3 + col - c) as u64),
            None => (0, (row * 24 + col) as u64),
        };
        let row = &mut features.data[patch * DIM..(patch + 1) * DIM];
        for (d, v) in row.iter_mut().enumerate() {
            let hash = |salt: u64| {
                let mut x =
                    (d as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xbf58_476d_1ce4_e5b9);
                x = (x ^ (x >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((x ^ (x >> 32)) & 0xffff) as f32 / 32768.0 - 1.0
            };
            *v = hash(kind as u64 + 1)
                + 0.4 * hash(1000 + 97 * kind as u64 + detail)
                + 0.15 * hash((seq << 20) + patch as u64);
        }
    }
    features.normalise();
    features
}

fn meta(seq: u64) -> FrameMeta {
    let mono_ns = seq * 1_000_000_000 / FPS;
    FrameMeta {
        camera: Arc::from("toy"),
        seq,
        captured_at: Timestamp { mono_ns, real_ns: mono_ns },
        dropped: 0,
        width: SIZE.0,
        height: SIZE.1,
    }
}

/// The pixels of a block.
fn pixels(row: isize, col: isize) -> Seed {
    Seed::Box([col as f32 * 16.0, row as f32 * 16.0, 48.0, 48.0])
}

/// Plays frames, and returns what is told of track `id` in each.
fn play(session: &mut Session, seqs: std::ops::Range<u64>, id: u64, blocks: impl Fn(u64) -> Vec<Block>) -> Vec<Track> {
    let step = |seq| {
        let report = session.step(&meta(seq), &frame(seq, &blocks(seq)));
        report.tracks.into_iter().find(|track| track.id == TrackId(id)).expect("the track is told in every frame")
    };
    seqs.map(step).collect()
}

#[test]
fn a_moving_object_is_followed_with_its_box_and_velocity() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
    let tagged = session.tag(&pixels(5, 2), None, TrackId(7), "cup".into()).unwrap();
    assert_eq!((tagged.state, tagged.bounds), (TrackState::Tentative, Some([32.0, 80.0, 48.0, 48.0])));
    // One patch to the right every other frame: 16 pixels in 0.2 s.
    let tracks = play(&mut session, 1..25, 7, |seq| vec![(1, 5, 2 + seq as isize / 2)]);
    assert_eq!(tracks[3].state, TrackState::Tracked);
    let last = tracks.last().unwrap();
    let [x, y, w, h] = last.bounds.unwrap();
    assert!(
        (x - 14.0 * 16.0).abs() < 10.0 && (y - 80.0).abs() < 10.0 && (w - 48.0).abs() < 16.0 && (h - 48.0).abs() < 16.0,
        "{last:?}"
    );
    assert!((last.velocity[0] - 80.0).abs() < 45.0 && last.velocity[1].abs() < 10.0, "{last:?}");
    assert!(last.score > 0.5, "{last:?}");
    assert_eq!((last.age, last.since_seen), (24, 0));
}

#[test]
fn masks_follow_the_edges_of_a_picture_that_is_there() {
    // The patches are those of (5, 2) and after; what is bright lies five pixels to the right and three above.
    let bright = |x: usize, y: usize| (37..85).contains(&x) && (77..125).contains(&y);
    let [width, height] = [GRID.input_width(), GRID.input_height()];
    let pixel =
        |at: usize| if bright(at % (width * height) % width, at % (width * height) / width) { 1.0 } else { -0.5 };
    let picture = InputTensor { width, height, data: (0..3 * width * height).map(pixel).collect() };
    let torn = InputTensor { width: 7, height: 7, data: vec![0.0; 147] };
    let bounds = |picture: &InputTensor, refine_radius: f32| {
        let mut session = Session::new(PropagateConfig { refine_radius, ..propagate() }, track(), GRID, DIM);
        session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
        session.tag(&pixels(5, 2), None, TrackId(7), "cup".into()).unwrap();
        let features = Features { picture: picture.clone(), ..frame(1, &[(1, 5, 2)]) };
        let report = session.step(&meta(1), &features);
        report.tracks[0].bounds.unwrap()
    };
    let refined = bounds(&picture, 1.5);
    let off = refined.iter().zip([37.0, 77.0, 48.0, 48.0]).map(|(a, b): (&f32, f32)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 3.0, "{refined:?}");
    let plain = bounds(&picture, 0.0);
    assert!((plain[0] - 32.0).abs() < 4.0 && (plain[1] - 80.0).abs() < 4.0, "{plain:?}");
    assert_eq!(bounds(&InputTensor::default(), 1.5), plain, "without a picture");
    assert_eq!(bounds(&torn, 1.5), plain, "with one of another size");
}

#[test]
fn an_object_that_left_is_lost_and_leaves_no_ghost() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 17)]));
    session.tag(&pixels(5, 17), None, TrackId(1), "cup".into()).unwrap();
    let tracks = play(&mut session, 1..30, 1, |seq| vec![(1, 5, 17 + seq as isize)]);
    let last = tracks.last().unwrap();
    assert_eq!((last.state, last.reason), (TrackState::Lost, Reason::LeftView), "{last:?}");
    assert_eq!((last.bounds, last.area, last.score), (None, 0, 0.0));
    assert!(last.mask.is_none() && last.since_seen > 10);
}

#[test]
fn an_object_that_returns_elsewhere_is_picked_up_again() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 17)]));
    session.tag(&pixels(5, 17), None, TrackId(1), "cup".into()).unwrap();
    let gone = play(&mut session, 1..20, 1, |_| vec![]);
    assert_eq!(gone.last().unwrap().state, TrackState::Lost);
    let back = play(&mut session, 20..24, 1, |_| vec![(1, 11, 3)]);
    assert_eq!((back[0].state, back[0].reason), (TrackState::Tracked, Reason::Reacquired), "{:?}", back[0]);
    let [x, y, ..] = back[3].bounds.unwrap();
    assert!((x - 48.0).abs() < 10.0 && (y - 176.0).abs() < 10.0, "{:?}", back[3]);
}

#[test]
fn objects_that_return_together_are_picked_up_each_in_its_turn() {
    let places = [(1, 1), (1, 7), (1, 13), (7, 1), (7, 7), (7, 13), (12, 4)];
    let there = || places.iter().enumerate().map(|(i, (row, col))| (i + 1, *row, *col)).collect::<Vec<Block>>();
    let mut session = Session::new(propagate(), TrackConfig { max_objects: 64, ..track() }, GRID, DIM);
    session.step(&meta(0), &frame(0, &there()));
    for (kind, row, col) in there() {
        session.tag(&pixels(row, col), None, TrackId(kind as u64), format!("block {kind}")).unwrap();
    }
    for seq in 1..20 {
        session.step(&meta(seq), &frame(seq, &[]));
    }
    assert!(session.list("toy").iter().all(|track| track.state == TrackState::Lost));
    // Elsewhere than they were, so that none is found by staying where it was.
    let moved = || there().into_iter().map(|(kind, row, col)| (kind, row, col + 8)).collect::<Vec<Block>>();
    let mut back: Vec<Vec<TrackId>> = Vec::new();
    for seq in 20..20 + places.len().div_ceil(SOUGHT) as u64 {
        let report = session.step(&meta(seq), &frame(seq, &moved()));
        let known = back.concat();
        let found = report.tracks.iter().filter(|t| t.state == TrackState::Tracked && !known.contains(&t.id));
        back.push(found.map(|track| track.id).collect());
    }
    assert!(back.iter().all(|found| (1..=SOUGHT).contains(&found.len())), "{back:?}");
    assert_eq!(back.concat().len(), places.len(), "{back:?}");
}

#[test]
fn an_object_behind_another_keeps_its_identity() {
    let mut session = session();
    // Block 2 rests; block 1 passes behind it.
    let blocks = |seq: u64| vec![(1, 6, seq as isize / 2), (2, 6, 10)];
    session.step(&meta(0), &frame(0, &blocks(0)));
    session.tag(&pixels(6, 0), None, TrackId(1), "passing".into()).unwrap();
    session.tag(&pixels(6, 10), None, TrackId(2), "resting".into()).unwrap();
    for seq in 1..40 {
        let report = session.step(&meta(seq), &frame(seq, &blocks(seq)));
        let resting = &report.tracks[1];
        assert_eq!(resting.id, TrackId(2));
        let x = resting.bounds.unwrap()[0];
        assert!((x - 160.0).abs() < 24.0, "{seq}: {resting:?}");
        if seq == 20 {
            assert_ne!(report.tracks[0].state, TrackState::Tracked, "all of it is hidden: {:?}", report.tracks[0]);
        }
    }
    let last = &session.step(&meta(40), &frame(40, &blocks(40))).tracks[0];
    assert_eq!((last.id, last.state), (TrackId(1), TrackState::Tracked), "{last:?}");
    assert!((last.bounds.unwrap()[0] - 320.0).abs() < 24.0, "{last:?}");
}

/// A block of 5x5 patches, each for the greater part of another kind and for the rest as the object of kind 1 is.
fn cover(features: &mut Features, row: isize, col: isize) {
    let [object, other] = [1, 9].map(|kind| frame(0, &[(kind, 5, 5)]));
    for (y, x) in (0..25).map(|i| (i / 5, i % 5)) {
        let (y, x) = (row + y, col + x);
        if (0..GRID.rows as isize).contains(&y) && (0..GRID.cols as isize).contains(&x) {
            let patch = (y * GRID.cols as isize + x) as usize;
            let from = (5 + y.rem_euclid(3)) as usize * GRID.cols + (5 + x.rem_euclid(3)) as usize;
            let mixed = object.row(from).iter().zip(other.row(from)).map(|(a, b)| 0.7 * a + 0.75 * b);
            features.data[patch * DIM..][..DIM].iter_mut().zip(mixed).for_each(|(v, mixed)| *v = mixed);
        }
    }
    features.normalise();
}

#[test]
fn what_hides_an_object_is_not_taken_for_it_though_it_looks_much_like_it() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 6, 12)]));
    session.tag(&pixels(6, 12), None, TrackId(1), "cup".into()).unwrap();
    // It comes from the left in 20 frames, and stays before the object for 30.
    for seq in 1..60 {
        let mut features = frame(seq, &[(1, 6, 12)]);
        if seq < 50 {
            cover(&mut features, 5, (-5 + 16 * seq.min(20) as isize / 20).min(11));
        }
        let track = &session.step(&meta(seq), &features).tracks[0];
        if (23..50).contains(&seq) {
            assert!(track.mask.is_none() && track.state != TrackState::Tracked, "{seq}: {track:?}");
        } else if !(12..=52).contains(&seq) {
            assert_eq!(track.state == TrackState::Tracked, seq > 2, "{seq}: {track:?}");
        }
    }
}

/// What a session knows of block 1 after it has followed it for a while, saved as track 7.
fn saved() -> Exemplars {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
    session.tag(&pixels(5, 2), None, TrackId(7), "cup".into()).unwrap();
    play(&mut session, 1..10, 7, |_| vec![(1, 5, 2)]);
    session.keep(TrackId(7)).unwrap()
}

#[test]
fn what_is_known_becomes_a_track_where_it_is_seen_and_not_before() {
    let mut session = session();
    session.know(TrackId(7), "cup".into(), &saved());
    for seq in 0..10 {
        // Another object is there all the time.
        assert!(session.step(&meta(seq), &frame(seq, &[(2, 10, 10)])).tracks.is_empty(), "{seq}");
    }
    // Twice is not enough.
    for seq in 10..12 {
        assert!(session.step(&meta(seq), &frame(seq, &[(2, 10, 10), (1, 3, 15)])).tracks.is_empty(), "{seq}");
    }
    let tracks = play(&mut session, 12..22, 7, |_| vec![(2, 10, 10), (1, 3, 15)]);
    assert_eq!(
        (tracks[0].name.as_str(), tracks[0].state, tracks[0].reason),
        ("cup", TrackState::Tentative, Reason::Recognised)
    );
    let last = &tracks[9];
    assert_eq!((last.state, last.reason), (TrackState::Tracked, Reason::Confirmed), "{last:?}");
    let [x, y, ..] = last.bounds.unwrap();
    assert!((x - 240.0).abs() < 10.0 && (y - 48.0).abs() < 10.0, "{last:?}");
    assert!(last.score > 0.5, "{last:?}");
}

#[test]
fn what_is_known_is_looked_for_at_a_command_and_only_then_once_it_was_untagged() {
    let (mut session, known) = (session(), saved());
    session.step(&meta(0), &frame(0, &[(2, 10, 10)]));
    let recognise = |session: &mut Session| session.recognise(TrackId(7), "cup".into(), &known);
    assert_eq!(recognise(&mut session), Err(TagError::NotSeen { name: "cup".into() }));
    // It is looked for from then on.
    (1..3).for_each(|seq| assert!(session.step(&meta(seq), &frame(seq, &[(1, 3, 15)])).tracks.is_empty()));
    assert_eq!(play(&mut session, 3..4, 7, |_| vec![(1, 3, 15)])[0].reason, Reason::Recognised);
    let again = recognise(&mut session).unwrap();
    assert_eq!((again.id, again.age, session.len()), (TrackId(7), 1, 1), "it is a track already");
    assert!(session.untag(TrackId(7)));
    session.step(&meta(4), &frame(4, &[(1, 3, 15)]));
    (5..9).for_each(|seq| assert!(session.step(&meta(seq), &frame(seq, &[(1, 3, 15)])).tracks.is_empty()));
    let track = recognise(&mut session).unwrap();
    assert_eq!((track.id, track.bounds), (TrackId(7), Some([240.0, 48.0, 48.0, 48.0])));
    let expected = session.objects.last().unwrap().expected(seconds(&meta(8))).unwrap();
    assert!(expected.distance(&Expected { centre: [264.0, 72.0], radius: 27.0 }) < 1.0, "{expected:?}");
    session.forget(TrackId(7));
    assert_eq!(session.len(), 1, "what is followed stays a track");
}

#[test]
fn what_is_known_and_timed_out_is_recognised_again_under_its_id() {
    let mut session = Session::new(propagate(), TrackConfig { remove_after_s: 1.0, ..track() }, GRID, DIM);
    session.know(TrackId(7), "cup".into(), &saved());
    (0..2).for_each(|seq| drop(session.step(&meta(seq), &frame(seq, &[(1, 3, 15)]))));
    play(&mut session, 2..10, 7, |_| vec![(1, 3, 15)]);
    let gone: Vec<Option<TrackState>> = (10..40)
        .map(|seq| session.step(&meta(seq), &frame(seq, &[])).tracks.first().map(|track| track.state))
        .collect();
    assert!(gone.contains(&Some(TrackState::Removed)) && gone.last() == Some(&None), "{gone:?}");
    (40..42).for_each(|seq| drop(session.step(&meta(seq), &frame(seq, &[(1, 9, 4)]))));
    assert_eq!(play(&mut session, 42..43, 7, |_| vec![(1, 9, 4)])[0].reason, Reason::Recognised);
}

#[test]
fn what_is_learnt_of_what_is_kept_is_told_once() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 10)]));
    session.tag(&pixels(5, 10), None, TrackId(7), "cup".into()).unwrap();
    let before = session.keep(TrackId(7)).unwrap();
    assert_eq!((before.given, before.labels.len()), (before.labels.len(), before.labels.len()));
    assert!(session.learnt().is_empty() && session.keep(TrackId(8)).is_none());
    // Something comes near that looks much like it.
    for seq in 1..20 {
        let mut features = frame(seq, &[(1, 5, 10)]);
        cover(&mut features, 4, (-5 + seq as isize).min(3));
        session.step(&meta(seq), &features);
    }
    let learnt = session.learnt();
    assert_eq!(learnt.len(), 1);
    let (id, exemplars) = &learnt[0];
    assert_eq!((*id, exemplars.given), (TrackId(7), before.given));
    assert!(exemplars.labels.len() > before.labels.len() && exemplars.labels.starts_with(&before.labels));
    assert!(session.learnt().is_empty());
}

#[test]
fn of_two_that_look_the_same_neither_is_said_to_be_the_one_that_returns() {
    let mut session = session();
    let both = |seq: u64| frame(seq, &[(1, 2, 2), (1, 10, 16)]);
    session.step(&meta(0), &both(0));
    session.tag(&pixels(2, 2), None, TrackId(1), "cup".into()).unwrap();
    session.tag(&pixels(10, 16), None, TrackId(2), "its twin".into()).unwrap();
    (1..5).for_each(|seq| drop(session.step(&meta(seq), &both(seq))));
    (5..20).for_each(|seq| drop(session.step(&meta(seq), &frame(seq, &[]))));
    for seq in 20..30 {
        let report = session.step(&meta(seq), &frame(seq, &[(1, 6, 9)]));
        let told: Vec<(TrackState, Reason)> = report.tracks.iter().map(|track| (track.state, track.reason)).collect();
        assert_eq!(told, [(TrackState::Lost, Reason::Ambiguous); 2], "{seq}");
        assert!(report.tracks.iter().all(|track| track.mask.is_none()));
    }
    // While the one is in sight, what else returns is the other.
    let mut one = super::tests::session();
    one.step(&meta(0), &both(0));
    one.tag(&pixels(2, 2), None, TrackId(1), "cup".into()).unwrap();
    one.tag(&pixels(10, 16), None, TrackId(2), "its twin".into()).unwrap();
    (1..5).for_each(|seq| drop(one.step(&meta(seq), &both(seq))));
    (5..20).for_each(|seq| drop(one.step(&meta(seq), &frame(seq, &[(1, 2, 2)]))));
    let back = play(&mut one, 20..22, 2, |_| vec![(1, 2, 2), (1, 6, 16)]);
    assert_eq!(
        (back[0].state, back[0].bounds),
        (TrackState::Tracked, Some([256.0, 96.0, 48.0, 48.0])),
        "{:?}",
        back[0]
    );
}

/// Two blocks of one kind, tagged as tracks 1 and 2, and what is told of both in each frame.
fn play_twins(frames: u64, at: impl Fn(u64) -> [isize; 2]) -> Vec<[Track; 2]> {
    let mut session = session();
    let both = |seq: u64| frame(seq, &[(1, 6, at(seq)[0]), (1, 7, at(seq)[1])]);
    session.step(&meta(0), &both(0));
    session.tag(&pixels(6, at(0)[0]), None, TrackId(1), "cup".into()).unwrap();
    session.tag(&pixels(7, at(0)[1]), None, TrackId(2), "its twin".into()).unwrap();
    (1..frames).map(|seq| session.step(&meta(seq), &both(seq)).tracks.try_into().unwrap()).collect()
}

#[test]
fn two_that_look_the_same_and_pass_each_other_keep_their_identities() {
    let tracks = play_twins(40, |seq| [1 + seq as isize / 2, 20 - seq as isize / 2]);
    for [one, other] in [&tracks[5], &tracks[38]] {
        assert_eq!([one.state, other.state], [TrackState::Tracked; 2], "{one:?} {other:?}");
    }
    let [one, other] = &tracks[38];
    let x = |track: &Track| track.centroid.unwrap()[0];
    assert!((x(one) - 16.0 * 21.5).abs() < 16.0 && (x(other) - 16.0 * 2.5).abs() < 16.0, "{one:?} {other:?}");
    assert_ne!([one.reason, other.reason], [Reason::Ambiguous; 2]);
}

#[test]
fn two_that_look_the_same_and_stand_side_by_side_are_not_ambiguous() {
    let step = |seq: u64| seq.min(16) as isize / 2;
    for (seq, tracks) in (1..).zip(play_twins(60, |seq| [1 + step(seq), 20 - step(seq)])) {
        let [one, other] = &tracks;
        let x = |track: &Track| track.centroid.unwrap_or_default()[0];
        let places = [1 + step(seq), 20 - step(seq)].map(|col| 16.0 * (col as f32 + 1.5));
        assert!((x(one) - places[0]).abs() < 16.0 && (x(other) - places[1]).abs() < 16.0, "{seq}: {one:?} {other:?}");
        assert!(tracks.iter().all(|track| track.reason != Reason::Ambiguous), "{seq}: {tracks:?}");
    }
}

#[test]
fn two_that_look_the_same_and_stay_together_are_said_to_be_ambiguous() {
    // They meet, stay for three seconds, and part; nobody can say whether they passed each other.
    let step = |seq: u64| if seq < 19 { seq / 2 } else { (seq.max(48) - 30) / 2 } as isize;
    let tracks = play_twins(60, |seq| [1 + step(seq), 20 - step(seq)]);
    assert!(tracks[10].iter().all(|track| track.reason != Reason::Ambiguous), "{:?}", tracks[10]);
    for track in &tracks[58] {
        assert_eq!((track.state, track.reason), (TrackState::Tracked, Reason::Ambiguous), "{track:?}");
    }
}

#[test]
fn an_end_is_told_once() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
    session.tag(&pixels(5, 2), None, TrackId(1), "a".into()).unwrap();
    session.tag(&pixels(9, 9), None, TrackId(2), "b".into()).unwrap();
    assert!(session.untag(TrackId(1)) && !session.untag(TrackId(1)));
    let told = |session: &mut Session, seq| -> Vec<(u64, TrackState, Reason)> {
        let report = session.step(&meta(seq), &frame(seq, &[(1, 5, 2)]));
        report.tracks.iter().map(|t| (t.id.0, t.state, t.reason)).collect()
    };
    assert_eq!(told(&mut session, 1)[0], (1, TrackState::Removed, Reason::Untagged));
    assert_eq!(told(&mut session, 2).len(), 1);
    assert_eq!(session.reset(), [TrackId(2)]);
    assert_eq!(told(&mut session, 3), [(2, TrackState::Removed, Reason::Reset)]);
    assert!(told(&mut session, 4).is_empty() && session.is_empty());
}

#[test]
fn a_tag_on_a_frame_that_just_passed_is_carried_to_the_newest() {
    let mut session = session();
    let blocks = |seq: u64| vec![(1, 5, 2 + 2 * seq as isize)];
    (0..3).for_each(|seq| drop(session.step(&meta(seq), &frame(seq, &blocks(seq)))));
    let track = session.tag(&pixels(5, 2), Some(0), TrackId(1), "cup".into()).unwrap();
    assert_eq!(track.bounds, Some([96.0, 80.0, 48.0, 48.0]), "it is 4 patches further on by now");
}

#[test]
fn what_cannot_be_tagged_is_told_why() {
    let mut session = session();
    let tag = |session: &mut Session, seed: &Seed, seq| session.tag(seed, seq, TrackId(1), "a".into());
    assert_eq!(tag(&mut session, &pixels(5, 2), None), Err(TagError::NoFrame));
    session.step(&meta(0), &frame(0, &[]));
    (1..=5).for_each(|seq| drop(session.step(&meta(seq), &frame(seq, &[]))));
    for asked in [2, 6] {
        assert_eq!(tag(&mut session, &pixels(5, 2), Some(asked)), Err(TagError::FrameGone { asked, newest: 5 }));
    }
    assert!(matches!(tag(&mut session, &Seed::Mask(Mask::empty(SIZE.0, SIZE.1)), None), Err(TagError::Seed(_))));
    for _ in 0..3 {
        tag(&mut session, &pixels(5, 2), None).unwrap();
    }
    assert_eq!(tag(&mut session, &pixels(5, 2), None), Err(TagError::TooMany { limit: 3 }));
}

#[test]
fn a_lost_camera_is_told_of_every_track() {
    let mut session = session();
    assert_eq!(session.camera_lost(), None);
    session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
    session.tag(&pixels(5, 2), None, TrackId(1), "a".into()).unwrap();
    play(&mut session, 1..5, 1, |_| vec![(1, 5, 2)]);
    let track = &session.camera_lost().unwrap().tracks[0];
    assert_eq!((track.state, track.reason, track.bounds), (TrackState::Lost, Reason::CameraLost, None));
    let back = play(&mut session, 5..7, 1, |_| vec![(1, 5, 2)]);
    assert_eq!(back[1].state, TrackState::Tracked, "{:?}", back[1]);
}

#[test]
fn the_same_frames_give_the_same_reports() {
    let run = || {
        let mut session = session();
        session.step(&meta(0), &frame(0, &[(1, 5, 2), (2, 9, 9)]));
        session.tag(&pixels(5, 2), None, TrackId(1), "a".into()).unwrap();
        let blocks = |seq: u64| vec![(1, 5, 2 + seq as isize / 3), (2, 9, 9 - seq as isize / 4)];
        let reports: Vec<TrackReport> =
            (1..20).map(|seq| session.step(&meta(seq), &frame(seq, &blocks(seq)))).collect();
        serde_json::to_string(&reports).unwrap()
    };
    assert_eq!(run(), run());
}

/// The same frame with a quarter of the patches.
fn halved(features: &Features) -> Features {
    let grid = PatchGrid { rows: GRID.rows / 2, cols: GRID.cols / 2, patch: GRID.patch };
    let mut halved = Features::zeros(grid, DIM);
    for patch in 0..GRID.len() {
        let to = patch / GRID.cols / 2 * grid.cols + patch % GRID.cols / 2;
        for d in 0..DIM {
            halved.data[to * DIM + d] += features.row(patch)[d];
        }
    }
    halved.normalise();
    halved
}

#[test]
fn tracks_go_on_when_the_input_size_changes() {
    let blocks = |seq: u64| vec![(1, 4, 2 + seq as isize / 2), (2, 10, 12), (3, 10, 2)];
    let mut session = session();
    session.step(&meta(0), &frame(0, &blocks(0)));
    session.tag(&pixels(4, 2), None, TrackId(1), "cup".into()).unwrap();
    session.tag(&pixels(10, 12), None, TrackId(2), "bowl".into()).unwrap();
    let is_small = |seq: u64| (10..20).contains(&seq);
    for seq in 1..30 {
        let full = frame(seq, &blocks(seq));
        let features = if is_small(seq) { halved(&full) } else { full };
        let report = session.step(&meta(seq), &features);
        let told: Vec<(u64, &str)> = report.tracks.iter().map(|track| (track.id.0, track.name.as_str())).collect();
        let expected = [(1, "cup"), (2, "bowl"), (3, "late")];
        assert_eq!(told, expected[..if seq > 11 { 3 } else { 2 }]);
        for (track, (_, row, col)) in report.tracks.iter().zip(blocks(seq)) {
            assert!(track.age < 4 || track.state == TrackState::Tracked, "{seq}: {track:?}");
            let Some([x, y]) = track.centroid else { panic!("{seq}: {track:?}") };
            let off = (x - 16.0 * (col as f32 + 1.5)).abs().max((y - 16.0 * (row as f32 + 1.5)).abs());
            assert!(off < if is_small(seq) { 16.0 } else { 8.0 }, "{seq}: {off} pixels off, {track:?}");
        }
        for (id, evidence) in session.all_evidence() {
            assert!((0.7..1.4).contains(&evidence.size_ratio), "{seq}: {id:?} {evidence:?}");
        }
        if seq == 11 {
            // It is pointed at in a frame of before the change, and followed to the newest.
            let tagged = session.tag(&pixels(10, 2), Some(9), TrackId(3), "late".into()).unwrap();
            assert!((tagged.centroid.unwrap()[0] - 16.0 * 3.5).abs() < 16.0, "{tagged:?}");
            let gone = session.tag(&pixels(10, 2), Some(2), TrackId(4), "gone".into());
            assert_eq!(gone, Err(TagError::FrameGone { asked: 2, newest: 11 }));
        }
    }
}
