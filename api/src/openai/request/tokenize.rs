use super::chat::TemplateFields;
use super::{RequestDefaults, TemplateInput, message};
use crate::error::ApiError;
use crate::openai::body::{FromBody, read_fields};
use actix_web::http::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

/// A body of `POST /tokenize`: text, or a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizeRequest {
    fields: Fields,
    template: TemplateFields,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Fields {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    messages: Option<Vec<message::Message>>,
    #[serde(default)]
    add_special_tokens: Option<bool>,
    #[serde(default)]
    return_token_strs: Option<bool>,
}

/// What is to be tokenized.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizeText {
    /// Text as it is.
    Prompt {
        /// The text.
        text: String,
        /// Whether the tokenizer adds its special tokens.
        add_special_tokens: bool,
    },
    /// A chat, rendered first.
    Chat(TemplateInput),
}

impl FromBody for TokenizeRequest {
    fn from_body(body: &Value, _: &HeaderMap) -> Result<Self, ApiError> {
        super::refused::check(body)?;
        Ok(Self { fields: read_fields(body)?, template: read_fields(body)? })
    }
}

impl TokenizeRequest {
    /// The model that the client names.
    pub fn model(&self) -> Option<&str> {
        self.fields.model.as_deref()
    }

    /// Whether the answer shall hold each token's text.
    pub fn return_token_strs(&self) -> bool {
        self.fields.return_token_strs.unwrap_or(false)
    }

    /// What is to be tokenized, exactly as a completion or a chat would be.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] if neither or both of `prompt` and `messages` are given, and as for a chat.
    pub fn into_text(self, defaults: &RequestDefaults) -> Result<TokenizeText, ApiError> {
        let fields = self.fields;
        match (fields.prompt, fields.messages) {
            (Some(text), None) => {
                Ok(TokenizeText::Prompt { text, add_special_tokens: fields.add_special_tokens.unwrap_or(true) })
            }
            (None, Some(messages)) => {
                let input = self.template.into_input(messages, defaults)?;
                Ok(TokenizeText::Chat(input))
            }
            (None, None) => Err(ApiError::invalid("prompt", "give `prompt` or `messages`")),
            (Some(_), Some(_)) => Err(ApiError::invalid("prompt", "give `prompt` or `messages`, not both")),
        }
    }
}

/// A body of `POST /detokenize`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DetokenizeRequest {
    /// The model that the client names.
    #[serde(default)]
    pub model: Option<String>,
    /// Token ids.
    pub tokens: Vec<u32>,
}

impl FromBody for DetokenizeRequest {
    fn from_body(body: &Value, _: &HeaderMap) -> Result<Self, ApiError> {
        read_fields(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(body: Value) -> Result<TokenizeText, ApiError> {
        TokenizeRequest::from_body(&body, &HeaderMap::new())?.into_text(&RequestDefaults::default())
    }

    #[test]
    fn text_gets_special_tokens_and_a_chat_writes_its_own() {
        let prompt = text(json!({"prompt": "a"})).unwrap();
        let chat = text(json!({"messages": [{"role": "user", "content": "a"}]})).unwrap();

        assert_eq!(prompt, TokenizeText::Prompt { text: "a".into(), add_special_tokens: true });
        let TokenizeText::Chat(input) = chat else { panic!("a chat was sent") };
        assert!(input.add_generation_prompt && !input.add_special_tokens);
    }

    #[test]
    fn exactly_one_of_prompt_and_messages_is_given() {
        assert_eq!(text(json!({})).unwrap_err().param(), Some("prompt"));
        assert_eq!(text(json!({"prompt": "a", "messages": []})).unwrap_err().param(), Some("prompt"));
    }

    #[test]
    fn detokenize_refuses_what_is_no_token() {
        let error = DetokenizeRequest::from_body(&json!({"tokens": [1, -2]}), &HeaderMap::new()).unwrap_err();

        assert_eq!(error.param(), Some("tokens[1]"));
    }
}
