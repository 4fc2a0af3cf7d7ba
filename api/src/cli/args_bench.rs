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
  lmx bench
  lmx bench --scenario concurrency --concurrency 1,4,16 --url http://127.0.0.1:8080 --model devstral
  lmx bench --scenario runner --model ./models/devstral --compute int8 --json runner.json --md runner.md")]
pub struct BenchArgs {
    /// Model to measure: a repository id or a folder; with `--url`, a name that the server knows. Without it: the
    /// built-in one, or the first one that the server lists.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// OpenAI-compatible server to measure. Without it the model is served in this process.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Key for that server.
    #[arg(long, value_name = "KEY", env = "OPENAI_API_KEY", hide_env_values = true, requires = "url")]
    pub api_key: Option<String>,
    /// What to measure: short_64, medium_256, long_512 (one stream, so many tokens in and out), concurrency, prefix,
    /// runner (the forward pass alone), kernels (each of its kernels), limits (what the machine could do at most). May
    /// be repeated. Without it: all that are served.
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<Scenario>,
    /// How many streams at once; 0: none. Without it: 1, 4, 16 served, 1, 2, 4, 8, 16 of the runner.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub concurrency: Vec<usize>,
    /// Lengths of the runner's prompts; 0: none. Without it: 512, 2048.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub prompt_tokens: Vec<usize>,
    /// Tokens of context after which the runner's one stream decodes; 0: none. Without it: 128, 2048.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub context_tokens: Vec<usize>,
    /// Repetitions of each measurement. Without it: 2 to 5, as the scenario says.
    #[arg(long, value_name = "N")]
    pub repeat: Option<NonZeroUsize>,
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
        let flags = [
            ("compute.mode", self.compute.map(|mode| mode.to_string())),
            ("compute.executor", self.executor.map(|executor| executor.to_string())),
            ("compute.threads", self.threads.map(|threads| threads.to_string())),
        ];
        let flags = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        flags.chain(self.config.set.iter().cloned()).collect()
    }

    /// What to measure.
    pub fn wanted(&self) -> &[Scenario] {
        if self.scenarios.is_empty() { &Scenario::DEFAULT } else { &self.scenarios }
    }

    /// How often.
    pub fn repetitions(&self, scenario: Scenario) -> usize {
        self.repeat.map_or(scenario.repeat(), NonZeroUsize::get)
    }
}

/// The numbers that were asked for, in order and without 0, else `default`.
pub(super) fn numbers(asked: &[usize], default: &[usize]) -> Vec<usize> {
    let mut numbers = if asked.is_empty() { default.to_vec() } else { asked.to_vec() };
    numbers.retain(|&number| number > 0);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_order_and_nothing_can_be_asked_for() {
        assert_eq!(numbers(&[], &[1, 4]), [1, 4]);
        assert_eq!(numbers(&[16, 2, 16], &[1, 4]), [2, 16]);
        assert_eq!(numbers(&[0], &[1, 4]), [0; 0]);
    }
}
