//! Decoders as rerankers, as Qwen3-Reranker is one: what they would answer, `yes` or `no`.

mod support;

use lmx_runtime::checkpoint::LoadError;
use lmx_runtime::config::ComputeMode;
use lmx_runtime::kernels::Form;
use lmx_runtime::model::encoder::EncoderTask;
use lmx_runtime::pooling::{Cut, Encoded, PoolingError, Purpose, Side, TextEncoder};
use lmx_runtime::runner::Threads;
use lmx_runtime::runner::native::{LoadOptions, NativeEncoder};
use std::num::NonZeroUsize;
use support::{driver, encoder, fixture};

/// Decoders of every layout: with and without a matrix of their own for the answers, biases, a window, codes of all kinds.
const DECODERS: [&str; 8] = [
    "qwen3-bf16",
    "qwen3-q3g64",
    "qwen3-nvfp4",
    "qwen2-q5g32-f32",
    "qwen2-wrapped",
    "llama-q4g64",
    "llama-mixed",
    "mistral-bf16-window",
];

#[test]
fn a_model_that_answers_gives_the_decoders_logits_of_yes_and_no() {
    for name in DECODERS {
        let (_folder, model) = encoder::answering(name, "Tiny-Reranker");
        let read = encoder::open(&model).unwrap();
        assert_eq!((read.text.task, read.text.width), (EncoderTask::YesNo, 2), "{name}");
        let [yes, no] = read.answers.unwrap();
        let row = read.text.pair("the fox", "The fox sleeps.", None, Cut::Refuse).unwrap();

        let mut decoder = driver::native(&read.checkpoint, ComputeMode::F32, Form::best(), 2);
        let (_, logits) = decoder.prompt(&row.tokens, usize::MAX);
        let last = &logits[logits.len() - decoder.vocab()..];
        let got = encoder::together(&mut read.native(ComputeMode::F32, Form::best(), 2), &[row]);
        for (got, token) in got.iter().zip([yes, no]) {
            let expected = last[token as usize];
            assert!((got - expected).abs() < 1e-4, "{name}: {got}, the decoder has {expected}");
        }
        assert_eq!(got.len(), 2);
    }
}

#[test]
fn of_a_model_that_answers_only_the_texts_are_cut() {
    let (_folder, model) = encoder::answering("qwen3-bf16", "tiny-reranker");
    let text = encoder::open(&model).unwrap().text;
    let fox = "fox 7 ".repeat(200);
    let pair = |document: &str, cut| text.pair("the fox", document, None, cut);
    let tokens = |of: Result<Encoded, PoolingError>| of.unwrap().tokens;

    let (short, long) = (tokens(pair("sleeps", Cut::Refuse)), tokens(pair(&fox, Cut::Refuse)));
    let same = |a: &[u32], b: &[u32]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let tail = |all: &[u32]| all.iter().rev().copied().collect::<Vec<_>>();
    let (before, behind) = (same(&short, &long), same(&tail(&short), &tail(&long)));
    for side in [Side::Left, Side::Right] {
        let limit = long.len() - 100;
        let cut = tokens(pair(&fox, Cut::To { tokens: Some(limit), side }));
        assert_eq!(cut.len(), limit);
        assert_eq!(cut[limit - behind..], long[long.len() - behind..]);
        match side {
            Side::Right => assert_eq!(cut[..limit - behind], long[..limit - behind]),
            // What stands before the texts is never cut, and with it the beginning is as long as it is there.
            Side::Left => assert!((1..before).contains(&same(&cut, &long))),
        }
    }
    let none = Cut::To { tokens: Some(20), side: Side::Right };
    assert!(matches!(pair(&fox, none), Err(PoolingError::TooLong { max: 20, .. })));
}

#[test]
fn a_model_that_answers_needs_tokens_for_its_answers() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny-reranker");
    encoder::copy(&fixture::named("qwen3-bf16").model, &model);
    let read = encoder::open(&model).unwrap();
    let load = |answers| {
        let options = LoadOptions::from(Threads::anywhere(NonZeroUsize::MIN));
        let encoder::Read { checkpoint, blueprint, .. } = &read;
        NativeEncoder::load(checkpoint, blueprint, answers, ComputeMode::F32, &options, &mut |_| {}).map(drop)
    };

    assert_eq!(TextEncoder::answers(read.text.task, &read.text.tokenizer), None);
    let refused = |answers| match load(answers) {
        Err(error @ LoadError::InvalidCheckpoint { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused(None).contains("it has no tokens `yes` and `no`"));
    assert!(refused(Some([1, 512])).contains("token 512 of 512 is an answer"));
    assert!(load(Some([1, 2])).is_ok());
}

#[test]
fn a_text_without_tokens_is_refused() {
    // A decoder's tokenizer adds nothing.
    let (_folder, model) = encoder::answering("qwen3-bf16", "an-embedding");
    let text = encoder::open(&model).unwrap().text;
    assert_eq!(text.task, EncoderTask::Embed);
    assert!(matches!(text.text("", Purpose::Bare, Cut::Refuse), Err(PoolingError::Empty)));
}
