use super::*;
use crate::ids::StepId;
use crate::plan::Row;
use crate::runner::{FakeConfig, FakeForward};
use crate::sampling::SamplingParams;
use std::sync::Arc;

const VOCAB: usize = 97;

fn runner() -> SlotRunner {
    SlotRunner::new(Box::new(FakeForward::new(FakeConfig::new(16, 4))))
}

fn new_slot(slot: u32, tokens: &[u32], blocks: &[u32], params: SamplingParams) -> NewSlot {
    NewSlot {
        slot: SlotId(slot),
        seq: SeqId(u64::from(slot)),
        tokens: tokens.into(),
        prompt_tokens: tokens.len(),
        cached_tokens: 0,
        blocks: blocks.iter().copied().map(BlockId).collect(),
        state: None,
        params: Arc::new(params),
        seed: 1,
        choice: 0,
    }
}

fn row(slot: u32, work: RowWork, new_blocks: &[u32]) -> Row {
    let new_blocks = new_blocks.iter().copied().map(BlockId).collect();
    Row { slot: SlotId(slot), seq: SeqId(u64::from(slot)), work, new_blocks }
}

fn ids(output: &StepOutput, at: usize) -> Vec<u32> {
    output.rows[at].result.as_ref().unwrap().tokens.iter().map(|token| token.id).collect()
}

fn prefill(runner: &mut SlotRunner, prompt: &[u32], blocks: &[u32], params: SamplingParams) -> StepOutput {
    let work = RowWork::LastChunk { span: 0..prompt.len(), forks: Vec::new() };
    let admit = vec![new_slot(0, prompt, blocks, params)];
    runner.step(&StepPlan { admit, rows: vec![row(0, work, &[])], ..StepPlan::default() }).unwrap()
}

#[test]
fn a_draft_changes_how_fast_tokens_come_and_never_which() {
    let prompt = [1, 2, 3];
    let expected = FakeForward::expected_answer(&prompt, 8, VOCAB);
    let mut runner = runner();
    let mut answer = ids(&prefill(&mut runner, &prompt, &[3, 1, 2, 0], SamplingParams::greedy()), 0);

    // Two right proposals and a wrong one, then a wrong one at once.
    let wrong = (expected[3] + 1) % VOCAB as u32;
    for (draft, accepted) in [(vec![expected[1], expected[2], wrong], 2), (vec![wrong + 1], 0)] {
        let work = RowWork::Verify { draft: draft.into() };
        let output = runner.step(&StepPlan { rows: vec![row(0, work, &[])], ..StepPlan::default() }).unwrap();
        assert_eq!(output.rows[0].result.as_ref().unwrap().accepted, accepted);
        answer.extend(ids(&output, 0));
    }
    for _ in 0..3 {
        let plan = StepPlan { rows: vec![row(0, RowWork::Decode, &[])], ..StepPlan::default() };
        answer.extend(ids(&runner.step(&plan).unwrap(), 0));
    }

    assert_eq!(answer, expected);
}

#[test]
fn a_verified_stop_token_ends_the_row() {
    let prompt = [1, 2, 3];
    let expected = FakeForward::expected_answer(&prompt, 4, VOCAB);
    let params = SamplingParams { stop_ids: vec![expected[1]], ..SamplingParams::greedy() };
    let mut runner = runner();
    prefill(&mut runner, &prompt, &[0, 1], params);

    let work = RowWork::Verify { draft: expected[1..4].into() };
    let output = runner.step(&StepPlan { rows: vec![row(0, work, &[])], ..StepPlan::default() }).unwrap();

    let tokens = output.rows[0].result.as_ref().unwrap();
    assert_eq!(tokens.tokens.len(), 1);
    assert!(tokens.tokens[0].stop);
}

#[test]
fn prompt_logprobs_cover_every_token_but_the_first() {
    let params = SamplingParams { prompt_logprobs: Some(1), ..SamplingParams::greedy() };
    let prompt = [5, 6, 7, 8, 9];
    let mut runner = runner();
    let admit = vec![new_slot(0, &prompt, &[0, 1], params)];
    let chunk = row(0, RowWork::Chunk { span: 0..4 }, &[]);
    let first = runner.step(&StepPlan { admit, rows: vec![chunk], ..StepPlan::default() }).unwrap();
    let last = row(0, RowWork::LastChunk { span: 4..5, forks: Vec::new() }, &[]);
    let second = runner.step(&StepPlan { rows: vec![last], ..StepPlan::default() }).unwrap();

    let first = &first.rows[0].result.as_ref().unwrap().prompt_logprobs;
    assert_eq!(first.iter().map(|token| token.id).collect::<Vec<_>>(), [6, 7, 8, 9]);
    assert_eq!(first[0].top[0].0, FakeForward::expected(&[5], VOCAB));
    assert!(second.rows[0].result.as_ref().unwrap().prompt_logprobs.is_empty());
}

#[test]
fn a_row_of_an_unknown_sequence_fails_alone() {
    let mut runner = runner();
    prefill(&mut runner, &[1, 2, 3], &[0, 1], SamplingParams::greedy());

    let rows = vec![row(7, RowWork::Decode, &[]), row(0, RowWork::Decode, &[])];
    let output = runner.step(&StepPlan { step: StepId(1), rows, ..StepPlan::default() }).unwrap();

    assert_eq!(output.rows[0].result.as_ref().unwrap_err(), &RowFault::UnknownSlot);
    assert_eq!(ids(&output, 1).len(), 1);
}

#[test]
fn the_tap_sees_every_position_of_prompt_and_answer() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    let mut runner = runner();
    runner.set_tap(Box::new(move |_, position, logits| {
        assert_eq!(logits.len(), VOCAB);
        sink.lock().unwrap().push(position);
    }));
    prefill(&mut runner, &[1, 2, 3], &[0, 1], SamplingParams::greedy());
    runner.step(&StepPlan { rows: vec![row(0, RowWork::Decode, &[])], ..StepPlan::default() }).unwrap();

    assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4]);
}
