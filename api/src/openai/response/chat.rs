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
    /// What is wrong with calls that were malformed; their text is content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AssistantMessage {
    role: &'static str,
    /// The answer; null where there are calls instead.
    pub content: Option<String>,
    /// What the model thought before, where it thinks and the text can be told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Calls of tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    refusal: Option<()>,
}

impl AssistantMessage {
    /// An answer made of its parts; reasoning that is empty is none.
    pub fn new(content: impl Into<String>, reasoning: String, tool_calls: Vec<ToolCall>) -> Self {
        let content = Some(content.into()).filter(|content| !content.is_empty() || tool_calls.is_empty());
        let reasoning_content = Some(reasoning).filter(|reasoning| !reasoning.is_empty());
        Self { role: "assistant", content, reasoning_content, tool_calls, refusal: None }
    }
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolCall {
    /// What its result will refer to.
    pub id: String,
    /// `function`.
    pub r#type: &'static str,
    /// What is called.
    pub function: FunctionCall,
}

/// A function and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionCall {
    /// Its name.
    pub name: String,
    /// The JSON of an object, as a string.
    pub arguments: String,
}

impl ToolCall {
    /// A call whose arguments are still to come.
    pub fn new(id: String, name: String) -> Self {
        Self { id, r#type: "function", function: FunctionCall { name, arguments: String::new() } }
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
    /// What is wrong with a call that was malformed; its text is content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
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
    /// A call that begins, or more of its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallDelta>,
}

/// What a chunk adds to the calls of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolCallDelta {
    /// Which call of the message.
    pub index: usize,
    /// In the first chunk of a call: what its result will refer to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the first chunk of a call: `function`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// What is added.
    pub function: FunctionDelta,
}

/// What a chunk adds to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionDelta {
    /// In the first chunk of a call: the function's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON.
    pub arguments: String,
}

impl ToolCallDelta {
    /// The first chunk of a call.
    pub fn begin(index: usize, id: String, name: String) -> Self {
        let function = FunctionDelta { name: Some(name), arguments: String::new() };
        Self { index, id: Some(id), r#type: Some("function"), function }
    }

    /// More of its arguments.
    pub fn arguments(index: usize, arguments: String) -> Self {
        Self { index, id: None, r#type: None, function: FunctionDelta { name: None, arguments } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_answer_has_all_fields_that_clients_read() {
        let message = AssistantMessage::new("4", "2+2".into(), Vec::new());
        let choice =
            ChatChoice { index: 0, message, logprobs: None, finish_reason: FinishReason::Stop, warnings: Vec::new() };
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

    #[test]
    fn an_answer_of_calls_alone_has_no_content() {
        let mut call = ToolCall::new("call_1".into(), "f".into());
        call.function.arguments.push_str("{}");
        let message = serde_json::to_string(&AssistantMessage::new("", String::new(), vec![call])).unwrap();

        insta::assert_snapshot!(message, @r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}],"refusal":null}"#);
        assert_eq!(AssistantMessage::new("", String::new(), Vec::new()).content, Some(String::new()));
    }
}
