//! One answer out of the streams of all its prompts.

use crate::error::ApiError;
use crate::openai::response::{FinishReason, Usage};
use lmx_actors::stream::{StopReason, StreamError, StreamEvent, TokenStream};
use lmx_runtime::sampling::{SampledToken, TokenLogprobs};
use lmx_runtime::sequence::SequenceError;
use lmx_runtime::text::Parsed;
use std::task::{Context, Poll};
use std::time::Duration;

/// What happened to an answer. Choices are numbered through all prompts.
#[derive(Debug)]
pub enum AnswerEvent {
    /// More prompt tokens are computed.
    Prefill,
    /// A prompt is computed; its choices begin. Its log probabilities, where asked for, are complete.
    Started {
        /// Which prompt.
        prompt: usize,
        /// Log probabilities of its tokens, beginning with the second one.
        logprobs: Vec<TokenLogprobs>,
    },
    /// More of a choice.
    Text {
        /// Which choice.
        choice: usize,
        /// New text by what it is, in order; possibly none.
        parts: Vec<Parsed>,
        /// New tokens, when their log probabilities were asked for.
        tokens: Vec<SampledToken>,
    },
    /// A choice has ended.
    Finished {
        /// Which choice.
        choice: usize,
        /// Why.
        reason: FinishReason,
    },
}

/// The streams of one answer, merged.
#[derive(Debug)]
pub struct Answer {
    prompts: Vec<PromptStream>,
    choices_per_prompt: usize,
    time_limit: Duration,
    /// Where the next poll begins, so that no prompt starves the others.
    turn: usize,
}

#[derive(Debug)]
struct PromptStream {
    stream: TokenStream,
    prompt_tokens: usize,
    computed: usize,
    cached_tokens: usize,
    logprobs: Vec<TokenLogprobs>,
    completion_tokens: Vec<usize>,
    reasoning_tokens: Vec<usize>,
    /// Which choices have called a tool.
    called: Vec<bool>,
    ended: bool,
}

impl Answer {
    /// An answer made of one stream per prompt, each with the length of its prompt. `time_limit` is named when it passes.
    pub fn new(streams: Vec<(TokenStream, usize)>, choices_per_prompt: usize, time_limit: Duration) -> Self {
        let prompt = |(stream, prompt_tokens)| PromptStream {
            stream,
            prompt_tokens,
            computed: 0,
            cached_tokens: 0,
            logprobs: Vec::new(),
            completion_tokens: vec![0; choices_per_prompt],
            reasoning_tokens: vec![0; choices_per_prompt],
            called: vec![false; choices_per_prompt],
            ended: false,
        };
        Self { prompts: streams.into_iter().map(prompt).collect(), choices_per_prompt, time_limit, turn: 0 }
    }

    /// Choices in all.
    pub fn num_choices(&self) -> usize {
        self.prompts.len() * self.choices_per_prompt
    }

    /// Choices of each prompt.
    pub fn choices_per_prompt(&self) -> usize {
        self.choices_per_prompt
    }

    /// Prompt tokens computed so far, of how many.
    pub fn prefill(&self) -> (usize, usize) {
        let sum = |f: fn(&PromptStream) -> usize| self.prompts.iter().map(f).sum();
        (sum(|prompt| prompt.computed), sum(|prompt| prompt.prompt_tokens))
    }

    /// Tokens used so far.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for prompt in &self.prompts {
            let answered = prompt.completion_tokens.iter().sum();
            usage += Usage::new(prompt.prompt_tokens, prompt.cached_tokens, answered)
                .with_reasoning(prompt.reasoning_tokens.iter().sum());
        }
        usage
    }

    /// The next event; `None` when every choice has ended.
    ///
    /// # Errors
    /// Why the answer failed. Nothing follows; what was still running is cancelled.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent, ApiError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AnswerEvent, ApiError>>> {
        let count = self.prompts.len();
        let mut all_ended = true;
        for i in 0..count {
            let at = (self.turn + i) % count;
            while !self.prompts[at].ended {
                match self.prompts[at].stream.poll_next(cx) {
                    Poll::Pending => {
                        all_ended = false;
                        break;
                    }
                    Poll::Ready(None) => self.prompts[at].ended = true,
                    Poll::Ready(Some(event)) => match self.take(at, event) {
                        Ok(None) => {}
                        Ok(Some(event)) => {
                            self.turn = at + 1;
                            return Poll::Ready(Some(Ok(event)));
                        }
                        Err(error) => {
                            self.prompts.clear(); // dropping cancels
                            return Poll::Ready(Some(Err(error)));
                        }
                    },
                }
            }
        }
        if all_ended { Poll::Ready(None) } else { Poll::Pending }
    }

    fn take(&mut self, at: usize, event: StreamEvent) -> Result<Option<AnswerEvent>, ApiError> {
        let first_choice = at * self.choices_per_prompt;
        let prompt = &mut self.prompts[at];
        Ok(Some(match event {
            StreamEvent::Prefill { done, .. } => {
                prompt.computed = done.min(prompt.prompt_tokens);
                AnswerEvent::Prefill
            }
            StreamEvent::PromptLogprobs(logprobs) => {
                prompt.logprobs.extend(logprobs);
                return Ok(None);
            }
            StreamEvent::Started { cached_tokens } => {
                prompt.computed = prompt.prompt_tokens;
                prompt.cached_tokens = cached_tokens;
                AnswerEvent::Started { prompt: at, logprobs: std::mem::take(&mut prompt.logprobs) }
            }
            StreamEvent::Text(delta) => {
                prompt.completion_tokens[delta.choice] = delta.completion_tokens;
                prompt.reasoning_tokens[delta.choice] = delta.reasoning_tokens;
                prompt.called[delta.choice] |= delta.parts.iter().any(|part| matches!(part, Parsed::CallBegin { .. }));
                AnswerEvent::Text { choice: first_choice + delta.choice, parts: delta.parts, tokens: delta.tokens }
            }
            StreamEvent::Finished { choice, reason, completion_tokens, reasoning_tokens } => {
                prompt.completion_tokens[choice] = completion_tokens;
                prompt.reasoning_tokens[choice] = reasoning_tokens;
                let reason = match reason {
                    StopReason::Call => FinishReason::ToolCalls,
                    StopReason::Token | StopReason::Text(_) if prompt.called[choice] => FinishReason::ToolCalls,
                    StopReason::Token | StopReason::Text(_) => FinishReason::Stop,
                    StopReason::Length => FinishReason::Length,
                };
                AnswerEvent::Finished { choice: first_choice + choice, reason }
            }
            StreamEvent::Failed(error) => return Err(self.failure(error)),
        }))
    }

    fn failure(&self, error: StreamError) -> ApiError {
        match error {
            StreamError::Cancelled => ApiError::Cancelled,
            StreamError::Sequence(SequenceError::QueueTimeout { waited }) => ApiError::QueueTimeout { waited },
            StreamError::Sequence(SequenceError::Deadline) => ApiError::RequestTimeout { limit: self.time_limit },
            StreamError::Sequence(SequenceError::EngineFault { step }) => ApiError::EngineFault { step },
            StreamError::Sequence(SequenceError::ShuttingDown) => {
                ApiError::ShuttingDown { retry_after: Duration::from_secs(1) }
            }
            StreamError::Sequence(SequenceError::SchedulerFault) | StreamError::Egress | StreamError::Decode => {
                ApiError::Internal { detail: error.to_string() }
            }
        }
    }
}
