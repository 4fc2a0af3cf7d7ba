//! Reasoning and calls of tools over HTTP: a scripted model with the template and the tokenizer of a real family.

use lmx_tests::{TestServer, TestSetup};
use serde_json::{Value, json};

const QWEN: &str = "<|im_start|>assistant\n";
const CALL: &str = "<think>\nI look it up.\n</think>\n\nOne moment.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": \
                    {\"city\": \"Zürich\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\
                    <|im_end|>";

fn qwen(answer: &str) -> TestServer {
    let server = TestServer::start(TestSetup::scripted("qwen3"));
    server.script(QWEN, answer);
    server
}

fn body(extra: Value) -> Value {
    let tool = |name: &str, properties: Value| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}});
    let mut body = json!({
        "messages": [{"role": "user", "content": "Weather?"}],
        "tools": [tool("get_weather", json!({"city": {"type": "string"}})), tool("now", json!({}))],
        "temperature": 0, "max_tokens": 400
    });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn ask(server: &TestServer, extra: Value) -> Value {
    let reply = server.client.post("/v1/chat/completions", &body(extra));
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

/// The message that the deltas of a stream add up to, and its finish reason.
fn joined(events: &[Value]) -> (Value, Value) {
    let mut message = json!({"content": "", "reasoning_content": "", "tool_calls": []});
    let mut reason = Value::Null;
    let append = |to: &mut Value, text: &Value| {
        if let Some(text) = text.as_str() {
            *to = format!("{}{text}", to.as_str().unwrap()).into();
        }
    };
    for choice in events.iter().map(|event| &event["choices"][0]).filter(|choice| choice.is_object()) {
        let delta = &choice["delta"];
        append(&mut message["content"], &delta["content"]);
        append(&mut message["reasoning_content"], &delta["reasoning_content"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap() as usize;
            let calls = message["tool_calls"].as_array_mut().unwrap();
            if index == calls.len() {
                assert_eq!(call["type"], "function");
                calls.push(json!({"id": call["id"], "name": call["function"]["name"], "arguments": ""}));
            }
            append(&mut calls[index]["arguments"], &call["function"]["arguments"]);
        }
        if !choice["finish_reason"].is_null() {
            reason = choice["finish_reason"].clone();
        }
    }
    (message, reason)
}

#[test]
fn an_answer_is_parted_into_reasoning_content_and_calls() {
    let server = qwen(CALL);

    let answer = ask(&server, json!({}));

    let (choice, message) = (&answer["choices"][0], &answer["choices"][0]["message"]);
    assert_eq!(message["reasoning_content"], "I look it up.");
    assert_eq!(message["content"], "One moment.");
    assert_eq!(choice["finish_reason"], "tool_calls");
    let calls = message["tool_calls"].as_array().unwrap();
    assert_eq!(calls[0]["function"], json!({"name": "get_weather", "arguments": "{\"city\": \"Zürich\"}"}));
    assert_eq!(calls[1]["function"], json!({"name": "now", "arguments": "{}"}));
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_") && calls[0]["id"] != calls[1]["id"]);
    assert!(choice.get("warnings").is_none());
    // The line feed behind the opening marker and the one before the closing marker are reasoning too.
    let thought = server.tokenizer.encode("\nI look it up.\n", false).unwrap().len();
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], thought);
}

