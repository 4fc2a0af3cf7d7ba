//! `lmx inspect`: one model, without loading it.

mod decoder;
mod encoder;
mod report;
mod text;
mod weights;

use super::args::{InspectArgs, Outcome};
use super::examine::examine;
use super::terminal::{advice, backend, configuration, fail, fail_load, presets, print};
use crate::catalog::resolve;
use lmx_runtime::checkpoint::LoadError;
use report::Report;
use serde_json::json;

/// Runs the command.
pub fn run(args: &InspectArgs) -> Outcome {
    let loaded = match configuration(&args.config, args.config.set.clone()) {
        Ok(loaded) => loaded,
        Err(outcome) => return outcome,
    };
    // What the model would be served with: its preset may say how keys and values are kept.
    let presets = match presets() {
        Ok(presets) => presets,
        Err(outcome) => return outcome,
    };
    let (config, formats) = match presets.resolve(&args.model, None, &loaded) {
        Ok(effective) => (effective.config, effective.formats),
        Err(error) => return fail(Outcome::Usage, error),
    };
    let backend = match backend(&config.compute) {
        Ok(backend) => backend,
        Err(outcome) => return outcome,
    };
    let examined = resolve(&args.model, &config.models).and_then(|source| examine(&source));
    let model = match examined {
        Ok(model) => model,
        Err(error) if args.json => {
            print(&(broken(&args.model, &error) + "\n"));
            return Outcome::Failed;
        }
        Err(error) => return fail_load(&error),
    };
    let report = match Report::new(&args.model, &model, &backend, &config.kv.format(), formats) {
        Ok(report) => report,
        Err(error) => return fail(Outcome::Usage, error),
    };
    if args.json {
        print(&(serde_json::to_string(&report).expect("a report is plain data") + "\n"));
    } else {
        print(&report.to_text());
    }
    // A model whose text cannot be read is no model that can be served.
    if report.problems.is_empty() { Outcome::Done } else { Outcome::Failed }
}

