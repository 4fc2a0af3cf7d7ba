//! Commands and flags of `lmx`.

use super::args_bench::BenchArgs;
use super::args_config::ConfigCommand;
use super::args_encode::{EmbedArgs, RerankArgs};
use clap::{Args, Parser, Subcommand};
use lmx_runtime::config::{ComputeMode, Executor};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};

/// Serves open-weight language models with an OpenAI-compatible API.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "lmx", version, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `lmx` can do.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Serve models over HTTP. Without a model: the built-in one, with no download.
    Serve(ServeArgs),
    /// Chat in the terminal, in this process or against a server.
    Chat(ChatArgs),
    /// List the models on disk.
    List(ListArgs),
    /// Show one model: its config, memory and whether it can be served.
    Inspect(InspectArgs),
    /// Turn texts into vectors.
    Embed(EmbedArgs),
    /// Order documents by how relevant they are for a query.
    Rerank(RerankArgs),
    /// Measure how fast a model runs here.
    Bench(BenchArgs),
    /// Write numbers for checks against other implementations.
    Parity(ParityArgs),
    /// Check, show and describe the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Where the configuration comes from and what overrides it, on every command that reads it.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct ConfigFlags {
    /// Configuration file; otherwise LMX_CONFIG, ./lmx.yaml, then the user's configuration folder.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override a key of the configuration, such as `scheduler.max_sequences=8`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub set: Vec<(String, String)>,
}

/// Flags of `lmx serve`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx serve
  lmx serve --model Qwen/Qwen3-4B-MLX-4bit --port 8080
  lmx serve --model ./models/devstral --preset devstral --host 0.0.0.0
  lmx serve --config lmx.yaml --set scheduler.max_sequences=8")]
pub struct ServeArgs {
    /// Model to load: a repository id or a folder. May be repeated.
    #[arg(long = "model", value_name = "ID_OR_PATH")]
    pub models: Vec<String>,
    /// Preset for these models; otherwise the one that matches each best.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Address to listen on.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Port to listen on; 0 takes any free one.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Precision of the products with quantised weights.
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub compute: Option<ComputeMode>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

impl ServeArgs {
    /// The flags as settings that override the configuration: key, value as YAML. `--set` comes last and wins.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        let mut set = |key: &str, value: Option<String>| settings.extend(value.map(|value| (key.to_owned(), value)));
        set("server.host", self.host.as_deref().map(quote));
        set("server.port", self.port.map(|port| port.to_string()));
        set("compute.mode", self.compute.map(|mode| mode.to_string()));
        if !self.models.is_empty() {
            let list: Vec<_> = self.models.iter().map(|model| quote(model)).collect();
            set("models.auto_load", Some(format!("[{}]", list.join(", "))));
        }
        settings.extend(self.config.set.iter().cloned());
        settings
    }
}

/// Flags of `lmx chat`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx chat
  lmx chat --model Qwen/Qwen3-4B-MLX-4bit --system \"Answer in one sentence.\"
  lmx chat --url http://127.0.0.1:1234")]
pub struct ChatArgs {
    /// Model to chat with: a repository id or a folder; with `--url`, a name that the server knows.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Server to chat against. Without it the model runs in this process.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// System message of the chat.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

/// Flags of `lmx list`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx list
  lmx list --json")]
pub struct ListArgs {
    /// One JSON object per model.
    #[arg(long)]
    pub json: bool,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

/// Flags of `lmx inspect`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx inspect Qwen/Qwen3-4B-MLX-4bit
  lmx inspect ./models/devstral --json")]
pub struct InspectArgs {
    /// A repository id or a folder.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

/// Flags of `lmx parity`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "\
Examples:
  lmx parity ./models/tiny --inputs inputs.json --out ours.safetensors
  lmx parity ./models/tiny --inputs inputs.json --out ours.safetensors --chunk 16 --batch --compute f32")]
pub struct ParityArgs {
    /// A repository id or a folder.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Prompts to compute.
    #[arg(long, value_name = "FILE.json")]
    pub inputs: PathBuf,
    /// Where the numbers go.
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Tokens of a prompt per step. Without it: the whole prompt at once.
    #[arg(long, value_name = "TOKENS")]
    pub chunk: Option<NonZeroUsize>,
    /// All prompts in one batch.
    #[arg(long)]
    pub batch: bool,
    /// Each prompt once more over its cached prefix; that is written.
    #[arg(long)]
    pub reuse_prefix: bool,
    /// Precision of the products with quantised weights. Without it: as configured.
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub compute: Option<ComputeMode>,
    /// Who runs the forward pass. Without it: as configured.
    #[arg(long, value_name = "NAME", value_parser = parse_executor)]
    pub executor: Option<Executor>,
    /// Bits of keys and values: 16, 8 or 4. Without it: as configured.
    #[arg(long, value_name = "BITS")]
    pub kv_bits: Option<u32>,
    /// Components of a key or value that share scale and bias. Without it: as configured.
    #[arg(long, value_name = "N")]
    pub kv_group_size: Option<usize>,
    /// First positions that stay at 16 bits. Without it: as configured.
    #[arg(long, value_name = "TOKENS")]
    pub kv_quantized_start: Option<u32>,
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigFlags,
}

impl ParityArgs {
    /// The flags as settings that override the configuration: key, value as YAML. `--set` comes last and wins.
    pub fn settings(&self) -> Vec<(String, String)> {
        let given = [
            ("compute.mode", self.compute.map(|mode| mode.to_string())),
            ("compute.executor", self.executor.map(|executor| executor.to_string())),
            ("kv.bits", self.kv_bits.map(|bits| bits.to_string())),
            ("kv.group_size", self.kv_group_size.map(|size| size.to_string())),
            ("kv.quantized_start", self.kv_quantized_start.map(|start| start.to_string())),
        ];
        let given = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        given.chain(self.config.set.iter().cloned()).collect()
    }
}

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is done: 0.
    Done,
    /// It failed: 1.
    Failed,
    /// The command line or the configuration is wrong: 2.
    Usage,
    /// Some of it is done, some models failed: 3.
    Partly,
}

impl Outcome {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partly => 3,
        }
    }
}

