use serde::Serialize;

/// The answer of `POST /tokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizeResponse {
    /// How many tokens; the same as `usage.prompt_tokens` of a request with this prompt.
    pub count: usize,
    /// Tokens that the model holds.
    pub max_model_len: usize,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Their texts, where the request asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_strs: Option<Vec<String>>,
}

/// The answer of `POST /detokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DetokenizeResponse {
    /// The text of the tokens.
    pub prompt: String,
}

impl TokenizeResponse {
    /// The answer for these tokens.
    pub fn new(tokens: Vec<u32>, max_model_len: usize, token_strs: Option<Vec<String>>) -> Self {
        Self { count: tokens.len(), max_model_len, tokens, token_strs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_texts_are_there_only_when_asked_for() {
        let plain = serde_json::to_string(&TokenizeResponse::new(vec![5, 6], 4096, None)).unwrap();

        assert_eq!(plain, r#"{"count":2,"max_model_len":4096,"tokens":[5,6]}"#);
    }
}
