use super::*;
use crate::kv::{BlockSpans, Grant, Granted, KvAccounts, KvUsage, Reserve, ReserveRow, StatePool};
use crate::local::LocalEngine;
use crate::runner::{FakeConfig, FakeForward, Fault, FaultScript, SlotRunner};
use crate::sampling::SamplingParams;
use proptest::prelude::*;
use std::num::NonZeroUsize;
use std::time::Duration;

const BLOCK: usize = 4;
const VOCAB: usize = 97;

struct Setup {
    config: SchedulerConfig,
    num_blocks: usize,
    spans: BlockSpans,
    /// Room for snapshots of recurrent states, if the model has these.
    snapshots: Option<usize>,
    faults: FaultScript,
}

fn at_least_one(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

impl Setup {
    fn new(num_blocks: usize) -> Self {
        let config = SchedulerConfig {
            max_sequences: at_least_one(8),
            max_batched_tokens: at_least_one(40),
            prefill_chunk: at_least_one(16),
            ..SchedulerConfig::default()
        };
        Self { config, num_blocks, spans: BLOCK.into(), snapshots: None, faults: FaultScript::default() }
    }

    fn runner(&self) -> SlotRunner {
        let mut config = FakeConfig { faults: self.faults.clone(), ..FakeConfig::new(self.num_blocks, self.spans) };
        config.shape.num_states = self.states().0;
        SlotRunner::new(Box::new(FakeForward::new(config)))
    }

    /// Places of recurrent states, and how many of them are for running sequences.
    fn states(&self) -> (usize, usize) {
        let live = self.config.max_sequences.get();
        self.snapshots.map_or((0, 0), |snapshots| (live + snapshots, live))
    }

    fn engine(&self) -> LocalEngine {
        let (num_states, live) = self.states();
        let limits = Limits { spans: self.spans, num_blocks: self.num_blocks, num_states, context_tokens: 200 };
        let accounts = KvAccounts::new(self.num_blocks, self.spans, 7, true, KvEpoch::default());
        let accounts = accounts.with_states(StatePool::new(num_states, live));
        LocalEngine::new(
            |sink| Scheduler::new(self.config.clone(), limits, KvEpoch::default(), sink),
            accounts,
            self.runner(),
        )
    }
}

fn request(id: u64, prompt: Vec<u32>, max_tokens: usize, choices: u64) -> NewRequest {
    NewRequest {
        id: RequestId(id),
        worker: WorkerId(0),
        prompt: prompt.into(),
        turns: Arc::default(),
        choices: (0..choices).map(|choice| SeqId(id * 100 + choice)).collect(),
        params: Arc::new(SamplingParams::greedy()),
        seed: id,
        max_tokens,
        priority: crate::sequence::Priority::Normal,
        deadline: None,
    }
}

fn prompt(id: u64, len: usize) -> Vec<u32> {
    // Prompts share their beginning in groups of three.
    (0..len as u32).map(|i| (i * 7 + id as u32 % 3) % VOCAB as u32).collect()
}

/// Everything that was delivered for a sequence.
#[derive(Debug, Default, Clone)]
struct Stream {
    tokens: Vec<u32>,
    cached_tokens: Option<usize>,
    finish: Option<Finish>,
}

fn collect(streams: &mut HashMap<SeqId, Stream>, deltas: Vec<Delivery>) {
    for (_, delta) in deltas {
        let stream = streams.entry(delta.seq).or_default();
        assert_eq!(stream.finish, None, "nothing follows the end of {}", delta.seq);
        stream.tokens.extend(delta.tokens.iter().map(|token| token.id));
        stream.cached_tokens = stream.cached_tokens.or(delta.cached_tokens);
        stream.finish = delta.finish;
    }
}

fn run(engine: &mut LocalEngine) -> HashMap<SeqId, Stream> {
    let mut streams = HashMap::new();
    for _ in 0..10_000 {
        match engine.step() {
            Some(deltas) => collect(&mut streams, deltas),
            None => return streams,
        }
    }
    panic!("the engine does not come to rest");
}

#[test]
fn an_answer_is_what_the_model_says_whatever_the_chunks() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    engine.submit(request(1, prompt(1, 53), 9, 1), Instant::now());

    let streams = run(&mut engine);

    assert_eq!(streams[&SeqId(100)].tokens, FakeForward::expected_answer(&prompt(1, 53), 9, VOCAB));
    assert_eq!(streams[&SeqId(100)].finish, Some(Finish::Length));
}

