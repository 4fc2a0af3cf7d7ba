//! Flags of `lmx bench`.

use super::args::{ConfigFlags, parse_executor, parse_mode};
use crate::bench::Scenario;
use clap::Args;
use lmx_runtime::config::{ComputeMode, Executor};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Flags of `lmx bench`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx bench --scenario runner
  lmx bench --scenario runner --model ./models/devstral --compute int8 --json runner.json --md runner.md")]
pub struct BenchArgs {
    /// Model to measure: a repository id or a folder. Without it: the built-in one.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// What to measure. May be repeated.
    #[arg(long = "scenario", value_name = "NAME", required = true)]
    pub scenarios: Vec<Scenario>,
    /// How many streams at once.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub concurrency: Vec<NonZeroUsize>,
    /// Repetitions of each measurement.
    #[arg(long, value_name = "N", default_value = "5")]
    pub repeat: NonZeroUsize,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables as Markdown; they are printed in any case.
    #[arg(long, value_name = "FILE")]
    pub md: Option<PathBuf>,
    /// Precision of the products with quantised weights.
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub compute: Option<ComputeMode>,
    /// Who runs the forward pass.
    #[arg(long, value_name = "NAME", value_parser = parse_executor)]
    pub executor: Option<Executor>,
    /// Threads of the forward pass.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

impl BenchArgs {
    /// The flags as settings that override the configuration: key, value as YAML. `--set` comes last and wins.
    pub fn settings(&self) -> Vec<(String, String)> {
        let executor = self.executor.map(|executor| match executor {
            Executor::Auto => "auto".to_owned(),
            Executor::Native => "native".to_owned(),
            Executor::Candle => "candle".to_owned(),
        });
        let flags = [
            ("compute.mode", self.compute.map(|mode| mode.to_string())),
            ("compute.executor", executor),
            ("compute.threads", self.threads.map(|threads| threads.to_string())),
        ];
        let flags = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        flags.chain(self.config.set.iter().cloned()).collect()
    }

    /// Numbers of streams: those that were asked for in order, else `default`.
    pub fn levels(&self, default: &[usize]) -> Vec<usize> {
        let mut levels: Vec<usize> = self.concurrency.iter().map(|level| level.get()).collect();
        if levels.is_empty() {
            levels = default.to_vec();
        }
        levels.sort_unstable();
        levels.dedup();
        levels
    }
}
