use std::path::PathBuf;

use super::exit::{Kind, failure};
use super::out;
use crate::model::bundled;

/// Make models.
///
/// A model is a manifest beside an ONNX file: what the network is, how pictures are made ready for it, and a probe
/// that shows whether it still computes what it did when it was made.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
EXAMPLES
  The bundled model as files, to look at or to start from:
      tagalong model bundled --out models";

const EXAMPLES_BUNDLED: &str = "\
EXAMPLES
  Make the model anew, and see that it is the one in the source tree:
      tagalong model bundled --out models && git diff --exit-code models

  Check what was written:
      tagalong model bundled --out /tmp/model && tagalong check /tmp/model/bundled.toml";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the bundled model.
    ///
    /// It needs no training: each patch is described by the statistics of colour and of oriented gradients in it
    /// and around it, written as convolutions. The files are the same to the byte every time.
    #[command(after_long_help = EXAMPLES_BUNDLED)]
    Bundled {
        /// The folder to write to; made if it is not there
        #[arg(long, value_name = "DIR", default_value = "models")]
        out: PathBuf,
    },
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let Command::Bundled { out: folder } = self.command;
        let failed = |error| failure(Kind::CantCreate, format!("{}: {error}", folder.display()));
        for file in bundled::write(&folder).map_err(failed)? {
            out::line(file.display())?;
        }
        Ok(())
    }
}
