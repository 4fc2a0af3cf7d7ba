//! The exact bytes of a streamed answer: role, content, finish reason, usage, `[DONE]`, and comments while nothing is
//! ready.

use crate::openai::request::Generation;
use crate::openai::response::{
    ChatChunk, ChatChunkChoice, ChatDelta, ChatLogprobs, CompletionLogprobs, FinishReason, TextChoice, TextCompletion,
    ToolCallDelta, Usage, UsageField,
};
use bytes::Bytes;
use serde::Serialize;

/// The last event of a stream that went well.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// Headers of every stream: nothing between the server and the client may hold it back.
pub const HEADERS: [(&str, &str); 3] =
    [("content-type", "text/event-stream"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")];

/// One event with a JSON value.
pub fn data(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).expect("answers are plain data with string keys");
    Bytes::from(format!("data: {json}\n\n"))
}

/// A comment that keeps the connection open while `done` of `total` prompt tokens are computed. Clients skip it.
pub fn keepalive(done: usize, total: usize) -> Bytes {
    Bytes::from(format!(": keepalive {done}/{total}\n\n"))
}

/// When the chunks of a stream carry usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageMode {
    /// Never.
    Off,
    /// In a chunk of its own before `[DONE]`; null before.
    AtEnd,
    /// In each chunk, and at the end.
    Continuous,
}

impl UsageMode {
    /// What the request asked for.
    pub fn of(generation: &Generation) -> Self {
        match (generation.include_usage, generation.continuous_usage) {
            (false, _) => Self::Off,
            (true, false) => Self::AtEnd,
            (true, true) => Self::Continuous,
        }
    }

    fn field(self, usage: Usage) -> UsageField {
        match self {
            Self::Off => UsageField::Absent,
            Self::AtEnd => UsageField::Null,
            Self::Continuous => UsageField::Counted(usage),
        }
    }
}

/// What all chunks of a stream have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    /// `chatcmpl-…` or `cmpl-…`.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// When chunks carry usage.
    pub usage: UsageMode,
}

/// Builds the events of a streamed chat. `usage` is what has been used so far; the mode decides whether it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatStream {
    head: StreamHead,
}

impl ChatStream {
    /// A stream with this head.
    pub fn new(head: StreamHead) -> Self {
        Self { head }
    }

    /// The first event of an answer: who speaks.
    pub fn role(&self, choice: u32, usage: Usage) -> Bytes {
        let delta = ChatDelta { role: Some("assistant"), content: Some(String::new()), ..ChatDelta::default() };
        self.delta(choice, delta, None, None, usage)
    }

    /// More of an answer.
    pub fn content(&self, choice: u32, text: String, logprobs: Option<ChatLogprobs>, usage: Usage) -> Bytes {
        self.delta(choice, ChatDelta { content: Some(text), ..ChatDelta::default() }, logprobs, None, usage)
    }

    /// More of the reasoning before an answer.
    pub fn reasoning(&self, choice: u32, text: String, logprobs: Option<ChatLogprobs>, usage: Usage) -> Bytes {
        self.delta(choice, ChatDelta { reasoning_content: Some(text), ..ChatDelta::default() }, logprobs, None, usage)
    }

    /// A call that begins, or more of it.
    pub fn tool_call(&self, choice: u32, call: ToolCallDelta, logprobs: Option<ChatLogprobs>, usage: Usage) -> Bytes {
        self.delta(choice, ChatDelta { tool_calls: vec![call], ..ChatDelta::default() }, logprobs, None, usage)
    }

    /// Log probabilities of tokens that have no text yet.
    pub fn tokens(&self, choice: u32, logprobs: ChatLogprobs, usage: Usage) -> Bytes {
        self.delta(choice, ChatDelta::default(), Some(logprobs), None, usage)
    }

    /// What is wrong with a call.
    pub fn warning(&self, choice: u32, warning: String, usage: Usage) -> Bytes {
        let delta = ChatDelta::default();
        let warnings = vec![warning];
        let choice = ChatChunkChoice { index: choice, delta, logprobs: None, finish_reason: None, warnings };
        self.chunk(vec![choice], self.head.usage.field(usage))
    }

    /// The last event of an answer.
    pub fn finish(&self, choice: u32, reason: FinishReason, usage: Usage) -> Bytes {
        self.delta(choice, ChatDelta::default(), None, Some(reason), usage)
    }

    /// The end of the stream: usage if it was asked for, then `[DONE]`.
    pub fn end(&self, usage: Usage) -> Bytes {
        match self.head.usage {
            UsageMode::Off => DONE,
            UsageMode::AtEnd | UsageMode::Continuous => {
                join(&self.chunk(Vec::new(), UsageField::Counted(usage)), &DONE)
            }
        }
    }

    fn delta(
        &self,
        index: u32,
        delta: ChatDelta,
        logprobs: Option<ChatLogprobs>,
        finish_reason: Option<FinishReason>,
        usage: Usage,
    ) -> Bytes {
        let choice = ChatChunkChoice { index, delta, logprobs, finish_reason, warnings: Vec::new() };
        self.chunk(vec![choice], self.head.usage.field(usage))
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>, usage: UsageField) -> Bytes {
        let StreamHead { id, created, model, .. } = &self.head;
        data(&ChatChunk { id, object: "chat.completion.chunk", created: *created, model, choices, usage })
    }
}
///  Builds the events of a streamed completion. `usage` is what has been used so far; the mode decides whether it is
/// sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionStream {
    head: StreamHead,
}

