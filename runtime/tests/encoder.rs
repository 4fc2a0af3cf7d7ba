//! Embedding and reranking models: against vectors and scores of sentence-transformers, transformers, mlx-embeddings and
//! mlx-lm, and against themselves, bit for bit.

mod support;

use lmx_runtime::config::ComputeMode;
use lmx_runtime::kernels::Form;
use lmx_runtime::parity::EncoderInputs;
use lmx_runtime::runner::Threads;
use lmx_runtime::runner::native::LoadOptions;
use safetensors::{Dtype, SafeTensors};
use std::num::NonZeroUsize;
use support::encoder;

const MODES: [ComputeMode; 3] = [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32];

/// What a mode may differ by from the reference: 1 less the cosine of vectors, and the difference of scores. The bounds of
/// `f32` and `int16` are those of the reference generator's own comparison. `int8` rounds activations to 8 bits and floats of
/// weights to 6, which costs 1.1e-3 and 1.1e-2 at most on the committed fixtures.
fn limits(mode: ComputeMode) -> (f64, f64) {
    match mode {
        ComputeMode::Int8 => (3e-3, 3e-2),
        ComputeMode::Int16 | ComputeMode::F32 => (1e-5, 1e-3),
    }
}

#[test]
fn every_mode_stays_as_close_to_the_reference_as_it_says() {
    for fixture in encoder::all() {
        let read = fixture.open();
        let json = serde_json::to_vec(&fixture.inputs).unwrap();
        let inputs = EncoderInputs::from_json(&json).unwrap();
        let bytes = std::fs::read(fixture.path.join("reference/reference.safetensors")).unwrap();
        let reference = SafeTensors::deserialize(&bytes).unwrap();
        for mode in MODES {
            let (cosine, score) = limits(mode);
            for batch in [false, true] {
                let mut encode = read.native(mode, Form::best(), 2);
                let outputs = inputs.run(&read.text, &mut encode, batch).unwrap();
                assert!(!outputs.is_empty());
                for (name, _, shape, got) in outputs {
                    let expected = reference.tensor(&name).unwrap();
                    assert_eq!(
                        (expected.dtype(), expected.shape()),
                        (Dtype::F32, &shape[..]),
                        "{} {name}",
                        fixture.name
                    );
                    let (expected, got) = (floats(expected.data()), floats(&got));
                    let (distance, limit) = match shape[..] {
                        [_, width] => (apart(&expected, &got, width), cosine),
                        _ => (largest_difference(&expected, &got), score),
                    };
                    println!("{:28} {mode:6?} {name:14} {distance:.1e}", fixture.name);
                    assert!(distance <= limit, "{} {mode:?} {name}: {distance}", fixture.name);
                }
            }
        }
    }
}

#[test]
fn texts_are_read_as_the_same_tokens() {
    for fixture in encoder::all() {
        let expected: Vec<Vec<u32>> = serde_json::from_value(fixture.inputs["input_ids"].clone()).unwrap();
        let rows = fixture.rows(&fixture.open().text);
        let got: Vec<_> = rows.iter().map(|row| row.tokens.clone()).collect();
        assert_eq!(got, expected, "{}", fixture.name);
    }
}

#[test]
fn the_second_of_two_texts_is_another_segment_where_the_tokenizer_says_so() {
    let rows = |name: &str| {
        let read = encoder::named(name).open();
        (encoder::named(name).rows(&read.text), read.text.tokenizer.token_to_id("[SEP]"))
    };
    let (bert, end) = rows("bert-reranker-bf16");
    for row in &bert {
        assert_eq!((row.tokens.get(row.first_segment - 1).copied(), row.tokens.last().copied()), (end, end));
        assert!(row.first_segment < row.tokens.len());
    }
    let (roberta, _) = rows("bge-reranker-f32");
    assert!(roberta.iter().all(|row| row.first_segment == row.tokens.len()));
}

#[test]
fn vectors_are_the_same_bits_in_any_batch_team_and_form() {
    for fixture in encoder::all() {
        let read = fixture.open();
        let rows = fixture.rows(&read.text);
        for mode in MODES {
            let alone = encoder::alone(&mut read.native(mode, Form::best(), 1), &rows);
            for form in Form::available() {
                // Plain Rust is slow: one pass shows that it gives the same.
                let teams: &[usize] = if form == Form::PORTABLE { &[3] } else { &[1, 3] };
                for &threads in teams {
                    let mut encode = read.native(mode, form, threads);
                    let what = format!("{} {mode:?} {form:?} threads {threads}", fixture.name);
                    assert!(encoder::together(&mut encode, &rows) == alone, "together: {what}");
                    // What a larger batch left in the buffers is of no consequence.
                    if form != Form::PORTABLE {
                        assert!(encoder::alone(&mut encode, &rows) == alone, "alone: {what}");
                    }
                }
            }
        }
    }
}

#[test]
fn weights_that_stay_in_the_file_give_the_same_bits() {
    for fixture in encoder::all() {
        let read = fixture.open();
        let rows = fixture.rows(&read.text);
        for mode in MODES {
            let packed = encoder::together(&mut read.native(mode, Form::best(), 1), &rows);
            let threads = Threads::anywhere(NonZeroUsize::new(2).unwrap());
            let options = LoadOptions { mapped: true, ..threads.into() };
            let mut mapped = read.native_with(mode, Form::best(), &options);
            assert!(encoder::together(&mut mapped, &rows) == packed, "{} {mode:?}", fixture.name);
        }
    }
}

// One thread takes them step by step, several take groups of them each; a text that is longer than the others together goes
// to all threads.
#[test]
fn a_batch_beyond_a_step_gives_the_same_bits_however_it_is_divided() {
    for name in ["bge-q4g64", "bert-reranker-bf16", "jina-reranker-q4g64", "minilm-f32"] {
        let read = encoder::named(name).open();
        let few = encoder::named(name).rows(&read.text);
        let (tokens, count) = (few.iter().map(|row| row.tokens.len()).sum::<usize>(), few.len());
        // A step has 1,024 tokens; texts are not divided evenly among three of them.
        let rows: Vec<_> = few.iter().cycle().take((2_500 / tokens + 1) * count + 1).cloned().collect();
        for mode in [ComputeMode::Int16, ComputeMode::Int8] {
            let alone = encoder::alone(&mut read.native(mode, Form::best(), 1), &rows);
            for threads in [1, 2, 3] {
                let mut encode = read.native(mode, Form::best(), threads);
                assert!(encoder::together(&mut encode, &rows) == alone, "{name} {mode:?} {threads}");
                let some = &rows[..count.min(5)];
                let got = encoder::together(&mut encode, some);
                assert!(got[..] == alone[..got.len()], "some: {name} {mode:?} {threads}");
            }
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The largest of 1 less the cosine, and of the difference of the lengths, of vectors of `width`.
fn apart(expected: &[f32], got: &[f32], width: usize) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let pairs = expected.chunks_exact(width).zip(got.chunks_exact(width));
    let distances = pairs.map(|(expected, got)| {
        let (a, b) = (dot(expected, expected).sqrt(), dot(got, got).sqrt());
        assert!(b.is_finite() && (a - b).abs() < 1e-5, "length {b}, expected {a}");
        1.0 - dot(expected, got) / (a * b)
    });
    distances.fold(0.0, f64::max)
}

fn largest_difference(expected: &[f32], got: &[f32]) -> f64 {
    assert!(got.iter().all(|x| x.is_finite()));
    expected.iter().zip(got).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}
