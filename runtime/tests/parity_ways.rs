//! Logits and greedy answers as requests are computed: through the scheduler, in chunks, in batches, over cached
//! prefixes. Every way must give what other implementations gave.

mod support;

use lmx_runtime::checkpoint::LoadError;
use lmx_runtime::config::ComputeMode;
use lmx_runtime::parity::{self, ParityInputs, ParityOptions, PromptNumbers, Sizes};
use lmx_runtime::runner::Forward;
use lmx_runtime::runner::candle::{CandleForward, CandleModel, pick};
use std::num::NonZeroUsize;
use std::sync::Arc;
use support::compare::{self, F32};
use support::fixture::{self, Fixture};

#[test]
fn whole_prompts_give_the_references_logits_and_answers() {
    every_fixture_passes(ParityOptions::default());
}

#[test]
fn chunks_in_a_batch_give_the_references_logits_and_answers() {
    every_fixture_passes(ParityOptions { chunk: NonZeroUsize::new(5), batch: true, reuse_prefix: false });
}

#[test]
fn cached_prefixes_give_the_references_logits_and_answers() {
    every_fixture_passes(ParityOptions { reuse_prefix: true, ..ParityOptions::default() });
}

#[test]
fn cached_prefixes_in_a_batch_of_chunks_give_the_references_logits_and_answers() {
    every_fixture_passes(ParityOptions { chunk: NonZeroUsize::new(32), batch: true, reuse_prefix: true });
}

fn every_fixture_passes(options: ParityOptions) {
    for fixture in fixture::all() {
        let numbers = compute(&fixture, options);
        for (prompt, (name, reference)) in numbers.iter().zip(&fixture.prompts) {
            let what = format!("{} {name} {options:?}", fixture.name);
            assert_eq!(&prompt.name, name);
            assert_eq!(prompt.greedy_ids, reference.greedy, "{what}");
            for (got, reference) in
                [(&prompt.logits, &reference.logits), (&prompt.greedy_logits, &reference.greedy_logits)]
            {
                let distance = compare::logits(reference, got, prompt.vocab, F32);
                assert!(distance.within(F32), "{what}: {distance:?}");
            }
        }
    }
}

fn compute(fixture: &Fixture, options: ParityOptions) -> Vec<PromptNumbers> {
    let prompts = fixture.prompts.iter().map(|(name, prompt)| (name.clone(), prompt.ids.clone())).collect();
    let n_greedy = fixture.prompts.values().map(|prompt| prompt.greedy.len()).max().unwrap();
    let model = CandleModel::load(&fixture.checkpoint(), &pick(), ComputeMode::F32, &mut |_| {}).unwrap();
    let context_tokens = model.facts().context_tokens;
    let forward = |sizes: Sizes| -> Result<Box<dyn Forward>, LoadError> {
        Ok(Box::new(CandleForward::new(Arc::clone(&model), sizes.num_blocks, sizes.block_tokens)?))
    };
    parity::run(&ParityInputs { prompts, n_greedy }, options, context_tokens, forward, &mut |_| {}).unwrap()
}
