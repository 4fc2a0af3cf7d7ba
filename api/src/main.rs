//! The `lmx` program.

use clap::Parser;
use lmx_api::cli::args::{Cli, Command, Outcome};
use lmx_api::cli::{config, inspect, list, parity, terminal};

fn main() -> Outcome {
    match Cli::parse().command {
        Command::List(args) => list::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Parity(args) => parity::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Serve(_) | Command::Chat(_) => {
            terminal::fail(Outcome::Usage, "this command is not part of this build")
        }
    }
}
