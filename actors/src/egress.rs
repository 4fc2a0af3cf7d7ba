//! The egress actor: makes text of tokens, tells reasoning and calls of tools from content, finds stop strings, feeds the streams of one HTTP worker.
//!
//! Accepts: [`Attach`], [`Deltas`], [`Detach`], [`FailAll`]. Sends: events to the streams' own channels, `Cancel` and
//! `Pause` to the scheduler. Owns: the detokenisers, parsers and stop matchers of its worker's streams. Runs on: that worker's
//! arbiter, so that a piece of text is written to the socket by the thread that made it.

use crate::choice_text::{ChoiceText, Reading};
use crate::mailbox::{Gauge, Letter, Mail, Mailbox};
use crate::scheduler::{Cancel, Pause, SchedulerActor};
use crate::stream::{Meter, Metered, StopReason, StreamError, StreamEvent, TextDelta};
use actix::{Actor, AsyncContext, Context, Handler};
use lmx_runtime::ids::{RequestId, SeqId, WorkerId};
use lmx_runtime::sampling::SampledToken;
use lmx_runtime::scheduler::CancelTarget;
use lmx_runtime::sequence::{Finish, SeqDelta, SequenceError};
use lmx_runtime::text::{ParseOptions, TextError, Tokenizer};
use metrics::{Counter, Histogram};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Unread tokens of a stream from which on its sequences are held back. Their blocks stay.
const MAX_UNREAD_TOKENS: usize = 256;
/// How long a stream may be held back before it is cancelled.
const SLOW_CLIENT_TIMEOUT: Duration = Duration::from_secs(60);
const SLOW_CLIENT_CHECK: Duration = Duration::from_secs(1);

/// A handler announces a stream before it submits the request; no answer.
#[derive(Debug)]
pub struct Attach {
    pub(crate) request: RequestId,
    pub(crate) seqs: Vec<SeqId>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) text: TextOptions,
    /// The end of the prompt, which the first token's text depends on.
    pub(crate) prompt_tail: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    pub(crate) logprobs: bool,
    pub(crate) arrived: Instant,
    pub(crate) events: mpsc::UnboundedSender<Metered>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) scheduler: Mailbox<SchedulerActor>,
}

/// How tokens become text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// Strings that end a choice where they stand in its content.
    pub stop: Vec<String>,
    /// Whether the stop string itself is delivered.
    pub include_stop: bool,
    /// Whether special tokens are left out.
    pub skip_special_tokens: bool,
    /// What is not content.
    pub parse: ParseOptions,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { stop: Vec::new(), include_stop: false, skip_special_tokens: true, parse: ParseOptions::default() }
    }
}

/// The scheduler delivers what a step brought for this worker's streams; no answer.
#[derive(Debug)]
pub struct Deltas {
    /// One per sequence that has news.
    pub items: Vec<SeqDelta>,
}

/// A stream has been dropped; no answer.
#[derive(Debug)]
pub struct Detach(pub RequestId);

/// The supervisor reports that a scheduler lost its state, or a cell that its model goes away: every stream that it fed
/// fails. No answer.
#[derive(Debug, Clone)]
pub struct FailAll {
    /// The scheduler's mailbox name does not tell models apart, its gauge does.
    pub scheduler: Mailbox<SchedulerActor>,
    /// What to tell their readers.
    pub error: SequenceError,
}

impl Letter for Attach {
    const NAME: &'static str = "attach";
}

impl Letter for Deltas {
    const NAME: &'static str = "deltas";
}

impl Letter for Detach {
    const NAME: &'static str = "detach";
}

impl Letter for FailAll {
    const NAME: &'static str = "fail_all";
}

/// The egress of every worker.
#[derive(Debug, Clone, Default)]
pub struct EgressDirectory(Arc<RwLock<HashMap<WorkerId, Mailbox<Egress>>>>);

