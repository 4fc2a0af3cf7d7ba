//! Kernels of the native executor: products with quantised weights and with floats, attention, and what the processor
//! could do at most.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lmx_runtime::config::{ComputeMode, HugePages};
use lmx_runtime::kernels::{
    Activations, DenseProduct, Float, Form, GroupOf, TILE, WordLayout, WordProduct, dense_tile_bytes, limits,
    pack_word_rows, padded_rows, prepared_bytes, word_tile_bytes,
};
use lmx_runtime::model::{AttentionSpec, Quantization};
use lmx_runtime::runner::Threads;
use lmx_runtime::runner::native::{AttentionBank, ColdMemory, ProductBank, ProductShape, Workbench};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

const MODES: [ComputeMode; 3] = [ComputeMode::Int16, ComputeMode::Int8, ComputeMode::F32];
/// More than caches hold.
const COLD_BYTES: usize = 256 << 20;

fn workbench() -> Workbench {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Workbench::new(Form::best(), Threads::anywhere(threads)).expect("the system has threads")
}

/// Lets `run`, which gives the time of one kernel, be measured in turns.
fn times(count: u64, run: impl FnMut() -> Duration) -> Duration {
    std::iter::repeat_with(run).take(count as usize).sum()
}

fn products(c: &mut Criterion) {
    let mut bench = workbench();
    let mut group = c.benchmark_group("product_3072x1024");
    group.sample_size(10);
    for bits in [4, 8] {
        let quantization = Quantization { bits, group_size: 64 };
        let shape = ProductShape { outputs: 3072, inputs: 1024, quantization };
        let bank = ProductBank::new(shape, COLD_BYTES, HugePages::Auto).expect("the system has memory");
        for mode in MODES {
            for rows in [1, 8, 64] {
                group.throughput(Throughput::Elements((2 * 3072 * 1024 * rows) as u64));
                group.bench_function(BenchmarkId::new(format!("{bits}_bits_{mode}"), rows), |b| {
                    b.iter_custom(|count| times(count, || bench.product(&bank, mode, rows)));
                });
            }
        }
    }
}

/// By one thread: what it reaches of `limits_of_a_thread/floats`. Bytes stay in the caches where there are many rows.
fn dense_products(c: &mut Criterion) {
    const MOST: usize = 512;
    let form = Form::best();
    for (k, outputs) in [(384, 1536), (1536, 384)] {
        let mut group = c.benchmark_group(format!("dense_product_{outputs}x{k}_of_a_thread"));
        group.sample_size(10);
        let x: Vec<f32> = (0..MOST * k).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let mut out = vec![0.0; MOST * outputs];
        for kind in [Float::F32, Float::F16, Float::Bf16] {
            let values: Vec<f32> = (0..k * outputs).map(|i| (i * 17 % 97) as f32 / 50.0 - 1.0).collect();
            let mut weights = vec![0; outputs / TILE * dense_tile_bytes(kind, k)];
            kind.write_all(&mut weights, &values);
            for rows in [1, 4, 16, MOST] {
                let product = DenseProduct {
                    kind,
                    k,
                    weights: &weights,
                    tiles: 0..outputs / TILE,
                    x: x.as_ptr(),
                    x_stride: k,
                    rows: 0..rows,
                    out: out.as_mut_ptr(),
                    stride: outputs,
                    bias: None,
                };
                group.throughput(Throughput::Elements((2 * k * outputs * rows) as u64));
                group.bench_function(BenchmarkId::new(format!("{kind:?}"), rows), |b| {
                    // SAFETY: `x` and `out` have the rows, and nobody else uses them.
                    b.iter(|| unsafe { product.run(form) });
                });
            }
        }
    }
}

/// By one thread, in each form that the processor has but plain Rust: what encoders' mode for speed multiplies.
fn word_products(c: &mut Criterion) {
    const ROWS: usize = 128;
    for (k, outputs) in [(384, 1536), (1536, 384)] {
        let mut group = c.benchmark_group(format!("word_product_{outputs}x{k}_of_a_thread"));
        group.sample_size(10);
        group.throughput(Throughput::Elements((2 * k * outputs * ROWS) as u64));
        let x: Vec<f32> = (0..ROWS * k).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let rows: Vec<u8> = (0..TILE * k).flat_map(|i| ((i * 17 % 97) as f32 / 50.0 - 1.0).to_le_bytes()).collect();
        let mut out = vec![0.0; ROWS * outputs];
        for form in Form::available().into_iter().filter(|form| *form != Form::PORTABLE) {
            let layout = WordLayout::of(form, k);
            let mut weights = vec![0; outputs / TILE * word_tile_bytes(k)];
            weights
                .chunks_exact_mut(word_tile_bytes(k))
                .for_each(|tile| pack_word_rows(layout, Float::F32, k, &rows, tile));
            let encoding = layout.encoding();
            let padded = padded_rows(encoding, k, ROWS);
            let mut quads = vec![0; padded * prepared_bytes(encoding, k)];
            let mut groups = vec![GroupOf::default(); padded];
            let (quads, groups) = (quads.as_mut_ptr(), groups.as_mut_ptr());
            let prepared = Activations { encoding, k, group: k, rows: ROWS, quads, groups };
            for (row, x) in x.chunks_exact(k).enumerate() {
                // SAFETY: the places of all rows are there, and nobody else's.
                unsafe { prepared.write(form, row, x.as_ptr()) };
            }
            let product = WordProduct {
                layout,
                weights: &weights,
                tiles: 0..outputs / TILE,
                x: prepared,
                rows: 0..ROWS,
                out: out.as_mut_ptr(),
                stride: outputs,
                bias: None,
            };
            group.bench_function(BenchmarkId::new(form.to_string(), ROWS), |b| {
                // SAFETY: `form` prepared the rows, `out` has places for them, and nobody else uses either.
                b.iter(|| unsafe { product.run(form) });
            });
        }
    }
}

fn attention(c: &mut Criterion) {
    let mut bench = workbench();
    let spec = AttentionSpec::plain(16, 8, 128);
    let mut group = c.benchmark_group("attention");
    group.sample_size(10);
    for mode in [ComputeMode::Int16, ComputeMode::F32] {
        for (context, tokens) in [(2048, 1), (512, 512)] {
            let bank = AttentionBank::new(spec.clone(), mode, context, COLD_BYTES / 8, HugePages::Auto);
            let bank = bank.expect("the system has memory");
            group.bench_function(BenchmarkId::new(format!("{mode}_after_{context}"), tokens), |b| {
                b.iter_custom(|count| times(count, || bench.attention(&bank, context, tokens)));
            });
        }
    }
}

fn machine(c: &mut Criterion) {
    let memory = ColdMemory::new(COLD_BYTES, HugePages::Auto).expect("the system has memory");
    let form = Form::best();
    let mut group = c.benchmark_group("limits_of_a_thread");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(COLD_BYTES as u64));
    group.bench_function("read", |b| b.iter(|| black_box(limits::read(form, memory.as_slice()))));
    group.throughput(Throughput::Elements(1000 * limits::byte_operations(form)));
    group.bench_function("bytes", |b| b.iter(|| black_box(limits::multiply_bytes(form, 1000))));
    group.throughput(Throughput::Elements(1000 * limits::float_operations(form)));
    group.bench_function("floats", |b| b.iter(|| black_box(limits::multiply_floats(form, 1000))));
}

criterion_group!(benches, products, dense_products, word_products, attention, machine);
criterion_main!(benches);
