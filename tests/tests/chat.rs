//! Chats and completions as clients see them.

use lmx_runtime::runner::FakeForward;
use lmx_tests::{TestServer, TestSetup};
use serde_json::{Value, json};

fn server() -> TestServer {
    TestServer::start(TestSetup::default())
}

fn chat(stream: bool) -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 4, "temperature": 0, "stream": stream })
}

/// A transcript without what differs each time.
fn redacted(server: &TestServer, text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let Some(data) = line.strip_prefix("data: {") else {
            lines.push(line.to_owned());
            continue;
        };
        let mut event: Value = serde_json::from_str(&format!("{{{data}")).unwrap();
        event["id"] = "ID".into();
        event["created"] = 0.into();
        lines.push(format!("data: {event}"));
    }
    lines.join("\n").replace(&server.model, "MODEL")
}

#[test]
fn a_streamed_chat_has_role_content_finish_usage_and_done() {
    let server = server();
    let mut body = chat(true);
    body["stream_options"] = json!({ "include_usage": true });

    let reply = server.client.post("/v1/chat/completions", &body);

    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    assert!(reply.header("x-request-id").is_some());
    insta::assert_snapshot!(redacted(&server, &reply.text));
}

#[test]
fn stream_text_equals_plain_text() {
    let server = server();
    let plain = server.client.post("/v1/chat/completions", &chat(false)).json();
    let streamed = server.client.post("/v1/chat/completions", &chat(true));

    assert_eq!(plain["choices"][0]["message"]["content"], streamed.streamed_text(0));
    assert_eq!(plain["choices"][0]["finish_reason"], "length");
    assert_eq!(plain["usage"]["completion_tokens"], 4);
    // Without `include_usage` every chunk has a choice.
    assert!(streamed.events().iter().all(|event| !event["choices"].as_array().unwrap().is_empty()));
}

#[test]
fn a_completion_of_ids_is_what_the_model_says() {
    let server = server();
    let body = json!({ "prompt": [[1, 2, 3], [4, 5]], "n": 2, "max_tokens": 5, "temperature": 0 });

    let answer = server.client.post("/v1/completions", &body).json();

    let text = |prompt: &[u32]| {
        let tokens = FakeForward::expected_answer(prompt, 5, 97);
        server.client.post("/detokenize", &json!({ "tokens": tokens })).json()["prompt"].clone()
    };
    let texts: Vec<&Value> = answer["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    let (first, second) = (text(&[1, 2, 3]), text(&[4, 5]));
    assert_eq!(texts, [&first, &first, &second, &second]);
    assert_eq!(answer["usage"]["prompt_tokens"], 5);
    assert_eq!(answer["usage"]["completion_tokens"], 20);
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    let server = server();
    let body = |stop: Value| json!({ "prompt": [1, 2, 3], "max_tokens": 20, "temperature": 0, "stop": stop });
    let whole = server.client.post("/v1/completions", &body(Value::Null)).json()["choices"][0]["text"].clone();
    let whole = whole.as_str().unwrap();
    let stop: String = whole.chars().skip(6).take(2).collect();

    let cut = server.client.post("/v1/completions", &body(json!(stop))).json();

    let expected = &whole[..whole.find(&stop).unwrap()];
    assert_eq!(cut["choices"][0]["text"], expected);
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_shared_prefix_is_reported_and_not_computed_again() {
    let server = server();
    let prompt: Vec<u32> = (0..600).map(|i| i % 90).collect();
    let mut longer = prompt.clone();
    longer.extend([91, 92, 93]);
    let post = |prompt: &[u32]| {
        server.client.post("/v1/completions", &json!({ "prompt": prompt, "max_tokens": 2, "temperature": 0 })).json()
    };

    let first = post(&prompt);
    let hits = server.metric("vllm:prefix_cache_hits_total", "");
    let second = post(&longer);

    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], 592);
    assert_eq!(server.metric("vllm:prefix_cache_hits_total", "") - hits, 592.0);
    let expected = FakeForward::expected_answer(&longer, 2, 97);
    let text = server.client.post("/detokenize", &json!({ "tokens": expected })).json()["prompt"].clone();
    assert_eq!(second["choices"][0]["text"], text);
}

