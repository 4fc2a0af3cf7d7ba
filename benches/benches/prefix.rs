//! Naming the blocks of a prompt and finding them again.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lmx_runtime::ids::{BlockId, KvEpoch, SeqId, StepId};
use lmx_runtime::kv::{BlockHash, CommitRow, KvAccounts, PrefixIndex, Reserve, ReserveRow};
use std::hint::black_box;
use std::sync::Arc;

const BLOCK_TOKENS: usize = 16;
const LENGTHS: [u32; 2] = [2048, 32 * 1024];

fn prompt(tokens: u32) -> Arc<[u32]> {
    (0..tokens).map(|i| i.wrapping_mul(2_654_435_761) % 150_000).collect()
}

fn hash(c: &mut Criterion) {
    let mut group = c.benchmark_group("prefix/hash_and_look_up");
    for tokens in LENGTHS {
        let prompt = prompt(tokens);
        let mut index = PrefixIndex::default();
        let mut chain = BlockHash::root(7);
        for (block, tokens) in (0..).zip(prompt.chunks_exact(BLOCK_TOKENS)) {
            chain = chain.next(tokens);
            index.insert(chain, BlockId(block));
        }
        group.throughput(Throughput::Elements(u64::from(tokens)));
        group.bench_with_input(BenchmarkId::from_parameter(tokens), &prompt, |b, prompt| {
            b.iter(|| {
                let mut chain = BlockHash::root(7);
                for tokens in prompt.chunks_exact(BLOCK_TOKENS) {
                    chain = chain.next(tokens);
                    black_box(index.get(chain));
                }
            });
        });
    }
}

/// The whole way of a repeated prompt: found, shared, given back.
fn admit(c: &mut Criterion) {
    let mut group = c.benchmark_group("prefix/admit_repeated_prompt");
    for tokens in LENGTHS {
        let prompt = prompt(tokens);
        let mut accounts = KvAccounts::new(4096, BLOCK_TOKENS, 7, true, KvEpoch(0));
        let ask = |seq| Reserve {
            step: StepId(0),
            epoch: KvEpoch(0),
            rows: vec![ReserveRow::Admit {
                seq: SeqId(seq),
                tokens: prompt.clone(),
                reuse: true,
                turns: Arc::default(),
            }],
            headroom: 0,
        };
        accounts.reserve(&ask(1));
        accounts.commit(KvEpoch(0), &[CommitRow { seq: SeqId(1), tokens: prompt.to_vec() }]);
        accounts.release(SeqId(1), KvEpoch(0));
        group.throughput(Throughput::Elements(u64::from(tokens)));
        group.bench_function(BenchmarkId::from_parameter(tokens), |b| {
            b.iter(|| {
                black_box(accounts.reserve(&ask(2)));
                accounts.release(SeqId(2), KvEpoch(0));
            });
        });
    }
}

criterion_group!(benches, hash, admit);
criterion_main!(benches);
