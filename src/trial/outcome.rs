//! What a case shows of a tracker, counted frame by frame.

use std::ops::AddAssign;

use serde::Serialize;

use super::film::GroundTruth;
use crate::eval::run::TrackerError;
use crate::eval::{Identities, IdentityCounts};
use crate::types::report::{Track, TrackState};
use crate::types::{Mask, TrackReport};

/// Frames that a tracker has to find what returns, and to notice that something is gone.
const GRACE: u64 = 5;
/// A mask is right when its IoU with the exact one is at least this ...
const RIGHT: f64 = 0.5;
/// ... and elsewhere when it is less than this.
const ELSEWHERE: f64 = 0.1;
/// Frames on another object that make a swap.
const SWAP: u64 = 3;
/// What shows less than this part of what there is of an object is not in sight ...
const HIDDEN: f64 = 0.02;
/// ... and has returned with this part of it.
const RETURNED: f64 = 0.5;
/// Frames out of sight, up to the end, that make an object one that never returns.
const GONE: u64 = 30;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Times that a tagged object came back into sight after it had been out of it.
    pub returns: u64,
    /// ... and was followed again within 5 frames, with an IoU of at least 0.5.
    pub reacquired: u64,
    /// Frames in which a tagged object has been out of sight for more than 5, whether it returns or not.
    pub absent: u64,
    /// ... and was told to be seen.
    pub ghosts: u64,
    /// Tagged objects that are out of sight for 30 frames or more at the end.
    pub gone: u64,
    /// ... and were told to be seen, later than 5 frames after they had gone.
    pub made_up: u64,
    /// Tagged objects.
    pub followed: u64,
    /// ... whose track lay on another object for 3 frames or more, with an IoU of at least 0.5.
    pub swapped: u64,
    /// Frames in which a tagged object has been out of sight for more than 5, why is certain, and it was told not to be seen.
    pub explained: u64,
    /// ... for the right reason.
    pub explained_right: u64,
    /// For HOTA, IDF1 and switches.
    #[serde(skip)]
    pub identity: IdentityCounts,
}

impl AddAssign<&Outcome> for Outcome {
    fn add_assign(&mut self, other: &Outcome) {
        self.returns += other.returns;
        self.reacquired += other.reacquired;
        self.absent += other.absent;
        self.ghosts += other.ghosts;
        self.gone += other.gone;
        self.made_up += other.made_up;
        self.followed += other.followed;
        self.swapped += other.swapped;
        self.explained += other.explained;
        self.explained_right += other.explained_right;
        self.identity += &other.identity;
    }
}

/// Watches one case.
pub(super) struct Judge {
    objects: Vec<Watched>,
    identities: Identities,
    outcome: Outcome,
}

/// A tagged object.
struct Watched {
    number: usize,
    /// Frames for which it has been out of sight.
    hidden: u64,
    /// Whether it was told to be seen in that time.
    made_up: bool,
    /// Whether it went out of sight before a tracker's eyes.
    witnessed: bool,
    /// When it came back, until it is found or the time for that has passed.
    due: Option<u64>,
    /// Frames that its track has lain on another object.
    elsewhere: u64,
}

impl Judge {
    /// `tagged` are the numbers, from 1, of the objects that will be tagged; their tracks have them for their ids.
    pub fn new(tagged: &[usize]) -> Judge {
        let watch = |number: &usize| Watched {
            number: *number,
            hidden: 0,
            made_up: false,
            witnessed: true,
            due: None,
            elsewhere: 0,
        };
        let objects: Vec<Watched> = tagged.iter().map(watch).collect();
        let outcome = Outcome { followed: objects.len() as u64, ..Outcome::default() };
        Judge { objects, identities: Identities::default(), outcome }
    }

