use super::*;
use crate::kv::BlockSpans;
use crate::runner::{FakeConfig, FakeForward, Fault, FaultScript, Forward, MemorySize};
use std::num::NonZeroUsize;

const VOCAB: usize = 97;
const BLOCK: usize = 16;
const N_GREEDY: usize = 6;

fn inputs() -> ParityInputs {
    let prompt = |len: u32, step: u32| (0..len).map(|i| i * step % VOCAB as u32).collect();
    // The third begins as the second does.
    let prompts = [(1, 1), (70, 7), (90, 7), (33, 5), (16, 3), (17, 3)];
    let prompts = prompts.iter().enumerate().map(|(i, &(len, step))| (format!("p{i}"), prompt(len, step))).collect();
    ParityInputs { prompts, n_greedy: N_GREEDY }
}

fn compute(options: ParityOptions, faults: FaultScript) -> Result<Vec<PromptNumbers>, ParityError> {
    compute_in(BLOCK.into(), options, faults)
}

fn compute_in(
    spans: BlockSpans,
    options: ParityOptions,
    faults: FaultScript,
) -> Result<Vec<PromptNumbers>, ParityError> {
    let forward = |size: MemorySize| {
        let config = FakeConfig { faults, ..FakeConfig::new(size.num_blocks.get(), spans) };
        Ok(Box::new(FakeForward::new(config)) as Box<dyn Forward>)
    };
    run(&inputs(), options, 1000, spans, forward, &mut |_| {})
}

fn every_way() -> Vec<ParityOptions> {
    let chunks = [None, NonZeroUsize::new(1), NonZeroUsize::new(5), NonZeroUsize::new(32)];
    let ways = chunks.into_iter().flat_map(|chunk| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(batch, reuse_prefix)| ParityOptions {
            chunk,
            batch,
            reuse_prefix,
        })
    });
    ways.collect()
}

#[test]
fn every_way_gives_the_logits_of_every_position_and_the_greedy_answer() {
    for options in every_way() {
        let numbers = compute(options, FaultScript::default()).unwrap();

        for (prompt, (name, ids)) in numbers.iter().zip(&inputs().prompts) {
            let answer = FakeForward::expected_answer(ids, N_GREEDY, VOCAB);
            assert_eq!((&prompt.name, &prompt.greedy_ids), (name, &answer), "{options:?}");
            let best = |rows: &[f32]| -> Vec<u32> {
                rows.chunks(VOCAB).map(|row| row.iter().position(|&x| x == 8.0).unwrap() as u32).collect()
            };
            let expected: Vec<u32> = (1..=ids.len()).map(|end| FakeForward::expected(&ids[..end], VOCAB)).collect();
            assert_eq!(best(&prompt.logits), expected, "{name} {options:?}");
            assert_eq!(best(&prompt.greedy_logits), answer, "{name} {options:?}");
        }
    }
}

#[test]
fn a_reused_prefix_is_all_full_blocks_before_the_last_token() {
    let options = ParityOptions { reuse_prefix: true, ..ParityOptions::default() };

    let numbers = compute(options, FaultScript::default()).unwrap();

    let cached: Vec<usize> = numbers.iter().map(|prompt| prompt.cached_tokens).collect();
    assert_eq!(cached, [0, 64, 80, 32, 0, 16]);
}

#[test]
fn a_failed_step_and_logits_that_are_not_finite_are_errors() {
    let faulty = |fault| {
        let faults = FaultScript::default();
        faults.push([None, Some(fault)]);
        compute(ParityOptions::default(), faults).unwrap_err().to_string()
    };

    assert_eq!(faulty(Fault::Error), "the forward pass failed: scripted error");
    assert!(faulty(Fault::NotFinite).starts_with("prompt `p0` failed: "));
}

#[test]
fn a_prompt_that_does_not_fit_is_named() {
    let error =
        run(&inputs(), ParityOptions::default(), 95, BLOCK.into(), |_| unreachable!(), &mut |_| {}).unwrap_err();

    assert_eq!(error.to_string(), "prompt `p2` has 90 tokens and 6 shall follow, the model takes 95");
}

#[test]
fn a_token_outside_of_the_vocabulary_is_named() {
    let inputs = ParityInputs { prompts: [("a".to_owned(), vec![1, 97])].into(), n_greedy: 1 };
    let forward = |size: MemorySize| {
        let config = FakeConfig::new(size.num_blocks.get(), BLOCK);
        Ok(Box::new(FakeForward::new(config)) as Box<dyn Forward>)
    };

    let error = run(&inputs, ParityOptions::default(), 100, BLOCK.into(), forward, &mut |_| {}).unwrap_err();

    assert_eq!(error.to_string(), "invalid inputs: prompt `a` holds token 97, the model's vocabulary has 97");
}

#[test]
fn the_numbers_are_written_under_the_names_of_the_fixtures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    let numbers = compute(ParityOptions::default(), FaultScript::default()).unwrap();

    write(&path, &numbers[..2]).unwrap();

    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut shapes: Vec<_> =
        file.iter().map(|(name, tensor)| format!("{name} {:?} {:?}", tensor.dtype(), tensor.shape())).collect();
    shapes.sort();
    assert_eq!(
        shapes,
        [
            "greedy_ids.p0 I64 [6]",
            "greedy_ids.p1 I64 [6]",
            "greedy_logits.p0 F32 [6, 97]",
            "greedy_logits.p1 F32 [6, 97]",
            "logits.p0 F32 [1, 97]",
            "logits.p1 F32 [70, 97]"
        ]
    );
}
