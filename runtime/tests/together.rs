//! Eight sequences in one batch, cut into chunks or over cached beginnings, give bit for bit what each gives alone.

mod support;

use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::config::{ComputeConfig, ComputeMode, Executor, KvFormat};
use lmx_runtime::model::Blueprint;
use lmx_runtime::parity::{self, ParityInputs, ParityOptions, PromptNumbers};
use lmx_runtime::runner::Backend;
use std::num::NonZeroUsize;
use support::fixture;

/// A mixture of experts, latent attention with its projection in halves and whole, a recurrence, chosen positions.
const MODELS: [&str; 5] =
    ["qwen3-moe-q4g64", "kimi-k25-q6g32", "glm4-moe-lite-kv-b", "qwen3-next-q4g64", "glm-moe-dsa-bf16"];
const LENGTHS: [usize; 8] = [1, 3, 16, 17, 33, 48, 70, 97];

fn compute(
    checkpoint: &Checkpoint,
    inputs: &ParityInputs,
    options: ParityOptions,
    mode: ComputeMode,
) -> Vec<PromptNumbers> {
    let compute = ComputeConfig { executor: Executor::Native, mode, ..ComputeConfig::default() };
    let backend = Backend::choose(&compute).unwrap();
    let format = KvFormat::default();
    let spans = backend.kv_shape(&Blueprint::read(checkpoint).unwrap(), &format).unwrap().spans;
    let model = backend.load(checkpoint, &mut |_| {}).unwrap();
    let forward = |size| model.forward(size, &format);
    parity::run(inputs, options, model.facts().context_tokens, spans, forward, &mut |_| {}).unwrap()
}

#[test]
fn eight_sequences_give_alone_and_together_the_same_bits() {
    let prompt = |(n, length): (usize, &usize)| {
        // Half of them begin alike, so that they share blocks and states.
        let ids = (0..*length).map(|i| ((i * 31 + (n % 2) * 7 * (i / 20)) % 300) as u32).collect();
        (format!("p{n}"), ids)
    };
    let inputs = ParityInputs { prompts: LENGTHS.iter().enumerate().map(prompt).collect(), n_greedy: 20 };
    let ways = [
        ParityOptions { chunk: None, batch: true, reuse_prefix: false },
        ParityOptions { chunk: NonZeroUsize::new(7), batch: true, reuse_prefix: false },
        ParityOptions { chunk: NonZeroUsize::MIN.into(), batch: false, reuse_prefix: true },
        ParityOptions { chunk: NonZeroUsize::new(32), batch: true, reuse_prefix: true },
    ];
    for name in MODELS {
        let checkpoint = fixture::named(name).checkpoint();
        for mode in [ComputeMode::Int16, ComputeMode::Int8, ComputeMode::F32] {
            let alone = compute(&checkpoint, &inputs, ParityOptions::default(), mode);
            for options in ways {
                for (got, alone) in compute(&checkpoint, &inputs, options, mode).iter().zip(&alone) {
                    let what = format!("{name} {mode:?} {options:?} {}", got.name);
                    assert_eq!(got.greedy_ids, alone.greedy_ids, "{what}");
                    assert!(got.logits == alone.logits && got.greedy_logits == alone.greedy_logits, "{what}");
                    assert_eq!(got.cached_tokens > 0, options.reuse_prefix && got.prompt_tokens() > 16, "{what}");
                }
            }
        }
    }
}
