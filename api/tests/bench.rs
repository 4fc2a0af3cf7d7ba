//! `lmx bench`: what it refuses, and the shape of what it measures.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

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
    let line = "--scenario runner --repeat 2 --prompt-tokens 200,48 --context-tokens 32,2048 --concurrency 3,1 \
        --compute int8 --executor native --threads 1";
    let output = bench(&format!("{line} --json {} --md {}", figures.display(), tables.display()));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let report = json(&figures);
    let by = report["computed_by"].as_str().unwrap();
    assert!(by.starts_with("native int8") && by.ends_with("1 thread)"), "{by}");
    let runner = &report["sections"][0];
    assert_eq!((&runner["scenario"], &runner["repeat"]), (&"runner".into(), &2.into()));
    let lengths = |list: &str, of: &str| -> Vec<u64> {
        runner[list].as_array().unwrap().iter().map(|figure| figure[of].as_u64().unwrap()).collect()
    };
    assert_eq!(lengths("prefill", "prompt_tokens"), [48, 200]);
    assert_eq!(lengths("decode", "context_tokens"), [32], "the model takes 2048 tokens");
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
    assert!(printed.contains("### Forward pass: one stream, 2 repetitions\n\n| after tokens |"), "{printed}");
}

/// A server that ends with the test.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lmx"));
        command.env_remove("LMX_CONFIG").current_dir(std::env::temp_dir()).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.args(["serve", "--port", "0"]).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.starts_with("serving ")).expect("the server says where it is");
        // Whoever does not read on would stop the server at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url: line.rsplit(' ').next().unwrap().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to do for a server that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_server_elsewhere_is_measured_by_what_it_counts() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let figures = folder.path().join("figures.json");
    let line = "--scenario concurrency --scenario prefix --concurrency 1,3 --repeat 2";
    let output = bench(&format!("{line} --url {} --json {}", server.url, figures.display()));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let report = json(&figures);
    assert_eq!((&report["model"], &report["sections"][0]["scenario"]), (&"builtin".into(), &"concurrency".into()));
    assert_eq!(report["sections"][0]["resident_bytes"], Value::Null, "the memory is another process's");
    for (row, streams) in report["sections"][0]["rows"].as_array().unwrap().iter().zip([1, 3]) {
        assert_eq!((&row["streams"], &row["runs"], &row["short_answers"]), (&streams.into(), &2.into(), &0.into()));
        assert_eq!(row["answer_tokens"], 64.0);
        assert!((100.0..156.0).contains(&row["prompt_tokens"].as_f64().unwrap()), "{row}");
        let [ttft, itl] =
            ["ttft_ms", "itl_ms"].map(|name| ["p50", "p95", "p99"].map(|p| row[name][p].as_f64().unwrap()));
        assert!(0.0 < ttft[0] && ttft.is_sorted() && itl.is_sorted(), "{row}");
    }
    let prefix = report["sections"][1]["rows"].as_array().unwrap();
    assert_eq!((&prefix[0]["kind"], &prefix[1]["kind"]), (&"cold".into(), &"warm".into()));
    let cached = [0, 1].map(|kind: usize| prefix[kind]["cached_tokens"].as_f64().unwrap());
    assert!(cached[0] < 64.0 && cached[1] > 400.0, "{cached:?}");
}

#[test]
fn a_model_is_served_in_this_process_if_no_server_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    let output = bench(&format!("--scenario short_64 --repeat 1 --compute f32 --json {}", figures.display()));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let report = json(&figures);
    assert!(report["computed_by"].as_str().unwrap().starts_with("native f32"), "{report}");
    let rows = report["sections"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| &row["kind"]).collect::<Vec<_>>(), ["cold", "warm"]);
    assert!(rows.iter().all(|row| row["answer_tokens"] == 64.0), "{report}");
    assert!(report["sections"][0]["resident_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(rows[1]["cached_tokens"].as_f64() > rows[0]["cached_tokens"].as_f64(), "{report}");
}

#[test]
fn a_server_that_is_not_there_fails_and_one_has_no_insides() {
    let output = bench("--scenario prefix --url http://127.0.0.1:9/v1");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("cannot reach http://127.0.0.1:9:"), "{}", said(&output));

    let output = bench("--scenario runner --url http://127.0.0.1:9/v1");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("`runner` looks inside of this program"), "{}", said(&output));
}

#[test]
fn the_limits_of_the_machine_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    let output = bench(&format!("--scenario limits --repeat 1 --threads 2 --json {}", figures.display()));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let limits = &json(&figures)["sections"][0];
    assert_eq!((&limits["scenario"], &limits["threads"]), (&"limits".into(), &2.into()));
    for name in ["read_gb_per_s", "byte_gops", "float_gops_one_thread"] {
        assert!(limits[name]["median"].as_f64().unwrap() > 0.0, "{limits}");
    }
}
