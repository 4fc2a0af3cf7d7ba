use super::common::Common;
use super::limits::alternatives;
use super::thinking::{Thinking, ThinkingFields, check_effort};
use super::tools::{ToolFields, ToolUse};
use super::{Generation, RequestDefaults, message};
use crate::error::ApiError;
use crate::openai::body::{FromBody, read_fields};
use actix_web::http::header::HeaderMap;
use lmx_runtime::sampling::SamplingParams;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Template variables that belong to the server.
const RESERVED_KWARGS: [&str; 4] = ["messages", "tools", "add_generation_prompt", "continue_final_message"];

/// A body of `POST /v1/chat/completions`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    fields: Fields,
    template: TemplateFields,
    thinking: ThinkingFields,
    common: Common,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Fields {
    messages: Vec<message::Message>,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(default)]
    top_logprobs: Option<i64>,
}

/// What a request says about its chat template.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct TemplateFields {
    chat_template_kwargs: Option<Map<String, Value>>,
    enable_thinking: Option<bool>,
    reasoning_effort: Option<String>,
    add_generation_prompt: Option<bool>,
    continue_final_message: Option<bool>,
    add_special_tokens: Option<bool>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
}

/// What a chat template is rendered with.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateInput {
    /// Messages with `role`, `content` and, where given, `name`, `tool_calls`, `tool_call_id`, `reasoning_content`.
    pub messages: Vec<Value>,
    /// Functions that the model may call.
    pub tools: Option<ToolUse>,
    /// Further variables.
    pub kwargs: Map<String, Value>,
    /// Whether the prompt ends with the opening of an answer.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends inside of the last message, for the model to go on.
    pub continue_final_message: bool,
    /// Whether the tokenizer adds its own special tokens; templates usually write them out.
    pub add_special_tokens: bool,
}

/// A chat request, checked and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatParts {
    /// What the prompt is rendered from.
    pub template: TemplateInput,
    /// How long the model may think.
    pub thinking: Thinking,
    /// How tokens are chosen, without the model's own end tokens.
    pub params: SamplingParams,
    /// How far the answer goes and how it is sent.
    pub generation: Generation,
}

impl FromBody for ChatRequest {
    fn from_body(body: &Value, headers: &HeaderMap) -> Result<Self, ApiError> {
        if body.get("echo") == Some(&Value::Bool(true)) {
            return Err(ApiError::unsupported("echo", "only completions can be echoed"));
        }
        Ok(Self {
            common: Common::read(body, headers)?,
            fields: read_fields(body)?,
            template: read_fields(body)?,
            thinking: read_fields(body)?,
        })
    }
}

impl ChatRequest {
    /// The model that the client names.
    pub fn model(&self) -> Option<&str> {
        self.common.model.as_deref()
    }

    /// Checks every value and fills the gaps from `defaults`.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] or [`ApiError::Unsupported`], with the field and the limit.
    pub fn into_parts(self, defaults: &RequestDefaults) -> Result<ChatParts, ApiError> {
        let Fields { messages, logprobs, top_logprobs } = self.fields;
        let (mut params, generation) = self.common.resolve(defaults, 1)?;
        params.logprobs = chat_logprobs(logprobs.unwrap_or(false), top_logprobs)?;
        let effort = self.template.reasoning_effort.clone();
        let template = self.template.into_input(messages, defaults)?;
        let thinking = self.thinking.resolve(&template.kwargs, effort.as_deref(), defaults)?;
        Ok(ChatParts { template, thinking, params, generation })
    }
}

fn chat_logprobs(logprobs: bool, top_logprobs: Option<i64>) -> Result<Option<u8>, ApiError> {
    let top = alternatives("top_logprobs", top_logprobs.unwrap_or(0))?;
    if !logprobs && top > 0 {
        return Err(ApiError::invalid("top_logprobs", "needs `logprobs: true`"));
    }
    Ok(logprobs.then_some(top))
}

