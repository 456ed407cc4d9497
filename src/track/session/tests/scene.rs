//! A camera that shows another scene for a while, in the toy world.

use super::*;

/// A frame of another scene: there, what is around the blocks is of another kind.
fn elsewhere(seq: u64, blocks: &[Block]) -> Features {
    let tiles = (0..6).flat_map(|row| (0..8).map(move |col| (20, 3 * row, 3 * col)));
    frame(seq, &tiles.chain(blocks.iter().copied()).collect::<Vec<Block>>())
}

/// A session that follows block 1 at (5, 2) for a second, as track 7.
fn settled() -> Session {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
    session.tag(&pixels(5, 2), None, TrackId(7), "cup".into()).unwrap();
    let tracks = play(&mut session, 1..10, 7, |_| vec![(1, 5, 2)]);
    assert_eq!(tracks[8].state, TrackState::Tracked);
    session
}

/// Makes block 1, which is at (row, col), like it for `share` only and for the rest as block 9 would be.
fn liken(features: &mut Features, [row, col]: [isize; 2], share: f32) {
    let other = frame(0, &[(9, row, col)]);
    for patch in (0..9).map(|i| (row + i / 3) as usize * GRID.cols + (col + i % 3) as usize) {
        let values = features.data[patch * DIM..][..DIM].iter_mut().zip(other.row(patch));
        values.for_each(|(value, other)| *value = share * *value + (1.0 - share) * other);
    }
    features.normalise();
}

/// How much something must be like the object to be taken for it, after that has been away for a second.
fn taken_from(scene: fn(u64, &[Block]) -> Features) -> f32 {
    let is_taken = |share: &f32| {
        let mut session = settled();
        (10..20).for_each(|seq| drop(session.step(&meta(seq), &scene(seq, &[]))));
        (20..26).any(|seq| {
            let mut features = scene(seq, &[(1, 10, 14)]);
            liken(&mut features, [10, 14], *share);
            session.step(&meta(seq), &features).tracks[0].mask.is_some()
        })
    };
    (4..=40).map(|share| share as f32 / 40.0).find(is_taken).expect("the object itself is taken for it")
}

#[test]
fn in_another_scene_what_is_taken_for_an_object_must_be_more_like_it() {
    let (here, there) = (taken_from(frame), taken_from(elsewhere));
    assert!(here < there, "{here} {there}");
}

#[test]
fn in_another_scene_an_object_is_found_at_the_third_look() {
    let mut session = settled();
    let mut told = Vec::new();
    for seq in 10..16 {
        told.push(session.step(&meta(seq), &elsewhere(seq, &[(1, 9, 16)])).tracks.remove(0));
    }
    assert!(told[..2].iter().all(|track| track.mask.is_none()), "{told:?}");
    assert_eq!((told[2].state, told[2].reason), (TrackState::Tracked, Reason::Reacquired), "{:?}", told[2]);
    assert_eq!(told[5].bounds, Some([256.0, 144.0, 48.0, 48.0]));
}

#[test]
fn where_the_first_scene_is_shown_again_an_object_is_seen_at_once() {
    for away in [1, 3, 30] {
        let mut session = settled();
        for seq in 10..10 + away {
            let track = &session.step(&meta(seq), &elsewhere(seq, &[])).tracks[0];
            assert!(track.mask.is_none() && track.reason == Reason::Unseen, "{away}, {seq}: {track:?}");
        }
        let back = &play(&mut session, 10 + away..11 + away, 7, |_| vec![(1, 5, 2)])[0];
        assert_eq!(
            (back.state, back.bounds),
            (TrackState::Tracked, Some([32.0, 80.0, 48.0, 48.0])),
            "{away}: {back:?}"
        );
    }
}

#[test]
fn a_frame_without_anything_costs_one_frame() {
    let mut session = settled();
    let track = &session.step(&meta(10), &Features::zeros(GRID, DIM)).tracks[0];
    assert!(track.mask.is_none(), "{track:?}");
    let after = play(&mut session, 11..14, 7, |_| vec![(1, 5, 2)]);
    assert!(after.iter().all(|track| track.state == TrackState::Tracked), "{after:?}");
}
