use std::path::{Path, PathBuf};

use super::exit::{Failure, Kind};
use super::follow::ModelChoice;
use super::{connect, exit, out};
use crate::config::Config;
use crate::embed::ModelConfig;
use crate::serve;

/// Where the service has its configuration.
pub const SERVICE_CONFIG: &str = "/etc/tagalong/tagalong.toml";

/// Find every mistake in configurations and models.
///
/// Each problem is told with its file, line and key, and what would be right, and all of them at once. The model
/// that a configuration names is loaded and held to its probe, as the daemon does when it starts: a graph that this
/// machine computes wrongly is found here. A file can also be a model's own manifest. Cameras are not opened.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Configurations and manifests [default: /etc/tagalong/tagalong.toml, or the built-in one if that is not there]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
EXAMPLES
  The service's configuration:
      tagalong check

  A new configuration, before it is put in place:
      tagalong check new.toml && sudo cp new.toml /etc/tagalong/tagalong.toml && tagalong reload

  A model:
      tagalong check models/bundled.toml";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let service = PathBuf::from(SERVICE_CONFIG);
        let files: Vec<Option<PathBuf>> = match self.files {
            files if !files.is_empty() => files.into_iter().map(Some).collect(),
            _ if service.is_file() => vec![Some(service)],
            _ => vec![None],
        };
        let mut worst: Option<Kind> = None;
        for file in &files {
            match check(file.as_deref()) {
                Ok(good) => out::line(good)?,
                Err(error) => {
                    let kind = exit::kind_of(&error);
                    worst.get_or_insert(kind);
                    eprintln!("{}", exit::sentence(&error));
                }
            }
        }
        match worst {
            None => Ok(()),
            Some(kind) => Err(Failure { kind, message: "what was checked cannot be used as it is".into() }.into()),
        }
    }
}

/// What is good about a file.
fn check(file: Option<&Path>) -> anyhow::Result<String> {
    let Some(file) = file else {
        return check_config(&Config::builtin(), "the built-in configuration");
    };
    let name = file.display().to_string();
    if is_manifest(file) {
        let model = connect::model(&manifest(&name))?;
        return Ok(format!("{name}: good; {}", model.describe()));
    }
    match Config::load(file) {
        Ok(config) => check_config(&config, &name),
        // The model is looked at all the same, where it can be told which it is.
        Err(problems) => Err(match model_of(file).map(|choice| connect::model(&choice)) {
            Some(Err(error)) => Failure { kind: Kind::Config, message: format!("{problems}\n{error:#}") }.into(),
            _ => problems.into(),
        }),
    }
}

/// The model that a configuration names, though it has mistakes elsewhere.
fn model_of(file: &Path) -> Option<ModelChoice> {
    let table = std::fs::read_to_string(file).ok()?.parse::<toml::Table>().ok()?;
    let named = table.get("model")?.get("manifest")?.as_str()?;
    let path = file.parent()?.join(named);
    (named != "bundled" && path.is_file()).then(|| manifest(&path.to_string_lossy()))
}

fn check_config(config: &Config, name: &str) -> anyhow::Result<String> {
    let mut problems = serve::problems(&config.serve);
    let cameras: Vec<&str> = config.camera.iter().map(|camera| camera.name.as_str()).collect();
    let s = if cameras.len() == 1 { "" } else { "s" };
    let mut model = connect::model(&ModelChoice::Manifest(config.model.clone()));
    if let Ok(Err(error)) = model.as_mut().map(|model| model.change_density(config.propagation().density)) {
        problems.push(format!("presets.{}.density: {error:#}", config.propagate.preset));
    }
    match model {
        Ok(model) if problems.is_empty() => {
            return Ok(format!("{name}: good; camera{s} {}; {}", cameras.join(", "), model.describe()));
        }
        Ok(_) => {}
        Err(error) if exit::kind_of(&error) == Kind::Config => problems.push(format!("model.input: {error:#}")),
        Err(error) if problems.is_empty() => return Err(error),
        Err(error) => problems.push(format!("model.manifest: {error:#}")),
    }
    let lines: Vec<String> = problems.iter().map(|problem| format!("{name}: {problem}")).collect();
    Err(Failure { kind: Kind::Config, message: lines.join("\n") }.into())
}

fn manifest(path: &str) -> ModelChoice {
    ModelChoice::Manifest(ModelConfig { manifest: path.into(), ..Config::builtin().model })
}

/// Whether a file is a model's manifest: it names a graph, and a configuration never does.
fn is_manifest(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("onnx"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_and_configurations_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        for (text, expected) in [
            ("name = \"x\"\nonnx = \"x.onnx\"", true),
            ("[model]\nmanifest = \"x.toml\"", false),
            ("onnx = ", false),
            ("", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(is_manifest(&file), expected, "{text}");
        }
        assert!(!is_manifest(&folder.path().join("none.toml")));
    }
}
