use super::plan::RunnerPlan;
use super::spread::Spread;
use super::streams::Streams;
use super::work::Work;
use crate::checkpoint::LoadError;
use crate::kv::BlockSpans;
use crate::runner::{Forward, ForwardError, MemorySize};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::time::Duration;

/// The forward pass alone: no scheduler, no sampling, no server.
pub struct RunnerBench {
    streams: Streams,
    plan: RunnerPlan,
    work: Work,
    /// The sequence that prompts are computed in; those after it decode.
    prompt: usize,
}

/// How fast a prompt is computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrefillFigure {
    /// Its length.
    pub prompt_tokens: usize,
    /// Tokens per second.
    pub tokens_per_s: Spread,
    /// Billions of operations per second, a multiplication and an addition being two.
    pub gops: Spread,
}

/// How fast one stream decodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecodeFigure {
    /// Tokens before the first decoded one.
    pub context_tokens: usize,
    /// Tokens per second.
    pub tokens_per_s: Spread,
    /// Milliseconds per token.
    pub ms_per_token: Spread,
    /// Billions of bytes of weights, keys and values that are read per second; absent where the executor does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gb_per_s: Option<Spread>,
    /// Tokens per second over those after the shortest context of the same round.
    pub against_shortest: Spread,
}

/// How fast several streams decode together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamsFigure {
    /// How many.
    pub streams: usize,
    /// Tokens before the first decoded one, of each.
    pub context_tokens: usize,
    /// Tokens per second of all of them.
    pub tokens_per_s: Spread,
    /// Milliseconds per step, which gives each of them a token.
    pub ms_per_step: Spread,
    /// As in [`DecodeFigure::gb_per_s`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gb_per_s: Option<Spread>,
    /// Tokens per second of all over those of the fewest streams of the same round.
    pub times_fewest: Spread,
}

impl RunnerBench {
    /// Makes room. `forward` makes the executor over memory of a size, whose blocks hold the positions that `spans` says.
    ///
    /// # Errors
    /// As `forward` says.
    pub fn new(
        plan: RunnerPlan,
        work: Work,
        spans: BlockSpans,
        forward: impl FnOnce(MemorySize) -> Result<Box<dyn Forward>, LoadError>,
    ) -> Result<Self, LoadError> {
        // First those that decode together, then one for each context, then the prompt.
        let most = plan.streams.iter().copied().max().unwrap_or(0);
        let mut lengths = vec![plan.stream_context + plan.decode_tokens; most];
        lengths.extend(plan.contexts.iter().map(|context| context + plan.decode_tokens));
        lengths.push(plan.prefill.iter().copied().max().unwrap_or(0));
        let num_blocks = NonZeroUsize::new(Streams::blocks(&lengths, spans)).unwrap_or(NonZeroUsize::MIN);
        let size = MemorySize { num_blocks, num_states: lengths.len() };
        let prompt = lengths.len() - 1;
        Ok(Self { streams: Streams::new(forward(size)?, &lengths), plan, work, prompt })
    }

    /// Measures prompts.
    ///
    /// # Errors
    /// The executor's.
    pub fn prefill(&mut self) -> Result<Vec<PrefillFigure>, ForwardError> {
        let lengths = self.plan.prefill.clone();
        if let Some(&longest) = lengths.iter().max() {
            // Warms up with a step as large as any that is timed: buffers grow, and memory is touched for the first time.
            let chunk = self.plan.chunk.get();
            self.streams.prefill(self.prompt, longest.min(chunk), chunk)?;
        }
        let rounds = self.rounds(lengths.len(), |bench, i| {
            bench.streams.prefill(bench.prompt, lengths[i], bench.plan.chunk.get())
        })?;
        let figure = |(i, &prompt_tokens): (usize, &usize)| {
            let rate = |work: f64| spread(rounds.iter().map(|round| work / round[i].as_secs_f64()));
            let gops = rate(self.work.operations(0..prompt_tokens, 1) / 1e9);
            PrefillFigure { prompt_tokens, tokens_per_s: rate(prompt_tokens as f64), gops }
        };
        Ok(lengths.iter().enumerate().map(figure).collect())
    }

