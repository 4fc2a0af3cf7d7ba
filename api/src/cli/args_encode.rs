//! Flags of `lmx embed` and `lmx rerank`.

use super::args::{ConfigFlags, parse_mode};
use clap::{Args, ValueEnum};
use lmx_runtime::config::ComputeMode;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Flags of `lmx embed`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx embed --model sentence-transformers/all-MiniLM-L6-v2 notes.txt > vectors.jsonl
  cat queries.txt | lmx embed --model ./models/bge-small --for query
  lmx embed --model ./models/minilm --whole docs/*.md --format npy --out docs.npy")]
pub struct EmbedArgs {
    /// Files with a text in each line. Without any: standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Embedding model: a repository id or a folder.
    #[arg(long, value_name = "ID_OR_PATH")]
    pub model: String,
    /// Each file is one text.
    #[arg(long)]
    pub whole: bool,
    /// Where vectors go. Without it: standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How they are written: a JSON object for each text, or an array of NumPy.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub format: VectorFormat,
    /// What the texts are embedded for: the model's prompt for it goes before each.
    #[arg(long = "for", value_name = "PURPOSE", conflicts_with = "prompt_name")]
    pub purpose: Option<TextPurpose>,
    /// The model's prompt of this name goes before each text.
    #[arg(long, value_name = "NAME")]
    pub prompt_name: Option<String>,
    /// Components of each vector, of models that were trained for shorter ones. Without it: all.
    #[arg(long, value_name = "N")]
    pub dimensions: Option<usize>,
    /// Cut texts that are too long. Without it they are an error.
    #[arg(long)]
    pub truncate: bool,
    /// Precision of the products. Without it: as configured.
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub compute: Option<ComputeMode>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

/// Flags of `lmx rerank`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx rerank --model BAAI/bge-reranker-v2-m3 \"how do I build it\" docs/*.md
  cat passages.txt | lmx rerank --model ./models/reranker \"what is a panda\" --lines --top 3")]
pub struct RerankArgs {
    /// What is asked.
    #[arg(value_name = "QUERY")]
    pub query: String,
    /// Files, of which each is a document. Without any: standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Reranking model: a repository id or a folder.
    #[arg(long, value_name = "ID_OR_PATH")]
    pub model: String,
    /// Each line is a document; so it is for standard input in any case.
    #[arg(long)]
    pub lines: bool,
    /// How many of the best are shown. Without it: all.
    #[arg(long, value_name = "N")]
    pub top: Option<NonZeroUsize>,
    /// Cut documents that are too long. Without it they are an error.
    #[arg(long)]
    pub truncate: bool,
    /// A JSON object for each document.
    #[arg(long)]
    pub json: bool,
    /// Precision of the products. Without it: as configured.
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub compute: Option<ComputeMode>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VectorFormat {
    /// A JSON object for each text, a line each.
    Jsonl,
    /// An array of NumPy, float32, `[texts, components]`.
    Npy,
}

/// What texts are embedded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextPurpose {
    /// To search with.
    Query,
    /// To be found.
    Document,
}

/// The precision as a setting that overrides the configuration. `--set` comes last and wins.
pub(super) fn settings(compute: Option<ComputeMode>, config: &ConfigFlags) -> Vec<(String, String)> {
    let mode = compute.map(|mode| ("compute.mode".to_owned(), mode.to_string()));
    mode.into_iter().chain(config.set.iter().cloned()).collect()
}
