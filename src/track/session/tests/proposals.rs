//! What nobody tagged, in the toy world.

use super::*;

/// The mask of a block.
fn mask_of(row: isize, col: isize) -> Mask {
    let inside = |v: usize, corner: isize| (corner as usize * 16..corner as usize * 16 + 48).contains(&v);
    Mask::from_fn(SIZE.0, SIZE.1, |x, y| inside(x, col) && inside(y, row))
}

#[test]
fn a_proposal_is_followed_and_becomes_a_tag_when_it_is_accepted() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
    let proposed = session.propose(mask_of(5, 2), TrackId(7), "object-7".into()).unwrap();
    assert_eq!((proposed.state, proposed.reason), (TrackState::Proposal, Reason::Proposed));
    let followed = play(&mut session, 1..8, 7, |seq| vec![(1, 5, 2 + seq as isize)]);
    assert!(followed.iter().all(|track| track.state == TrackState::Proposal), "{followed:?}");
    let [x, ..] = followed[6].bounds.unwrap();
    assert!((x - 9.0 * 16.0).abs() < 10.0, "{x}");
    assert_eq!(session.accept(TrackId(8), None), None);
    let accepted = session.accept(TrackId(7), Some("cup".into())).unwrap();
    assert_eq!((accepted.state, accepted.reason, &accepted.name[..]), (TrackState::Tentative, Reason::Tagged, "cup"));
    assert_eq!(accepted.bounds, followed[6].bounds);
    assert_eq!(session.accept(TrackId(7), None), None, "it is none any more");
    assert!(!session.withdraw(TrackId(7)));
    let tracks = play(&mut session, 8..12, 7, |_| vec![(1, 5, 9)]);
    assert_eq!(tracks[3].state, TrackState::Tracked);
}

#[test]
fn a_proposal_that_is_gone_is_not_waited_for() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
    session.propose(mask_of(5, 2), TrackId(7), "object-7".into()).unwrap();
    play(&mut session, 1..4, 7, |_| vec![(1, 5, 2)]);
    let mut told = Vec::new();
    for seq in 4..20 {
        told.extend(session.step(&meta(seq), &frame(seq, &[])).tracks.into_iter().map(|track| (seq, track)));
    }
    let (seq, last) = told.last().unwrap();
    assert_eq!((last.state, last.reason), (TrackState::Removed, Reason::Unseen));
    assert!((8..=10).contains(seq), "after half a second: {seq}");
    assert!(told.iter().all(|(_, track)| track.state != TrackState::Lost));
    assert!(session.is_empty());
}

#[test]
fn proposals_make_room_for_tags_and_end_with_the_camera() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2), (2, 5, 8), (3, 5, 14)]));
    session.tag(&pixels(5, 2), None, TrackId(1), "cup".into()).unwrap();
    for (id, col) in [(2, 8), (3, 14)] {
        session.propose(mask_of(5, col), TrackId(id), id.to_string()).unwrap();
    }
    assert!(!session.has_room());
    session.tag(&pixels(5, 8), None, TrackId(4), "hat".into()).unwrap();
    let report = session.step(&meta(1), &frame(1, &[(1, 5, 2), (2, 5, 8), (3, 5, 14)]));
    let ended: Vec<(TrackId, Reason)> = report
        .tracks
        .iter()
        .filter(|track| track.state == TrackState::Removed)
        .map(|track| (track.id, track.reason))
        .collect();
    assert_eq!(ended, [(TrackId(2), Reason::Withdrawn)]);
    let told = |report: TrackReport| report.tracks.iter().map(|track| (track.id.0, track.state)).collect::<Vec<_>>();
    let lost = told(session.camera_lost().unwrap());
    assert_eq!(lost, [(3, TrackState::Removed), (1, TrackState::Lost), (4, TrackState::Lost)]);
    assert_eq!(told(session.camera_lost().unwrap()), [(1, TrackState::Lost), (4, TrackState::Lost)]);
}

#[test]
fn an_object_that_returns_is_not_kept_out_by_a_proposal_of_it() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2)]));
    session.tag(&pixels(5, 2), None, TrackId(1), "cup".into()).unwrap();
    play(&mut session, 1..6, 1, |_| vec![(1, 5, 2)]);
    let gone = play(&mut session, 6..20, 1, |_| vec![]);
    assert_eq!(gone[13].state, TrackState::Lost);
    // Proposed before it is looked for.
    session.config.recover = false;
    session.step(&meta(20), &frame(20, &[(1, 9, 16)]));
    session.config.recover = true;
    session.propose(mask_of(9, 16), TrackId(2), "object-2".into()).unwrap();
    let back = play(&mut session, 21..24, 1, |_| vec![(1, 9, 16)]);
    assert_eq!((back[0].state, back[0].reason), (TrackState::Tracked, Reason::Reacquired), "{back:?}");
    assert_eq!(session.len(), 1, "the proposal was withdrawn");
}

#[test]
fn what_fails_to_be_tagged_takes_no_proposal_s_place() {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(1, 5, 2), (2, 5, 8), (3, 5, 14)]));
    for (id, col) in [(1, 2), (2, 8), (3, 14)] {
        session.propose(mask_of(5, col), TrackId(id), id.to_string()).unwrap();
    }
    let outside = Seed::Box([-100.0, -100.0, 10.0, 10.0]);
    assert!(matches!(session.tag(&outside, None, TrackId(4), "hat".into()), Err(TagError::Seed(_))));
    let unseen = session.recognise(TrackId(5), "cup".into(), &saved_of(7));
    assert!(matches!(unseen, Err(TagError::NotSeen { .. })), "{unseen:?}");
    assert_eq!(session.len(), 3);
}

#[test]
fn what_is_recognised_takes_a_proposal_s_place() {
    let mut session = session();
    let blocks = [(1, 5, 2), (2, 5, 8), (3, 5, 14)];
    session.step(&meta(0), &frame(0, &blocks));
    for (id, col) in [(1, 2), (2, 8), (3, 14)] {
        session.propose(mask_of(5, col), TrackId(id), id.to_string()).unwrap();
    }
    session.know(TrackId(5), "cup".into(), &saved_of(7));
    let with_it = [&blocks[..], &[(7, 11, 4)]].concat();
    let tracks: Vec<TrackReport> = (1..4).map(|seq| session.step(&meta(seq), &frame(seq, &with_it))).collect();
    assert!(tracks[2].tracks.iter().any(|track| track.id == TrackId(5)), "{tracks:?}");
    assert_eq!(session.len(), 3, "one gave way");
}

/// What an object of a kind is known by.
fn saved_of(kind: usize) -> Exemplars {
    let mut session = session();
    session.step(&meta(0), &frame(0, &[(kind, 5, 2)]));
    session.tag(&pixels(5, 2), None, TrackId(1), "cup".into()).unwrap();
    session.keep(TrackId(1)).unwrap()
}
