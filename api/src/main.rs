//! The `lmx` program.

use clap::Parser;
use lmx_api::cli::args::{Cli, Command, Outcome};
use lmx_api::cli::{parity, terminal};

fn main() -> Outcome {
    match Cli::parse().command {
        Command::Parity(args) => parity::run(&args),
        Command::List(_) | Command::Inspect(_) | Command::Config(_) | Command::Serve(_) | Command::Chat(_) => {
            terminal::fail(Outcome::Usage, "this command is not part of this build")
        }
    }
}
