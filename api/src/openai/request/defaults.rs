use super::common::Common;
use crate::error::ApiError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a model's requests get where they say nothing, as its preset gives it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestDefaults {
    /// Put before the messages of a chat that has no system message.
    pub system_prompt: Option<String>,
    /// Variables of the chat template; a request's own win.
    pub chat_template_kwargs: Map<String, Value>,
    /// Sampling and limits.
    pub parameters: Parameters,
}

impl RequestDefaults {
    /// Checks the values as a request's own would be.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] with the first value that is out of range.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.parameters.max_tokens == Some(0) {
            return Err(ApiError::invalid("max_tokens", "0 tokens are fewer than 1"));
        }
        Common::default().resolve(self, 1).map(drop)
    }
}

/// Sampling and limits of requests that do not give their own. Absent: the neutral value of the sampler.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Higher: more varied. 0 takes the most probable token. `[0, 2]`.
    pub temperature: Option<f32>,
    /// Smallest set of tokens whose probabilities reach this sum. Lower: fewer odd words. `(0, 1]`, 1 is off.
    pub top_p: Option<f32>,
    /// The most probable tokens only. Lower: fewer odd words. 0 and -1 are off.
    pub top_k: Option<i64>,
    /// Tokens at least this probable relative to the best one. Higher: fewer odd words. `[0, 1]`, 0 is off.
    pub min_p: Option<f32>,
    /// Tokens of an answer. Absent: as many as the context holds.
    pub max_tokens: Option<u32>,
    /// Strings that end an answer, up to 16.
    pub stop: Vec<String>,
    /// Higher: less repetition of prompt and answer. Above 0, 1 is off.
    pub repetition_penalty: Option<f32>,
    /// Higher: more new words. `[-2, 2]`, 0 is off.
    pub presence_penalty: Option<f32>,
    /// Higher: fewer frequent words. `[-2, 2]`, 0 is off.
    pub frequency_penalty: Option<f32>,
    /// Tokens of prompt and answer together, where fewer than the model holds are wanted.
    pub num_ctx: Option<u32>,
    /// Tokens of reasoning, after which its end is forced. Lower: faster answers, less thought. Absent: no limit.
    pub thinking_budget: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_have_the_limits_of_requests() {
        let check = |parameters| RequestDefaults { parameters, ..RequestDefaults::default() }.check();
        let none = Parameters::default;

        assert_eq!(check(none()), Ok(()));
        let wrong = [
            (Parameters { temperature: Some(3.0), ..none() }, "temperature"),
            (Parameters { num_ctx: Some(0), ..none() }, "num_ctx"),
            (Parameters { max_tokens: Some(0), ..none() }, "max_tokens"),
            (Parameters { stop: vec![String::new()], ..none() }, "stop"),
        ];
        for (parameters, field) in wrong {
            assert_eq!(check(parameters).unwrap_err().param(), Some(field));
        }
    }
}
