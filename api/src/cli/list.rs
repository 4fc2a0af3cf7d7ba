//! `lmx list`: the models on disk.

use super::args::{ListArgs, Outcome};
use super::examine::examine;
use super::terminal::{backend, configuration, print};
use super::units;
use crate::catalog::{self, Listed, Place};
use crate::config::{Config, ModelsConfig};
use lmx_runtime::checkpoint::LoadError;
use lmx_runtime::runner::Backend;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Runs the command. A broken model is listed as such; it never ends the listing.
pub fn run(args: &ListArgs) -> Outcome {
    let config = match configuration(&args.config, args.config.set.clone()) {
        Ok(loaded) => loaded.config,
        Err(outcome) => return outcome,
    };
    let backend = match backend(&config.compute) {
        Ok(backend) => backend,
        Err(outcome) => return outcome,
    };
    let rows = rows(&config, &backend);
    if args.json {
        print(&json_lines(&rows));
    } else {
        print(&table(&rows));
        if rows.iter().all(|row| row.place == Place::Builtin.word()) {
            eprintln!("{}", nothing_else(&config.models));
        }
    }
    Outcome::Done
}

/// One model.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    place: &'static str,
    path: Option<PathBuf>,
    size_bytes: u64,
    family: Option<&'static str>,
    /// What it is for: generate, embed or rerank.
    task: Option<&'static str>,
    quantization: Option<String>,
    /// As configured, KV memory apart.
    memory_bytes: Option<u64>,
    complete: bool,
    missing: Vec<String>,
    /// Whether it can be served; null while it is incomplete and nobody can know.
    supported: Option<bool>,
    /// Why it cannot be loaded, in one word; null if it can.
    outcome: Option<&'static str>,
    reason: Option<String>,
}

fn rows(config: &Config, backend: &Backend) -> Vec<Row> {
    catalog::list(&config.models).iter().map(|listed| Row::new(listed, backend)).collect()
}

impl Row {
    fn new(listed: &Listed, backend: &Backend) -> Self {
        let row = Self {
            id: listed.id.clone(),
            place: listed.place.word(),
            path: listed.path.clone(),
            size_bytes: listed.size_bytes(),
            family: None,
            task: None,
            quantization: None,
            memory_bytes: None,
            complete: true,
            missing: Vec::new(),
            supported: Some(true),
            outcome: None,
            reason: None,
        };
        match examine(&listed.source) {
            Ok(model) => Self {
                // Of a hub repository, the snapshot that would be loaded.
                path: model.checkpoint.path().map(Path::to_owned).or(row.path),
                family: Some(model.family()),
                task: Some(model.task()),
                quantization: Some(model.quantization()),
                memory_bytes: Some(model.memory_bytes(backend)),
                ..row
            },
            Err(error) => {
                let row = Self { outcome: Some(error.outcome()), reason: Some(error.to_string()), ..row };
                match error {
                    LoadError::ModelIncomplete { missing, .. } => {
                        let missing = missing.iter().map(ToString::to_string).collect();
                        Self { complete: false, supported: None, missing, ..row }
                    }
                    LoadError::ModelNotFound { .. } => Self { complete: false, supported: None, ..row },
                    LoadError::InvalidCheckpoint { .. }
                    | LoadError::UnsupportedArch { .. }
                    | LoadError::UnsupportedQuantization { .. }
                    | LoadError::InsufficientMemory { .. }
                    | LoadError::Io { .. }
                    | LoadError::Device { .. } => Self { supported: Some(false), ..row },
                }
            }
        }
    }

    /// For people: ready, or why not.
    fn state(&self) -> String {
        /// Further missing files are counted.
        const SHOWN: usize = 2;
        match (&self.missing[..], &self.reason) {
            ([], None) => "ready".to_owned(),
            ([], Some(reason)) => reason.clone(),
            (missing, _) => {
                let shown = missing[..missing.len().min(SHOWN)].join(", ");
                let more = missing.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("incomplete: {shown}{more}")
            }
        }
    }
}

fn json_lines(rows: &[Row]) -> String {
    rows.iter().map(|row| serde_json::to_string(row).expect("a row is plain data") + "\n").collect()
}

