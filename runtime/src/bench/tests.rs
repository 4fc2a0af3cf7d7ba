use super::*;
use crate::config::{ComputeMode, HugePages};
use crate::ids::BlockId;
use crate::kernels::Form;
use crate::model::{AttentionSpec, DecoderSpec, Quantization, RopePairs, RopeScaling, RopeSpec};
use crate::plan::BlockMove;
use crate::runner::native::{ColdMemory, ProductShape};
use crate::runner::{Batch, FakeConfig, FakeForward, Forward, ForwardError, ForwardShape, KvShape, Threads};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Takes a fixed time per step and per token, and notes what it was asked for.
struct Paced {
    fake: FakeForward,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Seen {
    contexts: Vec<usize>,
    tokens: usize,
    wanted: usize,
    blocks: Vec<BlockId>,
}

impl Forward for Paced {
    fn shape(&self) -> ForwardShape {
        self.fake.shape()
    }

    fn copy_blocks(&mut self, moves: &[BlockMove]) -> Result<(), ForwardError> {
        self.fake.copy_blocks(moves)
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) -> Result<(), ForwardError> {
        self.seen.lock().unwrap().push(Seen {
            contexts: batch.rows.iter().map(|row| row.context_tokens).collect(),
            tokens: batch.tokens.len(),
            wanted: batch.wanted.len(),
            blocks: batch.rows.iter().flat_map(|row| row.table.iter().copied()).collect(),
        });
        self.fake.forward(batch, logits)
    }
}

fn plan() -> RunnerPlan {
    RunnerPlan {
        prefill: vec![20, 40],
        chunk: NonZeroUsize::new(16).unwrap(),
        contexts: vec![8, 32],
        streams: vec![1, 4],
        stream_context: 8,
        decode_tokens: 3,
        repeat: NonZeroUsize::new(2).unwrap(),
    }
}

fn bench(step: Duration, token: Duration) -> (RunnerBench, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::default();
    let spec = DecoderSpec {
        hidden: 1,
        vocab: 1,
        norm_eps: 1e-6,
        rope: RopeSpec { theta: 1e4, dim: 2, pairs: RopePairs::Halves, scaling: RopeScaling::None },
        tied: true,
        centred_norms: false,
        context: 64,
        layers: Vec::new(),
    };
    let work = Work::of(&spec, Some(1_000_000), &KvShape { spans: 16.into(), block_bytes: 0, state_bytes: 0 });
    let bench = RunnerBench::new(plan(), work, 16.into(), |size| {
        let mut config = FakeConfig::new(size.num_blocks.get(), 16);
        (config.step, config.token) = (step, token);
        Ok(Box::new(Paced { fake: FakeForward::new(config), seen: Arc::clone(&seen) }))
    });
    (bench.unwrap(), seen)
}

#[test]
fn prompts_are_computed_in_chunks_once_in_each_round_after_a_whole_chunk_to_warm_up() {
    let (mut bench, seen) = bench(Duration::ZERO, Duration::ZERO);

    let figures = bench.prefill().unwrap();

    assert_eq!(figures.iter().map(|figure| figure.prompt_tokens).collect::<Vec<_>>(), [20, 40]);
    let steps: Vec<_> = seen.lock().unwrap().iter().map(|step| (step.contexts[0], step.tokens, step.wanted)).collect();
    let (short, long) = ([(16, 16, 0), (20, 4, 1)], [(16, 16, 0), (32, 16, 0), (40, 8, 1)]);
    assert_eq!(steps, [&[(16, 16, 1)][..], &short, &long, &short, &long].concat());
}

#[test]
fn streams_decode_together_in_blocks_of_their_own() {
    let (mut bench, seen) = bench(Duration::ZERO, Duration::ZERO);

    bench.together().unwrap();

    let seen = seen.lock().unwrap();
    let together: Vec<_> = seen.iter().filter(|step| step.contexts.len() == 4).collect();
    assert_eq!(together.len(), 2 * 3, "three tokens, in two rounds");
    for (i, step) in together.iter().enumerate() {
        assert_eq!((step.tokens, step.wanted), (4, 4));
        assert_eq!(step.contexts, [9 + i % 3; 4]);
        let mut blocks = step.blocks.clone();
        blocks.sort();
        blocks.dedup();
        assert_eq!(blocks.len(), step.blocks.len(), "no block is two streams'");
    }
}

#[test]
fn figures_follow_the_pace_of_the_executor() {
    // A step takes ten milliseconds whatever is in it, as if weights were all there is to read.
    let (mut bench, _) = bench(Duration::from_millis(10), Duration::ZERO);

    let (decode, together) = (bench.decode().unwrap(), bench.together().unwrap());

    let near = |value: f64, expected: f64| (expected * 0.5..expected * 1.05).contains(&value);
    assert!(near(decode[0].tokens_per_s.median, 100.0), "{decode:?}");
    assert!(near(decode[0].gb_per_s.unwrap().median, 0.1), "{decode:?}");
    assert!((0.5..2.0).contains(&decode[1].against_shortest.median), "{decode:?}");
    assert!((2.0..8.0).contains(&together[1].times_fewest.median), "{together:?}");
    assert_eq!(together[0].times_fewest.median, 1.0);
}

#[test]
fn what_a_model_cannot_take_is_left_out_and_named() {
    let (fitting, left_out) = RunnerPlan::default().fit(2048);

    assert_eq!((fitting.prefill, fitting.contexts), (vec![512, 2048], vec![128]));
    assert_eq!(left_out, ["decoding after 2048 tokens"]);
    assert_eq!(RunnerPlan::default().fit(4096), (RunnerPlan::default(), Vec::new()));
}

fn positive(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

#[test]
fn every_kernel_is_measured_and_its_rates_follow_its_time() {
    let quantization = Quantization { bits: 4, group_size: 64 };
    let plan = KernelPlan {
        shapes: vec![ProductShape { outputs: 40, inputs: 128, quantization }],
        heads: Vec::new(),
        rows: vec![1, 5],
        modes: vec![ComputeMode::Int16, ComputeMode::Int8, ComputeMode::F32],
        attention: Some(AttentionSpec::plain(4, 2, 24)),
        contexts: vec![20],
        prompts: vec![33],
        cold_bytes: 10_000,
        repeat: positive(2),
    };
    for threads in [1, 3] {
        let threads = Threads::anywhere(positive(threads));
        let mut bench = KernelBench::new(Form::best(), threads, HugePages::Auto, plan.clone()).unwrap();

        let (products, attention) = (bench.products().unwrap(), bench.attention().unwrap());

        let rows: Vec<_> = products.iter().map(|of| (of.mode, of.rows)).collect();
        assert_eq!(rows[..3], [(ComputeMode::Int16, 1), (ComputeMode::Int16, 5), (ComputeMode::Int8, 1)]);
        assert_eq!(rows.len(), 6);
        for of in &products {
            assert!((of.gops.median * of.us.median * 1e3 / (2 * 40 * 128 * of.rows) as f64 - 1.0).abs() < 1e-6);
            // Three tiles of sixteen rows: codes of four bits, and two scales of two bytes a group.
            let bytes = 48.0 * (128.0 / 2.0 + 2.0 * 4.0);
            assert!((of.gb_per_s.median * of.us.median * 1e3 / bytes - 1.0).abs() < 1e-6, "{of:?}");
        }
        let cases: Vec<_> = attention.iter().map(|of| (of.context_tokens, of.tokens)).collect();
        assert_eq!(cases, [(20, 1), (33, 33)].repeat(3));
        let prompt = &attention[1];
        assert!((prompt.gops.median * prompt.us.median * 1e3 / (4 * 4 * 24 * 33 * 17) as f64 - 1.0).abs() < 1e-6);
    }
}

#[test]
fn heads_meet_few_rows_whatever_their_size_and_other_matrices_all() {
    let shape =
        |outputs, bits| ProductShape { outputs, inputs: 64, quantization: Quantization { bits, group_size: 64 } };
    let plan = KernelPlan {
        shapes: vec![shape(48, 4)],
        heads: vec![shape(32, 4), shape(32, 8)],
        rows: vec![1, 64, 65, 512],
        modes: vec![ComputeMode::Int8],
        attention: None,
        contexts: Vec::new(),
        prompts: Vec::new(),
        cold_bytes: 0,
        repeat: positive(1),
    };
    let threads = Threads::anywhere(positive(1));
    let mut bench = KernelBench::new(Form::best(), threads, HugePages::Off, plan.clone()).unwrap();

    let measured: Vec<_> = bench.products().unwrap().iter().map(|of| (of.outputs, of.rows)).collect();

    assert_eq!(measured[..4], [(48, 1), (48, 64), (48, 65), (48, 512)]);
    assert_eq!(measured[4..], [(32, 1), (32, 64), (32, 1), (32, 64)]);
    assert_eq!(plan.left_out(), ["the head 32 x 64 with 65, 512 rows: of a prompt only the last token meets it"]);
    assert_eq!(KernelPlan { rows: vec![64], ..plan }.left_out(), [""; 0]);
}

#[test]
fn limits_are_positive_whatever_the_form() {
    let (threads, memory) = (Threads::anywhere(positive(2)), ColdMemory::new(1 << 20, HugePages::Off).unwrap());
    for form in Form::available() {
        let limits = measure_limits(form, &threads, &memory, Duration::from_millis(1), positive(2)).unwrap();

        for of in [limits.read_gb_per_s, limits.byte_gops_one_thread, limits.float_gops] {
            assert!(0.0 < of.least && of.least <= of.median && of.most.is_finite(), "{limits:?}");
        }
        assert_eq!((limits.threads, limits.read_bytes), (2, 1 << 20));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn who_measures_limits_on_a_core_may_run_elsewhere_afterwards() {
    let here = || rustix::thread::sched_getaffinity(None).unwrap();
    let before = here();
    let core = (0..rustix::thread::CpuSet::MAX_CPU).find(|&core| before.is_set(core)).unwrap();
    let (threads, memory) = (Threads::on(&[core]).unwrap(), ColdMemory::new(4096, HugePages::Off).unwrap());

    measure_limits(Form::best(), &threads, &memory, Duration::from_millis(1), positive(1)).unwrap();

    assert_eq!(here(), before);
}
