//! Answers to chats.

use super::stream::{StreamFormat, read_all};
use super::{Answer, AnswerEvent};
use crate::error::ApiError;
use crate::inflight::InFlight;
use crate::openai::response::{
    AssistantMessage, ChatChoice, ChatCompletion, ChatLogprobs, ChatTokenLogprob, FinishReason, TokenText, ToolCall,
    ToolCallDelta, Usage,
};
use crate::sse::{ChatStream, StreamHead};
use bytes::Bytes;
use lmx_runtime::sampling::SampledToken;
use lmx_runtime::text::Parsed;

/// Writes a chat as a stream.
pub struct ChatFormat<T> {
    stream: ChatStream,
    choices: usize,
    logprobs: bool,
    text: T,
}

impl<T: TokenText> ChatFormat<T> {
    /// A stream of `choices` answers.
    pub fn new(head: StreamHead, choices: usize, logprobs: bool, text: T) -> Self {
        Self { stream: ChatStream::new(head), choices, logprobs, text }
    }
}

impl<T: TokenText> StreamFormat for ChatFormat<T> {
    fn event(&mut self, event: AnswerEvent, usage: Usage) -> Vec<Bytes> {
        match event {
            AnswerEvent::Prefill => Vec::new(),
            AnswerEvent::Started { .. } => (0..self.choices).map(|i| self.stream.role(i as u32, usage)).collect(),
            AnswerEvent::Text { choice, parts, tokens } => self.parts(choice as u32, parts, &tokens, usage),
            AnswerEvent::Finished { choice, reason } => vec![self.stream.finish(choice as u32, reason, usage)],
        }
    }

    fn end(&mut self, usage: Usage) -> Bytes {
        self.stream.end(usage)
    }
}

impl<T: TokenText> ChatFormat<T> {
    /// A chunk for each part; the first one carries the log probabilities of all their tokens.
    fn parts(&self, choice: u32, parts: Vec<Parsed>, tokens: &[SampledToken], usage: Usage) -> Vec<Bytes> {
        let mut logprobs = self.logprobs.then(|| chat_logprobs(tokens, &self.text));
        // Half a character, or what may become a marker or a stop string, has no text yet.
        if parts.is_empty() {
            let waiting = logprobs.filter(|_| !tokens.is_empty());
            return waiting.map(|logprobs| self.stream.tokens(choice, logprobs, usage)).into_iter().collect();
        }
        let mut chunks = Vec::with_capacity(parts.len());
        for part in parts {
            chunks.push(match part {
                Parsed::Content(text) => self.stream.content(choice, text, logprobs.take(), usage),
                Parsed::Reasoning(text) => self.stream.reasoning(choice, text, logprobs.take(), usage),
                Parsed::CallBegin { index, id, name } => {
                    self.stream.tool_call(choice, ToolCallDelta::begin(index, id, name), logprobs.take(), usage)
                }
                Parsed::CallArguments { index, text } => {
                    self.stream.tool_call(choice, ToolCallDelta::arguments(index, text), logprobs.take(), usage)
                }
                Parsed::Malformed(reason) => self.stream.warning(choice, reason, usage),
                // The next part, or the finish reason, says the same.
                Parsed::CallEnd { .. } => continue,
            });
        }
        chunks.extend(logprobs.filter(|_| !tokens.is_empty()).map(|rest| self.stream.tokens(choice, rest, usage)));
        chunks
    }
}

/// A choice as far as it has come.
#[derive(Debug, Clone, Default)]
struct Collected {
    content: String,
    reasoning: String,
    calls: Vec<ToolCall>,
    warnings: Vec<String>,
    tokens: Vec<SampledToken>,
    reason: Option<FinishReason>,
}

impl Collected {
    fn add(&mut self, part: Parsed) {
        match part {
            Parsed::Content(text) => self.content.push_str(&text),
            Parsed::Reasoning(text) => self.reasoning.push_str(&text),
            Parsed::CallBegin { id, name, .. } => self.calls.push(ToolCall::new(id, name)),
            Parsed::CallArguments { index, text } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.function.arguments.push_str(&text);
                }
            }
            Parsed::CallEnd { .. } => {}
            Parsed::Malformed(reason) => self.warnings.push(reason),
        }
    }

    fn choice(self, index: usize, logprobs: Option<ChatLogprobs>) -> ChatChoice {
        ChatChoice {
            index: index as u32,
            message: AssistantMessage::new(self.content, self.reasoning, self.calls),
            logprobs,
            finish_reason: self.reason.unwrap_or(FinishReason::Stop),
            warnings: self.warnings,
        }
    }
}

/// Reads a chat's answer to its end.
///
/// # Errors
/// Why it failed.
pub async fn collect_chat(
    answer: Answer,
    head: StreamHead,
    logprobs: bool,
    text: &impl TokenText,
    guard: &mut InFlight,
) -> Result<ChatCompletion, ApiError> {
    let mut choices = vec![Collected::default(); answer.num_choices()];
    let take = |event| match event {
        AnswerEvent::Prefill | AnswerEvent::Started { .. } => {}
        AnswerEvent::Text { choice, parts, tokens } => {
            parts.into_iter().for_each(|part| choices[choice].add(part));
            choices[choice].tokens.extend(tokens);
        }
        AnswerEvent::Finished { choice, reason } => choices[choice].reason = Some(reason),
    };
    let usage = read_all(answer, take, guard).await?;
    let choice = |(index, collected): (usize, Collected)| {
        let logprobs = logprobs.then(|| chat_logprobs(&collected.tokens, text));
        collected.choice(index, logprobs)
    };
    let choices = choices.into_iter().enumerate().map(choice).collect();
    Ok(ChatCompletion::new(head.id, head.created, head.model, choices, usage))
}

fn chat_logprobs(tokens: &[SampledToken], text: &impl TokenText) -> ChatLogprobs {
    let reported = tokens.iter().filter_map(|token| token.logprobs.as_ref());
    ChatLogprobs { content: reported.map(|token| ChatTokenLogprob::new(token, text)).collect(), refusal: None }
}
