//! Arguments to a command, and what came of it to an exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;
use tagalong::cmd::{Cli, exit};

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => exit::conclude(cli.run()),
        Err(error) => exit::parse_error(&error),
    }
}
