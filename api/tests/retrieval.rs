//! The program itself: vectors and rankings, over HTTP and in the terminal.

#[allow(dead_code, reason = "other tests of the program damage models")]
mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use support::{fixture, free_port, get, lmx, terminate, text, until_ready};

const TEXTS: [&str; 4] = ["Beijing is the capital.", "The fox sleeps.", "one two three", "A passage about retrieval."];

/// A server that ends with the test.
struct Server {
    port: u16,
    process: Child,
}

impl Server {
    /// One that serves models, and finds others in `folder`.
    fn start(models: &[&str], folder: &std::path::Path) -> Self {
        let port = free_port();
        let mut command = lmx();
        command.args(["serve", "--port", &port.to_string(), "--set", "memory.ttl_sec=1", "--set"]);
        command.arg(format!("models.directory={}", folder.display())).stderr(Stdio::null());
        for model in models {
            command.arg("--model").arg(fixture(model));
        }
        let mut server = Self { port, process: command.spawn().unwrap() };
        until_ready(server.port, &mut server.process);
        server
    }

    /// The status and the answer.
    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (mut stream, body) = (TcpStream::connect(("127.0.0.1", self.port)).unwrap(), body.to_string());
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json");
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// The embeddings of a request, as they came.
    fn embeddings(&self, body: Value) -> Vec<Value> {
        let (status, answer) = self.post("/v1/embeddings", &body);
        assert_eq!(status, 200, "{answer}");
        answer["data"].as_array().unwrap().iter().map(|entry| entry["embedding"].clone()).collect()
    }

    fn models(&self) -> String {
        get(self.port, "/v1/models").unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        terminate(&self.process);
        self.process.wait().unwrap();
    }
}

fn id(model: &str) -> String {
    fixture(model).display().to_string()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|component| component.as_f64().unwrap() as f32).collect()
}

#[test]
fn vectors_are_the_same_alone_together_as_floats_and_as_base64() {
    let folder = tempfile::tempdir().unwrap();
    let (server, model) = (Server::start(&["minilm-f32"], folder.path()), id("minilm-f32"));

    let together = server.embeddings(json!({"model": model, "input": TEXTS}));
    let coded = server.embeddings(json!({"model": model, "input": TEXTS, "encoding_format": "base64"}));

    for ((together, coded), text) in together.iter().zip(&coded).zip(TEXTS) {
        let bytes = STANDARD.decode(coded.as_str().unwrap()).unwrap();
        let coded: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let length: f32 = coded.iter().map(|component| component * component).sum();
        assert!(floats(together) == coded && (length - 1.0).abs() < 1e-5, "{text}");
        assert_eq!(&server.embeddings(json!({"model": model, "input": text}))[0], together);
    }
}

#[test]
fn rankings_are_sorted_and_the_same_in_each_shape() {
    let folder = tempfile::tempdir().unwrap();
    let (server, model) = (Server::start(&["bge-reranker-f32"], folder.path()), id("bge-reranker-f32"));
    let body = json!({"model": model, "query": "what is the capital", "documents": TEXTS, "return_documents": true});

    let (status, answer) = server.post("/v1/rerank", &body);
    let (_, second) = server.post("/v2/rerank", &body);
    let (_, plain) = server.post("/rerank", &json!({"query": "what is the capital", "texts": TEXTS}));

    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let scores: Vec<f64> = results.iter().map(|result| result["relevance_score"].as_f64().unwrap()).collect();
    assert!(scores.len() == TEXTS.len() && scores.is_sorted_by(|a, b| a >= b), "{answer}");
    for ((result, second), plain) in
        results.iter().zip(second["results"].as_array().unwrap()).zip(plain.as_array().unwrap())
    {
        let number = result["index"].as_u64().unwrap() as usize;
        assert_eq!(result["document"]["text"], TEXTS[number]);
        assert_eq!((&second["index"], &second["relevance_score"]), (&result["index"], &result["relevance_score"]));
        assert_eq!((&plain["index"], &plain["score"]), (&result["index"], &result["relevance_score"]));
    }
}

#[test]
fn a_model_comes_with_its_first_request_beside_no_chat_and_goes_when_it_is_idle() {
    let folder = tempfile::tempdir().unwrap();
    let late = folder.path().join("late");
    std::fs::create_dir(&late).unwrap();
    copy(&fixture("minilm-f32"), &late);
    let server = Server::start(&[], folder.path());
    assert!(!server.models().contains("late"));

    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || server.embeddings(json!({"model": "late", "input": TEXTS[0]}));
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(server.models().matches("\"late\"").count(), 1);
    let begun = Instant::now();
    while server.models().contains("late") {
        assert!(begun.elapsed() < Duration::from_secs(30), "the idle model stays");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.embeddings(json!({"model": "late", "input": TEXTS[0]})), answers[0]);
}

#[test]
fn what_cannot_be_embedded_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["minilm-f32", "bge-reranker-f32"], folder.path());
    let (embedder, reranker) = (id("minilm-f32"), id("bge-reranker-f32"));
    let long = "word ".repeat(3000);

    for (body, said) in [
        (json!({"model": embedder, "input": []}), "input"),
        (json!({"model": embedder, "input": vec!["a"; 2049]}), "2049"),
        (json!({"model": embedder, "input": [[5_000_000]]}), "no token"),
        (json!({"model": embedder, "input": long}), "context_length_exceeded"),
        (json!({"model": embedder, "input": "a", "dimensions": 7}), "dimensions"),
        (json!({"model": reranker, "input": "a"}), "rerank"),
    ] {
        let (status, answer) = server.post("/v1/embeddings", &body);
        assert!(status == 400 && answer.to_string().contains(said), "{said}: {status} {answer}");
    }
    let cut = server.embeddings(json!({"model": embedder, "input": long, "truncate": true}));
    assert_eq!(cut.len(), 1);
}

#[test]
fn the_terminal_gives_the_vectors_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["minilm-f32"], folder.path());
    let expected = server.embeddings(json!({"model": id("minilm-f32"), "input": TEXTS}));

    let mut command = lmx();
    command.args(["embed", "--model", &id("minilm-f32")]).stdin(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(TEXTS.join("\n").as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();

    assert!(output.status.success(), "{}", text(&output));
    let lines: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), TEXTS.len());
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(floats(&line["embedding"]), floats(&expected));
    }
}

#[test]
fn the_terminal_ranks_lines_best_first() {
    let mut command = lmx();
    command.args(["rerank", "--model", &id("bge-reranker-f32"), "--json", "--top", "2", "what is the capital"]);
    let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(TEXTS.join("\n").as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();

    assert!(output.status.success(), "{}", text(&output));
    let results: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 2, "{results:?}");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
