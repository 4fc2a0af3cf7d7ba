use crate::error::ApiError;
use serde_json::Value;

/// Known fields that would change the answer and cannot be honoured, with what to do instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("functions", "use `tools`"),
    ("suffix", "no loaded model has a fill-in template"),
    ("guided_json", "answers cannot be constrained"),
    ("guided_regex", "answers cannot be constrained"),
    ("guided_choice", "answers cannot be constrained"),
    ("guided_grammar", "answers cannot be constrained"),
    ("structured_outputs", "answers cannot be constrained"),
    ("grammar", "answers cannot be constrained"),
    ("json_schema", "answers cannot be constrained"),
    ("regex", "answers cannot be constrained"),
    ("ebnf", "answers cannot be constrained"),
    ("audio", "answers are text"),
    ("documents", "put documents into the messages"),
    ("chat_template", "templates come from the model or its preset"),
    ("use_beam_search", "answers are sampled, use `n`"),
    ("bad_words", "use `logit_bias`"),
    ("allowed_token_ids", "use `logit_bias`"),
    ("logits_processors", "use `logit_bias`"),
    ("truncate_prompt_tokens", "shorten the prompt"),
    ("prompt_logprobs", "use `/v1/completions` with `echo` and `logprobs`"),
    ("stop_regex", "use `stop`"),
    ("lora_path", "there are no adapters"),
    ("mirostat", "use `temperature`, `top_p` or `min_p`"),
    ("xtc_probability", "use `temperature`, `top_p` or `min_p`"),
    ("dry_multiplier", "use `repetition_penalty`"),
    ("no_repeat_ngram_size", "use `repetition_penalty`"),
];

/// Those of them that 0 switches off.
const OFF_AT_ZERO: [&str; 4] = ["mirostat", "xtc_probability", "dry_multiplier", "no_repeat_ngram_size"];

/// Refuses what cannot be honoured. A field with an empty value (null, false, "", [], {}) asks for nothing.
///
/// # Errors
/// [`ApiError::Unsupported`] naming the first such field.
pub(super) fn check(body: &Value) -> Result<(), ApiError> {
    for (field, reason) in UNSUPPORTED {
        if body.get(field).is_some_and(|value| !asks_for_nothing(field, value)) {
            return Err(ApiError::unsupported(*field, *reason));
        }
    }
    match body.get("function_call") {
        None | Some(Value::Null) => {}
        Some(Value::String(choice)) if choice == "none" => {}
        Some(_) => return Err(ApiError::unsupported("function_call", "use `tool_choice`")),
    }
    match body.get("response_format") {
        None | Some(Value::Null) => {}
        Some(format) if format.get("type").and_then(Value::as_str) == Some("text") => {}
        Some(_) => return Err(ApiError::unsupported("response_format", "only {\"type\":\"text\"} is available")),
    }
    match body.get("modalities") {
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind != "text") => {
            Err(ApiError::unsupported("modalities", "answers are text"))
        }
        _ => Ok(()),
    }
}

fn asks_for_nothing(field: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => OFF_AT_ZERO.contains(&field) && number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Fields of chats that a bare prompt cannot honour.
const CHAT_ALONE: [(&str, &str); 3] = [
    ("tools", "tools are called in chats alone"),
    ("thinking_budget", "thinking is limited in chats alone"),
    ("thinking_token_budget", "thinking is limited in chats alone"),
];

/// Refuses, for a completion, what only chats have.
///
/// # Errors
/// [`ApiError::Unsupported`] naming the first such field.
pub(super) fn check_completion(body: &Value) -> Result<(), ApiError> {
    let asked =
        CHAT_ALONE.iter().find(|(field, _)| body.get(field).is_some_and(|value| !asks_for_nothing(field, value)));
    match asked {
        Some((field, reason)) => Err(ApiError::unsupported(*field, *reason)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let cases = [
            (json!({"functions": [{}]}), "functions"),
            (json!({"function_call": "auto"}), "function_call"),
            (json!({"response_format": {"type": "json_object"}}), "response_format"),
            (json!({"response_format": "json"}), "response_format"),
            (json!({"suffix": "}"}), "suffix"),
            (json!({"modalities": ["text", "audio"]}), "modalities"),
        ];

        for (body, field) in cases {
            let error = check(&body).unwrap_err();
            assert_eq!((error.code(), error.param()), ("unsupported_parameter", Some(field)));
        }
    }

    #[test]
    fn fields_that_ask_for_nothing_pass() {
        let body = json!({
            "functions": null, "function_call": "none", "response_format": {"type": "text"},
            "suffix": "", "regex": null, "use_beam_search": false, "mirostat": 0, "modalities": ["text"],
        });

        assert_eq!(check(&body), Ok(()));
    }
}
