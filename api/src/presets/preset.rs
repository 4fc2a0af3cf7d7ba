//! One preset: what its file may say, and what it changes in the configuration of its model.

use super::formats::{Formats, WrongFormat};
use crate::config::{ActorsConfig, Fit, Layer, Problem, Source};
use crate::error::ApiError;
use crate::openai::request::{Parameters, RequestDefaults};
use lmx_runtime::config::SchedulerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::num::NonZeroUsize;
use std::path::Path;
use wildmatch::WildMatch;

/// Everything that a preset's file may say.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct File {
    /// The preset's name. Absent: the name of its file.
    name: Option<String>,
    /// One sentence for people.
    description: Option<String>,
    /// Globs (`*`, `?`, any case) over model ids and names of model folders; the one with the most letters wins.
    r#match: Vec<String>,
    /// The model that this preset is for, an id or a folder.
    model: Option<String>,
    /// Another name for the model.
    routing_alias: Option<String>,
    /// Whether `model` is loaded at start.
    auto_load: bool,
    /// Put before the messages of a chat that has no system message.
    system_prompt: Option<String>,
    /// Chat template in the place of the model's own.
    chat_template: Option<String>,
    /// Variables of the chat template.
    chat_template_kwargs: Map<String, Value>,
    /// How the model calls tools: `auto` (by its template), `none`, or the name of a format.
    tool_parser: Option<String>,
    /// How the model marks its reasoning: `auto` (by its template), `none`, or the name of a format.
    reasoning_parser: Option<String>,
    /// Sampling and limits of requests that do not give their own.
    parameters: Parameters,
    /// How the model is computed.
    performance: Performance,
    /// How the model's actors are wired.
    actors: ActorsConfig,
}

/// How the model is computed. Read for its keys and types; the values go into the model's configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Performance {
    /// `kv.bits` for this model.
    kv_bits: Option<u32>,
    /// `kv.group_size` for this model.
    kv_group_size: Option<usize>,
    /// `kv.quantized_start` for this model.
    quantized_kv_start: Option<u32>,
    /// `kv.prefix_cache` for this model.
    prefix_cache: Option<bool>,
    /// `scheduler.max_sequences` for this model.
    max_concurrent: Option<NonZeroUsize>,
    /// Any key of `scheduler` for this model.
    scheduler: SchedulerConfig,
}

/// What a model is served with.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// One sentence for people.
    pub description: Option<String>,
    /// Globs over model ids.
    pub matches: Vec<String>,
    /// The model that it is for.
    pub model: Option<String>,
    /// Another name for the model.
    pub routing_alias: Option<String>,
    /// Whether the model is loaded at start.
    pub auto_load: bool,
    /// Chat template in the place of the model's own.
    pub chat_template: Option<String>,
    /// How answers are read.
    pub formats: Formats,
    /// Names of formats that are none.
    wrong_formats: Vec<WrongFormat>,
    /// What requests get where they say nothing.
    pub defaults: RequestDefaults,
    /// What the file says, by its own keys.
    pub(super) values: Layer,
}

/// The JSON Schema of a preset's file.
pub fn schema() -> Value {
    schemars::schema_for!(File).to_value()
}