impl EgressDirectory {
    /// Adds a worker's egress.
    pub fn insert(&self, worker: WorkerId, mailbox: Mailbox<Egress>) {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(worker, mailbox);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Mailbox<Egress>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn tell(&self, worker: WorkerId, deltas: Deltas) {
        let mailboxes = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(mailbox) = mailboxes.get(&worker) {
            mailbox.tell(deltas);
        }
    }
}

/// Owns the text of one worker's streams.
pub struct Egress {
    streams: HashMap<RequestId, Stream>,
    sequences: HashMap<SeqId, RequestId>,
    gauge: Arc<Gauge>,
    metrics: EgressMetrics,
}

struct Stream {
    choices: Vec<Choice>,
    events: mpsc::UnboundedSender<Metered>,
    meter: Arc<Meter>,
    scheduler: Mailbox<SchedulerActor>,
    prompt_tokens: usize,
    logprobs: bool,
    arrived: Instant,
    started: bool,
    paused_since: Option<Instant>,
}

struct Choice {
    seq: SeqId,
    text: ChoiceText,
    completion_tokens: usize,
    last: Instant,
    ended: bool,
}

struct EgressMetrics {
    ttft: Histogram,
    itl: Histogram,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    generated: Counter,
    vllm_prompt_tokens: Counter,
    vllm_generated: Counter,
}

impl Egress {
    /// An egress without streams, behind the mailbox that `gauge` measures.
    pub fn new(gauge: Arc<Gauge>) -> Self {
        let metrics = EgressMetrics {
            ttft: metrics::histogram!("lmx_time_to_first_token_seconds"),
            itl: metrics::histogram!("lmx_inter_token_latency_seconds"),
            prompt_tokens: metrics::counter!("lmx_prompt_tokens_total"),
            cached_tokens: metrics::counter!("lmx_cached_prompt_tokens_total"),
            generated: metrics::counter!("lmx_generation_tokens_total"),
            vllm_prompt_tokens: metrics::counter!("vllm:prompt_tokens_total"),
            vllm_generated: metrics::counter!("vllm:generation_tokens_total"),
        };
        Self { streams: HashMap::new(), sequences: HashMap::new(), gauge, metrics }
    }
}

impl Egress {
    fn deliver(&mut self, delta: SeqDelta, now: Instant) {
        let Some(stream) = self.streams.get_mut(&delta.request) else { return };
        let Some(at) = stream.choices.iter().position(|choice| choice.seq == delta.seq && !choice.ended) else {
            return;
        };
        if let Some((done, total)) = delta.prefill {
            stream.send(0, StreamEvent::Prefill { done, total });
        }
        if !delta.prompt_logprobs.is_empty() {
            stream.send(0, StreamEvent::PromptLogprobs(delta.prompt_logprobs));
        }
        let num_tokens = delta.tokens.len();
        if num_tokens > 0 {
            self.metrics.generated.increment(num_tokens as u64);
            self.metrics.vllm_generated.increment(num_tokens as u64);
            if !stream.started {
                stream.started = true;
                let cached_tokens = delta.cached_tokens.unwrap_or(0);
                stream.send(0, StreamEvent::Started { cached_tokens });
                self.metrics.ttft.record(now.duration_since(stream.arrived));
                self.metrics.prompt_tokens.increment(stream.prompt_tokens as u64);
                self.metrics.vllm_prompt_tokens.increment(stream.prompt_tokens as u64);
                self.metrics.cached_tokens.increment(cached_tokens as u64);
            } else if stream.choices[at].completion_tokens > 0 {
                let since = now.duration_since(stream.choices[at].last);
                self.metrics.itl.record(since / num_tokens as u32);
            }
            stream.choices[at].last = now;
        }
        match stream.advance(at, delta.tokens, delta.finish) {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, request = %delta.request, "tokens cannot be decoded");
                stream.send(0, StreamEvent::Failed(StreamError::Decode));
                stream.choices.iter_mut().for_each(|choice| choice.ended = true);
            }
        }
        if stream.choices.iter().all(|choice| choice.ended) {
            self.remove(delta.request);
        }
    }

    fn remove(&mut self, request: RequestId) -> Option<Stream> {
        let stream = self.streams.remove(&request)?;
        for choice in &stream.choices {
            self.sequences.remove(&choice.seq);
        }
        Some(stream)
    }

    /// Cancels streams whose readers have been silent for too long.
    fn drop_silent(&mut self, now: Instant) {
        let silent = |stream: &Stream| {
            let paused = stream.meter.paused.load(Ordering::Acquire);
            paused && stream.paused_since.is_some_and(|since| now.duration_since(since) >= SLOW_CLIENT_TIMEOUT)
        };
        let late: Vec<RequestId> =
            self.streams.iter().filter(|(_, s)| silent(s)).map(|(&request, _)| request).collect();
        for request in late {
            tracing::warn!(%request, "the client does not read, its request is cancelled");
            if let Some(stream) = self.remove(request) {
                stream.scheduler.tell(Cancel::unread(CancelTarget::Request(request)));
                stream.send(0, StreamEvent::Failed(StreamError::Cancelled));
            }
        }
    }
}

