//! The program itself: models that cannot be loaded, signals, exit codes.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;
use support::{cut_short, damaged, fixture, free_port, get, lmx, terminate, text, until_ready};

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
