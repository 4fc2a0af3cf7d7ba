//! Answers to completions, with their prompts echoed where asked for.

use super::stream::{StreamFormat, read_all};
use super::{Answer, AnswerEvent};
use crate::error::ApiError;
use crate::inflight::InFlight;
use crate::openai::response::{
    CompletionLogprobs, FinishReason, TextChoice, TextCompletion, TokenText, Usage, UsageField,
};
use crate::sse::{CompletionStream, StreamHead};
use bytes::Bytes;
use lmx_runtime::sampling::{SampledToken, TokenLogprobs};
use lmx_runtime::text::Parsed;

/// A prompt to be repeated before its answers.
#[derive(Debug, Clone)]
pub struct Echo {
    /// Its text.
    pub text: String,
    /// Its first token, which nothing precedes.
    pub first_token: u32,
}

/// What completions need beside their answer.
pub struct CompletionFormat<T> {
    /// Prompts to repeat: one per prompt, or none.
    echo: Vec<Echo>,
    choices_per_prompt: usize,
    logprobs: bool,
    /// Only the prompt was asked for: `max_tokens` is 0.
    score_only: bool,
    text: T,
    stream: CompletionStream,
    /// Where each choice's next token begins, in characters.
    offsets: Vec<usize>,
}

impl<T: TokenText> CompletionFormat<T> {
    /// A format for the answers of `answer`.
    pub fn new(head: StreamHead, answer: &Answer, logprobs: bool, text: T) -> Self {
        Self {
            echo: Vec::new(),
            choices_per_prompt: answer.choices_per_prompt(),
            logprobs,
            score_only: false,
            text,
            stream: CompletionStream::new(head),
            offsets: vec![0; answer.num_choices()],
        }
    }

    /// Repeats each prompt before its answers; with `score_only` there is nothing after it.
    pub fn with_echo(mut self, echo: Vec<Echo>, score_only: bool) -> Self {
        self.echo = echo;
        self.score_only = score_only;
        self
    }

    /// The pieces of text that an event brings, with their choices.
    fn pieces(&mut self, event: AnswerEvent) -> Vec<Piece> {
        match event {
            AnswerEvent::Prefill => Vec::new(),
            AnswerEvent::Started { prompt, logprobs } => {
                let Some(echo) = self.echo.get(prompt).cloned() else { return Vec::new() };
                let first = prompt * self.choices_per_prompt;
                let pieces = first..first + self.choices_per_prompt;
                pieces.map(|choice| self.echoed(choice, &echo, &logprobs)).collect()
            }
            AnswerEvent::Text { .. } if self.score_only => Vec::new(),
            AnswerEvent::Text { parts, tokens, .. } if parts.is_empty() && tokens.is_empty() => Vec::new(),
            AnswerEvent::Text { choice, parts, tokens } => {
                let text = parts.into_iter().filter_map(content).collect();
                let logprobs = self.logprobs.then(|| self.token_logprobs(choice, &tokens));
                vec![Piece::Text { choice, text, logprobs }]
            }
            AnswerEvent::Finished { choice, reason } => {
                vec![Piece::End { choice, reason: if self.score_only { FinishReason::Length } else { reason } }]
            }
        }
    }

    fn echoed(&mut self, choice: usize, echo: &Echo, reported: &[TokenLogprobs]) -> Piece {
        let logprobs = self.logprobs.then(|| {
            let mut logprobs = CompletionLogprobs::at(0);
            logprobs.push_first(echo.first_token, &self.text);
            reported.iter().for_each(|token| logprobs.push(token, &self.text));
            self.offsets[choice] = logprobs.next_offset();
            logprobs
        });
        Piece::Text { choice, text: echo.text.clone(), logprobs }
    }

    fn token_logprobs(&mut self, choice: usize, tokens: &[SampledToken]) -> CompletionLogprobs {
        let mut logprobs = CompletionLogprobs::at(self.offsets[choice]);
        for token in tokens.iter().filter_map(|token| token.logprobs.as_ref()) {
            logprobs.push(token, &self.text);
        }
        self.offsets[choice] = logprobs.next_offset();
        logprobs
    }

    fn usage(&self, usage: Usage) -> Usage {
        if self.score_only {
            Usage::new(usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, 0)
        } else {
            usage
        }
    }
}

/// The answer to a bare prompt is content alone.
fn content(part: Parsed) -> Option<String> {
    match part {
        Parsed::Content(text) => Some(text),
        Parsed::Reasoning(_)
        | Parsed::CallBegin { .. }
        | Parsed::CallArguments { .. }
        | Parsed::CallEnd { .. }
        | Parsed::Malformed(_) => None,
    }
}

enum Piece {
    Text { choice: usize, text: String, logprobs: Option<CompletionLogprobs> },
    End { choice: usize, reason: FinishReason },
}

impl<T: TokenText> StreamFormat for CompletionFormat<T> {
    fn event(&mut self, event: AnswerEvent, usage: Usage) -> Vec<Bytes> {
        let usage = self.usage(usage);
        let pieces = self.pieces(event).into_iter();
        pieces
            .map(|piece| match piece {
                Piece::Text { choice, text, logprobs } => self.stream.text(choice as u32, text, logprobs, usage),
                Piece::End { choice, reason } => self.stream.finish(choice as u32, reason, usage),
            })
            .collect()
    }

    fn end(&mut self, usage: Usage) -> Bytes {
        self.stream.end(self.usage(usage))
    }
}

/// Reads the answers of a completion to their end.
///
/// # Errors
/// Why they failed.
pub async fn collect_completion<T: TokenText>(
    answer: Answer,
    head: StreamHead,
    mut format: CompletionFormat<T>,
    guard: &mut InFlight,
) -> Result<TextCompletion, ApiError> {
    let empty = |index| TextChoice { index, text: String::new(), logprobs: None, finish_reason: None };
    let mut choices: Vec<TextChoice> = (0..answer.num_choices() as u32).map(empty).collect();
    let take = |event| {
        for piece in format.pieces(event) {
            match piece {
                Piece::Text { choice, text, logprobs } => {
                    choices[choice].text.push_str(&text);
                    match (&mut choices[choice].logprobs, logprobs) {
                        (Some(all), Some(more)) => all.append(more),
                        (all, more) => *all = more,
                    }
                }
                Piece::End { choice, reason } => choices[choice].finish_reason = Some(reason),
            }
        }
    };
    let usage = read_all(answer, take, guard).await?;
    let usage = UsageField::Counted(format.usage(usage));
    Ok(TextCompletion::new(head.id, head.created, head.model, choices, usage))
}
