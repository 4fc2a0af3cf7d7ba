//! Commands and flags of `lmx config`.

use super::args::ConfigFlags;
use clap::{Args, Subcommand};

/// What `lmx config` can do.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration and name everything that is wrong with it.
    Check(CheckArgs),
    /// Show each effective value and where it comes from.
    Show(ShowArgs),
    /// Print the JSON Schema of lmx.yaml, for editors.
    #[command(after_help = "\
Examples:
  lmx config schema > lmx.schema.json")]
    Schema,
}

/// Flags of `lmx config check`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx config check
  lmx config check --config lmx.yaml")]
pub struct CheckArgs {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

/// Flags of `lmx config show`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx config show
  lmx config show --json
  LMX_SERVER__PORT=8080 lmx config show --model Qwen/Qwen3-4B-MLX-4bit")]
pub struct ShowArgs {
    /// One JSON object per value: key, value, source.
    #[arg(long)]
    pub json: bool,
    /// Show what holds for this model, with its preset.
    #[arg(long, value_name = "ID_OR_PATH")]
    pub model: Option<String>,
    /// Show what holds with this preset.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}
