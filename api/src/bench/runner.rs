use super::machine::resident_bytes;
use super::table::{Table, figure, maybe, spread};
use lmx_runtime::bench::{DecodeFigure, PrefillFigure, RunnerBench, RunnerPlan, StreamsFigure, Work};
use lmx_runtime::checkpoint::{Checkpoint, LoadError};
use lmx_runtime::config::{InvalidSetting, KvFormat};
use lmx_runtime::model::Blueprint;
use lmx_runtime::runner::{Backend, ForwardError};
use serde::Serialize;
use std::time::Instant;

/// How fast the forward pass of a model is, without scheduler, sampling and server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunnerReport {
    /// Repetitions of each measurement.
    pub repeat: usize,
    /// Seconds that loading the model took.
    pub load_s: f64,
    /// Memory of this process once the model was loaded, in bytes.
    pub resident_bytes: Option<u64>,
    /// The same after all measurements, with the keys and values of all streams.
    pub resident_bytes_after: Option<u64>,
    /// Bytes of weights that a step reads.
    pub weight_bytes: Option<u64>,
    /// Bytes of keys and values of a token.
    pub kv_bytes_per_token: usize,
    /// What the model takes too few tokens for.
    pub left_out: Vec<String>,
    /// Prompts.
    pub prefill: Vec<PrefillFigure>,
    /// One stream.
    pub decode: Vec<DecodeFigure>,
    /// Several streams.
    pub streams: Vec<StreamsFigure>,
}

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model does not go with this format of keys and values.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// A step failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// Loads a model and measures it. `said` hears what is going on.
///
/// # Errors
/// [`RunnerError`].
pub fn measure_runner(
    checkpoint: &Checkpoint,
    backend: &Backend,
    format: &KvFormat,
    plan: RunnerPlan,
    said: &mut dyn FnMut(&str),
) -> Result<RunnerReport, RunnerError> {
    let blueprint = Blueprint::read(checkpoint)?;
    let kv = backend.kv_shape(&blueprint, format)?;
    said("loading the model");
    let begun = Instant::now();
    let model = backend.load(checkpoint, &mut |_| {})?;
    let load_s = begun.elapsed().as_secs_f64();
    let resident = resident_bytes();
    let (weight_bytes, kv_bytes_per_token) = (model.step_bytes(), kv.bytes_per_token());
    let work = Work::of(&blueprint.spec, weight_bytes, &kv);
    let repeat = plan.repeat.get();
    let (plan, left_out) = plan.fit(model.facts().context_tokens);
    let mut bench = RunnerBench::new(plan, work, kv.spans, |size| model.forward(size, format))?;
    said("prompts");
    let prefill = bench.prefill()?;
    said("one stream");
    let decode = bench.decode()?;
    said("several streams");
    let streams = bench.together()?;
    Ok(RunnerReport {
        repeat,
        load_s,
        resident_bytes: resident,
        resident_bytes_after: resident_bytes(),
        weight_bytes,
        kv_bytes_per_token,
        left_out,
        prefill,
        decode,
        streams,
    })
}

impl RunnerReport {
    pub(super) fn tables(&self) -> Vec<Table> {
        let times = format!("{} repetitions", self.repeat);
        let mut prefill =
            Table::new(format!("Forward pass: prompts, {times}"), &["prompt tokens", "tokens/s", "GOP/s"]);
        for PrefillFigure { prompt_tokens, tokens_per_s, gops } in &self.prefill {
            prefill.row([prompt_tokens.to_string(), spread(tokens_per_s), spread(gops)]);
        }
        let columns = ["after tokens", "tokens/s", "ms/token", "GB/s read", "against the first"];
        let mut decode = Table::new(format!("Forward pass: one stream, {times}"), &columns);
        for of in &self.decode {
            decode.row([
                of.context_tokens.to_string(),
                spread(&of.tokens_per_s),
                spread(&of.ms_per_token),
                maybe(of.gb_per_s.as_ref()),
                spread(&of.against_shortest),
            ]);
        }
        let columns = ["streams", "after tokens", "tokens/s of all", "ms/step", "GB/s read", "times the first"];
        let mut streams = Table::new(format!("Forward pass: streams together, {times}"), &columns);
        for of in &self.streams {
            streams.row([
                of.streams.to_string(),
                of.context_tokens.to_string(),
                spread(&of.tokens_per_s),
                spread(&of.ms_per_step),
                maybe(of.gb_per_s.as_ref()),
                spread(&of.times_fewest),
            ]);
        }
        vec![prefill, decode, streams, self.memory()]
    }

    fn memory(&self) -> Table {
        let mib = |bytes: u64| figure(bytes as f64 / f64::from(1 << 20));
        let maybe_mib = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), mib);
        let columns = ["load s", "resident MiB", "after all MiB", "weights per step MiB", "KV bytes per token"];
        let mut memory = Table::new("Model", &columns);
        memory.row([
            figure(self.load_s),
            maybe_mib(self.resident_bytes),
            maybe_mib(self.resident_bytes_after),
            maybe_mib(self.weight_bytes),
            self.kv_bytes_per_token.to_string(),
        ]);
        memory
    }
}