impl CompletionStream {
    /// A stream with this head.
    pub fn new(head: StreamHead) -> Self {
        Self { head }
    }

    /// More of an answer.
    pub fn text(&self, choice: u32, text: String, logprobs: Option<CompletionLogprobs>, usage: Usage) -> Bytes {
        self.choice(TextChoice { index: choice, text, logprobs, finish_reason: None }, usage)
    }

    /// The last event of an answer.
    pub fn finish(&self, choice: u32, reason: FinishReason, usage: Usage) -> Bytes {
        let last = TextChoice { index: choice, text: String::new(), logprobs: None, finish_reason: Some(reason) };
        self.choice(last, usage)
    }

    /// The end of the stream: usage if it was asked for, then `[DONE]`.
    pub fn end(&self, usage: Usage) -> Bytes {
        match self.head.usage {
            UsageMode::Off => DONE,
            UsageMode::AtEnd | UsageMode::Continuous => {
                join(&self.chunk(Vec::new(), UsageField::Counted(usage)), &DONE)
            }
        }
    }

    fn choice(&self, choice: TextChoice, usage: Usage) -> Bytes {
        self.chunk(vec![choice], self.head.usage.field(usage))
    }

    fn chunk(&self, choices: Vec<TextChoice>, usage: UsageField) -> Bytes {
        let StreamHead { id, created, model, .. } = &self.head;
        data(&TextCompletion::new(id.clone(), *created, model.clone(), choices, usage))
    }
}

fn join(first: &[u8], second: &[u8]) -> Bytes {
    Bytes::from([first, second].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ApiError;
    use lmx_runtime::ids::StepId;

    fn head(usage: UsageMode) -> StreamHead {
        StreamHead { id: "chatcmpl-1".into(), created: 1_700_000_000, model: "m".into(), usage }
    }

    fn transcript(events: &[Bytes]) -> String {
        String::from_utf8(events.concat()).unwrap()
    }

    fn chat(mode: UsageMode) -> String {
        let stream = ChatStream::new(head(mode));
        let used = |tokens| Usage::new(9, 8, tokens);
        transcript(&[
            keepalive(512, 2048),
            stream.role(0, used(0)),
            stream.reasoning(0, "Hm.".into(), None, used(1)),
            stream.content(0, "Grüß Gott\n".into(), None, used(3)),
            stream.finish(0, FinishReason::Stop, used(3)),
            stream.end(used(3)),
        ])
    }

    #[test]
    fn a_chat_streams_role_reasoning_content_finish_reason_done() {
        insta::assert_snapshot!(chat(UsageMode::Off), @r#"
        : keepalive 512/2048

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"Hm."},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":"Grüß Gott\n"},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

        data: [DONE]
        "#);
    }

    #[test]
    fn a_call_streams_its_id_and_name_first_and_its_arguments_after() {
        let (stream, used) = (ChatStream::new(head(UsageMode::Off)), Usage::default());

        let events = [
            stream.tool_call(0, ToolCallDelta::begin(1, "call_1".into(), "f".into()), None, used),
            stream.tool_call(0, ToolCallDelta::arguments(1, "{\"a\": 1}".into()), None, used),
            stream.warning(0, "odd".into(), used),
            stream.finish(0, FinishReason::ToolCalls, used),
        ];

        insta::assert_snapshot!(transcript(&events), @r#"
        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\"a\": 1}"}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null,"warnings":["odd"]}]}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]}
        "#);
    }

    #[test]
    fn usage_comes_in_its_own_chunk_when_asked_for_and_is_null_before() {
        insta::assert_snapshot!(chat(UsageMode::AtEnd), @r#"
        : keepalive 512/2048

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"Hm."},"logprobs":null,"finish_reason":null}],"usage":null}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":"Grüß Gott\n"},"logprobs":null,"finish_reason":null}],"usage":null}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}

        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}

        data: [DONE]
        "#);
    }

    #[test]
    fn usage_comes_in_each_chunk_when_asked_for() {
        let counted = chat(UsageMode::Continuous).matches("\"prompt_tokens\":9").count();

        assert_eq!(counted, 5);
    }

    #[test]
    fn a_completion_streams_text_finish_reason_usage_done() {
        let stream = CompletionStream::new(StreamHead { id: "cmpl-1".into(), ..head(UsageMode::AtEnd) });

        let events = [
            stream.text(1, "Hi".into(), None, Usage::new(2, 0, 1)),
            stream.finish(1, FinishReason::Length, Usage::new(2, 0, 1)),
            stream.end(Usage::new(2, 0, 1)),
        ];

        insta::assert_snapshot!(transcript(&events), @r#"
        data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m","choices":[{"index":1,"text":"Hi","logprobs":null,"finish_reason":null}],"usage":null}

        data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m","choices":[{"index":1,"text":"","logprobs":null,"finish_reason":"length"}],"usage":null}

        data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}

        data: [DONE]
        "#);
    }

    #[test]
    fn a_stream_that_fails_ends_with_the_error_and_no_finish_reason() {
        let stream = ChatStream::new(head(UsageMode::Off));

        let events = [stream.role(0, Usage::default()), ApiError::EngineFault { step: StepId(4) }.to_event()];

        insta::assert_snapshot!(transcript(&events), @r#"
        data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

        data: {"error":{"message":"the engine failed while computing this request","type":"server_error","param":null,"code":"engine_failure"}}
        "#);
    }
}
