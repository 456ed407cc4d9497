use std::path::{Path, PathBuf};

use super::check::SERVICE_CONFIG;
use super::exit::{Kind, failure};
use super::out;
use crate::config::Config;

mod cameras;
mod graphics;
mod machine;
mod state;

/// Find out why it does not work.
///
/// Looks at everything that the daemon needs: its configuration, its model, the graphics processor, each camera, the state directory and its disk, the
/// sockets, the clock, the processor and the memory. What keeps it from working is a `fault`, what may trouble it a `warning`, and
/// each says what to do. A camera that no daemon holds is opened for one frame; pipes are not read, and no command of the
/// configuration is run. Run it as the user that the daemon runs as, or as root.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The configuration [default: /etc/tagalong/tagalong.toml, or the built-in one if that is not there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
EXAMPLES
  Why does the service not work?
      sudo tagalong doctor

  Before a configuration is put in place:
      tagalong doctor --config new.toml

  For a script: what is wrong, a line each
      tagalong doctor --json | jq -r '.findings[] | select(.level != \"good\") | .subject + \": \" + .told'";

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Good,
    /// It works, and may fail or be slow later.
    Warning,
    /// The daemon cannot do its work.
    Fault,
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
struct Finding {
    level: Level,
    subject: String,
    /// What there is, and what to do where that is not good.
    told: String,
    /// What a fault ends the command with.
    #[serde(skip)]
    kind: Kind,
}

impl Finding {
    fn new(level: Level, subject: impl Into<String>, told: impl Into<String>) -> Finding {
        Finding { level, subject: subject.into(), told: told.into(), kind: Kind::Unavailable }
    }

    fn good(subject: impl Into<String>, told: impl Into<String>) -> Finding {
        Finding::new(Level::Good, subject, told)
    }

    fn warning(subject: impl Into<String>, told: impl Into<String>) -> Finding {
        Finding::new(Level::Warning, subject, told)
    }

    fn fault(subject: impl Into<String>, told: impl Into<String>, kind: Kind) -> Finding {
        Finding { kind, ..Finding::new(Level::Fault, subject, told) }
    }
}

#[derive(serde::Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let service = PathBuf::from(SERVICE_CONFIG);
        let file = self.config.or_else(|| service.is_file().then_some(service));
        let findings = examine(file.as_deref());
        let fault = findings.iter().find(|finding| finding.level == Level::Fault).map(|finding| finding.kind);
        let faults = findings.iter().filter(|finding| finding.level == Level::Fault).count();
        if self.json {
            out::json(&Findings { findings })?;
        } else {
            out::print(&render(&findings))?;
        }
        match fault {
            None => Ok(()),
            Some(kind) => Err(failure(kind, format!("{faults} of these must be mended before the daemon can work"))),
        }
    }
}

fn examine(file: Option<&Path>) -> Vec<Finding> {
    let (mut findings, config) = configuration(file);
    let (model, found) = machine::model(&config.model);
    findings.push(found);
    findings.extend(graphics::graphics(&config.model));
    let (status, found) = state::daemon(&config.serve);
    findings.extend(found);
    findings.extend(config.camera.iter().map(|camera| cameras::camera(camera, status.as_ref())));
    findings.extend(state::directory(&config.state_dir, model));
    findings.extend(machine::machine());
    findings
}

/// What is found of a configuration, and what to go on with: where it is bad, the built-in one.
fn configuration(file: Option<&Path>) -> (Vec<Finding>, Config) {
    const SUBJECT: &str = "configuration";
    let Some(file) = file else {
        return (
            vec![Finding::good(SUBJECT, "the built-in one: the first camera, the bundled model")],
            Config::builtin(),
        );
    };
    match Config::load(file) {
        Ok(config) => (vec![Finding::good(SUBJECT, file.display().to_string())], config),
        Err(problems) => {
            let told = problems.to_string();
            let faults = told.lines().map(|line| Finding::fault(SUBJECT, line, Kind::Config));
            let goes_on = Finding::warning(SUBJECT, "what follows is of the built-in one; mend the file and ask again");
            (faults.chain([goes_on]).collect(), Config::builtin())
        }
    }
}

fn render(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let level = match finding.level {
            Level::Good => "good",
            Level::Warning => "warning",
            Level::Fault => "FAULT",
        };
        [level.to_owned(), out::harmless(&finding.subject), out::harmless(&finding.told)]
    };
    out::columns(&findings.iter().map(row).collect::<Vec<_>>())
}
