use super::kv_memory::{KvMemory, NewState, State};
use super::linear::Linear;
use super::load::Loader;
use super::norm::RmsNorm;
use super::step::{StateRow, Step};
use crate::checkpoint::LoadError;
use crate::model::{DELTA_NORM_EPS, DeltaSpec};
use candle_core::{D, Device, Result, Tensor};

/// A gated delta net, token by token.
#[derive(Debug)]
pub(super) struct DeltaNet {
    spec: DeltaSpec,
    qkvz: Linear,
    ba: Linear,
    /// f32 `[taps, channels]`, the oldest tap first.
    taps: Tensor,
    /// How fast each value head forgets, f32 `[value_heads]`, and what is added before.
    rates: Tensor,
    rate_bias: Tensor,
    norm: RmsNorm,
    out: Linear,
}

/// What the recurrence reads of all tokens, f32.
struct Inputs {
    /// `[tokens, channels]`.
    mixed: Tensor,
    /// What is left of a state, `[tokens, value_heads, 1, 1]`.
    decay: Tensor,
    /// How much of it is replaced, of the same shape.
    beta: Tensor,
}

impl DeltaNet {
    pub(super) fn load(loader: &mut Loader<'_>, layer: usize, spec: DeltaSpec) -> std::result::Result<Self, LoadError> {
        let blueprint = loader.blueprint;
        let path = |name: &str| blueprint.layer_path(layer, &format!("linear_attn.{name}"));
        let taps = loader.tensor(&path("conv1d.weight"), &[spec.channels(), spec.taps])?;
        let rates = loader.tensor(&path("A_log"), &[spec.value_heads])?;
        let made = taps.t().and_then(|taps| Ok((taps.contiguous()?, rates.exp()?)));
        let (taps, rates) = made.map_err(super::error::device_error(&path("conv1d.weight")))?;
        Ok(Self {
            qkvz: loader.linear(&path("in_proj_qkvz"))?,
            ba: loader.linear(&path("in_proj_ba"))?,
            taps,
            rates,
            rate_bias: loader.tensor(&path("dt_bias"), &[spec.value_heads])?,
            norm: loader.norm(&path("norm"), blueprint.spec.norm_eps)?,
            out: loader.linear(&path("out_proj"))?,
            spec,
        })
    }

