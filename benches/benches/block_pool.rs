//! Blocks taken, shared and given back, and the accounts around them.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lmx_runtime::ids::{KvEpoch, SeqId, StepId};
use lmx_runtime::kv::{BlockPool, KvAccounts, Reserve, ReserveRow};
use std::hint::black_box;
use std::sync::Arc;

const BLOCK_TOKENS: usize = 16;

fn pool(c: &mut Criterion) {
    c.bench_function("block_pool/take_and_release", |b| {
        let mut pool = BlockPool::new(4096);
        b.iter(|| {
            let (block, _) = pool.take().unwrap();
            pool.release(black_box(block));
        });
    });
}

fn accounts(c: &mut Criterion) {
    let fresh = || KvAccounts::new(8192, BLOCK_TOKENS, 7, true, KvEpoch(0));
    let reserve = |rows| Reserve { step: StepId(0), epoch: KvEpoch(0), rows, headroom: 0 };
    c.bench_function("accounts/admit_and_release_2k_tokens", |b| {
        let mut accounts = fresh();
        let tokens: std::sync::Arc<[u32]> = (0..2048).collect();
        let ask = reserve(vec![ReserveRow::Admit { seq: SeqId(1), tokens, reuse: false, turns: Arc::default() }]);
        b.iter(|| {
            black_box(accounts.reserve(&ask));
            accounts.release(SeqId(1), KvEpoch(0));
        });
    });
    // A step in which every one of 64 decodes stands at a block border: the dearest one.
    c.bench_function("accounts/extend_64_sequences", |b| {
        let admitted = || {
            let mut accounts = fresh();
            let tokens: std::sync::Arc<[u32]> = (0..16).collect();
            let admit = |seq| ReserveRow::Admit {
                seq: SeqId(seq),
                tokens: tokens.clone(),
                reuse: false,
                turns: Arc::default(),
            };
            accounts.reserve(&reserve((0..64).map(admit).collect()));
            accounts
        };
        let extend = |seq| ReserveRow::Extend { seq: SeqId(seq), tokens: 17 };
        let ask = reserve((0..64).map(extend).collect());
        b.iter_batched_ref(admitted, |accounts| black_box(accounts.reserve(&ask)), BatchSize::SmallInput);
    });
}

criterion_group!(benches, pool, accounts);
criterion_main!(benches);
