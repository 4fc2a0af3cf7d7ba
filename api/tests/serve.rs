//! The program itself: models that cannot be loaded, signals, exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name).join("model")
}

fn lmx() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lmx"));
    // Spinning workers of two servers on few cores would wait for each other.
    command.env("CANDLE_NUM_THREADS", "1").env_remove("LMX_CONFIG").current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Copies a model and lets `damage` have its files.
fn damaged(name: &str, damage: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    damage(folder.path());
    folder
}

fn cut_short(folder: &Path) {
    let shard = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let shard = shard.filter(|path| path.extension().is_some_and(|kind| kind == "safetensors")).max().unwrap();
    let whole = std::fs::metadata(&shard).unwrap().len();
    std::fs::File::options().write(true).open(shard).unwrap().set_len(whole - 100).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

fn until_ready(port: u16, server: &mut Child) {
    let begun = Instant::now();
    while !get(port, "/readyz").is_some_and(|reply| reply.starts_with("HTTP/1.1 200")) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the server is not ready");
        assert!(server.try_wait().unwrap().is_none(), "the server ended");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn terminate(server: &Child) {
    let killed = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_model_that_is_cut_short_is_named_and_the_command_fails() {
    let folder = damaged("llama-f32", cut_short);
    let output = lmx().args(["serve", "--port", "0", "--model"]).arg(folder.path()).output().unwrap();

    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("model_incomplete") && text(&output).contains(".safetensors"), "{}", text(&output));
}

#[test]
fn a_model_that_is_not_there_is_not_found_where_it_was_looked_for() {
    let output = lmx().args(["serve", "--port", "0", "--model", "nobody/nothing"]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("model_not_found") && text(&output).contains("huggingface"), "{}", text(&output));
}

#[test]
fn an_architecture_that_is_unknown_is_an_error_with_its_key() {
    let folder = damaged("llama-f32", |folder| {
        let path = folder.join("config.json");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, config.replace("\"llama\"", "\"mamba9\"").replace("LlamaForCausalLM", "Mamba9")).unwrap();
    });
    let output = lmx().args(["serve", "--port", "0", "--model"]).arg(folder.path()).output().unwrap();

    assert!(text(&output).contains("unsupported_arch") && text(&output).contains("model_type"), "{}", text(&output));
}

#[test]
fn a_bad_model_does_not_keep_a_good_one_from_serving() {
    let bad = damaged("llama-f32", cut_short);
    let port = free_port();
    let mut command = lmx();
    command.args(["serve", "--port", &port.to_string(), "--model"]).arg(bad.path());
    let mut server = command.arg("--model").arg(fixture("llama-f32")).spawn().unwrap();
    until_ready(port, &mut server);

    let models = get(port, "/v1/models").unwrap();
    terminate(&server);
    let output = server.wait_with_output().unwrap();

    assert!(models.contains("llama-f32"), "{models}");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
}

#[test]
fn a_signal_ends_a_server_that_is_done_with_zero() {
    let port = free_port();
    let mut server = lmx().args(["serve", "--port", &port.to_string()]).spawn().unwrap();
    until_ready(port, &mut server);

    terminate(&server);

    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_says_what_to_do() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = lmx().args(["serve", "--port", &port]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("--port"), "{}", text(&output));
}

#[test]
fn a_setting_that_does_not_exist_is_bad_usage_and_names_its_neighbour() {
    let output = lmx().args(["serve", "--set", "scheduler.max_sequence=3"]).output().unwrap();

    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("scheduler.max_sequences"), "{}", text(&output));
}

#[test]
fn a_chat_in_the_terminal_answers_and_leaves() {
    let mut command = lmx();
    let mut chat = command.arg("chat").stdin(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"Reply with exactly: HELLO\n/exit\n").unwrap();
    let mut answer = String::new();
    BufReader::new(chat.stdout.take().unwrap()).read_line(&mut answer).unwrap();

    assert_eq!(chat.wait().unwrap().code(), Some(0));
    assert!(!answer.trim().is_empty());
}
