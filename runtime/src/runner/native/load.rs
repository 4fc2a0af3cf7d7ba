use super::find::Finder;
use super::model::{
    AttentionWeights, DeltaWeights, Expert, Experts, FeedForward, Gated, IndexerWeights, LatentQuery, LatentWeights,
    Layer, Mixer, Routed, Shared,
};
use super::weights::{Linear, Matrix};
use crate::checkpoint::LoadError;
use crate::model::{
    Blueprint, DeltaSpec, FeedForwardSpec, LatentSpec, MixerSpec, Module, OUT_NORMS, QkNorm, RoutedSpec,
};
use std::ops::Range;

/// Finds the weights of a decoder in its checkpoint.
pub(super) struct Loader<'a> {
    pub(super) find: Finder<'a>,
    pub(super) blueprint: &'a Blueprint,
}

impl Loader<'_> {
    pub(super) fn layer(&mut self, number: usize) -> Result<Layer, LoadError> {
        let blueprint = self.blueprint;
        let (spec, path) = (&blueprint.spec.layers[number], |name: &str| blueprint.layer_path(number, name));
        Ok(Layer {
            mixer_norm: self.find.floats(&path("input_layernorm"))?,
            mixer: match &spec.mixer {
                MixerSpec::Attention(of) => Mixer::Attention(AttentionWeights {
                    out_norm: self.out_norm(of.out_norm, &path(OUT_NORMS[0]))?,
                    ..self.attention(&path("self_attn"), of.qk_norm)?
                }),
                MixerSpec::Latent(of) => Mixer::Latent(self.latent(&path("self_attn"), of)?),
                MixerSpec::Delta(of) => Mixer::Delta(self.delta(&path("linear_attn"), of)?),
            },
            mlp_norm: self.find.floats(&path("post_attention_layernorm"))?,
            mlp: match &spec.mlp {
                FeedForwardSpec::Dense(of) => FeedForward::Dense(Gated {
                    out_norm: self.out_norm(of.out_norm, &path(OUT_NORMS[1]))?,
                    ..self.gated(&path("mlp"))?
                }),
                FeedForwardSpec::Routed(of) => FeedForward::Routed(self.routed(number, of)?),
            },
        })
    }

    fn attention(&mut self, path: &str, qk_norm: QkNorm) -> Result<AttentionWeights, LoadError> {
        let qk_norm = match qk_norm {
            QkNorm::None => None,
            QkNorm::Heads | QkNorm::Whole => {
                Some((self.find.floats(&format!("{path}.q_norm"))?, self.find.floats(&format!("{path}.k_norm"))?))
            }
        };
        Ok(AttentionWeights {
            q: self.find.linear(&format!("{path}.q_proj"))?,
            k: self.find.linear(&format!("{path}.k_proj"))?,
            v: self.find.linear(&format!("{path}.v_proj"))?,
            qk_norm,
            out: self.find.linear(&format!("{path}.o_proj"))?,
            out_norm: None,
        })
    }

    /// The norm at `path`, if there is one.
    fn out_norm(&mut self, there: bool, path: &str) -> Result<Option<Vec<f32>>, LoadError> {
        there.then(|| self.find.floats(path)).transpose()
    }

    fn latent(&mut self, path: &str, of: &LatentSpec) -> Result<LatentWeights, LoadError> {
        let query = match of.query_rank {
            None => LatentQuery::Plain(self.find.linear(&format!("{path}.q_proj"))?),
            Some(_) => LatentQuery::Ranked {
                down: self.find.linear(&format!("{path}.q_a_proj"))?,
                norm: self.find.floats(&format!("{path}.q_a_layernorm"))?,
                up: self.find.linear(&format!("{path}.q_b_proj"))?,
            },
        };
        let (absorb, value) = self.latent_heads(path, of)?;
        Ok(LatentWeights {
            query,
            latent: self.find.linear(&format!("{path}.kv_a_proj_with_mqa"))?,
            latent_norm: self.find.floats(&format!("{path}.kv_a_layernorm"))?,
            absorb,
            value,
            out: self.find.linear(&format!("{path}.o_proj"))?,
            indexer: match of.indexer() {
                None => None,
                Some(_) => Some(self.indexer(&format!("{path}.indexer"))?),
            },
        })
    }

    fn indexer(&mut self, path: &str) -> Result<IndexerWeights, LoadError> {
        Ok(IndexerWeights {
            query: self.find.linear(&format!("{path}.wq_b"))?,
            key: self.find.linear(&format!("{path}.wk"))?,
            key_norm: (self.find.floats(&format!("{path}.k_norm"))?, self.find.vector(&format!("{path}.k_norm.bias"))?),
            weights: self.find.linear(&format!("{path}.weights_proj"))?,
        })
    }

    fn delta(&mut self, path: &str, of: &DeltaSpec) -> Result<DeltaWeights, LoadError> {
        // A kernel reads a tap of many channels at a time.
        let stored = self.find.vector(&format!("{path}.conv1d.weight"))?;
        let channel = |tap: usize| stored.iter().skip(tap).step_by(of.taps).copied();
        let length = 1.0 / (of.key_dim as f32).sqrt();
        Ok(DeltaWeights {
            qkvz: self.find.linear(&format!("{path}.in_proj_qkvz"))?,
            ba: self.find.linear(&format!("{path}.in_proj_ba"))?,
            taps: (0..of.taps).flat_map(channel).collect(),
            rates: self.find.vector(&format!("{path}.A_log"))?.into_iter().map(f32::exp).collect(),
            rate_bias: self.find.vector(&format!("{path}.dt_bias"))?,
            // Queries are divided by the root of their width besides.
            query_factors: vec![length * length; of.key_dim],
            key_factors: vec![length; of.key_dim],
            norm: self.find.floats(&format!("{path}.norm"))?,
            out: self.find.linear(&format!("{path}.out_proj"))?,
        })
    }

    /// The two halves of what makes keys and values of a latent, by head.
    fn latent_heads(&mut self, path: &str, of: &LatentSpec) -> Result<(Vec<Matrix>, Vec<Matrix>), LoadError> {
        let whole = format!("{path}.kv_b_proj");
        if !self.blueprint.modules().has(&whole) {
            let (absorb, value) = (format!("{path}.embed_q"), format!("{path}.unembed_out"));
            let mut heads =
                |path: &str| (0..of.heads).map(|head| self.find.matrix(path, head)).collect::<Result<_, _>>();
            return Ok((heads(&absorb)?, heads(&value)?));
        }
        let stored = self.find.stored(&whole, 0)?;
        let (mut absorb, mut value) = (Vec::new(), Vec::new());
        for head in 0..of.heads {
            let first = head * (of.plain + of.value);
            let keys = stored.rows_as_columns(first..first + of.plain, self.find.mode);
            absorb.push(Matrix::new(of.rank, of.plain, keys));
            let values = stored.some_rows(first + of.plain..first + of.plain + of.value);
            value.push(Matrix::new(of.value, of.rank, values));
        }
        Ok((absorb, value))
    }

    fn gated(&mut self, path: &str) -> Result<Gated, LoadError> {
        let down = self.find.linear(&format!("{path}.down_proj"))?;
        let Some(both) = self.blueprint.gate_and_up_path(path) else {
            let (gate, up) =
                (self.find.linear(&format!("{path}.gate_proj"))?, self.find.linear(&format!("{path}.up_proj"))?);
            return Ok(Gated { gate, up, down, out_norm: None });
        };
        let (stored, bias) = (self.find.stored(&both, 0)?, self.find.bias(&both)?);
        let Module { outputs, inputs, .. } = *self.blueprint.modules().get(&both)?;
        let half = |rows: Range<usize>| Linear {
            matrix: Matrix::new(rows.len(), inputs, stored.some_rows(rows.clone())),
            bias: bias.as_ref().map(|bias| bias[rows].to_vec()),
        };
        Ok(Gated { gate: half(0..outputs / 2), up: half(outputs / 2..outputs), down, out_norm: None })
    }

    fn routed(&mut self, layer: usize, of: &RoutedSpec) -> Result<Routed, LoadError> {
        let block = self.blueprint.layer_path(layer, of.names.block);
        let correction = match of.router.correction {
            false => None,
            true => Some(self.find.vector(&format!("{block}.{}", of.names.correction))?),
        };
        let expert = |number: usize| {
            let [gate, up, down] = self.blueprint.expert_paths(layer, of, number);
            let mut matrix = |(path, part): &(String, usize)| self.find.matrix(path, *part);
            Ok(Expert { gate: matrix(&gate)?, up: matrix(&up)?, down: matrix(&down)? })
        };
        let experts = (0..of.router.experts).map(expert).collect::<Result<_, LoadError>>()?;
        let shared = match of.shared {
            None => None,
            Some(shared) => Some(Shared {
                mlp: self.gated(&format!("{block}.{}", of.names.shared))?,
                gate: match shared.gated {
                    false => None,
                    true => Some(self.find.linear(&format!("{block}.{}", of.names.shared_gate))?),
                },
            }),
        };
        let router = self.find.linear(&format!("{block}.gate"))?;
        Ok(Routed { router, correction, experts: Experts::new(experts), shared })
    }
}