impl Preset {
    /// Reads a preset from YAML.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_yaml(text: &str, path: &Path) -> Result<Self, Vec<Problem>> {
        let mut values = Layer::from_yaml(text, path).map_err(|problem| vec![problem])?;
        let defaults = serde_json::to_value(File::default()).expect("a preset is plain data");
        let mut fit = Fit::<File>::new(schema(), defaults);
        let mut problems = fit.apply(&mut values);
        let preset = Self::new(fit.finish(), path, values);
        problems.extend(preset.problems());
        if problems.is_empty() { Ok(preset) } else { Err(problems) }
    }

    fn new(file: File, path: &Path, values: Layer) -> Self {
        let (formats, wrong_formats) = Formats::read(file.tool_parser.as_deref(), file.reasoning_parser.as_deref());
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            name: file.name.unwrap_or_else(stem),
            description: file.description,
            matches: file.r#match,
            model: file.model,
            routing_alias: file.routing_alias,
            auto_load: file.auto_load,
            chat_template: file.chat_template,
            formats,
            wrong_formats,
            defaults: RequestDefaults {
                system_prompt: file.system_prompt,
                chat_template_kwargs: file.chat_template_kwargs,
                parameters: file.parameters,
            },
            values,
        }
    }

    /// What types cannot rule out.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(ApiError::Invalid { field, reason }) = self.defaults.check() {
            problems.push(self.problem(&format!("parameters.{field}"), reason));
        }
        problems.extend(self.wrong_formats.iter().map(|(key, reason)| self.problem(key, reason)));
        if let Some(empty) = self.matches.iter().position(|glob| glob.trim().is_empty()) {
            problems.push(self.problem("match", format!("glob {empty} is empty")));
        }
        if self.auto_load && self.model.is_none() {
            problems.push(self.problem("auto_load", "needs `model`"));
        }
        let twice = ["performance.max_concurrent", "performance.scheduler.max_sequences"];
        if twice.iter().all(|key| self.values.values.contains_key(*key)) {
            problems.push(self.problem(twice[0], format!("is the same as `{}`, give one of them", twice[1])));
        }
        problems
    }

    fn problem(&self, key: &str, reason: impl Into<String>) -> Problem {
        let problem = Problem::new(key, reason);
        match self.values.values.get(key) {
            Some((_, source)) => problem.at(source.clone()),
            None => problem,
        }
    }

    /// How well the preset fits a model: letters of the best glob that matches, or that it is the preset's own model.
    pub fn fitness(&self, model: &str) -> Option<usize> {
        if self.model.as_deref() == Some(model) {
            return Some(usize::MAX);
        }
        let folder = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model);
        let matching = self.matches.iter().filter(|glob| {
            let glob = WildMatch::new_case_insensitive(glob);
            glob.matches(model) || glob.matches(folder)
        });
        matching.map(|glob| glob.chars().filter(|c| !matches!(c, '*' | '?')).count()).max()
    }

    /// What the preset changes in the configuration of its model, by the keys of the configuration.
    pub fn overrides(&self) -> Layer {
        let mut layer = Layer::default();
        for (key, (value, _)) in &self.values.values {
            let target = match key.as_str() {
                "performance.kv_bits" => "kv.bits".to_owned(),
                "performance.kv_group_size" => "kv.group_size".to_owned(),
                "performance.quantized_kv_start" => "kv.quantized_start".to_owned(),
                "performance.prefix_cache" => "kv.prefix_cache".to_owned(),
                "performance.max_concurrent" => "scheduler.max_sequences".to_owned(),
                key if key.starts_with("actors.") => key.to_owned(),
                key => match key.strip_prefix("performance.scheduler.") {
                    Some(rest) => format!("scheduler.{rest}"),
                    None => continue,
                },
            };
            // Null says nothing, as in `prefix_cache:`.
            if !value.is_null() {
                layer.insert(&target, value.clone(), Source::Preset(self.name.clone()));
            }
        }
        layer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Preset, Vec<Problem>> {
        Preset::from_yaml(text, Path::new("mine.yaml"))
    }

    #[test]
    fn a_preset_is_named_after_its_file_unless_it_says_otherwise() {
        assert_eq!(read("").unwrap().name, "mine");
        assert_eq!(read("name: other").unwrap().name, "other");
    }

    #[test]
    fn everything_that_is_wrong_is_named_with_its_place() {
        let text = "\
match: ['']
auto_load: true
temperature: 1
parameters: {temperature: 3, top_k: many}
performance:
  max_concurrent: 4
  scheduler: {max_sequences: 4, prefill_chunks: 8}
actors:
  mailbox: {engine: 0}
";

        let problems: Vec<_> = read(text).unwrap_err().iter().map(Problem::to_string).collect();

        insta::assert_snapshot!(problems.join("\n"), @r#"
        mine.yaml:9:13: `actors.mailbox.engine`: invalid value: integer `0`, expected a nonzero usize
        mine.yaml:4:30: `parameters.top_k`: invalid type: string "many", expected i64
        mine.yaml:7:33: `performance.scheduler.prefill_chunks`: unknown key, did you mean `performance.scheduler.prefill_chunk`?
        mine.yaml:3:1: `temperature`: unknown key, did you mean `parameters.temperature`?
        mine.yaml:4:14: `parameters.temperature`: 3 lies outside of [0, 2]
        mine.yaml:1:1: `match`: glob 0 is empty
        mine.yaml:2:1: `auto_load`: needs `model`
        mine.yaml:6:3: `performance.max_concurrent`: is the same as `performance.scheduler.max_sequences`, give one of them
        "#);
    }

    #[test]
    fn a_parser_that_is_none_is_refused_with_its_place() {
        let problems = read("tool_parser: kimi\nreasoning_parser: none\n").unwrap_err();

        assert_eq!(problems.len(), 1);
        let said = problems[0].to_string();
        assert!(said.starts_with("mine.yaml:1:1: `tool_parser`: `kimi` is none of auto, none, hermes"), "{said}");
    }

    #[test]
    fn template_variables_may_be_nested() {
        let preset = read("chat_template_kwargs: {style: {tone: dry}, n: 1}").unwrap();

        let kwargs = Value::Object(preset.defaults.chat_template_kwargs);
        assert_eq!(kwargs, serde_json::json!({"n": 1, "style": {"tone": "dry"}}));
    }

    #[test]
    fn the_glob_with_the_most_letters_fits_best() {
        let preset = read("match: ['*qwen3-*', '*qwen3-coder-*']\nmodel: org/own\n").unwrap();

        assert_eq!(preset.fitness("Qwen/Qwen3-4B"), Some(6));
        assert_eq!(preset.fitness("Qwen/Qwen3-Coder-30B"), Some(12));
        assert_eq!(preset.fitness("org/own"), Some(usize::MAX));
        assert_eq!(preset.fitness("org/llama"), None);
        assert_eq!(read("match: [builtin]").unwrap().fitness("/models/Builtin/"), Some(7));
    }

    #[test]
    fn performance_and_mailboxes_go_into_the_configuration() {
        let text = "\
performance:
  kv_bits: 8
  kv_group_size: 32
  quantized_kv_start: 48
  prefix_cache: false
  max_concurrent: 4
  scheduler: {max_queue: 9}
actors: {mailbox: {engine: 8}}
";

        let overrides = read(text).unwrap().overrides();

        let lines: Vec<_> =
            overrides.values.iter().map(|(key, (value, source))| format!("{key} {value} {source}")).collect();
        assert_eq!(
            lines,
            [
                "actors.mailbox.engine 8 preset mine",
                "kv.bits 8 preset mine",
                "kv.group_size 32 preset mine",
                "kv.prefix_cache false preset mine",
                "kv.quantized_start 48 preset mine",
                "scheduler.max_queue 9 preset mine",
                "scheduler.max_sequences 4 preset mine"
            ]
        );
    }
}
