//! A cell on the deterministic executor, and readers of its streams.

use lmx_actors::cell::{ActorSystem, Cell, CellSpec, MailboxCapacities, OpenError, StreamRequest, WorkerEgress};
use lmx_actors::egress::TextOptions;
use lmx_actors::mailbox::MailboxReading;
use lmx_actors::stream::{StopReason, StreamError, StreamEvent, TokenStream};
use lmx_actors::supervise::Fatal;
use lmx_runtime::config::SchedulerConfig;
use lmx_runtime::kv::KvUsage;
use lmx_runtime::runner::{FakeConfig, FakeForward, FaultScript};
use lmx_runtime::sampling::SamplingParams;
use lmx_runtime::scheduler::{Limits, SequenceCounts};
use lmx_runtime::sequence::Priority;
use lmx_runtime::text::Tokenizer;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

pub(crate) const BLOCK: usize = 4;
pub(crate) const VOCAB: usize = 97;
/// Nothing in these tests takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(50);

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let json = include_bytes!("../../../runtime/tests/data/text/qwen3/tokenizer.json");
    Arc::new(Tokenizer::from_bytes(json, None).unwrap())
});

pub(crate) fn at_least_one(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// Runs `test` in an actor system of its own, on the calling thread.
pub(crate) fn in_a_system<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let system = actix::System::new();
    system.block_on(async { tokio::time::timeout(PATIENCE, test()).await.expect("the test comes to an end") });
}

/// What a test's cell is like.
pub(crate) struct Setup {
    pub(crate) scheduler: SchedulerConfig,
    pub(crate) num_blocks: usize,
    pub(crate) context_tokens: usize,
    pub(crate) step: Duration,
    pub(crate) token: Duration,
    pub(crate) mailboxes: MailboxCapacities,
    /// The executor that cannot be built, counted from 0.
    pub(crate) broken_build: Option<usize>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            scheduler: SchedulerConfig { max_sequences: at_least_one(8), ..SchedulerConfig::default() },
            num_blocks: 256,
            context_tokens: 4096,
            step: Duration::ZERO,
            token: Duration::ZERO,
            mailboxes: MailboxCapacities::default(),
            broken_build: None,
        }
    }
}

impl Setup {
    pub(crate) fn start(self) -> Rig {
        let (fatal, fatals) = mpsc::channel();
        let actors = ActorSystem::start(Box::new(move |why| fatal.send(why).unwrap()));
        let egress = actors.start_egress(at_least_one(1024));
        let faults = FaultScript::default();
        let mut config = FakeConfig { faults: faults.clone(), ..FakeConfig::new(self.num_blocks, BLOCK) };
        (config.step, config.token) = (self.step, self.token);
        let builds = AtomicUsize::new(0);
        let spec = CellSpec {
            model: "fake".into(),
            forward: Arc::new(move || {
                let build = builds.fetch_add(1, Ordering::Relaxed);
                assert_ne!(Some(build), self.broken_build, "scripted panic");
                Ok(Box::new(FakeForward::new(config.clone())))
            }),
            tokenizer: TOKENIZER.clone(),
            scheduler: self.scheduler,
            limits: Limits {
                spans: BLOCK.into(),
                num_blocks: self.num_blocks,
                num_states: 0,
                context_tokens: self.context_tokens,
            },
            fingerprint: 7,
            prefix_cache: true,
            mailboxes: self.mailboxes,
        };
        let cell = Arc::new(Cell::start(&actors, spec).unwrap());
        Rig { cell, egress, faults, fatals, actors: Running(actors) }
    }
}

