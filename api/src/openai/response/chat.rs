use super::{ChatLogprobs, FinishReason, Usage, UsageField};
use serde::Serialize;

/// A complete answer to a chat.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatCompletion {
    /// `chatcmpl-…`.
    pub id: String,
    /// `chat.completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// The answers, in order.
    pub choices: Vec<ChatChoice>,
    /// Tokens of prompt and answers.
    pub usage: Usage,
}

/// One answer to a chat.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChoice {
    /// Which of the `n` answers.
    pub index: u32,
    /// What the model said.
    pub message: AssistantMessage,
    /// Present when the request asked for them.
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AssistantMessage {
    role: &'static str,
    /// The answer.
    pub content: String,
    /// What the model thought before, where it thinks and the text can be told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    refusal: Option<()>,
}

impl AssistantMessage {
    /// An answer without reasoning.
    pub fn new(content: impl Into<String>) -> Self {
        Self { role: "assistant", content: content.into(), reasoning_content: None, refusal: None }
    }
}

impl ChatCompletion {
    /// A complete answer.
    pub fn new(id: String, created: u64, model: String, choices: Vec<ChatChoice>, usage: Usage) -> Self {
        Self { id, object: "chat.completion", created, model, choices, usage }
    }
}

/// A part of a streamed answer to a chat.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChunk<'a> {
    /// The same in all chunks.
    pub id: &'a str,
    /// `chat.completion.chunk`.
    pub object: &'static str,
    /// The same in all chunks.
    pub created: u64,
    /// The same in all chunks.
    pub model: &'a str,
    /// One, or none in the chunk of usage.
    pub choices: Vec<ChatChunkChoice>,
    /// As the request asked for it.
    #[serde(skip_serializing_if = "UsageField::is_absent")]
    pub usage: UsageField,
}

/// What a chunk adds to an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatChunkChoice {
    /// Which of the `n` answers.
    pub index: u32,
    /// What is added.
    pub delta: ChatDelta,
    /// Present when the request asked for them.
    pub logprobs: Option<ChatLogprobs>,
    /// Present in the last chunk of an answer.
    pub finish_reason: Option<FinishReason>,
}

/// What a chunk adds to a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChatDelta {
    /// In the first chunk: `assistant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// More of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of the reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_answer_has_all_fields_that_clients_read() {
        let message = AssistantMessage { reasoning_content: Some("2+2".into()), ..AssistantMessage::new("4") };
        let choice = ChatChoice { index: 0, message, logprobs: None, finish_reason: FinishReason::Stop };
        let answer =
            ChatCompletion::new("chatcmpl-1".into(), 1_700_000_000, "m".into(), vec![choice], Usage::new(9, 8, 1));

        insta::assert_json_snapshot!(answer, @r#"
        {
          "id": "chatcmpl-1",
          "object": "chat.completion",
          "created": 1700000000,
          "model": "m",
          "choices": [
            {
              "index": 0,
              "message": {
                "role": "assistant",
                "content": "4",
                "reasoning_content": "2+2",
                "refusal": null
              },
              "logprobs": null,
              "finish_reason": "stop"
            }
          ],
          "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 1,
            "total_tokens": 10,
            "prompt_tokens_details": {
              "cached_tokens": 8
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