/// What is wrong with a model, for programs.
fn broken(model: &str, error: &LoadError) -> String {
    json!({ "id": model, "outcome": error.outcome(), "reason": error.to_string(), "advice": advice(error) }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Formats;
    use lmx_runtime::checkpoint::{MissingFile, Source};
    use lmx_runtime::config::{ComputeConfig, KvConfig};
    use lmx_runtime::runner::Backend;
    use std::path::{Path, PathBuf};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name).join("model")
    }

    /// A copy of a fixture's model at `to`.
    fn copy(name: &str, to: PathBuf) -> PathBuf {
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(fixture(name)).unwrap() {
            let from = entry.unwrap().path();
            std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
        to
    }

    fn report(name: &str) -> Report {
        of_folder(name, fixture(name))
    }

    fn json_of(report: &Report) -> serde_json::Value {
        serde_json::to_value(report).unwrap()
    }

    fn of_folder(name: &str, folder: PathBuf) -> Report {
        with_kv(name, folder, &KvConfig::default())
    }

    fn with_kv(name: &str, folder: PathBuf, kv: &KvConfig) -> Report {
        let backend = Backend::choose(&ComputeConfig::default()).unwrap();
        let model = examine(&Source::Folder(folder)).unwrap();
        Report::new(name, &model, &backend, &kv.format(), Formats::default()).unwrap()
    }

    // Two layers, two key heads of 32: keys and values are 2 * 2 * 2 * 32 = 256 components of 16, 9 or 5 bits. A block of
    // 64 positions of 5 bits has room for 16 of float16, which then take 640 B each.
    #[test]
    fn quantised_keys_and_values_are_counted_with_their_scales_and_biases() {
        let line = |kv: KvConfig| {
            let text = with_kv("m", fixture("llama-q6g128"), &KvConfig { group_size: 32, ..kv }).to_text();
            text.lines().find_map(|line| line.strip_prefix("kv memory")).unwrap().trim().to_owned()
        };

        let bits = |bits| KvConfig { bits, ..KvConfig::default() };
        assert_eq!(line(bits(16)), "512 B per token, 64.0 MiB for a full context");
        assert_eq!(line(bits(8)), "288 B per token, 36.0 MiB for a full context");
        assert_eq!(
            line(KvConfig { quantized_start: 20, ..bits(4) }),
            "160 B per token (640 B per token of the first ones), 20.0 MiB for a full context"
        );
    }

    #[test]
    fn a_report_holds_what_decides_how_a_model_runs() {
        let report = report("llama-mixed");

        assert_eq!((report.outcome, report.family, report.problems.len()), ("loadable", "llama", 0));
        let said = json_of(&report);
        assert!(said["memory_bytes"].as_u64() > Some(0) && said["backend"].as_str() > Some(""), "{said}");
        assert!(said["storage"].as_array().unwrap().len() > 1, "{said}");
        assert_eq!((&said["task"], &said["chat_templates"]), (&json!("generate"), &json!(["default"])));
        assert!(said["eos_tokens"].as_array().unwrap().iter().all(|token| token["text"].is_string()), "{said}");
    }

    #[test]
    fn the_text_names_prefix_window_and_templates() {
        let wrapped = report("qwen2-wrapped").to_text();
        let window = report("mistral-bf16-window").to_text();

        assert!(wrapped.contains("language_model."), "{wrapped}");
        assert!(window.lines().any(|line| line.starts_with("window") && line.contains("tokens in")), "{window}");
        assert!(window.lines().any(|line| line.starts_with("chat templates") && line.ends_with("default")), "{window}");
    }

    #[test]
    fn templates_in_their_own_folder_are_named_too() {
        let root = tempfile::tempdir().unwrap();
        let copy = copy("llama-mixed", root.path().join("model"));
        let folder = copy.join("additional_chat_templates");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("tool_use.jinja"), "{{ tools }}").unwrap();
        std::fs::write(folder.join("notes.txt"), "no template").unwrap();

        let report = of_folder("m", copy);

        assert_eq!(json_of(&report)["chat_templates"], json!(["default", "tool_use"]));
    }

    #[test]
    fn an_embedding_model_is_told_with_its_pooling_lengths_and_prompts() {
        let root = tempfile::tempdir().unwrap();
        let folder = copy("qwen3-q8g64", root.path().join("Tiny-Embedding"));
        let write = |name: &str, json: serde_json::Value| std::fs::write(folder.join(name), json.to_string()).unwrap();
        write("sentence_bert_config.json", json!({"max_seq_length": 40}));
        let prompts = json!({"query": "Query:\n", "document": ""});
        write("config_sentence_transformers.json", json!({"prompts": prompts, "default_prompt_name": "query"}));

        let report = of_folder("m", folder);

        let said = json_of(&report);
        assert_eq!((report.outcome, &said["task"], &said["method"]), ("loadable", &json!("embed"), &json!("vectors")));
        assert_eq!((&said["width"], &said["shorter"]), (&json!(64), &json!({"from": 32})));
        assert_eq!((&said["prompts"], &said["default_prompt"]), (&prompts, &json!("Query:\n")));
        assert_eq!((&said["max_tokens"], &said["quantization"]), (&json!(40), &json!("8-bit, group 64")));
        assert!(said.get("chat_templates").is_none() && said["memory_bytes"].as_u64() > Some(0), "{said}");
        let text = report.to_text();
        for line in [
            "task             embed (vectors)",
            "attention        grouped-query, causal, 4 heads of 32, 2 per key head",
            "context          40960 tokens, 40 of a text",
            "pooling          last",
            "head             normalised",
            "width            64, or less down to 32",
            r#"default prompt   "Query:\n""#,
            "matrices         15 x 8-bit, group 64",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}\n{text}");
        }
    }

    // The fixture's tokenizer has neither of the tokens.
    #[test]
    fn a_reranker_that_cannot_answer_is_no_model_that_can_be_served() {
        let root = tempfile::tempdir().unwrap();
        let report = of_folder("m", copy("qwen3-bf16", root.path().join("Tiny-Reranker")));

        assert_eq!(json_of(&report)["method"], "yes_or_no");
        assert_eq!(report.outcome, "invalid_checkpoint");
        assert_eq!(report.problems, ["tokenizer.json has no tokens `yes` and `no`"]);
    }

    #[test]
    fn a_broken_model_is_told_with_outcome_reason_and_advice() {
        let missing = vec![MissingFile::absent("config.json")];
        let error = LoadError::ModelIncomplete { model: "m".into(), missing, hint: "copy it".into() };

        let said: serde_json::Value = serde_json::from_str(&broken("m", &error)).unwrap();

        assert_eq!(said["outcome"], "model_incomplete");
        assert!(said["reason"].as_str().unwrap().contains("config.json is missing"));
        assert!(said["advice"].as_str().unwrap().contains("finish the download"));
    }
}
