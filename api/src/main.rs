//! `lmx`: serves open-weight language models on one's own machine.

use clap::Parser;
use lmx_api::cli::args::{Cli, Command, Outcome};
use lmx_api::cli::{bench, chat, config, embed, inspect, list, parity, rerank, serve};

fn main() -> Outcome {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::List(args) => list::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Rerank(args) => rerank::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Parity(args) => parity::run(&args),
        Command::Config(command) => config::run(&command),
    }
}
