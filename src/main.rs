//! Arguments to a command, and what came of it to an exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;
use tagalong::cmd::{Cli, exit};

fn main() -> ExitCode {
    // A layer that Mesa puts between asks the desktop which graphics processor to take, and complains where there is none; this
    // program chooses itself.
    // SAFETY: no other thread is there yet.
    #[cfg(feature = "wgpu")]
    unsafe {
        std::env::set_var("NODEVICE_SELECT", "1");
    }
    match Cli::try_parse() {
        Ok(cli) => exit::conclude(cli.run()),
        Err(error) => exit::parse_error(&error),
    }
}
