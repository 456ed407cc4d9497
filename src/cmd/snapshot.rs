use std::path::PathBuf;

use super::daemon::Daemon;
use super::exit::{Kind, failure};
use super::out;

/// Save the newest picture of a camera, what is followed drawn over it.
///
/// Good for finding the pixels of an object before tagging it, and for seeing whether a track sits where it
/// should. The picture has the camera's own size, so what is measured in it can be given to `tagalong tag`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Where to save the picture, as JPEG; `-` for standard output
    #[arg(value_name = "FILE.jpg")]
    file: PathBuf,
    /// The camera; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  What the only camera sees:
      tagalong snapshot now.jpg

  Look at it from another machine:
      ssh robot tagalong snapshot --camera front - > now.jpg";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let snapshot = self.daemon.control()?.snapshot(self.camera.as_deref())?;
        if self.file.as_os_str() == "-" {
            return out::bytes(&snapshot.jpeg);
        }
        let file = self.file.display();
        std::fs::write(&self.file, &snapshot.jpeg)
            .map_err(|error| failure(Kind::CantCreate, format!("{file}: {error}")))?;
        let [width, height] = snapshot.size;
        out::line(format!("{file}: frame {} of {}, {width}x{height} pixels", snapshot.seq, snapshot.camera))
    }
}