    /// Measures one stream after each context.
    ///
    /// # Errors
    /// The executor's.
    pub fn decode(&mut self) -> Result<Vec<DecodeFigure>, ForwardError> {
        let (contexts, tokens) = (self.plan.contexts.clone(), self.plan.decode_tokens);
        let first = self.prompt - contexts.len();
        for (i, &context) in contexts.iter().enumerate() {
            self.streams.prefill(first + i, context, self.plan.chunk.get())?;
        }
        let rounds = self
            .rounds(contexts.len(), |bench, i| bench.streams.decode(first + i..first + i + 1, contexts[i], tokens))?;
        let figure = |(i, &context_tokens): (usize, &usize)| {
            let rate = |work: f64| spread(rounds.iter().map(|round| work / round[i].as_secs_f64()));
            let seen = mean_context(context_tokens, tokens);
            DecodeFigure {
                context_tokens,
                tokens_per_s: rate(tokens as f64),
                ms_per_token: spread(rounds.iter().map(|round| round[i].as_secs_f64() * 1e3 / tokens as f64)),
                gb_per_s: self.work.bytes(1, seen).map(|bytes| rate(bytes * tokens as f64 / 1e9)),
                against_shortest: spread(rounds.iter().map(|round| ratio(round[0], round[i]))),
            }
        };
        Ok(contexts.iter().enumerate().map(figure).collect())
    }

    /// Measures streams that decode together.
    ///
    /// # Errors
    /// The executor's.
    pub fn together(&mut self) -> Result<Vec<StreamsFigure>, ForwardError> {
        let (levels, tokens, context) = (self.plan.streams.clone(), self.plan.decode_tokens, self.plan.stream_context);
        for stream in 0..levels.iter().copied().max().unwrap_or(0) {
            self.streams.prefill(stream, context, self.plan.chunk.get())?;
        }
        let rounds = self.rounds(levels.len(), |bench, i| bench.streams.decode(0..levels[i], context, tokens))?;
        let seen = mean_context(context, tokens);
        let figure = |(i, &streams): (usize, &usize)| {
            let rate = |work: f64| spread(rounds.iter().map(|round| work / round[i].as_secs_f64()));
            let more = streams as f64 / levels[0] as f64;
            StreamsFigure {
                streams,
                context_tokens: context,
                tokens_per_s: rate((streams * tokens) as f64),
                ms_per_step: spread(rounds.iter().map(|round| round[i].as_secs_f64() * 1e3 / tokens as f64)),
                gb_per_s: self.work.bytes(streams, seen).map(|bytes| rate(bytes * tokens as f64 / 1e9)),
                times_fewest: spread(rounds.iter().map(|round| more * ratio(round[0], round[i]))),
            }
        };
        Ok(levels.iter().enumerate().map(figure).collect())
    }

    /// Runs each of `cases` once in every round: what disturbs the machine for a while disturbs all of them. Prompts before
    /// them have warmed up the model.
    fn rounds(
        &mut self,
        cases: usize,
        mut run: impl FnMut(&mut Self, usize) -> Result<Duration, ForwardError>,
    ) -> Result<Vec<Vec<Duration>>, ForwardError> {
        (0..self.plan.repeat.get()).map(|_| (0..cases).map(|case| run(self, case)).collect()).collect()
    }
}

impl std::fmt::Debug for RunnerBench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerBench").field("plan", &self.plan).field("work", &self.work).finish_non_exhaustive()
    }
}

/// Tokens that a token sees in the mean when `tokens` are decoded after `context`, itself included.
fn mean_context(context: usize, tokens: usize) -> f64 {
    context as f64 + (tokens as f64 + 1.0) / 2.0
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn spread(samples: impl Iterator<Item = f64>) -> Spread {
    Spread::of(samples).expect("there is at least one round")
}
