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
