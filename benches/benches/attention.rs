//! Attention of one token over a long context: keys and values as floats and as codes.

use criterion::{Criterion, criterion_group, criterion_main};
use lmx_runtime::config::{KvCodes, KvConfig};
use lmx_runtime::kernels::{Attention, Float, Form, KvContent, KvLayout, KvView, Query, Seen};
use std::time::{Duration, Instant};

const HEAD_DIM: usize = 128;
const KV_HEADS: usize = 8;
const BLOCK_TOKENS: usize = 16;
/// Bytes that stand between two reads of the same ones: more than caches hold.
const SPREAD_BYTES: usize = 128 << 20;

/// Keys and values of so many layers that each is read from memory.
struct Layers {
    layout: KvLayout,
    table: Vec<u32>,
    memory: Vec<u8>,
    count: usize,
}

impl Layers {
    fn new(codes: Option<KvCodes>, context: usize) -> Self {
        let layout = KvLayout {
            content: KvContent::KeysAndValues,
            kind: Float::F16,
            codes,
            kv_heads: KV_HEADS,
            head_dim: HEAD_DIM,
            spans: BLOCK_TOKENS.into(),
        };
        let blocks = context / BLOCK_TOKENS;
        let bytes = blocks * layout.block_bytes();
        let count = SPREAD_BYTES.div_ceil(bytes);
        let table = (0..blocks as u32).map(|block| block * 97 % blocks as u32).collect();
        let mut layers = Self { layout, table, memory: vec![0; count * bytes], count };
        let row: Vec<f32> = (0..HEAD_DIM).map(|i| (i * 7919 % 100) as f32 / 50.0 - 1.0).collect();
        let first = layers.memory.as_mut_ptr();
        for layer in 0..count {
            for position in 0..context {
                for kv_head in 0..KV_HEADS {
                    // SAFETY: the memory is this function's own.
                    unsafe { layers.view(first, layer).write(position, kv_head, &row, &row) };
                }
            }
        }
        layers
    }

    fn view(&self, first: *mut u8, layer: usize) -> KvView<'_> {
        let bytes = self.table.len() * self.layout.block_bytes();
        KvView { layout: self.layout, memory: first.wrapping_add(layer * bytes), table: &self.table }
    }

    /// All heads of one layer, `group` queries for each key head.
    fn attend(&self, layer: usize, group: usize, q: &[f32], out: &mut [f32]) {
        let view = self.view(self.memory.as_ptr().cast_mut(), layer);
        let position = self.table.len() * BLOCK_TOKENS - 1;
        let rows = q.chunks_exact(HEAD_DIM).zip(out.chunks_exact_mut(HEAD_DIM));
        let queries: Vec<Query> =
            rows.map(|(q, out)| Query { q: q.as_ptr(), position, out: out.as_mut_ptr() }).collect();
        for (kv_head, queries) in queries.chunks_exact(group).enumerate() {
            // SAFETY: all positions have been written, and the results are this function's own.
            unsafe { Attention { kv: view, kv_head, seen: Seen::Before { window: None }, queries }.run(Form::best()) };
        }
    }
}

fn attention(c: &mut Criterion) {
    let mut bench = c.benchmark_group("attention");
    for context in [2048, 8192] {
        for bits in [16, 8, 4] {
            let layers = Layers::new(KvConfig { bits, ..KvConfig::default() }.format().codes, context);
            for group in [1, 4] {
                let q: Vec<f32> =
                    (0..KV_HEADS * group * HEAD_DIM).map(|i| (i * 31 % 100) as f32 / 500.0 - 0.1).collect();
                let mut out = vec![0.0; q.len()];
                bench.bench_function(format!("context_{context}/bits_{bits}/queries_{group}"), |b| {
                    b.iter_custom(|times| {
                        let mut taken = Duration::ZERO;
                        for time in 0..times as usize {
                            let begun = Instant::now();
                            layers.attend(time % layers.count, group, &q, &mut out);
                            taken += begun.elapsed();
                        }
                        taken
                    });
                });
            }
        }
    }
    bench.finish();
}

criterion_group!(benches, attention);
criterion_main!(benches);
