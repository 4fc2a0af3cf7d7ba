//! The reader's end of a request: events of all its choices, in order, with a bound and a cancel built in.

use crate::egress::{Detach, Egress};
use crate::mailbox::Mailbox;
use crate::scheduler::{Cancel, Pause, SchedulerActor};
use lmx_runtime::ids::{RequestId, SeqId};
use lmx_runtime::sampling::{SampledToken, TokenLogprobs};
use lmx_runtime::scheduler::CancelTarget;
use lmx_runtime::sequence::SequenceError;
use lmx_runtime::text::Parsed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// What happened to a request.
#[derive(Debug, Clone)]
pub enum StreamEvent {
    /// Prompt tokens computed so far, of how many.
    Prefill {
        /// Computed.
        done: usize,
        /// To compute in all.
        total: usize,
    },
    /// The prompt is computed.
    Started {
        /// Prompt tokens that were found in the prefix index.
        cached_tokens: usize,
    },
    /// Log probabilities of the next prompt tokens, beginning with the second one.
    PromptLogprobs(Vec<TokenLogprobs>),
    /// More of a choice.
    Text(TextDelta),
    /// A choice has ended.
    Finished {
        /// Which.
        choice: usize,
        /// Why.
        reason: StopReason,
        /// Tokens that it consists of, a stop token included.
        completion_tokens: usize,
        /// Those of them that are reasoning, markers not counted.
        reasoning_tokens: usize,
    },
    /// The request has failed; nothing follows.
    Failed(StreamError),
}

/// A piece of a choice. The text may lag behind the tokens: half a character, or what may become a stop string or a marker,
/// waits.
#[derive(Debug, Clone, Default)]
pub struct TextDelta {
    /// Which choice.
    pub choice: usize,
    /// New text by what it is, in order; possibly none.
    pub parts: Vec<Parsed>,
    /// New tokens, when their log probabilities were asked for.
    pub tokens: Vec<SampledToken>,
    /// Tokens of this choice so far.
    pub completion_tokens: usize,
    /// Those of them that are reasoning, markers not counted.
    pub reasoning_tokens: usize,
}

impl TextDelta {
    /// The new content.
    pub fn content(&self) -> String {
        let content = |part: &Parsed| match part {
            Parsed::Content(text) => Some(text.clone()),
            Parsed::Reasoning(_)
            | Parsed::CallBegin { .. }
            | Parsed::CallArguments { .. }
            | Parsed::CallEnd { .. }
            | Parsed::Malformed(_) => None,
        };
        self.parts.iter().filter_map(content).collect()
    }
}

/// Why a choice ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token.
    Token,
    /// A stop string.
    Text(String),
    /// The one call of a tool that was wanted is complete.
    Call,
    /// As many tokens as were asked for, or as the context holds.
    Length,
}

/// Why a request ended badly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// One of its sequences failed.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The actor that makes text of its tokens failed.
    #[error("the text of this request was lost")]
    Egress,
    /// It was cancelled by somebody else than its reader.
    #[error("the request was cancelled")]
    Cancelled,
    /// Its tokens are not text.
    #[error("the tokens of this request cannot be decoded")]
    Decode,
}

/// How far a reader is behind.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    unread_tokens: AtomicUsize,
    pub(crate) paused: AtomicBool,
}

impl Meter {
    /// Counts delivered tokens; returns how many are unread.
    pub(crate) fn deliver(&self, tokens: usize) -> usize {
        self.unread_tokens.fetch_add(tokens, Ordering::SeqCst) + tokens
    }

    /// Whether a reader that was behind no longer is. True once: who learns it lets the sequences go on.
    pub(crate) fn has_caught_up(&self) -> bool {
        // Both sides write one of the two numbers and read the other: in one order for all, or each could miss the other.
        self.unread_tokens.load(Ordering::SeqCst) <= RESUME_BELOW && self.paused.swap(false, Ordering::SeqCst)
    }
}

/// An event and the tokens that it accounts for.
pub(crate) type Metered = (usize, StreamEvent);

/// Unread tokens below which a paused sequence goes on.
const RESUME_BELOW: usize = 64;

/// The events of one request. Dropping it cancels what has not ended.
#[derive(Debug)]
pub struct TokenStream {
    pub(crate) request: RequestId,
    pub(crate) seqs: Vec<SeqId>,
    pub(crate) events: mpsc::UnboundedReceiver<Metered>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) scheduler: Mailbox<SchedulerActor>,
    pub(crate) egress: Mailbox<Egress>,
    /// Choices that have not ended.
    pub(crate) open: usize,
}

impl TokenStream {
    /// The request's id.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The next event; `None` after the last choice has ended or the request has failed.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for streams.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamEvent>> {
        if self.open == 0 {
            return Poll::Ready(None);
        }
        self.events.poll_recv(cx).map(|event| {
            let Some((tokens, event)) = event else {
                // The sender is gone without an end: so is the egress.
                self.open = 0;
                self.scheduler.tell(Cancel::unread(CancelTarget::Request(self.request)));
                return Some(StreamEvent::Failed(StreamError::Egress));
            };
            self.read(tokens);
            match &event {
                StreamEvent::Finished { .. } => self.open -= 1,
                StreamEvent::Failed(_) => {
                    self.open = 0;
                    self.scheduler.tell(Cancel::unread(CancelTarget::Request(self.request)));
                }
                StreamEvent::Prefill { .. }
                | StreamEvent::Started { .. }
                | StreamEvent::PromptLogprobs(_)
                | StreamEvent::Text(_) => {}
            }
            Some(event)
        })
    }

    fn read(&self, tokens: usize) {
        self.meter.unread_tokens.fetch_sub(tokens, Ordering::SeqCst);
        if self.meter.has_caught_up() {
            self.scheduler.tell(Pause { seqs: self.seqs.clone(), paused: false });
        }
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        if self.open > 0 {
            self.scheduler.tell(Cancel::unread(CancelTarget::Request(self.request)));
            self.egress.tell(Detach(self.request));
        }
    }
}
