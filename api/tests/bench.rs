//! `lmx bench`: what it refuses, and the shape of what it measures.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn bench(line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lmx"));
    command.env_remove("LMX_CONFIG").current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command.arg("bench").args(line.split_whitespace()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn an_unknown_scenario_is_bad_usage_and_names_those_there_are() {
    let output = bench("--scenario speculative");

    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("`speculative` is none of ") && said(&output).contains("runner"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_file_that_cannot_be_written_is_found_before_anything_is_measured() {
    let output = bench("--scenario runner --json no/such/folder/figures.json");

    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("there is no folder no/such/folder"), "{}", said(&output));
}

#[test]
fn a_model_that_is_not_there_fails() {
    let output = bench("--scenario runner --model nobody/nothing");

    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("model_not_found"), "{}", said(&output));
}

#[test]
fn the_forward_pass_of_the_built_in_model_is_measured_in_the_mode_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (figures, tables) = (folder.path().join("figures.json"), folder.path().join("tables.md"));
    let line = "--scenario runner --repeat 2 --concurrency 3,1 --compute int8 --executor native --threads 1";
    let output = bench(&format!("{line} --json {} --md {}", figures.display(), tables.display()));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let report = json(&figures);
    let by = report["computed_by"].as_str().unwrap();
    assert!(by.starts_with("native int8") && by.ends_with("1 threads)"), "{by}");
    let runner = &report["sections"][0];
    assert_eq!((&runner["scenario"], &report["repeat"]), (&"runner".into(), &2.into()));
    let lengths = |list: &str, of: &str| -> Vec<u64> {
        runner[list].as_array().unwrap().iter().map(|figure| figure[of].as_u64().unwrap()).collect()
    };
    assert_eq!(lengths("prefill", "prompt_tokens"), [512, 2048]);
    assert_eq!(lengths("decode", "context_tokens"), [128], "the model takes 2048 tokens");
    assert_eq!(runner["left_out"][0], "decoding after 2048 tokens");
    assert_eq!(lengths("streams", "streams"), [1, 3]);
    for list in ["prefill", "decode", "streams"] {
        for figure in runner[list].as_array().unwrap() {
            let rate = &figure["tokens_per_s"];
            let [least, median, most] = ["least", "median", "most"].map(|name| rate[name].as_f64().unwrap());
            assert!(0.0 < least && least <= median && median <= most, "{figure}");
        }
    }
    // Weights of the built-in model: codes of 8 bits, no more than its file holds.
    let bytes = runner["weight_bytes"].as_u64().unwrap();
    assert!((2_000_000..4_000_000).contains(&bytes), "{bytes}");
    assert!(runner["resident_bytes"].as_u64().unwrap() > bytes);

    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(std::fs::read_to_string(tables).unwrap(), printed);
    assert!(printed.contains("### Forward pass: one stream\n\n| after tokens |"), "{printed}");
}
