use std::path::PathBuf;

use super::service;
use crate::config::Config;
use crate::logging;

/// Run the daemon: frames in, tracks out.
///
/// Opens the cameras of the configuration, follows whatever is tagged, and serves tracks and commands on two local
/// sockets until SIGTERM or Ctrl-C. Without a configuration it takes the first camera and the bundled model. A
/// camera that is lost is opened again when it returns; SIGHUP reads the configuration again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The configuration [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

const EXAMPLES: &str = "\
EXAMPLES
  For a try, with the first camera, and everything in a folder of your own:
      printf 'state_dir = \"state\"\\n[serve]\\ndirectory = \"sockets\"\\n' > try.toml
      tagalong run --config try.toml
      tagalong watch --socket-dir sockets

  As a service, with the configuration in /etc/tagalong/tagalong.toml:
      systemctl enable --now tagalong

  With more to read in the log:
      RUST_LOG=tagalong=debug tagalong run --config tagalong.toml";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let config = self.config.as_deref().map_or_else(|| Ok(Config::builtin()), Config::load)?;
        logging::init(config.log.level.into());
        service::run(config, self.config.as_deref())
    }
}