#[test]
fn decode_rows_come_before_prefill_chunks() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    for id in 1..=3 {
        engine.submit(request(id, prompt(id, 5), 50, 1), Instant::now());
    }
    engine.step().unwrap();
    engine.submit(request(4, prompt(4, 100), 5, 1), Instant::now());

    let scheduler = engine.scheduler_mut();
    let Planned::Reserve(reserve) = scheduler.plan() else { panic!("a prompt needs blocks") };
    let mut accounts = KvAccounts::new(64, BLOCK, 7, true, KvEpoch::default());
    for row in &reserve.rows {
        if let crate::kv::ReserveRow::Extend { seq, tokens } = *row {
            let tokens = vec![0; tokens - 1].into();
            let rows = vec![crate::kv::ReserveRow::Admit { seq, tokens, reuse: false, turns: Arc::default() }];
            accounts.reserve(&Reserve { rows, ..Reserve::default() });
        }
    }
    let (Planned::Step(plan), _) = scheduler.granted(accounts.reserve(&reserve)) else { panic!("a plan") };

    // Prompts beside decodes start with four blocks until a step was measured, and a chunk ends on a block border.
    assert_eq!(plan.rows.iter().map(|row| row.work.tokens()).collect::<Vec<_>>(), [1, 1, 1, 16]);
}

#[test]
fn choices_share_one_prefill() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    engine.submit(request(1, prompt(1, 22), 6, 4), Instant::now());

    let streams = run(&mut engine);

    let expected = FakeForward::expected_answer(&prompt(1, 22), 6, VOCAB);
    assert_eq!(streams.len(), 4);
    for stream in streams.values() {
        assert_eq!(stream.tokens, expected);
    }
    // One admission was looked up: the others joined its prompt.
    assert_eq!(engine.usage().queries, 1);
}

#[test]
fn a_second_request_computes_only_what_the_first_did_not() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    engine.submit(request(1, prompt(1, 32), 4, 1), Instant::now());
    run(&mut engine);
    let mut longer = prompt(1, 32);
    longer.extend([90, 91, 92]);
    engine.submit(request(2, longer.clone(), 4, 1), Instant::now());

    let streams = run(&mut engine);

    assert_eq!(streams[&SeqId(200)].cached_tokens, Some(32));
    assert_eq!(streams[&SeqId(200)].tokens, FakeForward::expected_answer(&longer, 4, VOCAB));
}

#[test]
fn short_memory_preempts_the_youngest_and_changes_no_token() {
    let setup = Setup::new(12); // 48 positions for three sequences of 30
    let mut engine = setup.engine();
    let now = Instant::now();
    for id in 1..=3 {
        engine.submit(request(id, prompt(id, 10), 20, 1), now + Duration::from_millis(id));
    }

    let streams = run(&mut engine);

    for id in 1..=3u64 {
        assert_eq!(streams[&SeqId(id * 100)].tokens, FakeForward::expected_answer(&prompt(id, 10), 20, VOCAB));
    }
    assert!(engine.scheduler_mut().counts().preemptions > 0);
    assert_eq!(engine.usage().blocks.held, 0);
}

#[test]
fn blocks_behind_the_first_ones_hold_more_and_change_no_token() {
    // 3 blocks of 4 positions, then blocks of 16: 76 positions in the place of 28.
    let setup = Setup { spans: BlockSpans::new(3, BLOCK, 4 * BLOCK), ..Setup::new(7) };
    let mut engine = setup.engine();
    engine.submit(request(1, prompt(1, 50), 20, 1), Instant::now());
    let first = run(&mut engine);
    engine.submit(request(2, prompt(1, 50), 20, 1), Instant::now());

    let again = run(&mut engine);

    let expected = FakeForward::expected_answer(&prompt(1, 50), 20, VOCAB);
    assert_eq!((&first[&SeqId(100)].tokens, &again[&SeqId(200)].tokens), (&expected, &expected));
    assert_eq!(again[&SeqId(200)].cached_tokens, Some(3 * 4 + 2 * 16));
}