fn table(rows: &[Row]) -> String {
    let unknown = || "-".to_owned();
    let mut lines = vec![["MODEL", "FAMILY", "QUANTISATION", "DISK", "MEMORY", "STATE"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.id.clone(),
            row.family.map_or_else(unknown, str::to_owned),
            row.quantization.clone().unwrap_or_else(unknown),
            units::bytes(row.size_bytes),
            row.memory_bytes.map_or_else(unknown, units::bytes),
            row.state(),
        ]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let [model, family, quantization, disk, memory] = [0, 1, 2, 3, 4].map(width);
    let line = |[m, f, q, d, e, s]: &[String; 6]| {
        format!("{m:model$}  {f:family$}  {q:quantization$}  {d:>disk$}  {e:>memory$}  {s}\n")
    };
    lines.iter().map(line).collect()
}

fn nothing_else(models: &ModelsConfig) -> String {
    let directory = match &models.directory {
        Some(directory) => format!("models.directory ({})", directory.display()),
        None => "models.directory (not set)".to_owned(),
    };
    format!(
        "no other models in {directory} or in the hub cache ({})\n\
         put a model's folder into the first, set models.directory, or download one with the hub's own tools; \
         any folder can also be given by its path",
        models.hub_cache.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name).join("model")
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }

    /// A models folder with one model that is whole and one for each way to be broken.
    fn models() -> (tempfile::TempDir, Config) {
        let root = tempfile::tempdir().unwrap();
        for name in ["whole", "short", "other", "textless"] {
            copy(&fixture("llama-q4g64"), &root.path().join("org").join(name));
        }
        let at = |path: &str| root.path().join("org").join(path);
        let shards = std::fs::read_dir(at("short")).unwrap().map(|entry| entry.unwrap().path());
        for shard in shards.filter(|path| path.extension().is_some_and(|kind| kind == "safetensors")) {
            std::fs::remove_file(shard).unwrap();
        }
        std::fs::write(at("other/config.json"), br#"{"model_type": "gpt2"}"#).unwrap();
        std::fs::remove_file(at("textless/tokenizer.json")).unwrap();
        let models = ModelsConfig {
            directory: Some(root.path().to_owned()),
            hub_cache: "/nowhere".into(),
            ..ModelsConfig::default()
        };
        (root, Config { models, ..Config::default() })
    }

    fn all(config: &Config) -> Vec<Row> {
        rows(config, &Backend::choose(&config.compute).unwrap())
    }

    fn on_disk(config: &Config) -> Vec<Row> {
        all(config).into_iter().filter(|row| row.place == Place::Directory.word()).collect()
    }

    #[test]
    fn the_built_in_model_is_ready_and_comes_first() {
        let rows = all(&Config::default());
        assert_eq!((rows[0].id.as_str(), rows[0].state().as_str()), ("builtin", "ready"));
    }

    #[test]
    fn broken_models_are_listed_with_what_is_wrong() {
        let (_root, config) = models();

        let rows = on_disk(&config);

        let said: Vec<_> = rows.iter().map(|row| format!("{}: {}", row.id, row.state())).collect();
        assert_eq!(said[0], "org/other: unsupported architecture: `model_type` is `gpt2`");
        assert!(said[1].starts_with("org/short: incomplete: ") && said[1].contains("is missing"), "{}", said[1]);
        assert_eq!(said[2], "org/textless: incomplete: tokenizer.json is missing");
        assert_eq!(said[3], "org/whole: ready");
        assert!(rows[3].memory_bytes.is_some_and(|bytes| bytes > 0) && rows[3].size_bytes > 0);
    }

    #[test]
    fn json_has_bytes_and_outcomes() {
        let (_root, config) = models();

        let lines = json_lines(&on_disk(&config));

        let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows[0]["outcome"], "unsupported_arch");
        assert_eq!((&rows[1]["complete"], &rows[1]["supported"]), (&false.into(), &serde_json::Value::Null));
        assert_eq!((&rows[3]["family"], &rows[3]["quantization"]), (&"llama".into(), &"4-bit, group 64".into()));
        assert!(rows[3]["size_bytes"].is_u64() && rows[3]["outcome"].is_null());
    }

    #[test]
    fn embedding_models_are_listed_like_all_others() {
        let (root, config) = models();
        copy(&fixture("qwen3-q8g64"), &root.path().join("tiny-embedding"));

        let rows = on_disk(&config);

        let row = rows.last().unwrap();
        assert_eq!((row.id.as_str(), row.state().as_str()), ("tiny-embedding", "ready"));
        assert_eq!((row.family, row.task), (Some("qwen3"), Some("embed")));
        assert_eq!(row.quantization.as_deref(), Some("8-bit, group 64"));
        assert!(row.memory_bytes.is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn the_table_is_aligned_and_has_human_units() {
        let (_root, config) = models();

        let table = table(&all(&config));

        let state = table.lines().next().unwrap().find("STATE").unwrap();
        assert!(table.lines().all(|line| line.as_bytes()[state - 1] == b' '), "{table}");
        assert!(table.contains(" KiB  "), "{table}");
    }

    #[test]
    fn a_listing_without_models_on_disk_says_where_it_looked_and_what_to_do() {
        let models = ModelsConfig { hub_cache: "/hub".into(), ..ModelsConfig::default() };

        let said = nothing_else(&models);

        assert!(
            said.contains("models.directory (not set)")
                && said.contains("(/hub)")
                && said.contains("set models.directory")
        );
    }
}