    /// What is true of all objects in frame `index`, object 1 first, and what was reported of it.
    ///
    /// # Errors
    /// When a reported mask is none.
    pub fn frame(&mut self, index: u64, truths: &[GroundTruth], report: &TrackReport) -> Result<(), TrackerError> {
        let mut told: Vec<(&Track, Option<Mask>)> = Vec::new();
        for track in report.tracks.iter().filter(|track| track.state != TrackState::Removed) {
            told.push((track, track.mask.as_ref().map(Mask::from_coco).transpose()?));
        }
        for object in &mut self.objects {
            let told = told.iter().find(|(track, _)| track.id.0 == object.number as u64);
            object.watch(index, truths, told, &mut self.outcome);
        }
        let seen: Vec<(u64, &Mask)> =
            told.iter().filter_map(|(track, mask)| Some((track.id.0, mask.as_ref()?))).collect();
        let numbers = self.objects.iter().map(|object| object.number);
        let present: Vec<usize> = numbers.filter(|number| !truths[number - 1].mask.is_empty()).collect();
        let overlaps = |number: &usize| {
            let truth = &truths[number - 1].mask;
            seen.iter().map(|(_, mask)| mask.iou(truth)).collect::<Vec<f64>>()
        };
        let similarity: Vec<f64> = present.iter().flat_map(overlaps).collect();
        let ids: Vec<u64> = seen.iter().map(|(id, _)| *id).collect();
        let numbers: Vec<u64> = present.iter().map(|number| *number as u64).collect();
        Ok(self.identities.frame(&numbers, &ids, &similarity)?)
    }

    /// The tracker has begun anew: what is in sight now has yet to be found, and of what is not nothing may be told from the first
    /// frame on.
    pub fn restart(&mut self) {
        for object in &mut self.objects {
            (object.hidden, object.witnessed) = (object.hidden.max(GRACE), false);
        }
    }

    pub fn conclude(mut self) -> Outcome {
        for object in &self.objects {
            let gone = object.hidden >= GONE;
            self.outcome.gone += u64::from(gone);
            self.outcome.made_up += u64::from(gone && object.made_up);
            self.outcome.swapped += u64::from(object.elsewhere >= SWAP);
        }
        self.outcome.identity = self.identities.counts();
        self.outcome
    }
}

