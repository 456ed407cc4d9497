use super::daemon::Daemon;
use super::{out, table};
use crate::types::Answer;
use crate::types::command::ListedTrack;

/// List the tracks as they stand.
///
/// One line for each object that was tagged and not forgotten, those too that are lost at the moment. For their
/// movements use `tagalong watch`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Only this camera's tracks
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  Every track of every camera:
      tagalong list

  The names of what is seen right now:
      tagalong list --json | jq -r '.tracks[] | select(.since_seen == 0) | .name'";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let tracks = self.daemon.control()?.list(self.camera.as_deref())?;
        if self.json {
            return out::json(&Answer::Listed { tracks });
        }
        if tracks.is_empty() {
            return out::line("no object is tagged; `tagalong help tag` says how");
        }
        out::print(&render(&tracks))
    }
}

fn render(tracks: &[ListedTrack]) -> String {
    let head = ["CAMERA", "ID", "NAME", "STATE", "SCORE", "AGE", "SEEN"].map(str::to_owned);
    let row = |track: &ListedTrack| {
        [
            out::harmless(&track.camera),
            track.id.to_string(),
            out::harmless(&track.name),
            format!("{} ({})", table::state_word(track.state), table::reason_words(track.reason)),
            format!("{:.2}", track.score),
            track.age.to_string(),
            table::seen_words(track.since_seen),
        ]
    };
    out::columns(&std::iter::once(head).chain(tracks.iter().map(row)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::report::{Reason, TrackId, TrackState};

    #[test]
    fn tracks_are_listed_in_columns() {
        let track = |id, name: &str, state, reason, score, since_seen| ListedTrack {
            camera: "front".into(),
            id: TrackId(id),
            name: name.into(),
            state,
            reason,
            score,
            age: 1200,
            since_seen,
        };
        let tracks = [
            track(3, "cup", TrackState::Tracked, Reason::Seen, 0.934, 0),
            track(12, "the blue one", TrackState::Lost, Reason::LeftView, 0.0, 75),
        ];
        let expected = "\
CAMERA  ID  NAME          STATE             SCORE  AGE   SEEN
front   3   cup           tracked (seen)    0.93   1200  now
front   12  the blue one  lost (left view)  0.00   1200  75 frames ago
";
        assert_eq!(render(&tracks), expected);
    }
}
