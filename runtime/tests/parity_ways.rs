//! Logits and greedy answers as requests are computed: through the scheduler, in chunks, in batches, over cached
//! prefixes. Every way must give what other implementations gave.

mod support;

use lmx_runtime::config::{ComputeConfig, ComputeMode, Executor, KvFormat};
use lmx_runtime::parity::{self, ParityInputs, ParityOptions, PromptNumbers};
use lmx_runtime::runner::Backend;
use std::num::NonZeroUsize;
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
    for (fixture, executor) in fixture::all()
        .iter()
        .flat_map(|fixture| [Executor::Candle, Executor::Native].map(|executor| (fixture, executor)))
    {
        let numbers = compute(fixture, options, executor);
        for (prompt, (name, reference)) in numbers.iter().zip(&fixture.prompts) {
            let what = format!("{} {name} {executor:?} {options:?}", fixture.name);
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

fn compute(fixture: &Fixture, options: ParityOptions, executor: Executor) -> Vec<PromptNumbers> {
    let prompts = fixture.prompts.iter().map(|(name, prompt)| (name.clone(), prompt.ids.clone())).collect();
    let n_greedy = fixture.prompts.values().map(|prompt| prompt.greedy.len()).max().unwrap();
    let backend =
        Backend::choose(&ComputeConfig { executor, mode: ComputeMode::F32, ..ComputeConfig::default() }).unwrap();
    let model = backend.load(&fixture.checkpoint(), &mut |_| {}).unwrap();
    let format = KvFormat::default();
    let forward = |size| model.forward(size, &format);
    let context_tokens = model.facts().context_tokens;
    let spans = format.block_tokens.get().into();
    parity::run(&ParityInputs { prompts, n_greedy }, options, context_tokens, spans, forward, &mut |_| {}).unwrap()
}
