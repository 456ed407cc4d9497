use std::path::PathBuf;

use crate::cmd::exit::{Kind, failure};
use crate::cmd::out;
use crate::model::bundled;

/// Write the bundled model.
///
/// It needs no training: each patch is described by the statistics of colour and of oriented gradients in it and
/// around it, written as convolutions. The files are the same to the byte every time.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The folder to write to; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "models")]
    out: PathBuf,
}

const EXAMPLES: &str = "\
EXAMPLES
  Make the model anew, and see that it is the one in the source tree:
      tagalong model bundled --out models && git diff --exit-code models

  Check what was written:
      tagalong model bundled --out /tmp/model && tagalong check /tmp/model/bundled.toml";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let failed = |error| failure(Kind::CantCreate, format!("{}: {error}", self.out.display()));
        for file in bundled::write(&self.out).map_err(failed)? {
            out::line(file.display())?;
        }
        Ok(())
    }
}