/// Stops the shared actors when a test is over.
pub(crate) struct Running(pub(crate) Arc<ActorSystem>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A running cell.
pub(crate) struct Rig {
    pub(crate) cell: Arc<Cell>,
    pub(crate) egress: WorkerEgress,
    pub(crate) faults: FaultScript,
    pub(crate) fatals: mpsc::Receiver<Fatal>,
    pub(crate) actors: Running,
}

impl Rig {
    pub(crate) fn open(&self, request: StreamRequest) -> TokenStream {
        self.try_open(request).unwrap()
    }

    pub(crate) fn try_open(&self, request: StreamRequest) -> Result<TokenStream, OpenError> {
        self.cell.open(&self.egress, request)
    }

    /// Asks until there is an answer: an actor that is being rebuilt gives none.
    pub(crate) async fn usage(&self) -> KvUsage {
        loop {
            if let Some(usage) = self.cell.kv_usage().await {
                return usage;
            }
            pause().await;
        }
    }

    pub(crate) async fn counts(&self) -> SequenceCounts {
        loop {
            if let Some(counts) = self.cell.sequence_counts().await {
                return counts;
            }
            pause().await;
        }
    }

    pub(crate) fn reading(&self, actor: &str) -> MailboxReading {
        let egress = self.actors.0.egress_readings();
        self.cell.readings().into_iter().chain(egress).find(|reading| reading.actor == actor).unwrap()
    }

    /// Waits until no sequence holds a block, and checks that none is missing.
    pub(crate) async fn all_blocks_are_back(&self) {
        while self.usage().await.blocks.held > 0 || self.counts().await != idle(&self.counts().await) {
            pause().await;
        }
        let blocks = self.usage().await.blocks;
        assert_eq!(blocks.free + blocks.cached, blocks.total);
    }

    /// Waits until the sequences look as described.
    pub(crate) async fn until(&self, what: impl Fn(&SequenceCounts) -> bool) {
        while !what(&self.counts().await) {
            pause().await;
        }
    }

    pub(crate) async fn answers(&self, prompt: &[u32], tokens: usize) {
        let answer = read(self.open(request(prompt, tokens))).await;
        assert_eq!(answer.error, None);
        assert_eq!(answer.choices[0].ids, expected(prompt, tokens));
    }
}

fn idle(counts: &SequenceCounts) -> SequenceCounts {
    SequenceCounts { preemptions: counts.preemptions, ..SequenceCounts::default() }
}

pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(crate) fn prompt(id: u32, len: usize) -> Vec<u32> {
    // Prompts share their beginning in groups of three.
    (0..len as u32).map(|i| (i * 7 + id % 3 + if i > 20 { id } else { 0 }) % VOCAB as u32).collect()
}

pub(crate) fn expected(prompt: &[u32], tokens: usize) -> Vec<u32> {
    FakeForward::expected_answer(prompt, tokens, VOCAB)
}

pub(crate) fn text(ids: &[u32]) -> String {
    TOKENIZER.decode(ids, true).unwrap()
}

pub(crate) fn request(prompt: &[u32], max_tokens: usize) -> StreamRequest {
    StreamRequest {
        prompt: prompt.into(),
        choices: 1,
        params: SamplingParams { logprobs: Some(0), ..SamplingParams::greedy() },
        seed: 1,
        max_tokens,
        priority: Priority::Normal,
        deadline: None,
        text: TextOptions::default(),
    }
}

/// What a reader has of a choice.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) reason: Option<StopReason>,
    pub(crate) completion_tokens: usize,
}

/// What a reader has of a request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) choices: Vec<Choice>,
    /// `done` of each progress report.
    pub(crate) prefill: Vec<usize>,
    pub(crate) cached_tokens: Option<usize>,
    pub(crate) error: Option<StreamError>,
}

impl Answer {
    pub(crate) fn take(&mut self, event: StreamEvent) {
        let at = match &event {
            StreamEvent::Text(delta) => delta.choice,
            StreamEvent::Finished { choice, .. } => *choice,
            _ => 0,
        };
        if self.choices.len() <= at {
            self.choices.resize_with(at + 1, Choice::default);
        }
        assert_eq!(self.error, None, "nothing follows a failure");
        let choice = &mut self.choices[at];
        match event {
            StreamEvent::Prefill { done, .. } => self.prefill.push(done),
            StreamEvent::Started { cached_tokens } => {
                assert_eq!(self.cached_tokens.replace(cached_tokens), None, "a request starts once");
            }
            StreamEvent::PromptLogprobs(_) => {}
            StreamEvent::Text(delta) => {
                assert_eq!(choice.reason, None, "nothing follows the end of a choice");
                choice.text.push_str(&delta.content());
                choice.ids.extend(delta.tokens.iter().map(|token| token.id));
            }
            StreamEvent::Finished { reason, completion_tokens, .. } => {
                assert_eq!(choice.reason.replace(reason), None, "a choice ends once");
                choice.completion_tokens = completion_tokens;
            }
            StreamEvent::Failed(error) => self.error = Some(error),
        }
    }

    pub(crate) fn is_whole(&self, prompt: &[u32], tokens: usize) -> bool {
        let ids = expected(prompt, tokens);
        let whole = Choice { text: text(&ids), ids, reason: Some(StopReason::Length), completion_tokens: tokens };
        self.error.is_none() && self.choices == [whole]
    }
}

/// Reads a stream to its end.
pub(crate) async fn read(mut stream: TokenStream) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = stream.next().await {
        answer.take(event);
    }
    answer
}

/// Reads until `what` has been seen.
pub(crate) async fn read_until(stream: &mut TokenStream, what: impl Fn(&Answer) -> bool) -> Answer {
    let mut answer = Answer::default();
    while !what(&answer) {
        answer.take(stream.next().await.expect("the stream has not ended"));
    }
    answer
}

/// Numbers that scatter, the same in every run.
pub(crate) fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
