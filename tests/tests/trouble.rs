//! Clients that leave or do not read, too many of them, faults, and the end of the server.

use lmx_runtime::runner::Fault;
use lmx_tests::{TestServer, TestSetup, until};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn at_least_one(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

fn completion(prompt_tokens: usize, max_tokens: usize, stream: bool) -> Value {
    let prompt: Vec<usize> = (0..prompt_tokens).map(|i| (i * 7 + prompt_tokens) % 90).collect();
    json!({ "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": stream })
}

fn slow() -> TestServer {
    TestServer::start(TestSetup::paced(Duration::from_millis(4), Duration::from_micros(200)))
}

fn nothing_is_held(server: &TestServer) {
    until("the blocks are free again", || server.metric("lmx_kv_blocks", "active") == 0.0);
    until("no sequence is left", || server.metric("lmx_sequences", "decode") == 0.0);
    assert_eq!(server.metric("lmx_sequences", "prefill") + server.metric("lmx_sequences", "waiting"), 0.0);
}

#[test]
fn a_client_that_leaves_while_decoding_frees_its_blocks() {
    for stream in [true, false] {
        let server = slow();
        let socket = server.client.send("POST", COMPLETIONS, Some(&completion(20, 3000, stream)));
        until("it decodes", || server.metric("lmx_sequences", "decode") == 1.0);

        drop(socket);

        nothing_is_held(&server);
    }
}

#[test]
fn a_client_that_leaves_during_prefill_frees_its_blocks() {
    let mut setup = TestSetup::paced(Duration::ZERO, Duration::from_millis(1));
    setup.loaded.config.scheduler.prefill_chunk = at_least_one(64);
    let server = TestServer::start(setup);
    let socket = server.client.send("POST", COMPLETIONS, Some(&completion(3000, 10, true)));
    until("it prefills", || server.metric("lmx_sequences", "prefill") == 1.0);

    drop(socket);

    nothing_is_held(&server);
}

#[test]
fn a_client_that_leaves_the_queue_is_never_served() {
    let mut setup = TestSetup::paced(Duration::from_millis(4), Duration::ZERO);
    setup.loaded.config.scheduler.max_sequences = at_least_one(1);
    let server = TestServer::start(setup);
    let first = server.client.send("POST", COMPLETIONS, Some(&completion(20, 3000, true)));
    until("the place is taken", || server.metric("lmx_sequences", "decode") == 1.0);
    let queued = server.client.send("POST", COMPLETIONS, Some(&completion(21, 3000, true)));
    until("it waits", || server.metric("lmx_sequences", "waiting") == 1.0);

    drop(queued);

    until("nobody waits", || server.metric("lmx_sequences", "waiting") == 0.0);
    assert_eq!(server.metric("lmx_sequences", "decode"), 1.0);
    drop(first);
    nothing_is_held(&server);
}

#[test]
fn a_request_is_cancelled_by_its_id_and_its_reader_is_told() {
    let server = slow();
    let mut stream = server.client.open(
        "POST",
        CHAT,
        Some(&json!({
            "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 3000, "stream": true
        })),
    );
    let first: Value = serde_json::from_str(&stream.event().unwrap()).unwrap();

    let path = format!("/v1/requests/{}", first["id"].as_str().unwrap());
    assert_eq!(server.client.call("DELETE", &path, None).status, 200);

    let rest = stream.rest();
    assert!(rest.contains("request_cancelled"), "{rest}");
    assert!(!rest.contains("[DONE]"));
    nothing_is_held(&server);
    assert_eq!(server.client.call("DELETE", &path, None).status, 404);
}

#[test]
fn a_full_mailbox_refuses_with_retry_after_and_nobody_hangs() {
    let mut setup = TestSetup::paced(Duration::from_millis(2), Duration::ZERO);
    setup.mailboxes.scheduler = at_least_one(4);
    setup.loaded.config.scheduler.max_queue = 8;
    setup.loaded.config.scheduler.max_sequences = at_least_one(4);
    let server = TestServer::start(setup);
    let client = server.client;
    let sockets: Vec<_> = (0..100)
        .map(|i| {
            std::thread::spawn(move || {
                let reply = client.post(COMPLETIONS, &completion(10 + i, 30, false));
                (reply.status, reply.header("retry-after").map(str::to_owned))
            })
        })
        .collect();

    let replies: Vec<_> = sockets.into_iter().map(|socket| socket.join().unwrap()).collect();

    let served = replies.iter().filter(|(status, _)| *status == 200).count();
    let refused = replies.iter().filter(|(status, retry)| matches!(status, 429 | 503) && retry.is_some()).count();
    assert_eq!(served + refused, 100, "{replies:?}");
    assert!(served >= 4 && refused > 0, "{served} served, {refused} refused");
    nothing_is_held(&server);
    let metrics = client.get("/metrics").text;
    assert!(metrics.contains(r#"lmx_actor_mailbox_capacity{actor="scheduler"} 4"#));
}

#[test]
fn a_panic_in_a_step_ends_its_streams_and_the_next_request_succeeds() {
    let server = slow();
    let mut stream = server.client.open("POST", COMPLETIONS, Some(&completion(20, 3000, true)));
    stream.event().unwrap();

    server.faults.push([Some(Fault::Panic)]);

    let rest = stream.rest();
    assert!(rest.contains(r#""code":"engine_failure""#), "{rest}");
    assert!(!rest.contains("[DONE]") && !rest.contains("finish_reason\":\"stop"));
    until("the engine is there again", || server.client.get("/readyz").status == 200);
    let next = server.client.post(COMPLETIONS, &completion(20, 5, false));
    assert_eq!(next.status, 200, "{}", next.text);
    assert!(server.client.get("/metrics").text.contains(r#"lmx_actor_restarts_total{actor="engine"}"#));
    nothing_is_held(&server);
}

#[test]
fn an_error_before_the_first_byte_is_a_status() {
    let server = slow();
    server.faults.push([Some(Fault::Error)]);

    let reply = server.client.post(COMPLETIONS, &completion(20, 5, false));

    assert_eq!((reply.status, &reply.json()["error"]["code"]), (500, &json!("engine_failure")));
}

#[test]
fn a_reader_that_stands_still_holds_nobody_up_and_loses_nothing() {
    let server = TestServer::start(TestSetup::paced(Duration::from_micros(100), Duration::ZERO));
    let body = completion(20, 3500, true);
    let mut silent = server.client.open("POST", COMPLETIONS, Some(&body));

    let other = server.client.post(COMPLETIONS, &completion(30, 200, false));
    assert_eq!(other.status, 200);

    let text = silent.rest();
    let answer = server.client.post(COMPLETIONS, &completion(20, 3500, false)).json();
    let streamed: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|event| event["choices"][0]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(answer["choices"][0]["text"], streamed);
}

#[test]
fn a_stopping_server_finishes_what_runs_and_refuses_the_rest() {
    let mut setup = TestSetup::paced(Duration::from_millis(4), Duration::ZERO);
    setup.loaded.config.scheduler.max_sequences = at_least_one(1);
    let mut server = TestServer::start(setup);
    let mut running = server.client.open("POST", COMPLETIONS, Some(&completion(20, 200, true)));
    running.event().unwrap();
    let mut queued = server.client.open("POST", COMPLETIONS, Some(&completion(21, 200, true)));
    until("it waits", || server.metric("lmx_sequences", "waiting") == 1.0);
    let client = server.client;

    server.begin_stop();

    until("it is not ready", || client.get("/readyz").status == 503);
    let refused = client.post(COMPLETIONS, &completion(22, 5, false));
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{}", refused.text);
    assert!(queued.rest().contains("shutting_down"));
    assert!(running.rest().contains("[DONE]"));
}

#[test]
fn waiting_too_long_is_a_408() {
    let mut setup = TestSetup::paced(Duration::from_millis(4), Duration::ZERO);
    setup.loaded.config.scheduler.max_sequences = at_least_one(1);
    setup.loaded.config.scheduler.queue_timeout_sec = 0;
    let server = TestServer::start(setup);
    let _running = server.client.open("POST", COMPLETIONS, Some(&completion(20, 2000, true)));
    until("the place is taken", || server.metric("lmx_sequences", "decode") == 1.0);

    let late = server.client.post(COMPLETIONS, &completion(21, 5, false));

    assert_eq!((late.status, &late.json()["error"]["code"]), (408, &json!("queue_timeout")));
}
