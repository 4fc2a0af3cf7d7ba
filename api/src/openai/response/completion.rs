use super::{CompletionLogprobs, FinishReason, UsageField};
use serde::Serialize;

/// A complete answer to `/v1/completions`, or a chunk of a streamed one: both have the same form.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextCompletion {
    /// `cmpl-…`, the same in all chunks.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// The answers; in a stream one, or none in the chunk of usage.
    pub choices: Vec<TextChoice>,
    /// Tokens of prompts and answers.
    #[serde(skip_serializing_if = "UsageField::is_absent")]
    pub usage: UsageField,
}

/// One answer, or what a chunk adds to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextChoice {
    /// Place among all answers: those of the first prompt, then those of the second.
    pub index: u32,
    /// The text.
    pub text: String,
    /// Present when the request asked for them.
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended; absent in all chunks but the last of an answer.
    pub finish_reason: Option<FinishReason>,
}

impl TextCompletion {
    /// An answer or a chunk.
    pub fn new(id: String, created: u64, model: String, choices: Vec<TextChoice>, usage: UsageField) -> Self {
        Self { id, object: "text_completion", created, model, choices, usage }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Usage;
    use super::*;

    #[test]
    fn a_complete_answer_has_all_fields_that_clients_read() {
        let choice =
            TextChoice { index: 0, text: "4".into(), logprobs: None, finish_reason: Some(FinishReason::Length) };
        let usage = UsageField::Counted(Usage::new(9, 0, 1));
        let answer = TextCompletion::new("cmpl-1".into(), 1_700_000_000, "m".into(), vec![choice], usage);

        insta::assert_json_snapshot!(answer, @r#"
        {
          "id": "cmpl-1",
          "object": "text_completion",
          "created": 1700000000,
          "model": "m",
          "choices": [
            {
              "index": 0,
              "text": "4",
              "logprobs": null,
              "finish_reason": "length"
            }
          ],
          "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 1,
            "total_tokens": 10,
            "prompt_tokens_details": {
              "cached_tokens": 0
            },
            "completion_tokens_details": {
              "reasoning_tokens": 0,
              "accepted_prediction_tokens": 0,
              "rejected_prediction_tokens": 0
            }
          }
        }
        "#);
    }
}
