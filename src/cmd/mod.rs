//! What can be asked on the command line: one file for each command.
//!
//! Nothing else may import this module. It joins the steps for a person at a terminal, and is the one place for
//! `anyhow`, colours and exit codes.

mod bare;
pub mod changes;
mod check;
mod connect;
mod daemon;
mod demo;
mod devices;
mod doctor;
mod eval;
pub mod exit;
mod follow;
mod gallery;
mod generate;
mod gpu_trial;
mod list;
mod model;
mod out;
mod reload;
mod rename;
mod replay;
mod reset;
mod run;
mod screen;
mod service;
mod showcase;
mod snapshot;
mod status;
mod study;
pub mod table;
mod tag;
mod trial;
mod untag;
mod values;
mod watch;

/// Show it an object once, and the tag goes along from frame to frame.
///
/// tagalong is a daemon that follows objects in the pictures of a camera. Point at an object once, with a box, a
/// point or a mask, and every frame from then on tells where it is: no training, no detector, no network. Programs
/// read the tracks from a local socket.
#[derive(Debug, clap::Parser)]
#[command(name = "tagalong", version, after_long_help = EXAMPLES, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
EXAMPLES
  See it work, without a camera:
      tagalong demo

  Follow something in front of a camera:
      tagalong devices
      tagalong check tagalong.toml
      tagalong run --config tagalong.toml
      tagalong tag --box 200,120,90,140 --name cup
      tagalong watch

  Learn about one command:
      tagalong help tag

EXIT CODES
  0 success; otherwise those of sysexits.h: 64 usage, 65 bad data, 66 no such input, 69 no daemon running,
  70 internal error, 73 cannot create a file, 74 input or output failed, 75 try again later, 76 wrong protocol,
  77 permission denied, 78 bad configuration.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(run::Args),
    Demo(demo::Args),
    Check(check::Args),
    Watch(watch::Args),
    Tag(tag::Args),
    Gallery(gallery::Args),
    Untag(untag::Args),
    Rename(rename::Args),
    Reset(reset::Args),
    List(list::Args),
    Status(status::Args),
    Snapshot(snapshot::Args),
    Reload(reload::Args),
    Devices(devices::Args),
    Doctor(doctor::Args),
    Eval(eval::Args),
    Study(study::Args),
    Trial(trial::Args),
    Replay(replay::Args),
    Model(model::Args),
    Generate(generate::Args),
    GpuTrial(gpu_trial::Args),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What [`exit::conclude`] tells the user.
    pub fn run(self) -> anyhow::Result<()> {
        crate::logging::init(log::LevelFilter::Warn);
        match self.command {
            Command::Run(args) => args.run(),
            Command::Demo(args) => args.run(),
            Command::Check(args) => args.run(),
            Command::Watch(args) => args.run(),
            Command::Tag(args) => args.run(),
            Command::Gallery(args) => args.run(),
            Command::Untag(args) => args.run(),
            Command::Rename(args) => args.run(),
            Command::Reset(args) => args.run(),
            Command::List(args) => args.run(),
            Command::Status(args) => args.run(),
            Command::Snapshot(args) => args.run(),
            Command::Reload(args) => args.run(),
            Command::Devices(args) => args.run(),
            Command::Doctor(args) => args.run(),
            Command::Eval(args) => args.run(),
            Command::Study(args) => args.run(),
            Command::Trial(args) => args.run(),
            Command::Replay(args) => args.run(),
            Command::Model(args) => args.run(),
            Command::Generate(args) => args.run(),
            Command::GpuTrial(args) => args.run(),
        }
    }
}
