//! What changes from report to report, a line each, for those who read a log and not a table.

use std::collections::HashMap;

use super::out::harmless;
use super::table::{reason_words, state_word};
use crate::types::report::Track;
use crate::types::{TrackId, TrackReport, TrackState};

/// Remembers every track's last state and name.
#[derive(Debug, Default)]
pub struct Changes {
    last: HashMap<(String, TrackId), (TrackState, String)>,
}

impl Changes {
    /// A line for each track that is new, is in another state or has another name.
    pub fn lines(&mut self, report: &TrackReport) -> Vec<String> {
        let mut lines = Vec::new();
        for track in &report.tracks {
            let key = (report.camera.clone(), track.id);
            let now = (track.state, track.name.clone());
            let before = self.last.get(&key);
            if before == Some(&now) {
                continue;
            }
            let came_from = before.map(|(state, _)| *state).filter(|state| *state != track.state);
            lines.push(line(report, track, came_from));
            if track.state == TrackState::Removed {
                self.last.remove(&key);
            } else {
                self.last.insert(key, now);
            }
        }
        lines
    }
}

fn line(report: &TrackReport, track: &Track, came_from: Option<TrackState>) -> String {
    let came_from = came_from.map(|state| format!("{} -> ", state_word(state))).unwrap_or_default();
    let (state, reason) = (state_word(track.state), reason_words(track.reason));
    let at = match track.bounds {
        Some([x, y, w, h]) => format!(", score {:.2}, box {x:.0},{y:.0} {w:.0}x{h:.0}", track.score),
        None => String::new(),
    };
    let (camera, name) = (harmless(&report.camera), harmless(&track.name));
    format!("{camera} frame {}: track {} {name}: {came_from}{state} ({reason}){at}", report.seq, track.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::table::tests::{report, track};
    use crate::types::report::Reason;

    #[test]
    fn only_changes_are_told() {
        let mut changes = Changes::default();
        let tell = |changes: &mut Changes, seq, track: Track| changes.lines(&report("front", seq, vec![track]));
        let cup = |state, reason, name: &str| Track { state, reason, ..track(3, name) };
        let first = tell(&mut changes, 1, cup(TrackState::Tentative, Reason::Tagged, "cup"));
        assert_eq!(first, ["front frame 1: track 3 cup: tentative (tagged), score 0.90, box 10,20 30x40"]);
        assert!(tell(&mut changes, 2, cup(TrackState::Tentative, Reason::Tagged, "cup")).is_empty());
        let tracked = tell(&mut changes, 3, cup(TrackState::Tracked, Reason::Confirmed, "cup"));
        assert_eq!(
            tracked,
            ["front frame 3: track 3 cup: tentative -> tracked (confirmed), score 0.90, box 10,20 30x40"]
        );
        let renamed = tell(&mut changes, 4, cup(TrackState::Tracked, Reason::Seen, "mug"));
        assert_eq!(renamed, ["front frame 4: track 3 mug: tracked (seen), score 0.90, box 10,20 30x40"]);
        let lost = Track { bounds: None, ..cup(TrackState::Lost, Reason::LeftView, "mug") };
        assert_eq!(tell(&mut changes, 5, lost), ["front frame 5: track 3 mug: tracked -> lost (left view)"]);
    }

    #[test]
    fn a_track_is_told_of_for_each_camera() {
        let mut changes = Changes::default();
        for camera in ["left", "right"] {
            assert_eq!(changes.lines(&report(camera, 1, vec![track(1, "cup")])).len(), 1);
        }
    }

    #[test]
    fn what_is_removed_is_forgotten() {
        let mut changes = Changes::default();
        let gone = || Track { state: TrackState::Removed, reason: Reason::Untagged, ..track(3, "cup") };
        assert_eq!(changes.lines(&report("front", 1, vec![gone()])).len(), 1);
        assert!(changes.last.is_empty());
    }
}