#[test]
fn a_stream_adds_up_to_the_plain_answer_and_sends_arguments_in_pieces() {
    let server = qwen(CALL);
    let plain = ask(&server, json!({}));

    let stream = server
        .client
        .post("/v1/chat/completions", &body(json!({"stream": true, "stream_options": {"include_usage": true}})));

    let events = stream.events();
    let (message, reason) = joined(&events);
    let expected = &plain["choices"][0]["message"];
    assert_eq!(reason, "tool_calls");
    assert_eq!(message["content"], expected["content"]);
    assert_eq!(message["reasoning_content"], expected["reasoning_content"]);
    let (calls, expected) = (&message["tool_calls"], &expected["tool_calls"]);
    let (calls, expected) = (calls.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!((calls.len(), expected.len()), (2, 2));
    for (call, expected) in calls.iter().zip(expected) {
        assert_eq!(
            (&call["name"], &call["arguments"]),
            (&expected["function"]["name"], &expected["function"]["arguments"])
        );
    }
    let pieces = events.iter().filter(|event| event["choices"][0]["delta"]["tool_calls"].is_array()).count();
    assert!(pieces > 6, "{pieces} deltas of calls");
    assert_eq!(
        events.last().unwrap()["usage"]["completion_tokens_details"],
        plain["usage"]["completion_tokens_details"]
    );
}

#[test]
fn one_call_ends_the_answer_where_calls_may_not_be_parallel() {
    let server = qwen(CALL);

    let answer = ask(&server, json!({"parallel_tool_calls": false}));

    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(answer["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
    let whole = ask(&server, json!({}));
    assert!(answer["usage"]["completion_tokens"].as_u64() < whole["usage"]["completion_tokens"].as_u64());
}

#[test]
fn a_malformed_call_comes_back_as_content_with_a_warning() {
    let server = qwen("So <tool_call>get_weather(Zürich)</tool_call> it is.<|im_end|>");

    let answer = ask(&server, json!({}));

    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], "So get_weather(Zürich) it is.");
    assert_eq!((&choice["finish_reason"], choice["warnings"].as_array().unwrap().len()), (&json!("stop"), 1));
    let stream = server.client.post("/v1/chat/completions", &body(json!({"stream": true})));
    let warned = stream.events().iter().filter(|event| event["choices"][0]["warnings"].is_array()).count();
    assert_eq!((warned, stream.streamed_text(0).as_str()), (1, "So get_weather(Zürich) it is."));
}

#[test]
fn without_tools_calls_are_text_and_with_none_they_are_no_calls() {
    let server = qwen(CALL);

    let plain = ask(&server, json!({"tools": null}));
    let none = ask(&server, json!({"tool_choice": "none"}));

    let content = |answer: &Value| answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(content(&plain).contains("<tool_call>"), "{plain}");
    assert!(!content(&none).contains("<tool_call>") && content(&none).contains("get_weather"), "{none}");
    assert_eq!(
        (&plain["choices"][0]["finish_reason"], &none["choices"][0]["finish_reason"]),
        (&json!("stop"), &json!("stop"))
    );
    assert_eq!(none["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"], "the template is not told of tools");
    let told = ask(&server, json!({}))["usage"]["prompt_tokens"].clone();
    assert_ne!(told, plain["usage"]["prompt_tokens"]);
    let counted = server.client.post("/tokenize", &body(json!({}))).json();
    assert_eq!(counted["count"], told);
}

#[test]
fn stop_strings_end_content_alone() {
    let server = qwen("<think>One END of thought.</think>The END of content.<|im_end|>");

    let answer = ask(&server, json!({"stop": "END"}));

    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "One END of thought.");
    assert_eq!((&message["content"], &answer["choices"][0]["finish_reason"]), (&json!("The "), &json!("stop")));
}

#[test]
fn log_probabilities_belong_to_all_tokens_of_an_answer() {
    let server = qwen(CALL);

    let plain = ask(&server, json!({"logprobs": true}));
    let stream = server.client.post("/v1/chat/completions", &body(json!({"logprobs": true, "stream": true})));

    let of = |choice: &Value| choice["logprobs"]["content"].as_array().cloned().unwrap_or_default();
    let all = of(&plain["choices"][0]);
    // The end token is counted and has none.
    assert_eq!(all.len() as u64 + 1, plain["usage"]["completion_tokens"].as_u64().unwrap());
    let streamed: Vec<Value> = stream.events().iter().flat_map(|event| of(&event["choices"][0])).collect();
    assert_eq!(streamed, all);
}

