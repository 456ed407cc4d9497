use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cmd::exit::{Kind, failure};
use crate::cmd::out;
use crate::cmd::values::parse_size;
use crate::embed::ModelFiles;
use crate::model::catalogue::{Entry, entries};
use crate::model::fetch::{self, Authorities, FetchError, Patience, Remote};
use crate::model::import::{Import, import};
use crate::model::quantize::{Bounds, quantize};
use crate::model::vit::{Family, Hints};
use crate::suggest::suggestion;

use super::frames::{self, Frames};
use super::target;

/// Download a published checkpoint, and make models of it.
///
/// The file comes over HTTPS from where its authors put it, is resumed if it was interrupted, and verified. Of it a
/// model in floats is made, NAME, and one in 8-bit integers, NAME-int8. See `tagalong model list` for what there is, and
/// mind the licences.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Which, as `tagalong model list` names it
    name: String,
    /// Use this file in place of a download, on a machine without a network
    #[arg(long, value_name = "FILE", conflicts_with = "mirror")]
    file: Option<PathBuf>,
    /// Download from here instead of from the authors; the file must be the same
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Trust the server that these certificates vouch for, in the place of the usual authorities
    #[arg(long, value_name = "FILE.pem", conflicts_with = "file")]
    ca: Option<PathBuf>,
    /// The folder to write to; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// The input sizes to offer, the default first [default: those of the catalogue]
    #[arg(long, value_name = "HEIGHTxWIDTH,...", value_delimiter = ',', value_parser = parse_size)]
    input_sizes: Vec<[usize; 2]>,
    /// Make the model in floats alone
    #[arg(long)]
    no_quantize: bool,
    /// Measure on the pictures of this folder when quantizing [default: the built-in scene]
    #[arg(long, value_name = "DIR")]
    calibrate: Option<PathBuf>,
    /// Keep the checkpoint after the models were made
    #[arg(long)]
    keep: bool,
    /// Write over models that are there
    #[arg(long)]
    force: bool,
    /// How long to wait for the next bytes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    stall: u64,
}