    /// f32 `[tokens, hidden]` to the same. States of the rows, and their snapshots, are added to `new`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        layer: usize,
        kv: &KvMemory,
        step: &Step,
        new: &mut Vec<NewState>,
    ) -> Result<Tensor> {
        let spec = &self.spec;
        let (tokens, group) = (x.dim(0)?, spec.group());
        let (dim, values) = (spec.key_dim, group * spec.value_dim);
        let qkvz = self.qkvz.forward(x)?.reshape((tokens, spec.key_heads, 2 * dim + 2 * values))?;
        let part = |first: usize, width: usize| qkvz.narrow(2, first, width)?.flatten(1, 2);
        let mixed = Tensor::cat(&[part(0, dim)?, part(dim, dim)?, part(2 * dim, values)?], 1)?;
        let gate = part(2 * dim + values, values)?.reshape((tokens, spec.value_heads, spec.value_dim))?;

        let ba = self.ba.forward(x)?.reshape((tokens, spec.key_heads, 2 * group))?;
        let scalars = |first: usize| ba.narrow(2, first, group)?.flatten(1, 2);
        let a = scalars(group)?.broadcast_add(&self.rate_bias)?;
        // ln(1 + e^a), whatever the size of a.
        let softplus = (a.relu()? + (a.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
        let by_head = |x: Tensor| x.reshape((tokens, spec.value_heads, 1, 1));
        let inputs = Inputs {
            mixed,
            decay: by_head(softplus.broadcast_mul(&self.rates)?.neg()?.exp()?)?,
            beta: by_head(candle_nn::ops::sigmoid(&scalars(0)?)?)?,
        };
        let mut results = Vec::new();
        for row in &step.rows {
            results.push(self.row(row, layer, kv, &inputs, new)?);
        }
        let results = Tensor::cat(&results, 0)?.reshape((tokens, spec.value_heads, spec.value_dim))?;
        let gated = (self.norm.forward(&results.contiguous()?)? * gate.silu()?)?;
        self.out.forward(&gated.flatten(1, 2)?.contiguous()?)
    }

    /// The results of one row, `[tokens, value_heads, value_dim]`.
    fn row(
        &self,
        row: &StateRow,
        layer: usize,
        kv: &KvMemory,
        inputs: &Inputs,
        new: &mut Vec<NewState>,
    ) -> Result<Tensor> {
        let spec = &self.spec;
        let tokens = row.span.len();
        let device = inputs.mixed.device();
        let State { inputs: seen, mut matrices } =
            if row.first == 0 { State::empty(spec, device)? } else { kv.read_state(layer, row.place)? };
        let of_row = |x: &Tensor| x.narrow(0, row.span.start, tokens);
        let all = Tensor::cat(&[seen, of_row(&inputs.mixed)?], 0)?; // [taps - 1 + tokens, channels]
        let mut mixed = all.narrow(0, 0, tokens)?.broadcast_mul(&self.taps.get(0)?)?;
        for tap in 1..spec.taps {
            mixed = (mixed + all.narrow(0, tap, tokens)?.broadcast_mul(&self.taps.get(tap)?)?)?;
        }
        let mixed = mixed.silu()?;
        let q = (self.by_value_head(&mixed, 0)? * (spec.key_dim as f64).powf(-0.5))?;
        let k = self.by_value_head(&mixed, spec.keys())?;
        let v = mixed.narrow(1, 2 * spec.keys(), spec.values())?;
        let v = v.reshape((tokens, spec.value_heads, 1, spec.value_dim))?;
        let (decay, beta) = (of_row(&inputs.decay)?, of_row(&inputs.beta)?);

        let mut results = Vec::with_capacity(tokens);
        for token in 0..tokens {
            let at = |x: &Tensor| x.get(token)?.contiguous();
            let key = at(&k)?; // [value_heads, 1, key_dim]
            matrices = matrices.broadcast_mul(&at(&decay)?)?;
            let change = (at(&v)? - key.matmul(&matrices)?)?.broadcast_mul(&at(&beta)?)?;
            matrices = (matrices + key.transpose(1, 2)?.contiguous()?.matmul(&change)?)?;
            results.push(at(&q)?.matmul(&matrices)?.squeeze(1)?.unsqueeze(0)?);
            let behind = row.first + token + 1;
            let saves = row.saves.iter().filter(|save| save.tokens == behind).map(|save| save.to);
            let own = (token + 1 == tokens).then_some(row.place);
            for place in saves.chain(own) {
                let inputs = all.narrow(0, token + 1, spec.taps - 1)?;
                new.push(NewState { layer, place, state: State { inputs, matrices: matrices.clone() } });
            }
        }
        Tensor::cat(&results, 0)
    }

    /// Queries or keys of unit length, which begin at a channel, for every value head: `[tokens, value_heads, 1, key_dim]`.
    fn by_value_head(&self, mixed: &Tensor, first: usize) -> Result<Tensor> {
        let spec = &self.spec;
        let tokens = mixed.dim(0)?;
        let x = mixed.narrow(1, first, spec.keys())?.reshape((tokens, spec.key_heads, 1, spec.key_dim))?;
        let length = (x.sqr()?.sum_keepdim(D::Minus1)? + DELTA_NORM_EPS)?.sqrt()?;
        let shape = (tokens, spec.key_heads, spec.group(), spec.key_dim);
        x.broadcast_div(&length)?.broadcast_as(shape)?.reshape((tokens, spec.value_heads, 1, spec.key_dim))
    }
}

impl State {
    /// Before the first token.
    fn empty(spec: &DeltaSpec, device: &Device) -> Result<Self> {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, device);
        Ok(Self {
            inputs: zeros(&[spec.taps - 1, spec.channels()])?,
            matrices: zeros(&[spec.value_heads, spec.key_dim, spec.value_dim])?,
        })
    }
}