#[test]
fn a_spent_thinking_budget_forces_the_end_of_the_reasoning() {
    let server = TestServer::start(TestSetup::scripted("minimax_m2"));
    let opening = "]~b]ai\n<think>\n";
    server.script(opening, "This is a long thought about very little.</think>Short.[e~[");
    let first = server.tokenizer.encode("This is a long thought", false).unwrap();
    let forced = server.tokenizer.token_to_id("</think>").unwrap();
    let ending = server.tokenizer.encode(opening, false).unwrap();
    let ask = |extra| ask(&server, extra);

    let free = ask(json!({}));
    assert_eq!(free["choices"][0]["message"]["reasoning_content"], "This is a long thought about very little.");
    for budget in [0, 3] {
        // Behind the forced token the model says something else.
        let said = [&first[..budget], &[forced]].concat();
        let after = server.tokenizer.encode("Cut.[e~[", false).unwrap();
        server.answers.push([ending.clone(), said].concat(), after);
        let limited = ask(json!({"thinking_budget": budget}));
        assert_eq!(limited["choices"][0]["message"]["content"], "Cut.", "{limited}");
        assert_eq!(limited["usage"]["completion_tokens_details"]["reasoning_tokens"], budget);
    }
    // This template opens the reasoning whatever it is told.
    let off = ask(json!({"enable_thinking": false}));
    assert_eq!(off["choices"][0]["message"]["content"], "Cut.");
    assert!(off["choices"][0]["message"].get("reasoning_content").is_none());
}

#[test]
fn a_family_with_control_tokens_shows_none_of_them() {
    let server = TestServer::start(TestSetup::scripted("kimi_k2"));
    server.script(
        "<|im_assistant|>assistant<|im_middle|><think>",
        "I ask.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>\
         {\"city\": \"Bern\"}<|tool_call_end|><|tool_calls_section_end|><|im_end|>",
    );

    let answer = ask(&server, json!({"thinking_budget": 100}));

    let message = &answer["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&Value::Null, &json!("I ask.")));
    let call = json!({
        "id": "functions.get_weather:0", "type": "function",
        "function": {"name": "get_weather", "arguments": "{\"city\": \"Bern\"}"}
    });
    assert_eq!(message["tool_calls"], json!([call]));
    let plain = ask(&server, json!({"tools": null}));
    assert!(!plain.to_string().contains("<|tool_call"), "{plain}");
}

#[test]
fn what_the_model_cannot_do_is_refused() {
    let server = TestServer::start(TestSetup::default());
    let refused = |extra: Value| {
        let reply = server.client.post("/v1/chat/completions", &body(extra));
        let error = &reply.json()["error"];
        format!("{} {} {}", reply.status, error["code"].as_str().unwrap(), error["param"].as_str().unwrap_or("-"))
    };

    assert_eq!(refused(json!({"tool_choice": "required"})), "400 unsupported_parameter tool_choice");
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "now"}}});
    assert_eq!(refused(named), "400 unsupported_parameter tool_choice");
    assert_eq!(refused(json!({"tools": null, "tool_choice": "auto"})), "400 invalid_value tool_choice");
    assert_eq!(refused(json!({"tools": [{"type": "function"}]})), "400 invalid_value tools[0].function");
    assert_eq!(refused(json!({"thinking_budget": 5})), "400 unsupported_parameter thinking_budget");
    assert_eq!(refused(json!({"reasoning_effort": "low"})), "400 unsupported_parameter reasoning_effort");
    assert_eq!(refused(json!({"reasoning_effort": "banana"})), "400 invalid_value reasoning_effort");
    let wrong = json!({"thinking_budget": -2, "enable_thinking": false});
    assert_eq!(refused(wrong), "400 invalid_value thinking_budget");
    assert_eq!(refused(json!({"functions": [{"name": "f"}]})), "400 unsupported_parameter functions");
    // A model that does not think does as it is told.
    ask(&server, json!({"enable_thinking": false}));
}
