//! `tagalong model ...`: one file for each of its commands.

mod bench;
mod bundled;
mod check;
mod fetch;
mod frames;
mod import;
mod list;
mod manifest;
mod quantize;
mod target;
mod variance;

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
  DINOv2, downloaded and made ready for the daemon:
      tagalong model fetch dinov2-vits14

  The same from the checkpoint that its authors published:
      tagalong model import dinov2_vits14_pretrain.pth

  A vision transformer of yours that is ONNX already:
      tagalong model manifest vit.onnx --output last_hidden_state

  The bundled model as files, to look at or to start from:
      tagalong model bundled --out models";

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(list::Args),
    Fetch(fetch::Args),
    Check(check::Args),
    Bench(bench::Args),
    Import(import::Args),
    Quantize(quantize::Args),
    Variance(variance::Args),
    Manifest(manifest::Args),
    Bundled(bundled::Args),
}

impl Args {
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::List(args) => args.run(),
            Command::Fetch(args) => args.run(),
            Command::Check(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Import(args) => args.run(),
            Command::Quantize(args) => args.run(),
            Command::Variance(args) => args.run(),
            Command::Manifest(args) => args.run(),
            Command::Bundled(args) => args.run(),
        }
    }
}
