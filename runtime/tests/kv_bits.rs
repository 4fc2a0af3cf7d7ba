//! Quantised keys and values: how far the logits go from those over floats, and the same bits in every way.

mod support;

use lmx_runtime::checkpoint::{Checkpoint, Source};
use lmx_runtime::config::{ComputeConfig, ComputeMode, Executor, KvConfig, KvFormat};
use lmx_runtime::ids::BlockId;
use lmx_runtime::kernels::Form;
use lmx_runtime::model::Blueprint;
use lmx_runtime::parity::{self, ParityInputs, ParityOptions, PromptNumbers};
use lmx_runtime::plan::{BlockMove, StateMove};
use lmx_runtime::runner::native::LoadOptions;
use lmx_runtime::runner::{Backend, Forward, Threads};
use std::num::NonZeroUsize;
use support::compare::{self, F32};
use support::driver::{self, Work};
use support::fixture;

/// Fixtures whose heads are 32 wide, the narrowest that can be cut into groups.
const WIDE: [&str; 3] = ["llama-q6g128", "qwen3-bf16", "qwen3-q8g64"];

fn on_threads(threads: usize) -> LoadOptions {
    Threads::anywhere(NonZeroUsize::new(threads).unwrap()).into()
}

fn format(bits: u32, quantized_start: u32) -> KvFormat {
    KvConfig { bits, group_size: 32, quantized_start, ..KvConfig::default() }.format()
}

/// All codes, and codes behind three blocks of floats.
fn formats() -> impl Iterator<Item = KvFormat> {
    [8, 4].into_iter().flat_map(|bits| [0, 48].map(|start| format(bits, start)))
}

/// The wide fixtures, and one of them with a window.
struct Checkpoints {
    named: Vec<(String, Checkpoint)>,
    _folder: tempfile::TempDir,
}

fn checkpoints() -> Checkpoints {
    let mut named: Vec<_> = WIDE.iter().map(|name| ((*name).to_owned(), fixture::named(name).checkpoint())).collect();
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture::named("qwen3-bf16").model).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    let config = folder.path().join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    json["use_sliding_window"] = true.into();
    json["sliding_window"] = 24.into();
    json["max_window_layers"] = 1.into();
    std::fs::write(&config, json.to_string()).unwrap();
    named.push(("qwen3-window".to_owned(), Checkpoint::open(&Source::Folder(folder.path().to_owned())).unwrap()));
    Checkpoints { named, _folder: folder }
}

/// Prompts that end in the first block, among the floats and behind them.
fn prompts(vocab: usize) -> Vec<Vec<u32>> {
    let prompt = |(n, len): (usize, usize)| (0..len).map(|i| ((i * 7919 + n * 31) % vocab) as u32).collect();
    [1, 40, 150].into_iter().enumerate().map(prompt).collect()
}

#[test]
fn logits_stay_as_close_to_those_over_floats_as_the_bits_say() {
    for (name, checkpoint) in &checkpoints().named {
        let of = |mode, format: &KvFormat| {
            let mut driver = driver::native_with(checkpoint, mode, Form::best(), &on_threads(2), format);
            let vocab = driver.vocab();
            let logits: Vec<f32> = prompts(vocab).iter().flat_map(|ids| driver.prompt(ids, 64).1).collect();
            (logits, vocab)
        };
        let (floats, vocab) = of(ComputeMode::F32, &format(16, 0));
        let rms = |mode, format: &KvFormat| compare::logits(&floats, &of(mode, format).0, vocab, F32).rms;
        for (bits, most) in [(16, 1e-3), (8, 2e-2), (4, 0.3)] {
            let all = rms(ComputeMode::Int16, &format(bits, 0));
            let behind = rms(ComputeMode::Int16, &format(bits, 48));
            let in_f32 = rms(ComputeMode::F32, &format(bits, 0));
            println!("{name:14} {bits:2} bits: {all:.1e}, behind 48 positions {behind:.1e}, in f32 {in_f32:.1e}");
            assert!(all <= most && behind <= most && in_f32 <= most, "{name} {bits}: {all} {behind} {in_f32}");
        }
    }
}

#[test]
fn logits_are_the_same_bits_in_any_chunk_batch_team_and_form() {
    for (name, checkpoint) in &checkpoints().named {
        for format in formats() {
            let driver = |form, threads| {
                driver::native_with(checkpoint, ComputeMode::Int16, form, &on_threads(threads), &format)
            };
            let mut first = driver(Form::best(), 1);
            let prompts = prompts(first.vocab());
            let ids: Vec<&[u32]> = prompts.iter().map(|ids| &ids[..]).collect();
            let alone: Vec<Vec<f32>> = ids.iter().map(|ids| first.prompt(ids, usize::MAX).1).collect();
            for form in Form::available() {
                // Plain Rust is slow: one pass shows that it gives the same.
                let chunks: &[usize] = if form == Form::PORTABLE { &[64] } else { &[1, 7, 64] };
                for (threads, &chunk) in (1..).zip(chunks) {
                    let together = driver(form, threads).together(&ids, chunk);
                    assert!(together == alone, "{name} {format:?} {form:?} chunk {chunk} threads {threads}");
                }
            }
        }
    }
}