#[test]
fn a_cancelled_sequence_gives_its_blocks_back() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    engine.submit(request(1, prompt(1, 60), 20, 2), Instant::now());
    engine.step().unwrap();
    assert!(engine.usage().blocks.held > 0);

    assert_eq!(engine.cancel(CancelTarget::Request(RequestId(1))).len(), 2);

    assert_eq!(engine.usage().blocks.held, 0);
    assert!(engine.scheduler_mut().is_empty());
}

#[test]
fn a_failed_step_ends_its_sequences_and_no_other() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    engine.submit(request(1, prompt(1, 5), 20, 1), Instant::now());
    setup.faults.push([None, Some(Fault::Error)]);
    let mut streams = HashMap::new();
    collect(&mut streams, engine.step().unwrap());
    collect(&mut streams, engine.step().unwrap());
    engine.submit(request(2, prompt(2, 5), 3, 1), Instant::now());

    streams.extend(run(&mut engine));

    assert!(matches!(streams[&SeqId(100)].finish, Some(Finish::Failed(SequenceError::EngineFault { .. }))));
    assert_eq!(streams[&SeqId(200)].finish, Some(Finish::Length));
}

#[test]
fn a_step_without_memory_is_computed_in_halves() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    setup.faults.push([Some(Fault::OutOfMemory)]);
    engine.submit(request(1, prompt(1, 9), 3, 1), Instant::now());
    engine.submit(request(2, prompt(2, 14), 3, 1), Instant::now());

    let streams = run(&mut engine);

    assert_eq!(streams[&SeqId(100)].tokens, FakeForward::expected_answer(&prompt(1, 9), 3, VOCAB));
    assert_eq!(streams[&SeqId(200)].tokens, FakeForward::expected_answer(&prompt(2, 14), 3, VOCAB));
}

#[test]
fn logits_that_are_not_finite_end_one_sequence() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    setup.faults.push([Some(Fault::NotFinite)]);
    engine.submit(request(1, prompt(1, 5), 3, 1), Instant::now());

    let streams = run(&mut engine);

    assert!(matches!(streams[&SeqId(100)].finish, Some(Finish::Failed(SequenceError::EngineFault { .. }))));
}

#[test]
fn waiting_too_long_ends_a_request_unless_it_was_served_before() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    let now = Instant::now();
    engine.submit(request(1, prompt(1, 5), 50, 1), now);
    engine.step().unwrap();
    engine.submit(request(2, prompt(2, 5), 3, 2), now);

    let expired = engine.scheduler_mut().expire(now + Duration::from_secs(31));

    let ended: Vec<_> = expired.iter().map(|(_, delta)| delta.seq).collect();
    assert_eq!(ended, [SeqId(201), SeqId(200)]);
}

#[test]
fn an_interactive_request_goes_first_but_age_wins() {
    let setup = Setup::new(64);
    let scheduler = |old: Duration| {
        let mut engine = setup.engine();
        let now = Instant::now() + Duration::from_secs(100);
        let background =
            NewRequest { priority: crate::sequence::Priority::Background, ..request(1, prompt(1, 5), 3, 1) };
        let interactive =
            NewRequest { priority: crate::sequence::Priority::Interactive, ..request(2, prompt(2, 5), 3, 1) };
        engine.submit(background, now - old);
        engine.submit(interactive, now);
        engine.scheduler_mut().waiting.iter().next().unwrap().1
    };

    assert_eq!(scheduler(Duration::from_secs(1)), SeqId(200));
    assert_eq!(scheduler(Duration::from_secs(61)), SeqId(100));
}

#[test]
fn a_draining_scheduler_finishes_what_runs() {
    let setup = Setup::new(64);
    let mut engine = setup.engine();
    engine.submit(request(1, prompt(1, 5), 6, 1), Instant::now());
    let mut streams = HashMap::new();
    collect(&mut streams, engine.step().unwrap());
    engine.submit(request(2, prompt(2, 5), 6, 1), Instant::now());

    collect(&mut streams, engine.scheduler_mut().drain());
    collect(&mut streams, engine.submit(request(3, prompt(3, 5), 6, 1), Instant::now()));
    for _ in 0..5 {
        collect(&mut streams, engine.step().unwrap());
    }

    assert_eq!(streams[&SeqId(100)].finish, Some(Finish::Length));
    for seq in [200, 300] {
        assert_eq!(streams[&SeqId(seq)].finish, Some(Finish::Failed(SequenceError::ShuttingDown)));
    }
}

