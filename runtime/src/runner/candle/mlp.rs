use super::linear::Linear;
use super::load::Loader;
use super::norm::RmsNorm;
use crate::checkpoint::LoadError;
use crate::model::{MlpSpec, OUT_NORMS, RoutedSpec};
use crate::runner::router::{Choice, choose};
use candle_core::{Result, Tensor};

/// `down(silu(gate(x)) * up(x))`.
#[derive(Debug)]
pub(super) struct GatedMlp {
    input: Input,
    down: Linear,
    /// The norm of what `down` gives, where this is all of a layer's MLP.
    out_norm: Option<RmsNorm>,
}

/// Gate and up.
#[derive(Debug)]
enum Input {
    Two {
        gate: Linear,
        up: Linear,
    },
    /// One matrix: the gate's rows, then as many of the other.
    One(Linear),
}

/// A mixture of experts: one product per expert that some token of the batch has.
#[derive(Debug)]
pub(super) struct RoutedMlp {
    spec: RoutedSpec,
    router: Linear,
    correction: Option<Vec<f32>>,
    experts: Vec<GatedMlp>,
    shared: Option<GatedMlp>,
    shared_gate: Option<Linear>,
}

impl GatedMlp {
    pub(super) fn load(loader: &mut Loader<'_>, path: &str) -> std::result::Result<Self, LoadError> {
        let input = match loader.blueprint.gate_and_up_path(path) {
            None => Input::Two {
                gate: loader.linear(&format!("{path}.gate_proj"))?,
                up: loader.linear(&format!("{path}.up_proj"))?,
            },
            Some(both) => Input::One(loader.linear(&both)?),
        };
        Ok(Self { input, down: loader.linear(&format!("{path}.down_proj"))?, out_norm: None })
    }

    /// All of a layer's MLP.
    pub(super) fn of_layer(
        loader: &mut Loader<'_>,
        layer: usize,
        spec: &MlpSpec,
    ) -> std::result::Result<Self, LoadError> {
        let blueprint = loader.blueprint;
        let mlp = Self::load(loader, &blueprint.layer_path(layer, "mlp"))?;
        let out_norm = match spec.out_norm {
            false => None,
            true => Some(loader.norm(&blueprint.layer_path(layer, OUT_NORMS[1]), blueprint.spec.norm_eps)?),
        };
        Ok(Self { out_norm, ..mlp })
    }

    /// f32 `[tokens, hidden]` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (gate, up) = match &self.input {
            Input::Two { gate, up } => (gate.forward(x)?, up.forward(x)?),
            Input::One(both) => {
                let both = both.forward(x)?;
                let inner = both.dim(1)? / 2;
                (both.narrow(1, 0, inner)?.contiguous()?, both.narrow(1, inner, inner)?.contiguous()?)
            }
        };
        let out = self.down.forward(&(gate.silu()? * up)?)?;
        match &self.out_norm {
            None => Ok(out),
            Some(norm) => norm.forward(&out),
        }
    }
}

impl RoutedMlp {
    pub(super) fn load(
        loader: &mut Loader<'_>,
        layer: usize,
        spec: RoutedSpec,
    ) -> std::result::Result<Self, LoadError> {
        let blueprint = loader.blueprint;
        let block = blueprint.layer_path(layer, spec.names.block);
        let mut experts = Vec::new();
        for expert in 0..spec.router.experts {
            let [gate, up, down] = blueprint.expert_paths(layer, &spec, expert);
            let mut linear = |(path, part): (String, usize)| loader.linear_part(&path, part);
            let input = Input::Two { gate: linear(gate)?, up: linear(up)? };
            experts.push(GatedMlp { input, down: linear(down)?, out_norm: None });
        }
        let (mut shared, mut shared_gate) = (None, None);
        if let Some(of) = spec.shared {
            shared = Some(GatedMlp::load(loader, &format!("{block}.{}", spec.names.shared))?);
            if of.gated {
                shared_gate = Some(loader.linear(&format!("{block}.{}", spec.names.shared_gate))?);
            }
        }
        let correction = match spec.router.correction {
            false => None,
            true => Some(loader.vector(&format!("{block}.{}", spec.names.correction))?),
        };
        let router = loader.linear(&format!("{block}.gate"))?;
        Ok(Self { spec, router, correction, experts, shared, shared_gate })
    }

    /// f32 `[tokens, hidden]` to the same. The scores come to the program, which has to know which experts to start.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let device = x.device();
        let mut out = x.zeros_like()?;
        for (expert, (tokens, weights)) in self.by_expert(x)?.into_iter().enumerate() {
            let count = tokens.len();
            if count == 0 {
                continue;
            }
            let tokens = Tensor::from_vec(tokens, count, device)?;
            let weights = Tensor::from_vec(weights, (count, 1), device)?;
            let results = self.experts[expert].forward(&x.index_select(&tokens, 0)?)?.broadcast_mul(&weights)?;
            out = out.index_add(&tokens, &results, 0)?;
        }
        let Some(shared) = &self.shared else { return Ok(out) };
        let mut results = shared.forward(x)?;
        if let Some(gate) = &self.shared_gate {
            results = results.broadcast_mul(&candle_nn::ops::sigmoid(&gate.forward(x)?)?)?;
        }
        out + results
    }

    /// The tokens of each expert, and the weights of its results.
    fn by_expert(&self, x: &Tensor) -> Result<Vec<(Vec<u32>, Vec<f32>)>> {
        let router = &self.spec.router;
        let mut all = vec![(Vec::new(), Vec::new()); router.experts];
        let (mut room, mut chosen) = (vec![0.0; router.experts], vec![Choice::default(); router.top_k]);
        for (token, mut logits) in self.router.forward(x)?.to_vec2::<f32>()?.into_iter().enumerate() {
            choose(router, self.correction.as_deref(), &mut logits, &mut room, &mut chosen);
            for Choice { expert, weight } in &chosen {
                let (tokens, weights) = &mut all[*expert as usize];
                tokens.push(token as u32);
                weights.push(*weight);
            }
        }
        Ok(all)
    }
}
