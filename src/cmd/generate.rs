use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use super::exit::{Kind, failure};
use super::{Cli, out};

/// Write man pages or shell completions, for those who package tagalong.
///
/// Both are made from what `--help` tells, so they are never out of date.
#[derive(Debug, clap::Args)]
#[command(hide = true, after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
EXAMPLES
  Man pages, and one of them to read:
      tagalong generate man man1 && man man1/tagalong-tag.1

  Completions for bash, zsh and fish:
      tagalong generate completions completions";

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A man page of each command.
    ///
    /// Section 1, one file for each command: tagalong.1, tagalong-tag.1 and so on.
    Man {
        /// The folder to write to; made if it is not there
        dir: PathBuf,
    },
    /// Completions for bash, zsh and fish.
    ///
    /// Under the names by which each shell looks for them.
    Completions {
        /// The folder to write to; made if it is not there
        dir: PathBuf,
    },
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Man { dir } => {
                make_folder(&dir)?;
                clap_mangen::generate_to(Cli::command(), &dir).map_err(|error| cannot_create(&dir, &error))?;
                out::line(dir.display())
            }
            What::Completions { dir } => {
                make_folder(&dir)?;
                for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                    let file = clap_complete::generate_to(shell, &mut Cli::command(), "tagalong", &dir)
                        .map_err(|error| cannot_create(&dir, &error))?;
                    out::line(file.display())?;
                }
                Ok(())
            }
        }
    }
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| cannot_create(folder, &error))
}

fn cannot_create(folder: &Path, error: &std::io::Error) -> anyhow::Error {
    failure(Kind::CantCreate, format!("{}: {error}", folder.display()))
}
