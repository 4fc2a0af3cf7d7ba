//! Choosing a token from a vocabulary of 150,000.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lmx_runtime::sampling::{Sampler, SamplingParams};
use std::hint::black_box;
use std::sync::Arc;

const VOCAB: usize = 150_000;

/// Logits with a spread like that of a language model: a bell, and a few tokens far above it.
fn logits() -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut logits: Vec<f32> = (0..VOCAB).map(|_| ((0..4).map(|_| uniform()).sum::<f32>() - 2.0) * 4.0).collect();
    (0..40).for_each(|i| logits[i * 3701] += 14.0 - i as f32 * 0.3);
    logits
}

fn sampler(c: &mut Criterion) {
    let neutral = SamplingParams::default();
    let cases = [
        ("greedy", SamplingParams::greedy()),
        ("plain", neutral.clone()),
        ("top_k_40_top_p_0.95", SamplingParams { top_k: 40, top_p: 0.95, ..neutral.clone() }),
        ("top_p_0.95", SamplingParams { top_p: 0.95, ..neutral.clone() }),
        ("min_p_0.05", SamplingParams { min_p: 0.05, ..neutral.clone() }),
        ("typical_p_0.9", SamplingParams { typical_p: 0.9, ..neutral.clone() }),
        ("repetition_penalty_1.1", SamplingParams { repetition_penalty: 1.1, temperature: 0.0, ..neutral.clone() }),
        ("logprobs_5", SamplingParams { logprobs: Some(5), temperature: 0.0, ..neutral }),
    ];
    let logits = logits();
    let prompt: Vec<u32> = (0..1000).map(|i| i * 97 % VOCAB as u32).collect();
    let mut group = c.benchmark_group("sampler");
    for (name, params) in cases {
        let mut sampler = Sampler::new(Arc::new(params), 1, 0, &prompt, prompt.len());
        let mut position = prompt.len();
        group.bench_function(name, |b| {
            // Choosing edits the logits, so each round gets its own copy, which is not measured.
            b.iter_batched_ref(
                || logits.clone(),
                |logits| {
                    position += 1;
                    black_box(sampler.sample(logits, position).unwrap())
                },
                BatchSize::LargeInput,
            );
        });
    }
}

criterion_group!(benches, sampler);
criterion_main!(benches);
