//! The bubble: how long the executor stands idle between two steps, and how long a prompt holds up a stream.
//!
//! Whole actors around an executor that only passes time (it computes all the while, as a CPU does). Measured at the
//! executor, from the end of one forward pass to the start of the next: sampling, settling, planning, delivery and hops.
//! Beside it the same work in one thread, by plain calls: what is more is the price of the actors.

use lmx_actors::cell::{ActorSystem, Cell, CellSpec, MailboxCapacities, StreamRequest};
use lmx_actors::egress::TextOptions;
use lmx_actors::stream::{StreamEvent, TokenStream};
use lmx_runtime::config::SchedulerConfig;
use lmx_runtime::ids::{KvEpoch, RequestId, SeqId, WorkerId};
use lmx_runtime::kv::KvAccounts;
use lmx_runtime::local::LocalEngine;
use lmx_runtime::plan::BlockMove;
use lmx_runtime::runner::{Batch, Forward, ForwardError, ForwardShape, SlotRunner};
use lmx_runtime::sampling::SamplingParams;
use lmx_runtime::scheduler::{Limits, Scheduler};
use lmx_runtime::sequence::{NewRequest, Priority};
use lmx_runtime::text::Tokenizer;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BLOCK_TOKENS: usize = 16;
const VOCAB: usize = 8;
const NUM_BLOCKS: usize = 10_000;

/// Times between forward passes in which every sequence decodes.
#[derive(Debug, Default)]
struct Bubbles {
    /// Steps that needed no block.
    plain: Vec<Duration>,
    /// Steps that had to ask for blocks.
    granted: Vec<Duration>,
}

#[derive(Clone)]
struct Pace {
    step: Duration,
    token: Duration,
    sequences: usize,
    bubbles: Arc<Mutex<Bubbles>>,
}

impl Pace {
    fn new(step: Duration, token: Duration, sequences: usize) -> Self {
        Self { step, token, sequences, bubbles: Arc::default() }
    }
}

/// Passes time.
struct Paced {
    pace: Pace,
    ended: Option<Instant>,
}

impl Forward for Paced {
    fn shape(&self) -> ForwardShape {
        ForwardShape { vocab_size: VOCAB, spans: BLOCK_TOKENS.into(), num_blocks: NUM_BLOCKS, num_states: 0 }
    }

    fn copy_blocks(&mut self, _: &[BlockMove]) -> Result<(), ForwardError> {
        Ok(())
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) -> Result<(), ForwardError> {
        let begun = Instant::now();
        let all_decode = batch.rows.len() == self.pace.sequences && batch.tokens.len() == self.pace.sequences;
        if let Some(ended) = self.ended.replace(begun).filter(|_| all_decode) {
            let mut bubbles = self.pace.bubbles.lock().unwrap();
            let grows = batch.rows.iter().any(|row| row.context_tokens % BLOCK_TOKENS == 1);
            if grows { &mut bubbles.granted } else { &mut bubbles.plain }.push(begun - ended);
        }
        logits.clear();
        logits.resize(batch.wanted.len() * VOCAB, 0.0);
        logits.chunks_exact_mut(VOCAB).for_each(|row| row[1] = 8.0);
        let pace = self.pace.step + self.pace.token * batch.tokens.len() as u32;
        while begun.elapsed() < pace {
            std::hint::spin_loop();
        }
        self.ended = Some(Instant::now());
        Ok(())
    }
}

fn config() -> SchedulerConfig {
    SchedulerConfig { max_queue: 1024, ..SchedulerConfig::default() }
}

fn limits() -> Limits {
    Limits { spans: BLOCK_TOKENS.into(), num_blocks: NUM_BLOCKS, num_states: 0, context_tokens: 100_000 }
}

fn prompt(len: usize) -> Arc<[u32]> {
    (0..len as u32).map(|i| i % 90).collect()
}

fn start(pace: &Pace, config: SchedulerConfig) -> (Arc<ActorSystem>, impl Fn(usize, usize) -> TokenStream + use<>) {
    let actors = ActorSystem::start(Box::new(|why| panic!("{why:?}")));
    let egress = actors.start_egress(NonZeroUsize::new(4096).unwrap());
    let pace = pace.clone();
    let json = include_bytes!("../../runtime/tests/data/text/qwen3/tokenizer.json");
    let spec = CellSpec {
        model: "paced".into(),
        forward: Arc::new(move || Ok(Box::new(Paced { pace: pace.clone(), ended: None }))),
        tokenizer: Arc::new(Tokenizer::from_bytes(json, None).unwrap()),
        scheduler: config,
        limits: limits(),
        fingerprint: 7,
        prefix_cache: false,
        mailboxes: MailboxCapacities::default(),
    };
    let cell = Cell::start(&actors, spec).unwrap();
    let open = move |prompt_tokens, max_tokens| {
        let request = StreamRequest {
            prompt: prompt(prompt_tokens),
            choices: 1,
            params: SamplingParams::greedy(),
            seed: 1,
            max_tokens,
            priority: Priority::Normal,
            deadline: None,
            text: TextOptions::default(),
        };
        cell.open(&egress, request).unwrap()
    };
    (actors, open)
}