impl Stream {
    /// Turns a choice's new tokens into text, and ends it if they or the scheduler say so.
    fn advance(&mut self, at: usize, mut tokens: Vec<SampledToken>, finish: Option<Finish>) -> Result<(), TextError> {
        let choice = &mut self.choices[at];
        let num_tokens = tokens.len();
        choice.completion_tokens += num_tokens;
        let ends_well = matches!(finish, Some(Finish::Stop | Finish::Length));
        let Reading { parts, end } = choice.text.read(&tokens, ends_well)?;
        tokens.retain(|token| !token.stop);
        if !self.logprobs {
            tokens.clear();
        }
        let (completion_tokens, reasoning_tokens) = (choice.completion_tokens, choice.text.reasoning_tokens());
        let seq = choice.seq;
        if num_tokens > 0 || !parts.is_empty() {
            let delta = TextDelta { choice: at, parts, tokens, completion_tokens, reasoning_tokens };
            self.send(num_tokens, StreamEvent::Text(delta));
        }
        let reason = match (end, finish) {
            (Some(reason), finish) => {
                if finish.is_none() {
                    self.scheduler.tell(Cancel::unread(CancelTarget::Sequence(seq)));
                }
                reason
            }
            (None, None) => {
                self.hold_back_if_unread();
                return Ok(());
            }
            (None, Some(Finish::Stop)) => StopReason::Token,
            (None, Some(Finish::Length)) => StopReason::Length,
            (None, Some(Finish::Cancelled)) => return self.fail(StreamError::Cancelled),
            (None, Some(Finish::Failed(error))) => return self.fail(error.into()),
        };
        self.choices[at].ended = true;
        self.send(0, StreamEvent::Finished { choice: at, reason, completion_tokens, reasoning_tokens });
        Ok(())
    }

    /// Ends every choice: an answer without one of its choices is no answer.
    fn fail(&mut self, error: StreamError) -> Result<(), TextError> {
        self.choices.iter_mut().for_each(|choice| choice.ended = true);
        self.send(0, StreamEvent::Failed(error));
        Ok(())
    }

    fn hold_back_if_unread(&mut self) {
        if self.meter.deliver(0) <= MAX_UNREAD_TOKENS || self.meter.paused.load(Ordering::Acquire) {
            return;
        }
        self.paused_since = Some(Instant::now());
        let seqs: Vec<_> = self.choices.iter().filter(|choice| !choice.ended).map(|choice| choice.seq).collect();
        // Told before it is shown: a reader who sees it and has caught up tells the opposite, which must come second.
        self.scheduler.tell(Pause { seqs: seqs.clone(), paused: true });
        self.meter.paused.store(true, Ordering::SeqCst);
        // A reader on another thread may have caught up before it was shown: nobody else would let it go on.
        if self.meter.has_caught_up() {
            self.scheduler.tell(Pause { seqs, paused: false });
        }
    }

    fn send(&self, tokens: usize, event: StreamEvent) {
        self.meter.deliver(tokens);
        // A reader that has left has cancelled: nobody misses the event.
        let _ = self.events.send((tokens, event));
    }
}

impl Actor for Egress {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(SLOW_CLIENT_CHECK, |actor, _| {
            let _busy = actor.gauge.watch("tick");
            actor.drop_silent(Instant::now());
        });
    }
}

impl Handler<Mail<Attach>> for Egress {
    type Result = ();

    fn handle(&mut self, mail: Mail<Attach>, _: &mut Context<Self>) {
        let (attach, _busy) = mail.open();
        let choice = |(at, &seq): (usize, &SeqId)| Choice {
            seq,
            text: ChoiceText::new(&attach.text, &attach.tokenizer, &attach.prompt_tail, at),
            completion_tokens: 0,
            last: attach.arrived,
            ended: false,
        };
        let stream = Stream {
            choices: attach.seqs.iter().enumerate().map(choice).collect(),
            events: attach.events,
            meter: attach.meter,
            scheduler: attach.scheduler,
            prompt_tokens: attach.prompt_tokens,
            logprobs: attach.logprobs,
            arrived: attach.arrived,
            started: false,
            paused_since: None,
        };
        self.sequences.extend(attach.seqs.iter().map(|&seq| (seq, attach.request)));
        self.streams.insert(attach.request, stream);
    }
}

impl Handler<Mail<Deltas>> for Egress {
    type Result = ();

    fn handle(&mut self, mail: Mail<Deltas>, _: &mut Context<Self>) {
        let (Deltas { items }, _busy) = mail.open();
        let now = Instant::now();
        for delta in items {
            self.deliver(delta, now);
        }
    }
}

impl Handler<Mail<Detach>> for Egress {
    type Result = ();

    fn handle(&mut self, mail: Mail<Detach>, _: &mut Context<Self>) {
        let (Detach(request), _busy) = mail.open();
        self.remove(request);
    }
}

impl Handler<Mail<FailAll>> for Egress {
    type Result = ();

    fn handle(&mut self, mail: Mail<FailAll>, _: &mut Context<Self>) {
        let (FailAll { scheduler, error }, _busy) = mail.open();
        let fed = |stream: &Stream| Arc::ptr_eq(stream.scheduler.gauge(), scheduler.gauge());
        let lost: Vec<RequestId> = self.streams.iter().filter(|(_, s)| fed(s)).map(|(&request, _)| request).collect();
        for request in lost {
            if let Some(stream) = self.remove(request) {
                stream.send(0, StreamEvent::Failed(error.clone().into()));
            }
        }
    }
}
