//! What looks as an object does and nobody has tagged.

use super::*;

/// Where the twin stands that is not tagged.
const TWIN: Block = (1, 11, 2);
/// Where what comes is seen: out of reach of where the object was tagged.
const COMES: Block = (1, 3, 3);

/// An object that leaves a twin behind in frame 20; what is told of it from frame 20 on, with these blocks.
fn after_leaving(frames: u64, blocks: impl Fn(u64) -> Vec<Block>) -> Vec<Track> {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 3, 16), TWIN]));
    session.tag(&pixels(3, 16), None, TrackId(1), "cup".into()).unwrap();
    let before = play(&mut session, 1..20, 1, |_| vec![(1, 3, 16), TWIN]);
    assert_eq!(before.iter().position(|track| track.mask.is_none()), None);
    play(&mut session, 20..20 + frames, 1, blocks)
}

#[test]
fn beside_a_twin_that_stayed_what_comes_is_the_object() {
    let back = |seq| if seq < 40 { vec![TWIN] } else { vec![TWIN, COMES] };
    let told = after_leaving(22, back);
    for track in &told[6..20] {
        assert_eq!((track.state, track.reason, &track.mask), (TrackState::Lost, Reason::Ambiguous, &None), "{track:?}");
    }
    let found = &told[21];
    assert_eq!((found.state, found.reason), (TrackState::Tracked, Reason::Reacquired), "{found:?}");
    let [x, y] = found.centroid.unwrap();
    assert!((x - 16.0 * 4.5).abs() < 12.0 && (y - 16.0 * 4.5).abs() < 12.0, "{found:?}");
}

#[test]
fn a_twin_that_moves_is_not_what_comes() {
    let told = after_leaving(60, |seq| vec![(1, 11, 2 + (seq as isize - 20) / 3)]);
    assert_eq!(told[2..].iter().position(|track| track.mask.is_some()), None);
}

#[test]
fn where_the_twin_left_too_it_is_not_known_which_of_the_two_comes() {
    let told = after_leaving(40, |seq| match seq {
        ..30 => vec![TWIN],
        30..40 => Vec::new(),
        _ => vec![COMES],
    });
    assert_eq!(told[2..].iter().position(|track| track.mask.is_some()), None);
    let last = told.last().unwrap();
    assert_eq!((last.state, last.reason), (TrackState::Lost, Reason::Ambiguous));
}
