//! A track's life: which state follows from what is seen, and why.

use super::TrackConfig;
use crate::types::TrackState;
use crate::types::report::Reason;

/// What one frame shows of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sighting {
    /// Seconds, of the captured frame.
    pub time: f64,
    /// Whether anything is seen that can be relied on.
    pub seen: bool,
    /// Whether it was found by looking everywhere.
    pub reacquired: bool,
    /// Whether what was found by looking everywhere may be another object as well, or what is seen.
    pub ambiguous: bool,
    /// Pixels.
    pub area: f64,
    /// Whether it touches the edge of the picture.
    pub at_edge: bool,
}

/// Where a track stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    pub state: TrackState,
    pub reason: Reason,
    /// Frames since the object was tagged.
    pub age: u64,
    /// Frames since it was last seen.
    pub since_seen: u64,
    seen_in_a_row: u64,
    last_seen: f64,
    lost_at: f64,
    was_at_edge: bool,
    /// The area that the object usually has, in pixels.
    usual_area: f64,
}

/// How fast the usual area follows what is seen, a frame.
const AREA_RATE: f64 = 0.02;

impl Life {
    /// An object that was tagged at `time`, seconds, with `area` pixels.
    pub fn new(time: f64, area: f64) -> Life {
        Life {
            state: TrackState::Tentative,
            reason: Reason::Tagged,
            age: 0,
            since_seen: 0,
            seen_in_a_row: 0,
            last_seen: time,
            lost_at: time,
            was_at_edge: false,
            usual_area: area,
        }
    }

    /// An object that is known from before and was recognised at `time`, seconds; its area is that of when it is first seen.
    pub fn recognised(time: f64) -> Life {
        Life { reason: Reason::Recognised, ..Life::new(time, 0.0) }
    }

    /// Something that may be an object, with `area` pixels at `time`, seconds.
    pub fn proposed(time: f64, area: f64) -> Life {
        Life { state: TrackState::Proposal, reason: Reason::Proposed, ..Life::new(time, area) }
    }

    /// Takes in one frame.
    pub fn observe(&mut self, config: &TrackConfig, sighting: &Sighting) {
        use TrackState::{Lost, Occluded, Proposal, Removed, Tentative, Tracked};
        if self.state == Removed {
            return;
        }
        self.age += 1;
        if sighting.seen {
            self.since_seen = 0;
            self.seen_in_a_row += 1;
            self.last_seen = sighting.time;
            self.was_at_edge = sighting.at_edge;
        } else {
            self.since_seen += 1;
            self.seen_in_a_row = 0;
        }
        let unseen = match self.was_at_edge {
            _ if sighting.ambiguous => Reason::Ambiguous,
            true => Reason::LeftView,
            false => Reason::Unseen,
        };
        let unseen_s = sighting.time - self.last_seen;
        if self.usual_area == 0.0 && sighting.seen {
            self.usual_area = sighting.area;
        }
        let shrunk = sighting.area < f64::from(config.occluded_area) * self.usual_area;
        let (state, reason) = match self.state {
            Tentative
                if self.reason == Reason::Recognised && self.seen_in_a_row < config.confirm_frames && sighting.seen =>
            {
                (Tentative, Reason::Recognised)
            }
            // Nobody asked for it, so nobody waits for it.
            Proposal if unseen_s >= f64::from(config.lost_after_s) && !sighting.seen => (Removed, unseen),
            Proposal => (Proposal, Reason::Proposed),
            _ if sighting.seen && sighting.reacquired => (Tracked, Reason::Reacquired),
            Tentative if self.seen_in_a_row >= config.confirm_frames => (Tracked, Reason::Confirmed),
            Tentative | Tracked | Occluded if !sighting.seen && unseen_s >= f64::from(config.lost_after_s) => {
                (Lost, unseen)
            }
            Tentative => (Tentative, self.reason),
            Tracked | Occluded if !sighting.seen => (Occluded, unseen),
            Tracked | Occluded if shrunk => (Occluded, Reason::Shrunk),
            Tracked => (Tracked, self.reason),
            Occluded => (Tracked, Reason::Seen),
            Lost if sighting.seen => (Tracked, Reason::Seen),
            Lost if sighting.ambiguous => (Lost, Reason::Ambiguous),
            Lost if config.remove_after_s > 0.0 && sighting.time - self.lost_at >= f64::from(config.remove_after_s) => {
                (Removed, Reason::TimedOut)
            }
            Lost | Removed => (self.state, self.reason),
        };
        let reason = if state == Tracked && sighting.ambiguous { Reason::Ambiguous } else { reason };
        if state == Lost && self.state != Lost {
            self.lost_at = sighting.time;
        }
        if sighting.seen && state == Tracked {
            self.usual_area += AREA_RATE * (sighting.area - self.usual_area);
        }
        (self.state, self.reason) = (state, reason);
    }

