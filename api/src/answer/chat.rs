//! Answers to chats.

use super::stream::{StreamFormat, read_all};
use super::{Answer, AnswerEvent};
use crate::error::ApiError;
use crate::inflight::InFlight;
use crate::openai::response::{
    AssistantMessage, ChatChoice, ChatCompletion, ChatLogprobs, ChatTokenLogprob, FinishReason, TokenText, Usage,
};
use crate::sse::{ChatStream, StreamHead};
use bytes::Bytes;
use lmx_runtime::sampling::SampledToken;

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
            // Half a character, or what may become a stop string, has no text yet; its log probabilities go out with it.
            AnswerEvent::Text { text, tokens, .. } if text.is_empty() && tokens.is_empty() => Vec::new(),
            AnswerEvent::Text { choice, text, tokens } => {
                let logprobs = self.logprobs.then(|| chat_logprobs(&tokens, &self.text));
                vec![self.stream.content(choice as u32, text, logprobs, usage)]
            }
            AnswerEvent::Finished { choice, reason } => vec![self.stream.finish(choice as u32, reason, usage)],
        }
    }

    fn end(&mut self, usage: Usage) -> Bytes {
        self.stream.end(usage)
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
    let mut choices: Vec<(String, Vec<SampledToken>, FinishReason)> =
        vec![(String::new(), Vec::new(), FinishReason::Stop); answer.num_choices()];
    let take = |event| match event {
        AnswerEvent::Prefill | AnswerEvent::Started { .. } => {}
        AnswerEvent::Text { choice, text, tokens } => {
            choices[choice].0.push_str(&text);
            choices[choice].1.extend(tokens);
        }
        AnswerEvent::Finished { choice, reason } => choices[choice].2 = reason,
    };
    let usage = read_all(answer, take, guard).await?;
    let choice =
        |(index, (content, tokens, finish_reason)): (usize, (String, Vec<SampledToken>, FinishReason))| ChatChoice {
            index: index as u32,
            message: AssistantMessage::new(content),
            logprobs: logprobs.then(|| chat_logprobs(&tokens, text)),
            finish_reason,
        };
    let choices = choices.into_iter().enumerate().map(choice).collect();
    Ok(ChatCompletion::new(head.id, head.created, head.model, choices, usage))
}

fn chat_logprobs(tokens: &[SampledToken], text: &impl TokenText) -> ChatLogprobs {
    let reported = tokens.iter().filter_map(|token| token.logprobs.as_ref());
    ChatLogprobs { content: reported.map(|token| ChatTokenLogprob::new(token, text)).collect(), refusal: None }
}