/// Runs a request alone; tells how many tokens it found.
fn cached(engine: &mut LocalEngine, request: NewRequest) -> usize {
    let (seq, expected) =
        (request.choices[0], FakeForward::expected_answer(&request.prompt, request.max_tokens, VOCAB));
    engine.submit(request, Instant::now());
    let stream = run(engine).remove(&seq).unwrap();
    assert_eq!(stream.tokens, expected);
    stream.cached_tokens.unwrap()
}

#[test]
fn recurrent_states_are_found_again_at_the_end_of_a_prompt_and_of_an_answer() {
    let setup = Setup { snapshots: Some(12), ..Setup::new(64) };
    let mut engine = setup.engine();
    let first = prompt(0, 30);

    assert_eq!(cached(&mut engine, request(1, first.clone(), 13, 1)), 0);
    assert_eq!(cached(&mut engine, request(2, first.clone(), 5, 1)), 28);
    // The last token of an answer is not computed: 42 are, in ten blocks and a half.
    let answer = FakeForward::expected_answer(&first, 13, VOCAB);
    let next = [first, answer, vec![5; 9]].concat();
    assert_eq!(cached(&mut engine, request(3, next, 5, 1)), 40);
}

#[test]
fn recurrent_states_are_kept_where_prompts_part() {
    let setup = Setup { snapshots: Some(12), ..Setup::new(64) };
    let mut engine = setup.engine();
    let ask = |question: u32| [prompt(0, 22), vec![question; 15]].concat();

    assert_eq!(cached(&mut engine, request(1, ask(1), 3, 1)), 0);
    assert_eq!(cached(&mut engine, request(2, ask(2), 3, 1)), 0, "nothing stands where they part");
    assert_eq!(cached(&mut engine, request(3, ask(3), 3, 1)), 20);

    // Where it is known that a turn ends, the second one finds it.
    let other = |question: u32| [prompt(1, 22), vec![question; 15]].concat();
    let mut with_turns = request(4, other(1), 3, 1);
    with_turns.turns = [1, 22, 36].into();
    assert_eq!(cached(&mut engine, with_turns), 0);
    assert_eq!(cached(&mut engine, request(5, other(2), 3, 1)), 20);
}

#[test]
fn choices_go_on_from_one_recurrent_state() {
    let setup = Setup { snapshots: Some(0), ..Setup::new(64) };
    let mut engine = setup.engine();
    engine.submit(request(1, prompt(1, 11), 9, 3), Instant::now());

    let streams = run(&mut engine);

    let expected = FakeForward::expected_answer(&prompt(1, 11), 9, VOCAB);
    (100..103).for_each(|seq| assert_eq!(streams[&SeqId(seq)].tokens, expected));
}

#[derive(Debug, Clone)]
enum Op {
    Submit { len: usize, max_tokens: usize, choices: u64 },
    Cancel { nth: usize, whole: bool },
    Pause { nth: usize, paused: bool },
    Step,
    Fault(Fault),
    LoseEngine,
}