#[test]
fn a_seed_gives_the_same_answer_again_and_choices_differ() {
    let server = server();
    let body = json!({
        "prompt": [1, 2, 3], "max_tokens": 12, "temperature": 2.0, "seed": 7, "n": 3, "logit_bias": { "5": 7.5 }
    });
    let texts = || {
        let answer = server.client.post("/v1/completions", &body).json();
        let choices = answer["choices"].as_array().unwrap();
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    let first = texts();

    assert_eq!(first, texts());
    assert!(first[0] != first[1] || first[1] != first[2], "{first:?}");
}

#[test]
fn what_cannot_be_served_is_a_400_that_names_the_field() {
    let server = server();
    let refused = |extra: Value| {
        let mut body = chat(false);
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let reply = server.client.post("/v1/chat/completions", &body);
        let error = &reply.json()["error"];
        format!("{} {} {}", reply.status, error["code"].as_str().unwrap(), error["param"].as_str().unwrap_or("-"))
    };

    assert_eq!(refused(json!({ "temperature": 3 })), "400 invalid_value temperature");
    assert_eq!(refused(json!({ "functions": [{ "name": "f" }] })), "400 unsupported_parameter functions");
    assert_eq!(
        refused(json!({ "response_format": { "type": "json_object" } })),
        "400 unsupported_parameter response_format"
    );
    assert_eq!(refused(json!({ "n": 65 })), "400 invalid_value n");
    assert_eq!(refused(json!({ "logit_bias": { "600": 1 } })), "400 invalid_value logit_bias");
    assert_eq!(refused(json!({ "model": "other" })), "404 model_not_found model");
    assert_eq!(refused(json!({ "num_ctx": 8 })), "400 context_length_exceeded -");
    let unknown = server.client.get("/v1/nothing");
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("unknown_url")));
}

#[test]
fn tokenize_counts_what_usage_counts() {
    let server = server();
    let messages = json!([{ "role": "user", "content": "What is the time in Zürich?" }]);
    let counted = server.client.post("/tokenize", &json!({ "messages": messages })).json();
    let used = server.client.post("/v1/chat/completions", &json!({ "messages": messages, "max_tokens": 1 })).json();

    assert_eq!(counted["count"], used["usage"]["prompt_tokens"]);
    assert_eq!(counted["max_model_len"], 4096);
}

#[test]
fn an_echoed_prompt_is_scored() {
    let server = server();
    let body = json!({ "prompt": [1, 2, 3], "max_tokens": 0, "echo": true, "logprobs": 1 });

    let answer = server.client.post("/v1/completions", &body).json();

    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][1].as_f64().unwrap() < 0.0);
    assert_eq!(answer["usage"]["completion_tokens"], 0);
}

#[test]
fn health_models_and_metrics_answer() {
    let server = server();

    assert_eq!(server.client.get("/healthz").json()["status"], "ok");
    assert_eq!(server.client.get("/readyz").json()["models"], 1);
    let models = server.client.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], server.model.as_str());
    assert_eq!(server.client.get(&format!("/v1/models/{}", server.model)).status, 200);
    assert_eq!(server.client.get("/v1/models/org/none").status, 404);
    let by_alias = server.client.get(&format!("/v1/models/{}-alias", server.model)).json();
    assert_eq!(by_alias["id"], server.model.as_str());
    let metrics = server.client.get("/metrics").text;
    for name in
        ["lmx_actor_mailbox_capacity", "lmx_actor_mailbox_depth", "lmx_actor_mailbox_full_total", "lmx_kv_blocks"]
    {
        assert!(metrics.contains(name), "{name}");
    }
}
