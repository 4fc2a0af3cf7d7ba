//! A step of the native executor over packed weights allocates nothing, once a step as large as it has been computed.
//! Mapped weights are packed in every step, which may allocate.

mod support;

use lmx_runtime::config::ComputeMode;
use lmx_runtime::ids::{BlockId, StateId};
use lmx_runtime::kernels::Form;
use lmx_runtime::plan::StateSave;
use lmx_runtime::runner::{Batch, BatchRow, Forward, RowState};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{driver, fixture};

/// Counts what all threads ask for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A prompt of 20 tokens, and one token each of two sequences; `then` more positions have been computed before.
fn step(forward: &mut impl Forward, logits: &mut Vec<f32>, then: u32) {
    let tables: [Vec<BlockId>; 3] = [0, 1, 2].map(|row| (row * 4..row * 4 + 4).map(BlockId).collect());
    let tokens = [7; 22];
    let positions: [u32; 22] = std::array::from_fn(|i| if i < 20 { i as u32 } else { then });
    let seen = then as usize + 1;
    let recurrent = forward.shape().num_states > 0;
    let saves = [StateSave { tokens: 16, to: StateId(3) }];
    let row = |row: usize, span, context_tokens| {
        let state = recurrent.then_some(RowState { place: StateId(row as u32), saves: &saves });
        BatchRow { span, context_tokens, table: &tables[row], state }
    };
    let rows = [row(0, 0..20, 20), row(1, 20..21, seen), row(2, 21..22, seen)];
    let batch = Batch { tokens: &tokens, positions: &positions, rows: &rows, wanted: &[19, 20, 21] };
    let before = ASKED.load(Ordering::Relaxed);
    logits.clear();
    forward.forward(&batch, logits).unwrap();
    if then > 0 {
        assert_eq!(ASKED.load(Ordering::Relaxed), before, "position {then}");
    }
    assert!(logits.len() == 3 * forward.shape().vocab_size && logits.iter().all(|logit| logit.is_finite()));
}

// The only test of this program: others beside it would be counted, too.
#[test]
fn steps_over_packed_weights_allocate_nothing() {
    for fixture in fixture::all() {
        for mode in [ComputeMode::Int16, ComputeMode::Int8, ComputeMode::F32] {
            let mut driver = driver::native(&fixture.checkpoint(), mode, Form::best(), 2);
            let mut logits = Vec::new();
            for then in 0..3 {
                step(&mut driver.forward, &mut logits, then);
            }
        }
    }
}