/// Blocks of one size, or larger ones behind the first few.
fn spans() -> impl Strategy<Value = BlockSpans> {
    let two_sizes = (1..8usize, 2..5usize).prop_map(|(head, times)| BlockSpans::new(head, BLOCK, times * BLOCK));
    prop_oneof![Just(BLOCK.into()), two_sizes]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..40usize, 1..16usize, 1..4u64)
            .prop_map(|(len, max_tokens, choices)| Op::Submit { len, max_tokens, choices }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(nth, whole)| Op::Cancel { nth, whole }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(nth, paused)| Op::Pause { nth, paused }),
        16 => Just(Op::Step),
        1 => prop_oneof![Just(Fault::Error), Just(Fault::OutOfMemory), Just(Fault::NotFinite)].prop_map(Op::Fault),
        1 => Just(Op::LoseEngine),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Random arrivals, cancels, pauses and faults: every sequence that ends well has exactly the tokens that the model
    /// gives it alone, everything ends, and no block is lost.
    #[test]
    fn every_schedule_gives_the_same_tokens_and_loses_no_block(
        spans in spans(),
        snapshots in prop::option::of(0..7usize),
        ops in prop::collection::vec(op(), 1..160),
    ) {
        // Room for the longest sequence, and for half of another one.
        let setup = Setup { spans, snapshots, ..Setup::new(spans.holding(80)) };
        let mut engine = setup.engine();
        let now = Instant::now();
        let mut submitted: HashMap<SeqId, (Vec<u32>, usize)> = HashMap::new();
        let mut cancelled = std::collections::HashSet::new();
        let mut streams = HashMap::new();
        let mut order: Vec<SeqId> = Vec::new();
        let mut next = 0u64;
        for op in ops {
            match op {
                Op::Submit { len, max_tokens, choices } => {
                    next += 1;
                    let new = request(next, prompt(next, len), max_tokens, choices);
                    for &seq in &new.choices {
                        submitted.insert(seq, (prompt(next, len), max_tokens));
                        order.push(seq);
                    }
                    engine.submit(new, now + Duration::from_millis(next));
                }
                Op::Cancel { nth, whole } if !order.is_empty() => {
                    let seq = order[nth % order.len()];
                    let request = RequestId(seq.0 / 100);
                    if whole {
                        cancelled.extend(order.iter().copied().filter(|seq| seq.0 / 100 == request.0));
                        engine.cancel(CancelTarget::Request(request));
                    } else {
                        cancelled.insert(seq);
                        engine.cancel(CancelTarget::Sequence(seq));
                    }
                }
                Op::Pause { nth, paused } if !order.is_empty() => {
                    engine.scheduler_mut().set_paused(order[nth % order.len()], paused);
                }
                Op::Step => collect(&mut streams, engine.step().unwrap_or_default()),
                Op::Fault(fault) => setup.faults.push([Some(fault)]),
                Op::LoseEngine => collect(&mut streams, engine.replace_runner(setup.runner())),
                _ => {}
            }
            let KvUsage { blocks, states, .. } = engine.usage();
            prop_assert_eq!(states.free + states.live + states.pending + states.snapshots, states.total);
            prop_assert_eq!(blocks.free + blocks.held + blocks.cached, blocks.total);
        }
        for &seq in &order {
            engine.scheduler_mut().set_paused(seq, false);
        }
        let mut steps = 0;
        while let Some(deltas) = engine.step() {
            collect(&mut streams, deltas);
            steps += 1;
            prop_assert!(steps < 20_000, "the engine does not come to rest");
        }
        prop_assert!(engine.scheduler_mut().is_empty());
        prop_assert_eq!(engine.usage().blocks.held, 0);
        prop_assert_eq!((engine.usage().states.live, engine.usage().states.pending), (0, 0));
        for (seq, (prompt, max_tokens)) in submitted {
            let stream = streams.get(&seq).cloned().unwrap_or_default();
            let expected = FakeForward::expected_answer(&prompt, max_tokens, VOCAB);
            prop_assert!(expected.starts_with(&stream.tokens), "{} went astray", seq);
            if !cancelled.contains(&seq) {
                match stream.finish {
                    Some(Finish::Length) => prop_assert_eq!(stream.tokens, expected),
                    Some(Finish::Failed(SequenceError::EngineFault { .. })) => {}
                    other => prop_assert!(false, "{} ended with {:?}", seq, other),
                }
            }
        }
    }
}

/// What a plan asks for.
fn asked(planned: Planned) -> Reserve {
    let Planned::Reserve(reserve) = planned else { panic!("no blocks were asked for: {planned:?}") };
    reserve
}

fn denied(reserve: &Reserve, seq: SeqId) -> Granted {
    Granted { step: reserve.step, epoch: reserve.epoch, rows: vec![Grant::Denied { seq }] }
}

