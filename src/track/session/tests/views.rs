//! Frames of which a part is looked at.

use super::*;
use crate::types::View;

/// Three quarters of the frame along each side.
const PART: PatchGrid = PatchGrid { rows: 12, cols: 18, patch: 16 };

/// The part of a frame from this row and column of its patches on.
fn part(whole: &Features, row: usize, col: usize) -> Features {
    let patches = (row..row + PART.rows).flat_map(|y| (col..col + PART.cols).map(move |x| y * GRID.cols + x));
    let data = patches.flat_map(|patch| whole.row(patch).to_vec()).collect();
    let [left, top] = [col as f32 / GRID.cols as f32, row as f32 / GRID.rows as f32];
    Features { view: View { left, top, width: 0.75, height: 0.75 }, ..Features::new(PART, DIM, data) }
}

/// Where the block that moves is at a time.
fn block(seq: u64) -> Block {
    (1, 6, 3 + seq as isize / 2)
}

/// The frame at a time, looked at in turn: all of it, a part, another one as the block goes on, and all of it.
fn view(seq: u64) -> Features {
    let whole = frame(seq, &[block(seq)]);
    match seq {
        0..5 => whole,
        5..12 => part(&whole, 2, 1),
        12..24 => part(&whole, 3, 6),
        _ => whole,
    }
}

#[test]
fn an_object_is_followed_from_one_part_of_the_frame_to_another() {
    let (mut parts, mut whole) = (session(), session());
    for seq in 0..34 {
        let report = parts.step(&meta(seq), &view(seq));
        let expected = whole.step(&meta(seq), &frame(seq, &[block(seq)]));
        if seq == 0 {
            for session in [&mut parts, &mut whole] {
                session.tag(&Seed::Box([48.0, 96.0, 48.0, 48.0]), None, TrackId(1), "block".into()).unwrap();
            }
            continue;
        }
        let (track, expected) = (&report.tracks[0], &expected.tracks[0]);
        assert_eq!(track.state, expected.state, "{seq}");
        let [mask, other] = [track, expected].map(|track| Mask::from_coco(track.mask.as_ref().unwrap()).unwrap());
        assert_eq!((mask.width, mask.height), SIZE);
        assert!(mask.iou(&other) > 0.8, "{seq}: {} of {:?} and {:?}", mask.iou(&other), mask.bounds(), other.bounds());
        assert!((track.score - expected.score).abs() < 0.1, "{seq}: {} and {}", track.score, expected.score);
    }
}

#[test]
fn what_is_pointed_at_in_a_part_is_where_it_is_in_the_frame() {
    for seed in [
        Seed::Box([144.0, 96.0, 48.0, 48.0]),
        Seed::Point([170.0, 120.0]),
        Seed::Mask(Mask::from_fn(SIZE.0, SIZE.1, |x, y| (144..192).contains(&x) && (96..144).contains(&y))),
    ] {
        let mut session = session();
        let still = |seq| part(&frame(seq, &[(1, 6, 9)]), 3, 5);
        session.step(&meta(0), &still(0));
        session.tag(&seed, None, TrackId(1), "block".into()).unwrap();
        let report = session.step(&meta(1), &still(1));
        let mask = Mask::from_coco(report.tracks[0].mask.as_ref().unwrap()).unwrap();
        let truth = Mask::from_fn(SIZE.0, SIZE.1, |x, y| (144..192).contains(&x) && (96..144).contains(&y));
        assert!(mask.iou(&truth) > 0.8, "{seed:?}: {:?}", mask.bounds());
        // The patches that it has are the same share of the frame whatever part is looked at.
        let kept = session.keep(TrackId(1)).unwrap().share;
        assert!((kept - 9.0 / 384.0).abs() < 0.01, "{kept}");
    }
}

#[test]
fn what_is_outside_of_the_part_cannot_be_tagged() {
    let mut session = session();
    session.step(&meta(0), &part(&frame(0, &[(1, 6, 9)]), 3, 5));
    for seed in [Seed::Box([0.0, 0.0, 60.0, 40.0]), Seed::Point([10.0, 10.0])] {
        assert!(session.tag(&seed, None, TrackId(1), "nothing".into()).is_err(), "{seed:?}");
    }
}

