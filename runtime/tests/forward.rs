//! What the engine relies on beyond the numbers: copies of blocks, refusals, logits only where they are wanted.

mod support;

use candle_core::Device;
use lmx_runtime::config::ComputeMode;
use lmx_runtime::ids::BlockId;
use lmx_runtime::model::{Blueprint, ModelFacts};
use lmx_runtime::plan::BlockMove;
use lmx_runtime::runner::candle::{CandleForward, CandleModel, estimate_memory};
use lmx_runtime::runner::{Batch, BatchRow, Forward, ForwardError};
use support::driver::{self, Driver};
use support::fixture;

fn driver() -> Driver {
    driver::load(&fixture::named("llama-q4g64").checkpoint(), ComputeMode::Int8)
}

/// One row of consecutive tokens; logits of the last one.
fn run(driver: &mut Driver, tokens: &[u32], first: u32, table: &[BlockId]) -> Result<Vec<f32>, ForwardError> {
    let positions: Vec<u32> = (first..first + tokens.len() as u32).collect();
    let rows = [BatchRow { span: 0..tokens.len(), context_tokens: first as usize + tokens.len(), table, state: None }];
    let wanted = [tokens.len() as u32 - 1];
    let mut logits = vec![7.0];
    driver.forward.forward(&Batch { tokens, positions: &positions, rows: &rows, wanted: &wanted }, &mut logits)?;
    Ok(logits)
}

#[test]
fn a_copied_block_continues_like_the_original() {
    let mut driver = driver();
    let tokens: Vec<u32> = (0..20).collect();
    let table = [BlockId(3), BlockId(9)];
    run(&mut driver, &tokens, 0, &table).unwrap();
    let expected = run(&mut driver, &[5], 20, &table).unwrap();

    // In order: the second move reads what the first one wrote.
    let moves = [(3, 100), (100, 50), (9, 51)].map(|(from, to)| BlockMove { from: BlockId(from), to: BlockId(to) });
    driver.forward.copy_blocks(&moves).unwrap();
    let copied = run(&mut driver, &[5], 20, &[BlockId(50), BlockId(51)]).unwrap();

    assert_eq!(copied, expected);
}

#[test]
fn only_wanted_logits_come_back_and_old_ones_are_gone() {
    let mut driver = driver();
    let vocab = driver.vocab();
    let logits = run(&mut driver, &[1, 2, 3], 0, &[BlockId(0)]).unwrap();
    assert_eq!(logits.len(), vocab);

    let rows = [BatchRow { span: 0..1, context_tokens: 4, table: &[BlockId(0)], state: None }];
    let mut logits = logits;
    let batch = Batch { tokens: &[4], positions: &[3], rows: &rows, wanted: &[] };
    driver.forward.forward(&batch, &mut logits).unwrap();
    assert!(logits.is_empty());
}

#[test]
fn a_batch_that_does_not_fit_is_refused_and_the_next_one_works() {
    let mut driver = driver();
    let refused =
        |driver: &mut Driver, tokens: &[u32], first, table: &[BlockId]| match run(driver, tokens, first, table) {
            Err(ForwardError::Failed(message)) => message,
            other => panic!("{other:?}"),
        };
    assert!(refused(&mut driver, &[512], 0, &[BlockId(0)]).contains("token 512"));
    assert!(refused(&mut driver, &[1], 16, &[BlockId(0)]).contains("table of 1 blocks"));
    assert!(refused(&mut driver, &[1], 0, &[BlockId(100_000)]).contains("block 100000"));
    let moves = [BlockMove { from: BlockId(0), to: BlockId(100_000) }];
    assert!(driver.forward.copy_blocks(&moves).is_err());

    assert!(run(&mut driver, &[1], 0, &[BlockId(0)]).is_ok());
}

#[test]
fn positions_and_spans_have_to_agree() {
    let mut driver = driver();
    let table = [BlockId(0)];
    let mut logits = Vec::new();
    let mut fails = |positions: &[u32], rows: &[BatchRow<'_>], wanted: &[u32]| {
        driver.forward.forward(&Batch { tokens: &[1, 2], positions, rows, wanted }, &mut logits).is_err()
    };
    let row = |span, context_tokens| BatchRow { span, context_tokens, table: &table, state: None };
    assert!(fails(&[0, 2], &[row(0..2, 2)], &[]));
    assert!(fails(&[0], &[row(0..2, 2)], &[]));
    assert!(fails(&[0, 1], &[row(0..1, 1)], &[]));
    assert!(fails(&[0, 1], &[row(0..2, 1)], &[]));
    assert!(fails(&[0, 1], &[row(0..2, 2)], &[2]));
    assert!(!fails(&[0, 1], &[row(0..2, 2)], &[1]));
}

#[test]
fn the_memory_estimate_is_what_the_weights_take() {
    let blueprint = |name: &str| Blueprint::read(&fixture::named(name).checkpoint()).unwrap();
    let f32_weights = |name: &str| {
        let blueprint = blueprint(name);
        let parameters = ModelFacts::of(&blueprint).weights.parameters;
        (estimate_memory(&blueprint, &Device::Cpu, ComputeMode::F32).total(), parameters)
    };
    let (bytes, parameters) = f32_weights("llama-f32");
    assert_eq!(bytes, 4 * parameters);
    let (bytes, parameters) = f32_weights("qwen3-q8g64");
    assert_eq!(bytes, 4 * parameters);

    let quantised = estimate_memory(&blueprint("qwen3-q8g64"), &Device::Cpu, ComputeMode::Int8);
    assert!(quantised.weights < bytes / 3, "{quantised:?} of {bytes}");
}

#[test]
fn weights_are_shared_between_threads_and_an_executor_moves_to_its_own() {
    fn shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    shared::<CandleModel>();
    moves::<CandleForward>();
}

#[test]
fn loading_reports_its_progress_up_to_the_end() {
    let checkpoint = fixture::named("llama-mixed").checkpoint();
    let mut seen = Vec::new();
    CandleModel::load(&checkpoint, &Device::Cpu, ComputeMode::Int8, &mut |progress| seen.push(progress)).unwrap();

    assert!(seen.is_sorted_by_key(|progress| progress.done_bytes));
    let last = seen.last().unwrap();
    assert_eq!(last.done_bytes, last.total_bytes);
    assert_eq!(last.total_bytes, checkpoint.weights_bytes());
}
