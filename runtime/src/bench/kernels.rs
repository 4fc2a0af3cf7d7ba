use super::spread::Spread;
use crate::checkpoint::LoadError;
use crate::config::{ComputeMode, HugePages};
use crate::kernels::Form;
use crate::model::AttentionSpec;
use crate::runner::Threads;
use crate::runner::native::{AttentionBank, ProductBank, ProductShape, Workbench};
use serde::Serialize;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;

/// Rows with which a head is multiplied at most, one of each stream: of a chunk of a prompt only the last token meets it.
const HEAD_ROWS: usize = 64;

/// What of the kernels is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelPlan {
    /// Matrices that every token meets.
    pub shapes: Vec<ProductShape>,
    /// Matrices that make logits, which only some tokens meet.
    pub heads: Vec<ProductShape>,
    /// Rows of activations that are multiplied together.
    pub rows: Vec<usize>,
    /// Modes.
    pub modes: Vec<ComputeMode>,
    /// Attention, if there is any.
    pub attention: Option<AttentionSpec>,
    /// Tokens of context of a decoded token.
    pub contexts: Vec<usize>,
    /// Tokens of a prompt whose attention is computed at once.
    pub prompts: Vec<usize>,
    /// Bytes of weights, or of keys and values, that are gone through before one of them is read again.
    pub cold_bytes: usize,
    /// Repetitions, after one to warm up.
    pub repeat: NonZeroUsize,
}

/// How fast rows are multiplied with a matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProductFigure {
    /// Rows of the matrix.
    pub outputs: usize,
    /// Columns.
    pub inputs: usize,
    /// Bits of a code.
    pub bits: usize,
    /// Inputs that share a scale.
    pub group: usize,
    /// Mode.
    pub mode: ComputeMode,
    /// Rows of activations.
    pub rows: usize,
    /// Microseconds.
    pub us: Spread,
    /// Billions of bytes of weights read per second.
    pub gb_per_s: Spread,
    /// Billions of operations per second.
    pub gops: Spread,
}

/// How fast attention is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttentionFigure {
    /// Mode.
    pub mode: ComputeMode,
    /// Positions, those of `tokens` included.
    pub context_tokens: usize,
    /// Positions that are computed.
    pub tokens: usize,
    /// Microseconds of a layer.
    pub us: Spread,
    /// Billions of bytes of keys and values per second, counted once.
    pub gb_per_s: Spread,
    /// Billions of operations per second.
    pub gops: Spread,
}

impl KernelPlan {
    /// What a step multiplies: each matrix and the rows that it meets.
    fn products(&self) -> Vec<(ProductShape, Vec<usize>)> {
        let head_rows: Vec<usize> = self.rows.iter().copied().filter(|&rows| rows <= HEAD_ROWS).collect();
        let shapes = self.shapes.iter().map(|&shape| (shape, self.rows.clone()));
        shapes.chain(self.heads.iter().map(|&head| (head, head_rows.clone()))).collect()
    }

    /// What is not measured, in words.
    pub fn left_out(&self) -> Vec<String> {
        let rows: Vec<String> = self.rows.iter().filter(|&&rows| rows > HEAD_ROWS).map(usize::to_string).collect();
        let sizes: BTreeSet<_> = self.heads.iter().map(|head| (head.outputs, head.inputs)).collect();
        let rows = rows.join(", ");
        let words = |(outputs, inputs)| {
            format!("the head {outputs} x {inputs} with {rows} rows: of a prompt only the last token meets it")
        };
        sizes.into_iter().filter(|_| !rows.is_empty()).map(words).collect()
    }
}

/// The kernels one by one, on a team of threads as in serving.
#[derive(Debug)]
pub struct KernelBench {
    bench: Workbench,
    huge_pages: HugePages,
    plan: KernelPlan,
}

impl KernelBench {
    /// # Errors
    /// [`LoadError`] if the system starts no more threads, or binds one to no such core.
    pub fn new(form: Form, threads: Threads, huge_pages: HugePages, plan: KernelPlan) -> Result<Self, LoadError> {
        Ok(Self { bench: Workbench::new(form, threads)?, huge_pages, plan })
    }

    /// Measures all matrices with all rows in all modes, but for [`KernelPlan::left_out`].
    ///
    /// # Errors
    /// [`LoadError`] if the system has no memory for them.
    pub fn products(&mut self) -> Result<Vec<ProductFigure>, LoadError> {
        let mut figures = Vec::new();
        for (shape, all_rows) in self.plan.products() {
            let bank = ProductBank::new(shape, self.plan.cold_bytes, self.huge_pages)?;
            for mode in self.plan.modes.clone() {
                let ProductShape { outputs, inputs, quantization } = shape;
                for &rows in &all_rows {
                    let us = self.us(|bench| bench.product(&bank, mode, rows).as_secs_f64());
                    figures.push(ProductFigure {
                        outputs,
                        inputs,
                        bits: quantization.bits,
                        group: quantization.group_size,
                        mode,
                        rows,
                        us,
                        gb_per_s: per_s(bank.matrix_bytes() as f64, us),
                        gops: per_s((2 * outputs * inputs * rows) as f64, us),
                    });
                }
            }
        }
        Ok(figures)
    }

    /// Measures attention of one token after each context, and of each prompt, in all modes.
    ///
    /// # Errors
    /// [`LoadError`] if the system has no memory for it.
    pub fn attention(&mut self) -> Result<Vec<AttentionFigure>, LoadError> {
        let Some(spec) = self.plan.attention.clone() else { return Ok(Vec::new()) };
        let decode = self.plan.contexts.iter().map(|&context| (context, 1));
        let cases: Vec<_> = decode.chain(self.plan.prompts.iter().map(|&tokens| (tokens, tokens))).collect();
        let mut figures = Vec::new();
        for mode in self.plan.modes.clone() {
            for &(context_tokens, tokens) in &cases {
                // A prompt's keys and values have just been written: they are near.
                let cold = if tokens == 1 { self.plan.cold_bytes } else { 0 };
                let bank = AttentionBank::new(spec.clone(), mode, context_tokens, cold, self.huge_pages)?;
                let us = self.us(|bench| bench.attention(&bank, context_tokens, tokens).as_secs_f64());
                let first = context_tokens - tokens;
                let seen: usize = (first + 1..=context_tokens).sum();
                figures.push(AttentionFigure {
                    mode,
                    context_tokens,
                    tokens,
                    us,
                    gb_per_s: per_s(bank.layer_bytes() as f64, us),
                    gops: per_s((4 * spec.heads * spec.head_dim * seen) as f64, us),
                });
            }
        }
        Ok(figures)
    }

    /// Microseconds of a kernel that takes seconds.
    fn us(&mut self, run: impl Fn(&mut Workbench) -> f64) -> Spread {
        run(&mut self.bench);
        let samples = (0..self.plan.repeat.get()).map(|_| run(&mut self.bench) * 1e6);
        Spread::of(samples).expect("there is at least one repetition")
    }
}

/// Billions per second of what takes so many microseconds.
fn per_s(work: f64, us: Spread) -> Spread {
    let rate = |us: f64| work / us / 1e3;
    Spread { median: rate(us.median), least: rate(us.most), most: rate(us.least) }
}