#[test]
fn a_copied_block_goes_on_as_the_one_that_it_was_copied_from() {
    let recurrent = [KvFormat::default()].map(|format| ("qwen3-next-q4g64", format));
    for (name, format) in formats().map(|format| ("qwen3-bf16", format)).chain(recurrent) {
        let checkpoint = fixture::named(name).checkpoint();
        let mut driver = driver::native_with(&checkpoint, ComputeMode::Int16, Form::best(), &on_threads(1), &format);
        // Ends inside of a block of floats, and inside of a larger one of codes.
        for tokens in [20, 150 - 1] {
            let ids = &prompts(driver.vocab())[2][..tokens];
            let (mut parent, _) = driver.prompt(ids, 64);
            let other = driver.prompt(&[0], 1).0;
            let (spare, state) = (other.table[0], other.state);
            let last = driver.forward.shape().spans.full(tokens);
            let copy = BlockMove { from: parent.table[last], to: spare };
            driver.forward.copy_blocks(&[copy]).unwrap();
            if driver.forward.shape().num_states > 0 {
                driver.forward.copy_states(&[StateMove { from: parent.state, to: state }]).unwrap();
            }
            let table: Vec<BlockId> = parent.table[..last].iter().copied().chain([spare]).collect();
            let mut fork = driver::Sequence { computed: tokens, table, state };

            let alone = driver.step(&mut [Work { sequence: &mut parent, tokens: &[7] }]);
            let forked = driver.step(&mut [Work { sequence: &mut fork, tokens: &[7] }]);

            assert!(alone == forked, "{name} {format:?} {tokens}");
        }
    }
}

fn compute(
    checkpoint: &Checkpoint,
    inputs: &ParityInputs,
    options: ParityOptions,
    kv: &KvFormat,
) -> Vec<PromptNumbers> {
    let backend = Backend::choose(&ComputeConfig { executor: Executor::Native, ..ComputeConfig::default() }).unwrap();
    let spans = backend.kv_shape(&Blueprint::read(checkpoint).unwrap(), kv).unwrap().spans;
    let model = backend.load(checkpoint, &mut |_| {}).unwrap();
    let forward = |size| model.forward(size, kv);
    parity::run(inputs, options, model.facts().context_tokens, spans, forward, &mut |_| {}).unwrap()
}

#[test]
fn the_scheduler_gives_the_same_bits_in_chunks_batches_and_over_cached_prefixes() {
    let ways = [
        ParityOptions { chunk: NonZeroUsize::new(5), batch: true, reuse_prefix: false },
        ParityOptions { reuse_prefix: true, ..ParityOptions::default() },
        ParityOptions { chunk: NonZeroUsize::new(32), batch: true, reuse_prefix: true },
    ];
    let prompts = prompts(512).into_iter().enumerate().map(|(n, ids)| (format!("p{n}"), ids)).collect();
    let inputs = ParityInputs { prompts, n_greedy: 20 };
    for (name, checkpoint) in &checkpoints().named {
        for format in formats() {
            let whole = compute(checkpoint, &inputs, ParityOptions::default(), &format);
            for options in ways {
                for (got, whole) in compute(checkpoint, &inputs, options, &format).iter().zip(&whole) {
                    let what = format!("{name} {format:?} {options:?} {}", got.name);
                    assert!(got.logits == whole.logits && got.greedy_logits == whole.greedy_logits, "{what}");
                    assert_eq!(got.greedy_ids, whole.greedy_ids, "{what}");
                    assert_eq!(got.cached_tokens > 0, options.reuse_prefix && whole.prompt_tokens() > 16, "{what}");
                }
            }
        }
    }
}

/// Against the logits of other implementations, 8 bits in mode `int16`.
#[test]
fn every_way_stays_as_close_to_the_reference_as_eight_bits_are() {
    let ways = [
        ParityOptions::default(),
        ParityOptions { chunk: NonZeroUsize::new(5), batch: true, reuse_prefix: false },
        ParityOptions { reuse_prefix: true, ..ParityOptions::default() },
        ParityOptions { chunk: NonZeroUsize::new(32), batch: true, reuse_prefix: true },
    ];
    for name in WIDE {
        let fixture = fixture::named(name);
        let prompts = fixture.prompts.iter().map(|(name, prompt)| (name.clone(), prompt.ids.clone())).collect();
        let inputs = ParityInputs { prompts, n_greedy: 1 };
        let reference: Vec<f32> = fixture.prompts.values().flat_map(|prompt| prompt.logits.clone()).collect();
        for options in ways {
            let numbers = compute(&fixture.checkpoint(), &inputs, options, &format(8, 0));
            let got: Vec<f32> = numbers.iter().flat_map(|prompt| prompt.logits.clone()).collect();
            let rms = compare::logits(&reference, &got, numbers[0].vocab, F32).rms;
            println!("{name} {options:?}: {rms:.1e}");
            assert!(rms <= 2e-2, "{name} {options:?}: {rms}");
        }
    }
}

#[test]
fn formats_that_do_not_go_with_the_model_or_the_executor_are_refused_with_what_to_set() {
    let refused = |name: &str, executor, mode, kv: KvConfig| {
        let backend = Backend::choose(&ComputeConfig { executor, mode, ..ComputeConfig::default() }).unwrap();
        let blueprint = Blueprint::read(&fixture::named(name).checkpoint()).unwrap();
        backend.kv_shape(&blueprint, &kv.format()).unwrap_err().to_string()
    };
    let eight = KvConfig { bits: 8, ..KvConfig::default() };
    assert_eq!(
        refused("qwen3-bf16", Executor::Native, ComputeMode::Int16, eight.clone()),
        "`kv.group_size`: groups of 64 do not divide the heads of this model, which are 32 wide: set it to 32, or \
         kv.bits to 16"
    );
    let narrow = refused("llama-f32", Executor::Native, ComputeMode::Int16, eight.clone());
    assert!(narrow.ends_with("which are 16 wide: set kv.bits to 16"), "{narrow}");
    assert_eq!(
        refused("qwen3-bf16", Executor::Candle, ComputeMode::F32, eight),
        "`kv.bits`: the candle executor does not quantise keys and values: set 16, or compute.executor to native"
    );
}