// The one whose blocks had been asked for left before the answer came, and nobody looked at the queue again.
#[test]
fn who_waits_behind_one_that_left_is_planned() {
    let mut engine = Setup::new(64).engine();
    engine.submit(request(1, prompt(1, 20), 5, 1), Instant::now());
    let scheduler = engine.scheduler_mut();
    let reserve = asked(scheduler.plan());
    scheduler.submit(request(2, prompt(2, 20), 5, 1), None, Instant::now());
    scheduler.cancel(CancelTarget::Request(RequestId(1)));

    let (planned, _) = scheduler.granted(denied(&reserve, SeqId(100)));

    assert!(matches!(asked(planned).rows[..], [ReserveRow::Admit { seq: SeqId(200), .. }]));
}

#[test]
fn who_goes_on_while_blocks_are_asked_for_is_planned() {
    let mut engine = Setup::new(64).engine();
    engine.submit(request(1, prompt(1, 5), 50, 1), Instant::now());
    engine.step().unwrap();
    let scheduler = engine.scheduler_mut();
    scheduler.set_paused(SeqId(100), true);
    scheduler.submit(request(2, prompt(2, 20), 5, 1), None, Instant::now());
    let reserve = asked(scheduler.plan());
    scheduler.set_paused(SeqId(100), false);

    let (planned, _) = scheduler.granted(denied(&reserve, SeqId(200)));
    // Asked again, with the decode that needs no block beside the admission that gets none.
    let (planned, _) = scheduler.granted(denied(&asked(planned), SeqId(200)));

    let Planned::Step(plan) = planned else { panic!("the decode is planned: {planned:?}") };
    assert_eq!(plan.rows[0].seq, SeqId(100));
}

// A lone sequence that is short of blocks ends, because its context fills the memory. This one was short of blocks that
// a sequence which had just left was still holding.
#[test]
fn nobody_ends_for_want_of_blocks_that_have_come_free() {
    let mut engine = Setup::new(64).engine();
    engine.submit(request(1, prompt(1, 20), 50, 1), Instant::now());
    engine.step().unwrap();
    let scheduler = engine.scheduler_mut();
    scheduler.set_paused(SeqId(100), true);
    scheduler.submit(request(2, prompt(2, 20), 5, 1), None, Instant::now());
    let reserve = asked(scheduler.plan());
    scheduler.cancel(CancelTarget::Request(RequestId(1)));

    let (planned, ended) = scheduler.granted(denied(&reserve, SeqId(200)));

    assert!(ended.is_empty());
    assert!(matches!(asked(planned).rows[..], [ReserveRow::Admit { seq: SeqId(200), .. }]));
}

// The new accounts deny what was asked for in the old memory. That was taken for the answer to the same step, asked
// again, and a sequence ended for want of blocks.
#[test]
fn an_answer_to_what_was_asked_before_the_accounts_were_lost_is_none() {
    let mut engine = Setup::new(64).engine();
    engine.submit(request(1, prompt(1, 20), 5, 1), Instant::now());
    let scheduler = engine.scheduler_mut();
    let before = asked(scheduler.plan());
    scheduler.kv_lost(KvEpoch(1));
    asked(scheduler.plan());

    let late = Granted { epoch: KvEpoch(1), ..denied(&before, SeqId(100)) };
    let (planned, ended) = scheduler.granted(late);

    assert!(matches!(planned, Planned::Nothing) && ended.is_empty());
}

#[test]
fn late_news_of_lost_accounts_is_no_news() {
    let mut engine = Setup::new(64).engine();
    let scheduler = engine.scheduler_mut();
    scheduler.engine_lost(KvEpoch(2));

    scheduler.kv_lost(KvEpoch(1));

    assert_eq!(scheduler.epoch(), KvEpoch(2));
}

// It was ended as if it had never had a place.
#[test]
fn a_preempted_sequence_is_not_drained_away() {
    let mut engine = Setup::new(64).engine();
    engine.submit(request(1, prompt(1, 20), 30, 1), Instant::now());
    engine.step().unwrap();
    let scheduler = engine.scheduler_mut();
    scheduler.kv_lost(KvEpoch(1)); // as preemption: it queues again
    scheduler.submit(request(2, prompt(2, 20), 5, 1), None, Instant::now());

    let ended = scheduler.drain();

    assert_eq!(ended.iter().map(|(_, delta)| delta.seq).collect::<Vec<_>>(), [SeqId(200)]);
    assert_eq!(scheduler.counts().waiting, 1);
}
