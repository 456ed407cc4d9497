use super::daemon::Daemon;
use super::out;
use crate::types::Answer;

/// End every track, of one camera or of all.
///
/// For a new scene, or when everything has gone astray: tag the objects again afterwards. Ids are not given a
/// second time.
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
  Forget everything:
      tagalong reset

  Forget what the camera `front` follows:
      tagalong reset --camera front";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let removed = self.daemon.control()?.reset(self.camera.as_deref())?;
        if self.json {
            return out::json(&Answer::Removed { removed });
        }
        out::line(match removed.len() {
            0 => "there was no track to end".to_owned(),
            1 => "1 track has ended".to_owned(),
            count => format!("{count} tracks have ended"),
        })
    }
}