fn with_actors(pace: &Pace, tokens: usize) {
    actix::System::new().block_on(async {
        let (actors, open) = start(pace, config());
        let readers: Vec<_> = (0..pace.sequences)
            .map(|_| {
                let mut stream = open(10, tokens);
                actix_rt::spawn(async move { while stream.next().await.is_some() {} })
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }
        drop(open);
        actors.stop();
    });
}

fn in_one_thread(pace: &Pace, tokens: usize) {
    let accounts = KvAccounts::new(NUM_BLOCKS, BLOCK_TOKENS, 7, false, KvEpoch(0));
    let runner = SlotRunner::new(Box::new(Paced { pace: pace.clone(), ended: None }));
    let scheduler = |sink| Scheduler::new(config(), limits(), KvEpoch(0), sink);
    let mut engine = LocalEngine::new(scheduler, accounts, runner);
    for id in 0..pace.sequences as u64 {
        let request = NewRequest {
            turns: Arc::default(),
            id: RequestId(id),
            worker: WorkerId(0),
            prompt: prompt(10),
            choices: vec![SeqId(id)],
            params: Arc::new(SamplingParams::greedy()),
            seed: 1,
            max_tokens: tokens,
            priority: Priority::Normal,
            deadline: None,
        };
        engine.submit(request, Instant::now());
    }
    while engine.step().is_some() {}
}

/// The sample that `share` of all do not exceed. None if there are no such steps.
fn micros(samples: &mut [Duration], share: f64) -> Option<f64> {
    samples.sort_unstable();
    let last = samples.len().checked_sub(1)?;
    Some(samples[(last as f64 * share) as usize].as_secs_f64() * 1e6)
}

fn show(micros: Option<f64>) -> String {
    micros.map_or_else(|| "-".to_owned(), |micros| format!("{micros:.1}"))
}

fn bubble(step: Duration, sequences: usize, tokens: usize) {
    let measure = |run: fn(&Pace, usize)| {
        let pace = Pace::new(step, Duration::ZERO, sequences);
        run(&pace, tokens);
        let mut bubbles = pace.bubbles.lock().unwrap();
        let Bubbles { plain, granted } = &mut *bubbles;
        (micros(plain, 0.5), micros(plain, 0.9), micros(granted, 0.5))
    };
    let (p50, p90, granted) = measure(with_actors);
    let (alone, _, alone_granted) = measure(in_one_thread);
    let step = step.as_secs_f64() * 1e3;
    let cells = [p50, p90, granted, alone, alone_granted].map(show).join(" | ");
    println!("| {step} | {sequences} | {cells} |");
}

/// The largest time between two tokens of a stream while a prompt of another arrives.
fn stall(budget_ms: u64) {
    let pace = Pace::new(Duration::ZERO, Duration::from_micros(200), 1);
    let (gap, chunks) = actix::System::new().block_on(async {
        let (actors, open) = start(&pace, SchedulerConfig { decode_stall_budget_ms: budget_ms, ..config() });
        let mut stream = open(10, 1_000_000);
        let reader = actix_rt::spawn(async move {
            let mut last = None;
            let mut gap = Duration::ZERO;
            // Aborted from outside; what it has seen is what it returns.
            loop {
                match tokio::time::timeout(Duration::from_millis(600), stream.next()).await {
                    Ok(Some(StreamEvent::Text(delta))) => {
                        let now = Instant::now();
                        gap = gap.max(last.map_or(Duration::ZERO, |last| now - last));
                        last = Some(now);
                        if delta.completion_tokens >= 4000 {
                            return gap;
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return gap,
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut long = open(2000, 1);
        let mut chunks = 0;
        while let Some(event) = long.next().await {
            chunks += usize::from(matches!(event, StreamEvent::Prefill { .. } | StreamEvent::Finished { .. }));
        }
        let gap = reader.await.unwrap();
        drop(open);
        actors.stop();
        (gap, chunks)
    });
    println!("| {budget_ms} | {:.1} | {chunks} |", gap.as_secs_f64() * 1e3);
}

fn main() {
    println!("| step ms | sequences | p50 us | p90 us | p50 us with grants | one thread p50 us | same with grants |");
    println!("|---|---|---|---|---|---|---|");
    for (step_us, tokens) in [(0, 2000), (200, 2000), (1000, 1000), (10_000, 150)] {
        for sequences in [1, 8, 32, 64] {
            bubble(Duration::from_micros(step_us), sequences, tokens);
        }
    }
    println!();
    println!("| stall budget ms | largest gap ms | steps of the prompt |");
    println!("|---|---|---|");
    [20, 50, 100, 200].into_iter().for_each(stall);
}
