use super::daemon::Daemon;
use super::out;
use crate::types::{Answer, TrackId};

/// Give a track another name.
///
/// The name is for people and programs to recognise the object by. The id stays, and so does what the daemon knows
/// of the object.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The track's id, as `tagalong list` tells it
    id: u64,
    /// Its new name
    name: String,
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  Call track 3 the blue cup:
      tagalong rename 3 'blue cup'";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        self.daemon.control()?.rename(TrackId(self.id), &self.name)?;
        if self.json {
            return out::json(&Answer::Renamed { track: TrackId(self.id), name: self.name });
        }
        out::line(format!("track {} is called {} now", self.id, out::harmless(&self.name)))
    }
}