/// What the model would be shown of the world: each patch is what lies at its middle.
fn through(view: View, seq: u64, blocks: &[Block]) -> Features {
    let whole = frame(seq, blocks);
    let at = |from: f32, length: f32, i: usize, cells: usize| {
        ((from + (i as f32 + 0.5) / cells as f32 * length) * cells as f32) as usize
    };
    let patches = (0..GRID.len()).map(|patch| {
        let row = at(view.top, view.height, patch / GRID.cols, GRID.rows);
        row * GRID.cols + at(view.left, view.width, patch % GRID.cols, GRID.cols)
    });
    let data = patches.flat_map(|patch| whole.row(patch).to_vec()).collect();
    Features { view, ..Features::new(GRID, DIM, data) }
}

/// A session that may look at objects twice as large.
fn zooming() -> Session {
    Session::new(PropagateConfig { zoom: 2.0, ..propagate() }, track(), GRID, DIM)
}

/// Shows frames as the session wants to see them; what it wanted, and what it told of the first track.
fn show(session: &mut Session, seqs: std::ops::Range<u64>, blocks: impl Fn(u64) -> Vec<Block>) -> Vec<(View, Track)> {
    let step = |seq| {
        let view = session.gaze();
        let report = session.step(&meta(seq), &through(view, seq, &blocks(seq)));
        (view, report.tracks[0].clone())
    };
    seqs.map(step).collect()
}

#[test]
fn a_session_looks_where_its_object_goes_and_around_where_it_is_gone() {
    let mut session = zooming();
    assert_eq!(session.gaze(), View::WHOLE);
    session.step(&meta(0), &frame(0, &[block(0)]));
    session.tag(&pixels(6, 3), None, TrackId(1), "block".into()).unwrap();
    let shown = show(&mut session, 1..34, |seq| vec![block(seq)]);
    for (seq, (view, track)) in (1..).zip(&shown) {
        let (_, row, col) = block(seq);
        let truth = Mask::from_fn(SIZE.0, SIZE.1, |x, y| {
            (col * 16..col * 16 + 48).contains(&(x as isize)) && (row * 16..row * 16 + 48).contains(&(y as isize))
        });
        let mask =
            Mask::from_coco(track.mask.as_ref().unwrap_or_else(|| panic!("{seq}: nothing in {view:?}"))).unwrap();
        assert!(mask.iou(&truth) > 0.75, "{seq}: {} through {view:?}", mask.iou(&truth));
        assert!(seq < 3 || view.width < 0.6, "{seq}: {view:?}");
    }
    let views: Vec<View> = shown.iter().map(|(view, _)| *view).collect();
    assert!(views[32].left > views[3].left + 0.3, "{views:?}");
    let changes = views.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((2..12).contains(&changes), "it does not follow each step: {changes}");
    // Where it is gone, it may be anywhere.
    let gone = show(&mut session, 34..50, |_| vec![]);
    assert!(gone[8..].iter().all(|(view, track)| *view == View::WHOLE && track.mask.is_none()));
    let back = show(&mut session, 50..70, |_| vec![(1, 2, 2)]);
    assert!(back[19].1.mask.is_some() && back[19].0.width < 0.6 && back[19].0.left == 0.0, "{:?}", back[19]);
}

