use super::common::Common;
use super::limits::alternatives;
use super::{Generation, Prompt, RequestDefaults};
use crate::error::ApiError;
use crate::openai::body::{FromBody, read_fields};
use actix_web::http::header::HeaderMap;
use lmx_runtime::sampling::SamplingParams;
use serde::Deserialize;
use serde_json::Value;

/// Prompts that one request may hold.
const MAX_PROMPTS: usize = 1024;

/// A body of `POST /v1/completions`.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    prompts: Vec<Prompt>,
    fields: Fields,
    common: Common,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Fields {
    echo: Option<bool>,
    logprobs: Option<i64>,
    add_special_tokens: Option<bool>,
}

/// A completion request, checked and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionParts {
    /// At least one prompt; each gets `n` answers.
    pub prompts: Vec<Prompt>,
    /// Whether answers begin with their prompt.
    pub echo: bool,
    /// Whether the tokenizer adds its special tokens to text.
    pub add_special_tokens: bool,
    /// How tokens are chosen, without the model's own end tokens.
    pub params: SamplingParams,
    /// How far the answer goes and how it is sent. `max_tokens` may be 0 where `echo` is set.
    pub generation: Generation,
}

impl FromBody for CompletionRequest {
    fn from_body(body: &Value, headers: &HeaderMap) -> Result<Self, ApiError> {
        super::refused::check_completion(body)?;
        let common = Common::read(body, headers)?;
        Ok(Self { prompts: Prompt::read_list(body, "prompt", MAX_PROMPTS)?, fields: read_fields(body)?, common })
    }
}

impl CompletionRequest {
    /// The model that the client names.
    pub fn model(&self) -> Option<&str> {
        self.common.model.as_deref()
    }

    /// Checks every value and fills the gaps from `defaults`.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] or [`ApiError::Unsupported`], with the field and the limit.
    pub fn into_parts(self, defaults: &RequestDefaults) -> Result<CompletionParts, ApiError> {
        let echo = self.fields.echo.unwrap_or(false);
        let (mut params, generation) = self.common.resolve(defaults, if echo { 0 } else { 1 })?;
        params.logprobs = self.fields.logprobs.map(|n| alternatives("logprobs", n)).transpose()?;
        if echo {
            params.prompt_logprobs = params.logprobs;
        }
        let add_special_tokens = self.fields.add_special_tokens.unwrap_or(true);
        Ok(CompletionParts { prompts: self.prompts, echo, add_special_tokens, params, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parts(body: Value) -> Result<CompletionParts, ApiError> {
        CompletionRequest::from_body(&body, &HeaderMap::new())?.into_parts(&RequestDefaults::default())
    }

    #[test]
    fn an_echo_brings_the_log_probabilities_of_the_prompt_and_may_generate_nothing() {
        let scored = parts(json!({"prompt": "a", "echo": true, "logprobs": 2, "max_tokens": 0})).unwrap();

        assert_eq!((scored.params.logprobs, scored.params.prompt_logprobs), (Some(2), Some(2)));
        assert_eq!(scored.generation.max_tokens, Some(0));
        assert_eq!(parts(json!({"prompt": "a", "max_tokens": 0})).unwrap_err().param(), Some("max_tokens"));
        assert_eq!(parts(json!({"prompt": "a", "logprobs": 2})).unwrap().params.prompt_logprobs, None);
    }

    #[test]
    fn log_probabilities_have_a_limit_and_a_suffix_is_refused() {
        assert_eq!(parts(json!({"prompt": "a", "logprobs": 21})).unwrap_err().param(), Some("logprobs"));
        assert_eq!(parts(json!({"prompt": "a", "suffix": "b"})).unwrap_err().code(), "unsupported_parameter");
    }

    #[test]
    fn what_only_chats_have_is_refused() {
        for (field, value) in [("tools", json!([{}])), ("thinking_budget", json!(9))] {
            let error = parts(json!({"prompt": "a", field: value})).unwrap_err();
            assert_eq!((error.code(), error.param()), ("unsupported_parameter", Some(field)));
        }
        assert!(parts(json!({"prompt": "a", "tools": [], "thinking_budget": null})).is_ok());
    }
}