const EXAMPLES: &str = "\
EXAMPLES
  DINOv2 ViT-S/14, and the daemon's next model:
      tagalong model fetch dinov2-vits14 --out models
      tagalong check models/dinov2-vits14-int8.toml

  From a mirror of the company's own:
      tagalong model fetch dinov2-vits14 --mirror https://mirror.example/dinov2_vits14_pretrain.pth --ca company.pem

  On a board without a network, from a file that was brought there:
      tagalong model fetch dinov2-vits14 --file dinov2_vits14_pretrain.pth --out models";

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        let entry = find(&self.name)?;
        let name = |kind: &str| self.out.join(format!("{}{kind}", entry.name));
        let mut made = target::files_of(&self.out, &entry.name).to_vec();
        if !self.no_quantize {
            made.extend(target::files_of(&self.out, &format!("{}-int8", entry.name)));
        }
        target::check_free(&made, self.force)?;
        let failed = |error| failure(Kind::CantCreate, format!("{}: {error}", self.out.display()));
        fs::create_dir_all(&self.out).map_err(failed)?;

        let pin = Pin::of(&entry, name(".sha256"))?;
        let checkpoint = match &self.file {
            Some(file) => {
                let digest = fetch::digest_of(file).with_context(|| file.display().to_string())?;
                pin.check(&digest, &file.display().to_string())?;
                file.clone()
            }
            None => {
                let target = name(".checkpoint");
                let there = fetch::digest_of(&target).ok();
                let kept = there.filter(|digest| pin.expected.as_ref().is_some_and(|e| e.eq_ignore_ascii_case(digest)));
                match kept {
                    Some(digest) => pin.check(&digest, &target.display().to_string())?,
                    None => {
                        let digest = self.download(&entry, &pin, &target)?;
                        pin.check(&digest, &entry.url)?;
                    }
                }
                target
            }
        };
        self.make(&entry, &checkpoint)?;
        if self.file.is_none() && !self.keep {
            let _ = fs::remove_file(&checkpoint);
        }
        Ok(())
    }

    fn download(&self, entry: &Entry, pin: &Pin, target: &Path) -> anyhow::Result<String> {
        let url = self.mirror.clone().unwrap_or_else(|| entry.url.clone());
        let authorities = self.ca.as_ref().map(|file| {
            let pem = fs::read(file).with_context(|| file.display().to_string())?;
            Authorities::from_pem(&pem).map_err(|what| failure(Kind::Data, format!("{}: {what}", file.display())))
        });
        let remote = Remote { url, sha256: pin.expected.clone(), authorities: authorities.transpose()? };
        let style = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        let bar = ProgressBar::new(entry.bytes.unwrap_or(0)).with_style(ProgressStyle::with_template(style)?);
        let patience = Patience { stall: Duration::from_secs(self.stall), ..Patience::default() };
        let digest = fetch::fetch(&remote, target, patience, &mut |progress| {
            if let Some(total) = progress.total {
                bar.set_length(total);
            }
            bar.set_position(progress.bytes);
        });
        bar.finish_and_clear();
        digest.map_err(|error| {
            let kind = match error {
                FetchError::Scheme(_) => Kind::Usage,
                FetchError::Server { .. } => Kind::NoInput,
                FetchError::Interrupted { .. } => Kind::Temporary,
                FetchError::Digest { .. } => Kind::Data,
                FetchError::Write { .. } => Kind::CantCreate,
            };
            failure(kind, error)
        })
    }

    /// The models of a checkpoint that was verified.
    fn make(&self, entry: &Entry, checkpoint: &Path) -> anyhow::Result<()> {
        let wanted = Import {
            hints: Hints { family: Family::named(&entry.family), ..Hints::default() },
            input_sizes: if self.input_sizes.is_empty() { entry.input_sizes.clone() } else { self.input_sizes.clone() },
            licence: Some(entry.licence.clone()),
            name: entry.name.clone(),
            ..Import::default()
        };
        let imported =
            import(checkpoint, &wanted, &self.out).map_err(|error| super::import::refused(error, checkpoint))?;
        out::line(format_args!("{}; licence {}", imported.summary, entry.licence))?;
        out::line(imported.manifest.display())?;
        if self.no_quantize {
            return Ok(());
        }
        let model = ModelFiles::read(&imported.manifest.to_string_lossy()).map_err(crate::cmd::connect::refused)?;
        let frames = self.calibrate.clone().map_or(Frames::Scene, Frames::Folder);
        let pictures = frames::pairs(&frames, super::quantize::PICTURES)?;
        let bar = super::quantize::bar()?;
        let name = format!("{}-int8", entry.name);
        let result = quantize(model, &pictures, Bounds::default(), &name, &self.out, &mut |progress| {
            super::quantize::show(&bar, progress);
        });
        bar.finish_and_clear();
        let (report, files) = result.map_err(super::quantize::refused)?;
        out::line(report.summary())?;
        match files.last() {
            Some(manifest) => out::line(manifest.display()),
            None => Ok(()),
        }
    }
}

fn find(name: &str) -> anyhow::Result<Entry> {
    let entries = entries();
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let hint = suggestion(name, &names);
    let unknown = || failure(Kind::Usage, format!("no checkpoint is called `{name}`{hint}; see `tagalong model list`"));
    entries.iter().find(|entry| entry.name == name).cloned().ok_or_else(unknown)
}

/// What a checkpoint must be: by the catalogue, or by what the first fetch found.
struct Pin {
    /// In the format of `sha256sum`.
    file: PathBuf,
    expected: Option<String>,
    name: String,
}

impl Pin {
    fn of(entry: &Entry, file: PathBuf) -> anyhow::Result<Pin> {
        let pinned = match fs::read_to_string(&file) {
            Ok(text) => {
                let digest = text.split_whitespace().next().unwrap_or_default().to_owned();
                if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    let message = format!("{}: holds no digest; remove it to pin the file anew", file.display());
                    return Err(failure(Kind::Data, message));
                }
                Some(digest)
            }
            Err(_) => None,
        };
        Ok(Pin { file, expected: entry.sha256.clone().or(pinned), name: entry.name.clone() })
    }

    /// Holds a file to its digest, or pins it.
    fn check(&self, digest: &str, what: &str) -> anyhow::Result<()> {
        match &self.expected {
            Some(expected) if expected.eq_ignore_ascii_case(digest) => Ok(()),
            Some(expected) => {
                let message = format!("{what}: its sha256 is {digest}, and {expected} was expected");
                Err(failure(Kind::Data, message))
            }
            None => {
                let line = format!("{digest}  {}.checkpoint\n", self.name);
                let failed = |error| failure(Kind::CantCreate, format!("{}: {error}", self.file.display()));
                fs::write(&self.file, line).map_err(failed)?;
                out::line(format_args!("no digest is published; pinned {digest} in {}", self.file.display()))
            }
        }
    }
}
