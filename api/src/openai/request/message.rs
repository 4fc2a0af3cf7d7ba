//! The messages of a chat, as the client wrote them and as templates read them.

use crate::error::ApiError;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value, json};
use std::fmt;

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
}

/// What a message says: a string or parts.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

/// A call that the assistant made earlier in the chat.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct ToolCall {
    #[serde(default)]
    id: Option<String>,
    function: FunctionCall,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct FunctionCall {
    name: String,
    #[serde(default)]
    arguments: Value,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, parts: A) -> Result<Content, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Turns the messages of a chat into what templates read, with `system_prompt` in front where no system message stands.
///
/// # Errors
/// [`ApiError::Invalid`] for an empty list or an unknown role, [`ApiError::Unsupported`] for parts that are not text.
pub(super) fn for_template(messages: Vec<Message>, system_prompt: Option<&str>) -> Result<Vec<Value>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "at least one message is needed"));
    }
    let has_system = messages.iter().any(|message| matches!(message.role.as_str(), "system" | "developer"));
    let preset = system_prompt.filter(|_| !has_system).map(|text| Ok(json!({"role": "system", "content": text})));
    preset.into_iter().chain(messages.into_iter().enumerate().map(|(i, message)| message.for_template(i))).collect()
}

impl Message {
    fn for_template(self, index: usize) -> Result<Value, ApiError> {
        let role = match self.role.as_str() {
            // Templates know no developer.
            "system" | "developer" => "system",
            role @ ("user" | "assistant" | "tool") => role,
            unknown => {
                let known = "system, developer, user, assistant, tool";
                return Err(ApiError::invalid(
                    format!("messages[{index}].role"),
                    format!("`{unknown}` is none of {known}"),
                ));
            }
        };
        let content = match self.content {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => join(parts, index)?,
            None if role == "assistant" => String::new(),
            None => {
                return Err(ApiError::invalid(
                    format!("messages[{index}].content"),
                    format!("missing for role `{role}`"),
                ));
            }
        };
        let mut message = Map::new();
        message.insert("role".into(), role.into());
        message.insert("content".into(), content.into());
        let optional = [
            ("name", self.name),
            ("tool_call_id", self.tool_call_id),
            ("reasoning_content", self.reasoning_content.or(self.reasoning)),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                message.insert(key.into(), value.into());
            }
        }
        if let Some(calls) = self.tool_calls.filter(|calls| !calls.is_empty()) {
            message.insert("tool_calls".into(), calls.into_iter().map(ToolCall::for_template).collect());
        }
        Ok(Value::Object(message))
    }
}

/// Joins the texts of a message's parts with line breaks.
fn join(parts: Vec<Part>, message: usize) -> Result<String, ApiError> {
    let mut texts = Vec::with_capacity(parts.len());
    for (i, part) in parts.into_iter().enumerate() {
        match (part.kind.as_str(), part.text) {
            ("text", Some(text)) => texts.push(text),
            ("text", None) => {
                return Err(ApiError::invalid(format!("messages[{message}].content[{i}].text"), "missing"));
            }
            (kind, _) => {
                return Err(ApiError::unsupported(
                    format!("messages[{message}].content[{i}]"),
                    format!("a part of type `{kind}`, the model reads text alone"),
                ));
            }
        }
    }
    Ok(texts.join("\n"))
}

impl ToolCall {
    fn for_template(self) -> Value {
        // Clients send arguments as a string of JSON; templates iterate over an object.
        let arguments = match self.function.arguments {
            // Calls of tools without parameters come back like this from many clients.
            Value::Null => json!({}),
            Value::String(text) if text.trim().is_empty() => json!({}),
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(Value::Object(parsed)) => Value::Object(parsed),
                Ok(_) | Err(_) => Value::String(text),
            },
            given => given,
        };
        let mut call = Map::new();
        if let Some(id) = self.id {
            call.insert("id".into(), id.into());
        }
        call.insert("type".into(), "function".into());
        call.insert("function".into(), json!({"name": self.function.name, "arguments": arguments}));
        Value::Object(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(messages: Value) -> Result<Vec<Value>, ApiError> {
        for_template(serde_json::from_value(messages).unwrap(), Some("preset"))
    }

    #[test]
    fn a_preset_speaks_only_where_the_client_gives_no_system_message() {
        let user = json!({"role": "user", "content": "hi"});

        assert_eq!(render(json!([user])).unwrap(), [json!({"role": "system", "content": "preset"}), user.clone()]);
        let developer = render(json!([{"role": "developer", "content": "own"}, user])).unwrap();
        assert_eq!(developer, [json!({"role": "system", "content": "own"}), user]);
    }

    #[test]
    fn text_parts_are_joined() {
        let parts =
            json!([{"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);

        assert_eq!(render(parts).unwrap()[0]["content"], "a\nb");
    }

    #[test]
    fn parts_that_are_not_text_are_refused_not_dropped() {
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]);

        let error = render(image).unwrap_err();

        assert_eq!((error.code(), error.param()), ("unsupported_parameter", Some("messages[0].content[0]")));
    }

    #[test]
    fn an_assistant_may_say_nothing_and_others_may_not() {
        for content in [json!({"content": null}), json!({}), json!({"content": ""})] {
            let mut message = content;
            message["role"] = "assistant".into();
            assert_eq!(render(json!([message])).unwrap()[1]["content"], "");
        }
        let error = render(json!([{"role": "user"}])).unwrap_err();
        assert_eq!(error.param(), Some("messages[0].content"));
    }

    #[test]
    fn arguments_of_earlier_calls_become_objects_where_they_are_json() {
        let call = |arguments: &str| {
            let calls = json!([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}]);
            let chat = json!([{"role": "assistant", "tool_calls": calls}]);
            render(chat).unwrap()[1]["tool_calls"][0].clone()
        };

        assert_eq!(call(r#"{"city":"Ulm"}"#)["function"]["arguments"], json!({"city": "Ulm"}));
        assert_eq!(call("not json")["function"]["arguments"], json!("not json"));
        assert_eq!(call("{}")["id"], "c1");
    }

    #[test]
    fn missing_arguments_of_earlier_calls_are_an_empty_object() {
        for function in [
            json!({"name": "f", "arguments": ""}),
            json!({"name": "f", "arguments": " \n"}),
            json!({"name": "f", "arguments": null}),
            json!({"name": "f", "arguments": {}}),
            json!({"name": "f"}),
        ] {
            let chat = json!([{"role": "assistant", "tool_calls": [{"id": "c1", "function": function}]}]);
            assert_eq!(render(chat).unwrap()[1]["tool_calls"][0]["function"]["arguments"], json!({}), "{function}");
        }
    }

    #[test]
    fn reasoning_is_accepted_under_both_names() {
        for name in ["reasoning", "reasoning_content"] {
            let chat = json!([{"role": "assistant", "content": "4", name: "2+2"}]);
            assert_eq!(render(chat).unwrap()[1]["reasoning_content"], "2+2");
        }
    }

    #[test]
    fn an_unknown_role_and_an_empty_chat_are_refused() {
        assert_eq!(render(json!([])).unwrap_err().param(), Some("messages"));
        let error = render(json!([{"role": "wizard", "content": "x"}])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid `messages[0].role`: `wizard` is none of system, developer, user, assistant, tool"
        );
    }
}