impl Watched {
    /// One frame: what is true of everything, and what is told of this object.
    fn watch(
        &mut self,
        index: u64,
        truths: &[GroundTruth],
        told: Option<&(&Track, Option<Mask>)>,
        outcome: &mut Outcome,
    ) {
        let GroundTruth { mask: truth, whole, reasons } = &truths[self.number - 1];
        let mask = told.and_then(|(_, mask)| mask.as_ref());
        let shown = truth.area() as f64 / whole.max(1.0);
        if shown < HIDDEN {
            self.hidden += 1;
            self.due = None;
            if self.hidden > GRACE {
                outcome.absent += 1;
                outcome.ghosts += u64::from(mask.is_some());
                self.made_up |= mask.is_some();
                let unseen = told.filter(|_| mask.is_none() && self.witnessed && !reasons.is_empty());
                outcome.explained += u64::from(unseen.is_some());
                outcome.explained_right += u64::from(unseen.is_some_and(|(track, _)| reasons.contains(&track.reason)));
            }
        } else if shown >= RETURNED && self.hidden > 0 {
            (self.hidden, self.made_up, self.witnessed, self.due) = (0, false, true, Some(index));
            outcome.returns += 1;
        }
        let overlap = mask.map_or(0.0, |mask| mask.iou(truth));
        if let Some(since) = self.due {
            outcome.reacquired += u64::from(overlap >= RIGHT);
            if overlap >= RIGHT || index >= since + GRACE {
                self.due = None;
            }
        }
        let others = truths.iter().enumerate().filter(|(other, _)| other + 1 != self.number);
        let on_another = |told: &Mask| others.into_iter().any(|(_, other)| told.iou(&other.mask) >= RIGHT);
        self.elsewhere += u64::from(overlap < ELSEWHERE && mask.is_some_and(on_another));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TrackId;
    use crate::types::report::{Latency, Reason};

    /// Object 1 is a square at the left, object 2 one at the right, of 10x10 pixels.
    fn square(number: usize) -> Mask {
        let x0 = if number == 1 { 0 } else { 20 };
        Mask::from_fn(40, 10, |x, _| (x0..x0 + 10).contains(&x))
    }

    /// A letter a frame for where track 1 is told to be: on object 1, on object 2, or nowhere, which is `.` for not seen, `e` for
    /// gone by the edge and `?` for what may be another; and for whether object 1 is there (`1`), hidden (`.`) while its twin may be
    /// in sight (`t`), gone by the edge (`e`), or gone in a way that is not certain.
    fn judged(told: &str, there: &str) -> Outcome {
        let mut judge = Judge::new(&[1]);
        for (index, (told, there)) in (1..).zip(told.chars().zip(there.chars())) {
            let shown = if there == '1' { square(1) } else { Mask::empty(40, 10) };
            let reasons: &[Reason] = match there {
                '.' => &[Reason::Unseen],
                't' => &[Reason::Unseen, Reason::Ambiguous],
                'e' => &[Reason::LeftView],
                _ => &[],
            };
            let reason = match told {
                'e' => Reason::LeftView,
                '?' => Reason::Ambiguous,
                _ => Reason::Unseen,
            };
            let truths = [shown, square(2)].map(|mask| GroundTruth { mask, whole: 100.0, reasons });
            let mask = told.to_digit(10).map(|number| square(number as usize).to_coco());
            let track = Track {
                id: TrackId(1),
                name: "1".into(),
                state: TrackState::Tracked,
                reason,
                score: 1.0,
                bounds: None,
                centroid: None,
                area: 0,
                velocity: [0.0; 2],
                age: index,
                since_seen: 0,
                mask,
            };
            let report = TrackReport {
                camera: "c".into(),
                seq: index,
                dropped: 0,
                t_mono_ns: 0,
                t_real_ns: 0,
                size: [40, 10],
                latency_ms: Latency::default(),
                tracks: vec![track],
            };
            judge.frame(index, &truths, &report).unwrap();
        }
        judge.conclude()
    }

    #[test]
    fn a_return_is_found_in_time_or_not() {
        for (told, there, returns, reacquired) in [
            ("1111", "1111", 0, 0),
            ("1..1", "1..1", 1, 1),
            ("1.......1", "1..111111", 1, 1),
            ("1........1", "1..1111111", 1, 0),
            // Gone again before its time was up.
            ("1.........", "1..11.....", 1, 0),
            ("1.1.1", "1.1.1", 2, 2),
            ("1..222222", "1..111111", 1, 0),
        ] {
            let outcome = judged(told, there);
            assert_eq!((outcome.returns, outcome.reacquired), (returns, reacquired), "{told} {there}");
        }
    }

    #[test]
    fn what_never_returns_is_made_up_or_not() {
        let gone = "1".to_owned() + &".".repeat(35);
        for (told, made_up) in [
            (gone.clone(), 0),
            ("111111".to_owned() + &".".repeat(30), 0),
            ("1111111".to_owned() + &".".repeat(29), 1),
            (".".repeat(35) + "1", 1),
        ] {
            let outcome = judged(&told, &gone);
            assert_eq!((outcome.gone, outcome.made_up), (1, made_up), "{told}");
        }
        assert_eq!(judged("1...", "1...").gone, 0, "it may come back");
    }

    #[test]
    fn what_is_told_of_something_hidden_is_a_ghost_though_it_returns() {
        for (told, there, absent, ghosts) in
            [("1........1", "1........1", 3, 0), ("11.....221", "1........1", 3, 2), ("111111...1", "1........1", 3, 0)]
        {
            let outcome = judged(told, there);
            assert_eq!((outcome.absent, outcome.ghosts, outcome.gone), (absent, ghosts, 0), "{told}");
        }
    }

    #[test]
    fn the_reason_for_what_is_not_seen_is_right_or_not() {
        for (told, there, explained, right) in [
            ("1........1", "1........1", 3, 3),
            ("1eeeeeeee1", "1........1", 3, 0),
            ("1eeeeeeee1", "1eeeeeeee1", 3, 3),
            ("1.....e.e1", "1eeeeeeee1", 3, 2),
            // A reason takes time as a ghost does, and what is told to be seen has none.
            ("1eeeee.121", "1........1", 1, 1),
            ("1??????.?1", "1........1", 3, 1),
            ("1??????.?1", "1tttttttt1", 3, 3),
            ("1........1", "1~~~~~~~~1", 0, 0),
        ] {
            let outcome = judged(told, there);
            assert_eq!((outcome.explained, outcome.explained_right), (explained, right), "{told} {there}");
        }
    }

    #[test]
    fn a_swap_takes_three_frames_on_another_object() {
        for (told, swapped) in [("1111", 0), ("1221", 0), ("1222", 1), ("2.22", 1), ("....", 0)] {
            assert_eq!(judged(told, "1111").swapped, swapped, "{told}");
        }
        let outcome = judged("1122", "1111");
        assert_eq!((outcome.identity.truths, outcome.identity.tracks, outcome.identity.clear_tp), (4, 4, 2));
    }
}