#[test]
fn what_was_not_looked_at_is_tagged_on_the_next_frame_of_which_all_is() {
    let mut session = zooming();
    let blocks = [(1, 6, 3), (2, 11, 19)];
    session.step(&meta(0), &frame(0, &blocks));
    session.tag(&pixels(6, 3), None, TrackId(1), "one".into()).unwrap();
    show(&mut session, 1..10, |_| blocks.to_vec());
    let refused = session.tag(&pixels(11, 19), None, TrackId(2), "other".into());
    assert_eq!(refused, Err(TagError::NotLookedAt { asked: 9 }));
    let shown = show(&mut session, 10..11, |_| blocks.to_vec());
    assert_eq!(shown[0].0, View::WHOLE);
    // Of the frame before, a part is all that is known, whatever is looked at now.
    assert_eq!(
        session.tag(&pixels(11, 19), Some(9), TrackId(2), "other".into()),
        Err(TagError::NotLookedAt { asked: 9 })
    );
    session.tag(&pixels(6, 3), Some(9), TrackId(3), "one again".into()).unwrap();
    session.tag(&pixels(11, 19), None, TrackId(2), "other".into()).unwrap();
    // Both are far apart: no part holds them.
    let shown = show(&mut session, 11..20, |_| blocks.to_vec());
    assert!(shown[8].0.area() > 0.8, "{:?}", shown[8].0);
    let report = session.step(&meta(20), &through(session.gaze(), 20, &blocks));
    let other = Mask::from_coco(report.tracks[2].mask.as_ref().unwrap()).unwrap();
    let truth = Mask::from_fn(SIZE.0, SIZE.1, |x, y| (304..352).contains(&x) && (176..224).contains(&y));
    assert!(other.iou(&truth) > 0.8, "{:?}", other.bounds());
}

/// What a block is known by, of a session in which it was tagged.
fn saved(id: usize) -> Exemplars {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(id, 11, 19)]));
    session.tag(&pixels(11, 19), None, TrackId(1), "other".into()).unwrap();
    session.keep(TrackId(1)).unwrap()
}

/// A session that has looked closely at the first block for a while, the second nowhere in sight.
fn looking_closely() -> Session {
    let mut session = zooming();
    session.step(&meta(0), &frame(0, &[(1, 6, 3)]));
    session.tag(&pixels(6, 3), None, TrackId(1), "one".into()).unwrap();
    let shown = show(&mut session, 1..6, |_| vec![(1, 6, 3)]);
    assert!(shown[4].0.width < 0.6);
    session
}

#[test]
fn where_a_known_object_may_come_all_is_looked_at_from_time_to_time() {
    let mut session = looking_closely();
    session.know(TrackId(9), "other".into(), &saved(2));
    let wholes = |shown: &[(View, Track)]| shown.iter().filter(|(view, _)| *view == View::WHOLE).count();
    let shown = show(&mut session, 6..106, |_| vec![(1, 6, 3)]);
    assert!((3..10).contains(&wholes(&shown)), "{}", wholes(&shown));
    assert!(shown.iter().all(|(_, track)| track.state == TrackState::Tracked));
    // It comes, and is recognised at the next such look: that lasts until it is sure.
    let both = [(1, 6, 3), (2, 11, 19)];
    show(&mut session, 106..146, |_| both.to_vec());
    let report = session.step(&meta(146), &through(session.gaze(), 146, &both));
    let ids: Vec<TrackId> = report.tracks.iter().map(|track| track.id).collect();
    assert_eq!(ids, [TrackId(1), TrackId(9)]);
    assert_eq!(report.tracks[1].state, TrackState::Tracked);
}

#[test]
fn a_known_object_that_is_asked_for_is_looked_for_in_the_next_frame_of_which_all_is_looked_at() {
    let mut session = looking_closely();
    let both = [(1, 6, 3), (2, 11, 19)];
    show(&mut session, 6..8, |_| both.to_vec());
    let ask = |session: &mut Session| session.recognise(TrackId(9), "other".into(), &saved(2));
    assert_eq!(ask(&mut session), Err(TagError::NotLookedAt { asked: 7 }));
    let shown = show(&mut session, 8..9, |_| both.to_vec());
    assert_eq!(shown[0].0, View::WHOLE);
    assert_eq!(ask(&mut session).unwrap().id, TrackId(9));
}

#[test]
fn where_there_is_noise_all_is_looked_at() {
    let mut session = looking_closely();
    let noisy = |session: &mut Session, seq: u64, noisy: bool| {
        let view = session.gaze();
        session.step(&meta(seq), &Features { noisy, ..through(view, seq, &[(1, 6, 3)]) });
        view
    };
    noisy(&mut session, 6, true);
    assert!((7..20).all(|seq| noisy(&mut session, seq, seq % 7 == 0) == View::WHOLE));
    assert!((20..60).map(|seq| noisy(&mut session, seq, false)).any(|view| view.width < 0.6), "it is over");
}
