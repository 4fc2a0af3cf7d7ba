//! The native executor: against logits of other implementations, and against itself, bit for bit.

mod support;

use lmx_runtime::config::{ComputeMode, KvFormat};
use lmx_runtime::kernels::Form;
use lmx_runtime::runner::Threads;
use lmx_runtime::runner::native::LoadOptions;
use std::num::NonZeroUsize;
use support::compare::{self, F32, Tolerance};
use support::driver;
use support::fixture::{self, Fixture};

const MODES: [ComputeMode; 3] = [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32];

/// What a mode may differ by from float32, on quantised weights: tolerance, and root mean square over all positions.
fn limits(mode: ComputeMode) -> (Tolerance, f64) {
    match mode {
        ComputeMode::Int8 => (Tolerance { err: 0.3, kl: 5e-2, top1: 0.9 }, 0.04),
        ComputeMode::Int16 => (Tolerance { err: 2e-2, kl: 1e-4, top1: 1.0 }, 1e-3),
        ComputeMode::F32 => (F32, 1e-4),
    }
}

fn ids(fixture: &Fixture) -> Vec<&[u32]> {
    fixture.prompts.values().map(|prompt| &prompt.ids[..]).collect()
}

#[test]
fn every_mode_stays_as_close_to_the_reference_as_it_says() {
    for fixture in fixture::all() {
        for mode in MODES {
            let (tolerance, rms) = limits(mode);
            let mut driver = driver::native(&fixture.checkpoint(), mode, Form::best(), 2);
            let vocab = driver.vocab();
            let (mut reference, mut got) = (Vec::new(), Vec::new());
            for prompt in fixture.prompts.values() {
                let logits = driver.prompt(&prompt.ids, usize::MAX).1;
                // Where positions are chosen, rounding chooses others now and then: only float32 is judged there.
                let judged = fixture.chosen.filter(|_| mode != ComputeMode::F32).map_or(logits.len(), |n| n * vocab);
                let judged = judged.min(logits.len());
                reference.extend_from_slice(&prompt.logits[..judged]);
                got.extend_from_slice(&logits[..judged]);
            }
            let distance = compare::logits(&reference, &got, vocab, tolerance);
            println!("{:24} {mode:?} {distance:?}", fixture.name);
            if fixture.routed && mode == ComputeMode::Int8 {
                let error = compare::typical_error(&reference, &got, vocab);
                println!("{:24} {mode:?} typical error {error:.1e}", fixture.name);
                assert!(error <= compare::ROUTED_INT8, "{} {mode:?}: {error}", fixture.name);
                continue;
            }
            assert!(distance.within(tolerance) && distance.rms <= rms, "{} {mode:?}: {distance:?}", fixture.name);
        }
    }
}

#[test]
fn greedy_decoding_follows_the_reference() {
    for fixture in fixture::all() {
        let mut driver = driver::native(&fixture.checkpoint(), ComputeMode::F32, Form::best(), 2);
        let vocab = driver.vocab();
        for (name, prompt) in &fixture.prompts {
            let (tokens, logits) = driver.greedy(&prompt.ids, prompt.greedy.len());
            assert_eq!(tokens, prompt.greedy, "{} {name}", fixture.name);
            let distance = compare::logits(&prompt.greedy_logits, &logits, vocab, F32);
            assert!(distance.within(F32), "{} {name}: {distance:?}", fixture.name);
        }
    }
}

#[test]
fn weights_that_stay_in_the_file_give_the_same_bits() {
    for fixture in fixture::all() {
        let checkpoint = fixture.checkpoint();
        for mode in MODES {
            let packed = driver::native(&checkpoint, mode, Form::best(), 1).together(&ids(&fixture), 64);
            for form in Form::available() {
                let threads = Threads::anywhere(NonZeroUsize::new(2).unwrap());
                let options = LoadOptions { mapped: true, ..threads.into() };
                let mut mapped = driver::native_with(&checkpoint, mode, form, &options, &KvFormat::default());
                assert!(mapped.together(&ids(&fixture), 64) == packed, "{} {mode:?} {form:?}", fixture.name);
            }
        }
    }
}

#[test]
fn logits_are_the_same_bits_in_any_chunk_batch_team_and_form() {
    for fixture in fixture::all() {
        for mode in MODES {
            let checkpoint = fixture.checkpoint();
            let mut driver = driver::native(&checkpoint, mode, Form::best(), 1);
            let alone: Vec<Vec<f32>> = ids(&fixture).iter().map(|ids| driver.prompt(ids, usize::MAX).1).collect();
            for form in Form::available() {
                // Plain Rust is slow: one pass shows that it gives the same.
                let chunks: &[usize] = if form == Form::PORTABLE { &[64] } else { &[1, 5, 64] };
                for (threads, &chunk) in (1..).zip(chunks) {
                    let mut driver = driver::native(&checkpoint, mode, form, threads);
                    let what = format!("{} {mode:?} {form:?} chunk {chunk} threads {threads}", fixture.name);
                    assert!(driver.together(&ids(&fixture), chunk) == alone, "together: {what}");
                    for (ids, alone) in ids(&fixture).iter().zip(&alone) {
                        assert!(driver.prompt(ids, chunk).1 == *alone, "alone: {what}");
                    }
                }
            }
        }
    }
}