impl Termination for Outcome {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

pub(super) fn parse_mode(text: &str) -> Result<ComputeMode, String> {
    match text {
        "int16" => Ok(ComputeMode::Int16),
        "int8" => Ok(ComputeMode::Int8),
        "f32" => Ok(ComputeMode::F32),
        _ => Err(format!("`{text}` is none of int16, int8, f32")),
    }
}

pub(super) fn parse_executor(text: &str) -> Result<Executor, String> {
    match text {
        "auto" => Ok(Executor::Auto),
        "native" => Ok(Executor::Native),
        "candle" => Ok(Executor::Candle),
        _ => Err(format!("`{text}` is none of auto, native, candle")),
    }
}

/// Writes text as a YAML string, whatever it looks like.
fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("text is plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, Surroundings, load};
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn the_commands_are_sound_and_have_examples() {
        Cli::command().debug_assert();
        for line in
            ["serve", "chat", "list", "inspect", "bench", "parity", "config check", "config show", "config schema"]
        {
            let help = parse(&format!("lmx {line} --help")).unwrap_err();
            assert_eq!(help.kind(), ErrorKind::DisplayHelp);
            assert!(help.to_string().contains("Examples:\n  lmx "), "{line}");
        }
    }

    #[test]
    fn flags_of_serve_become_settings_and_set_wins() {
        let line = "lmx serve --model a/b --model ./c --host ::1 --port 0 --compute f32 --set server.port=7 --preset p";
        let Command::Serve(serve) = parse(line).unwrap() else { panic!("serve was asked for") };

        let settings = serve.settings();

        let settings: Vec<_> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            settings,
            [
                r#"server.host="::1""#,
                "server.port=0",
                "compute.mode=f32",
                r#"models.auto_load=["a/b", "./c"]"#,
                "server.port=7"
            ]
        );
        assert_eq!(serve.preset.as_deref(), Some("p"));
    }

    #[test]
    fn a_bad_command_line_ends_with_two() {
        for line in
            ["lmx serve --port 70000", "lmx serve --set port", "lmx parity m", "lmx serve --compute bf16", "lmx fly"]
        {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(Outcome::Usage.code(), 2);
    }

    #[test]
    fn parity_runs_whole_prompts_one_by_one_unless_told_otherwise() {
        let Command::Parity(plain) = parse("lmx parity m --inputs i --out o").unwrap() else { panic!("parity") };
        let Command::Parity(told) =
            parse("lmx parity m --inputs i --out o --chunk 16 --batch --reuse-prefix --kv-bits 8").unwrap()
        else {
            panic!("parity")
        };

        assert_eq!((plain.chunk, plain.batch, plain.reuse_prefix), (None, false, false));
        assert_eq!((told.chunk, told.batch, told.reuse_prefix), (NonZeroUsize::new(16), true, true));
        assert_eq!((plain.settings(), told.settings()), (vec![], vec![("kv.bits".to_owned(), "8".to_owned())]));
    }

    // Flags of parity had defaults, which overwrote what was configured.
    #[test]
    fn parity_computes_as_configured_and_set_wins() {
        let configured = |line: &str| {
            let Command::Parity(parity) = parse(&format!("lmx parity m --inputs i --out o {line}")).unwrap() else {
                panic!("parity was asked for")
            };
            let options = LoadOptions { file: None, settings: parity.settings() };
            let compute = load(&options, &Surroundings::default()).unwrap().config.compute;
            (compute.mode, compute.executor)
        };
        assert_eq!(configured(""), (ComputeMode::Int16, Executor::Auto));
        assert_eq!(configured("--set compute.mode=f32"), (ComputeMode::F32, Executor::Auto));
        assert_eq!(configured("--compute int8 --executor native"), (ComputeMode::Int8, Executor::Native));
        let both = "--compute int8 --executor candle --set compute.mode=f32 --set compute.executor=native";
        assert_eq!(configured(both), (ComputeMode::F32, Executor::Native));
    }
}