    /// When it was last seen, in seconds.
    pub fn last_seen(&self) -> f64 {
        self.last_seen
    }

    /// Whether it has been seen in so many frames in a row, the last of them this one.
    pub fn is_settled(&self, frames: u64) -> bool {
        self.seen_in_a_row >= frames && self.state == TrackState::Tracked
    }

    /// The camera gives no frames: nothing is known of the object.
    pub fn camera_lost(&mut self, time: f64) {
        if self.state != TrackState::Removed {
            self.lost_at = if self.state == TrackState::Lost { self.lost_at } else { time };
            (self.state, self.reason) = (TrackState::Lost, Reason::CameraLost);
            self.seen_in_a_row = 0;
            self.since_seen = self.since_seen.max(1);
        }
    }

    /// The user ends it.
    pub fn remove(&mut self, reason: Reason) {
        (self.state, self.reason) = (TrackState::Removed, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TrackState::{Lost, Occluded, Removed, Tentative, Tracked};

    fn config() -> TrackConfig {
        TrackConfig {
            confirm_frames: 3,
            occluded_area: 0.35,
            min_score: 0.46,
            lost_after_s: 0.5,
            remove_after_s: 2.0,
            recover: true,
            max_objects: 64,
        }
    }

    /// One frame each 0.1 s: a letter a frame for what is seen.
    fn live(script: &str) -> Vec<(TrackState, Reason)> {
        let mut life = Life::new(0.0, 100.0);
        let sighting = |i: usize, c: char| Sighting {
            time: (i + 1) as f64 * 0.1,
            seen: !matches!(c, '.' | '?'),
            reacquired: c == 'r',
            ambiguous: matches!(c, '?' | '!'),
            area: match c {
                '.' | '?' => 0.0,
                's' => 30.0,
                _ => 100.0,
            },
            at_edge: c == 'e',
        };
        script
            .chars()
            .enumerate()
            .map(|(i, c)| {
                life.observe(&config(), &sighting(i, c));
                (life.state, life.reason)
            })
            .collect()
    }

    #[test]
    fn states_follow_from_what_is_seen() {
        struct Case {
            script: &'static str,
            last: (TrackState, Reason),
        }
        let cases = [
            Case { script: "oo", last: (Tentative, Reason::Tagged) },
            Case { script: "ooo", last: (Tracked, Reason::Confirmed) },
            Case { script: "o.o.o", last: (Tentative, Reason::Tagged) },
            Case { script: ".....", last: (Lost, Reason::Unseen) },
            Case { script: "ooos", last: (Occluded, Reason::Shrunk) },
            Case { script: "oooso", last: (Tracked, Reason::Seen) },
            Case { script: "ooo....", last: (Occluded, Reason::Unseen) },
            Case { script: "ooo.....", last: (Lost, Reason::Unseen) },
            Case { script: "oooe.", last: (Occluded, Reason::LeftView) },
            Case { script: "oooe.....", last: (Lost, Reason::LeftView) },
            Case { script: "oooe.....r", last: (Tracked, Reason::Reacquired) },
            Case { script: "ooo!", last: (Tracked, Reason::Ambiguous) },
            Case { script: "ooo!s", last: (Occluded, Reason::Shrunk) },
            Case { script: "ooo?", last: (Occluded, Reason::Ambiguous) },
            Case { script: "ooo.....?", last: (Lost, Reason::Ambiguous) },
            Case { script: "ooo.....?.", last: (Lost, Reason::Ambiguous) },
            Case { script: "ooo.....?.r", last: (Tracked, Reason::Reacquired) },
            Case { script: "oooe.....o", last: (Tracked, Reason::Seen) },
            Case { script: "ooo........................", last: (Lost, Reason::Unseen) },
            Case { script: "ooo.........................", last: (Removed, Reason::TimedOut) },
            Case { script: "ooo.........................o", last: (Removed, Reason::TimedOut) },
        ];
        for case in cases {
            assert_eq!(live(case.script).last(), Some(&case.last), "{}", case.script);
        }
    }

    #[test]
    fn a_lost_camera_tells_so_and_frames_bring_the_track_back() {
        let mut life = Life::new(0.0, 100.0);
        life.camera_lost(1.0);
        assert_eq!((life.state, life.reason), (Lost, Reason::CameraLost));
        life.observe(
            &config(),
            &Sighting { time: 1.5, seen: true, reacquired: false, ambiguous: false, area: 100.0, at_edge: false },
        );
        assert_eq!((life.state, life.reason), (Tracked, Reason::Seen));
        life.remove(Reason::Untagged);
        life.camera_lost(2.0);
        assert_eq!((life.state, life.reason), (Removed, Reason::Untagged));
    }
}