impl TemplateFields {
    /// Joins what the preset and the request say; the most specific wins: preset, `reasoning_effort`,
    /// `enable_thinking`, `chat_template_kwargs`.
    pub(super) fn into_input(
        self,
        messages: Vec<message::Message>,
        defaults: &RequestDefaults,
    ) -> Result<TemplateInput, ApiError> {
        let mut kwargs = defaults.chat_template_kwargs.clone();
        if let Some(effort) = self.reasoning_effort {
            check_effort(&effort)?;
            if effort == "none" {
                kwargs.insert("enable_thinking".into(), false.into());
            }
            kwargs.insert("reasoning_effort".into(), effort.into());
        }
        if let Some(enable) = self.enable_thinking {
            kwargs.insert("enable_thinking".into(), enable.into());
        }
        let given = self.chat_template_kwargs.unwrap_or_default();
        if let Some(reserved) = RESERVED_KWARGS.iter().find(|name| given.contains_key(**name)) {
            return Err(ApiError::invalid(
                format!("chat_template_kwargs.{reserved}"),
                "belongs to the server, give it as a field of the request",
            ));
        }
        kwargs.extend(given);
        let continue_final_message = self.continue_final_message.unwrap_or(false);
        if continue_final_message && self.add_generation_prompt == Some(true) {
            return Err(ApiError::invalid("continue_final_message", "excludes `add_generation_prompt`"));
        }
        let tools = ToolFields {
            tools: self.tools,
            tool_choice: self.tool_choice,
            parallel_tool_calls: self.parallel_tool_calls,
        };
        Ok(TemplateInput {
            messages: message::for_template(messages, defaults.system_prompt.as_deref())?,
            tools: tools.resolve()?,
            kwargs,
            add_generation_prompt: self.add_generation_prompt.unwrap_or(!continue_final_message),
            continue_final_message,
            add_special_tokens: self.add_special_tokens.unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parts(extra: Value) -> Result<ChatParts, ApiError> {
        parts_with(extra, &RequestDefaults::default())
    }

    fn parts_with(extra: Value, defaults: &RequestDefaults) -> Result<ChatParts, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ChatRequest::from_body(&body, &HeaderMap::new())?.into_parts(defaults)
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        let extra = json!({"store": true, "metadata": {}, "user": "u", "separate_reasoning": true, "no_stop_trim": 1});

        assert_eq!(parts(extra).unwrap(), parts(json!({})).unwrap());
    }

    #[test]
    fn a_wrong_type_in_a_message_names_its_path() {
        let cases = [
            (json!({"messages": [{"role": "user", "content": 3}]}), "messages[0].content"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}),
                "messages[0].content[0].text",
            ),
            (json!({"messages": "hi"}), "messages"),
            (json!({"messages": null}), "messages"),
            (json!({"messages": [{"content": "hi"}]}), "messages[0].role"),
            (json!({"enable_thinking": "yes"}), "enable_thinking"),
            (json!({"logprobs": 3}), "logprobs"),
        ];

        for (body, field) in cases {
            let error = parts(body).unwrap_err();
            assert_eq!((error.code(), error.param()), ("invalid_value", Some(field)), "{error}");
        }
    }

    #[test]
    fn an_echo_of_a_chat_is_refused() {
        assert_eq!(parts(json!({"echo": true})).unwrap_err().param(), Some("echo"));
        assert!(parts(json!({"echo": false})).is_ok());
    }

    #[test]
    fn missing_messages_are_named() {
        let error = ChatRequest::from_body(&json!({"model": "m"}), &HeaderMap::new()).unwrap_err();

        assert_eq!(error.to_string(), "invalid `messages`: missing");
    }

    #[test]
    fn the_most_specific_template_variable_wins() {
        let preset = json!({"enable_thinking": true, "style": "short"});
        let defaults =
            RequestDefaults { chat_template_kwargs: preset.as_object().unwrap().clone(), ..RequestDefaults::default() };
        let kwargs = |extra| Value::Object(parts_with(extra, &defaults).unwrap().template.kwargs);

        assert_eq!(kwargs(json!({})), preset);
        assert_eq!(
            kwargs(json!({"reasoning_effort": "none"})),
            json!({"enable_thinking": false, "style": "short", "reasoning_effort": "none"})
        );
        assert_eq!(kwargs(json!({"enable_thinking": false}))["enable_thinking"], false);
        let both = json!({"enable_thinking": false, "chat_template_kwargs": {"enable_thinking": true}});
        assert_eq!(kwargs(both)["enable_thinking"], true);
    }

    #[test]
    fn an_unknown_effort_is_refused_unless_it_is_a_variable_of_the_template() {
        for known in ["none", "minimal", "low", "medium", "high", "xhigh", "max"] {
            assert!(parts(json!({"reasoning_effort": known})).is_ok(), "{known}");
        }
        let error = parts(json!({"reasoning_effort": "banana"})).unwrap_err();
        assert_eq!((error.code(), error.param()), ("invalid_value", Some("reasoning_effort")));
        let own = parts(json!({"chat_template_kwargs": {"reasoning_effort": "banana"}})).unwrap();
        assert_eq!(own.template.kwargs["reasoning_effort"], "banana");
    }

    #[test]
    fn template_variables_of_the_server_are_reserved() {
        let error = parts(json!({"chat_template_kwargs": {"messages": []}})).unwrap_err();

        assert_eq!(error.param(), Some("chat_template_kwargs.messages"));
    }

    #[test]
    fn log_probabilities_are_asked_for_with_up_to_twenty_alternatives() {
        let asked = |extra| parts(extra).map(|parts| parts.params.logprobs);

        assert_eq!(asked(json!({})), Ok(None));
        assert_eq!(asked(json!({"logprobs": true})), Ok(Some(0)));
        assert_eq!(asked(json!({"logprobs": true, "top_logprobs": 20})), Ok(Some(20)));
        assert_eq!(asked(json!({"logprobs": false, "top_logprobs": 0})), Ok(None));
        assert_eq!(asked(json!({"top_logprobs": 2})).unwrap_err().param(), Some("top_logprobs"));
        assert_eq!(asked(json!({"logprobs": true, "top_logprobs": 21})).unwrap_err().param(), Some("top_logprobs"));
    }

    #[test]
    fn going_on_with_the_last_message_excludes_opening_a_new_one() {
        let template = |extra| parts(extra).map(|parts| parts.template);

        assert!(template(json!({})).unwrap().add_generation_prompt);
        assert!(!template(json!({"continue_final_message": true})).unwrap().add_generation_prompt);
        let both = json!({"continue_final_message": true, "add_generation_prompt": true});
        assert_eq!(template(both).unwrap_err().param(), Some("continue_final_message"));
    }
}
