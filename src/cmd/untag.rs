use super::daemon::Daemon;
use super::out;
use crate::types::{Answer, TrackId};

/// End a track.
///
/// The object is forgotten, and its id is never given again. The next report tells the track once more, as
/// `removed`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The track's id, as `tagalong list` tells it
    id: u64,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  Forget the object of track 3:
      tagalong untag 3

  Forget everything that is lost:
      tagalong list --json | jq '.tracks[] | select(.state == \"lost\") | .id' | xargs -n1 tagalong untag";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let removed = self.daemon.control()?.untag(TrackId(self.id))?;
        if self.json {
            return out::json(&Answer::Removed { removed });
        }
        out::line(format!("track {} has ended", self.id))
    }
}
