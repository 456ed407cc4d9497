use super::daemon::Daemon;
use super::out;
use crate::serve::client::Reloaded;
use crate::types::Answer;

/// Have the daemon read its configuration again.
///
/// What can change while it runs takes effect at once, and tracks stay. The rest is named, and waits for a
/// restart. A bad configuration changes nothing: the daemon goes on with the old one, and this tells what is wrong.
/// SIGHUP does the same.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Print the daemon's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

const EXAMPLES: &str = "\
EXAMPLES
  Check the new configuration, and take it over:
      tagalong check /etc/tagalong/tagalong.toml && tagalong reload";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let reloaded = self.daemon.control()?.reload()?;
        if self.json {
            let Reloaded { applied, restart_needed } = reloaded;
            return out::json(&Answer::Reloaded { applied, restart_needed });
        }
        out::print(&render(&reloaded))
    }
}

fn render(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    for key in &reloaded.applied {
        text.push_str(&format!("{key}: applied\n"));
    }
    for key in &reloaded.restart_needed {
        text.push_str(&format!("{key}: takes effect after a restart\n"));
    }
    if text.is_empty() { "nothing has changed\n".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_effect_is_told_apart_from_what_waits() {
        let reloaded =
            Reloaded { applied: vec!["track.min_score".into()], restart_needed: vec!["serve.directory".into()] };
        assert_eq!(render(&reloaded), "track.min_score: applied\nserve.directory: takes effect after a restart\n");
        assert_eq!(render(&Reloaded { applied: vec![], restart_needed: vec![] }), "nothing has changed\n");
    }
}
