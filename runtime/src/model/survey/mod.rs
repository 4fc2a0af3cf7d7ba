//! The check of a checkpoint against the layers of its configuration: every tensor that they need is there, in the shape it
//! must have.

mod storage;

use crate::checkpoint::{Checkpoint, Dtype, LoadError};
use crate::model::config::ModelConfig;
use crate::model::module::{ACTIVATION_SCALE, Module, ModuleKind, Modules, Storage};
use crate::model::spec::{
    AttentionSpec, DecoderSpec, DeltaSpec, FeedForwardSpec, IndexerSpec, LatentSpec, LayerSpec, MixerSpec, OUT_NORMS,
    QkNorm, RoutedSpec,
};
use std::collections::BTreeSet;

/// The check in progress: which modules were found and which tensors they use.
pub(super) struct Survey<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    /// What most norms are.
    norm: ModuleKind,
    modules: Modules,
    used: BTreeSet<String>,
}

/// Tensors that belong to no module.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Those that no rule explains, sorted.
    pub(super) unexpected: Vec<String>,
    /// How many are known to be of no use.
    pub(super) skipped: usize,
}

/// Names of an expert's projections in a stack.
pub(super) const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Name of gate and up in one matrix.
pub(super) const GATE_AND_UP: &str = "gate_up_proj";

pub(super) fn stacked(block: &str, projection: &str) -> String {
    format!("{block}.switch_mlp.{projection}")
}

impl<'a> Survey<'a> {
    /// Nothing found yet.
    pub(super) fn new(checkpoint: &'a Checkpoint, config: &'a ModelConfig, centred_norms: bool) -> Self {
        let centred = centred_norms && !is_converted(checkpoint);
        let norm = if centred { ModuleKind::CentredNorm } else { ModuleKind::Norm };
        Self { checkpoint, config, norm, modules: Modules::default(), used: BTreeSet::new() }
    }

    /// The modules, and what is left of the checkpoint: `skips` knows tensors that are of no use.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedQuantization`] for a tensor beside codes of which nothing is known.
    pub(super) fn finish(self, skips: impl Fn(&str) -> bool) -> Result<(Modules, Leftovers), LoadError> {
        let Self { checkpoint, modules, used, .. } = self;
        let mut left = Leftovers::default();
        for name in checkpoint.names().filter(|name| !used.contains(*name)) {
            let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
            let beside = modules.get(path).ok().map(|module| module.storage);
            let activations = matches!(beside, Some(Storage::Float8(_))) && last == ACTIVATION_SCALE;
            if activations || skips(name) {
                left.skipped += 1;
                continue;
            }
            match beside {
                // Whatever it is, the module's weights are not what they would be taken for without it.
                Some(storage) if !matches!(storage, Storage::Dense(_)) => {
                    return Err(LoadError::quantization(name, "a tensor of which this program knows nothing"));
                }
                _ => left.unexpected.push(name.to_owned()),
            }
        }
        Ok((modules, left))
    }

    pub(super) fn layer(&mut self, path: &str, spec: &DecoderSpec, layer: &LayerSpec) -> Result<(), LoadError> {
        self.norm(format!("{path}.input_layernorm"), spec.hidden)?;
        self.norm(format!("{path}.post_attention_layernorm"), spec.hidden)?;
        let attention = format!("{path}.self_attn");
        match &layer.mixer {
            MixerSpec::Attention(of) => self.attention(&attention, spec.hidden, of)?,
            MixerSpec::Latent(of) => self.latent(&attention, spec.hidden, of)?,
            MixerSpec::Delta(of) => self.delta(&format!("{path}.linear_attn"), spec.hidden, of)?,
        }
        let out_norms = [
            matches!(&layer.mixer, MixerSpec::Attention(of) if of.out_norm),
            matches!(&layer.mlp, FeedForwardSpec::Dense(of) if of.out_norm),
        ];
        for (name, _) in OUT_NORMS.into_iter().zip(out_norms).filter(|(_, there)| *there) {
            self.norm(format!("{path}.{name}"), spec.hidden)?;
        }
        match &layer.mlp {
            FeedForwardSpec::Dense(mlp) => self.mlp(&format!("{path}.mlp"), spec.hidden, mlp.inner, mlp.bias),
            FeedForwardSpec::Routed(of) => self.routed(&format!("{path}.{}", of.names.block), spec.hidden, of),
        }
    }

    fn attention(&mut self, path: &str, hidden: usize, of: &AttentionSpec) -> Result<(), LoadError> {
        let (q_width, kv_width) = (of.heads * of.head_dim, of.kv_width());
        let norms = match of.qk_norm {
            QkNorm::None => None,
            QkNorm::Heads => Some([of.head_dim; 2]),
            QkNorm::Whole => Some([q_width, kv_width]),
        };
        if let Some([q, k]) = norms {
            self.norm(format!("{path}.q_norm"), q)?;
            self.norm(format!("{path}.k_norm"), k)?;
        }
        self.linears(
            path,
            &[
                ("q_proj", of.heads * of.query_width(), hidden, of.qkv_bias),
                ("k_proj", kv_width, hidden, of.qkv_bias),
                ("v_proj", kv_width, hidden, of.qkv_bias),
                ("o_proj", hidden, q_width, of.out_bias),
            ],
        )
    }

    fn latent(&mut self, path: &str, hidden: usize, of: &LatentSpec) -> Result<(), LoadError> {
        let q_width = of.heads * of.query();
        match of.query_rank {
            None => self.linears(path, &[("q_proj", q_width, hidden, false)])?,
            Some(rank) => {
                self.norm(format!("{path}.q_a_layernorm"), rank)?;
                self.linears(path, &[("q_a_proj", rank, hidden, of.bias), ("q_b_proj", q_width, rank, false)])?;
            }
        }
        self.norm(format!("{path}.kv_a_layernorm"), of.rank)?;
        self.linears(
            path,
            &[("kv_a_proj_with_mqa", of.cached(), hidden, of.bias), ("o_proj", hidden, of.heads * of.value, of.bias)],
        )?;
        if let (Some(indexer), Some(rank)) = (of.indexer(), of.query_rank) {
            self.indexer(&format!("{path}.indexer"), hidden, rank, indexer)?;
        }
        // Converters cut what makes keys and values of a latent into heads, and turn the keys' half.
        let halves = [("embed_q", of.rank, of.plain), ("unembed_out", of.value, of.rank)];
        if self.checkpoint.get(&format!("{path}.embed_q.weight")).is_some() {
            let mut halves = halves.into_iter();
            return halves.try_for_each(|(name, outputs, inputs)| {
                self.stack(format!("{path}.{name}"), of.heads, outputs, inputs)
            });
        }
        self.linears(path, &[("kv_b_proj", of.heads * (of.plain + of.value), of.rank, false)])
    }

    fn delta(&mut self, path: &str, hidden: usize, of: &DeltaSpec) -> Result<(), LoadError> {
        self.linears(
            path,
            &[
                ("in_proj_qkvz", 2 * of.keys() + 2 * of.values(), hidden, false),
                ("in_proj_ba", 2 * of.value_heads, hidden, false),
                ("out_proj", hidden, of.values(), false),
            ],
        )?;
        self.vector(format!("{path}.A_log"), of.value_heads)?;
        self.vector(format!("{path}.dt_bias"), of.value_heads)?;
        // The one in the middle of the layer is not centred.
        let dtype = self.floats(format!("{path}.norm.weight"), &[of.value_dim])?;
        self.insert(format!("{path}.norm"), ModuleKind::Norm, of.value_dim, false, dtype);
        // Either layout has a dimension of one, and the same bytes.
        let (name, channels) = (format!("{path}.{CONVOLUTION}"), of.channels());
        let shape = if is_converted(self.checkpoint) { [channels, of.taps, 1] } else { [channels, 1, of.taps] };
        let dtype = self.floats(name.clone(), &shape)?;
        self.insert(name, ModuleKind::Vector, channels * of.taps, false, dtype);
        Ok(())
    }

    fn indexer(&mut self, path: &str, hidden: usize, rank: usize, of: &IndexerSpec) -> Result<(), LoadError> {
        self.layer_norm(format!("{path}.k_norm"), of.head_dim)?;
        self.linears(
            path,
            &[
                ("wq_b", of.heads * of.head_dim, rank, false),
                ("wk", of.head_dim, hidden, false),
                ("weights_proj", of.heads, hidden, false),
            ],
        )
    }

    fn mlp(&mut self, path: &str, hidden: usize, inner: usize, bias: bool) -> Result<(), LoadError> {
        let [gate, up, down] = PROJECTIONS;
        // Some files have gate and up in one matrix, one below the other.
        let fused = |name: &str| self.checkpoint.get(&format!("{path}.{GATE_AND_UP}.{name}")).is_some();
        if fused("weight") || fused("weight_packed") {
            return self.linears(path, &[(GATE_AND_UP, 2 * inner, hidden, bias), (down, hidden, inner, bias)]);
        }
        self.linears(path, &[(gate, inner, hidden, bias), (up, inner, hidden, bias), (down, hidden, inner, bias)])
    }

    fn routed(&mut self, path: &str, hidden: usize, of: &RoutedSpec) -> Result<(), LoadError> {
        let experts = of.router.experts;
        self.linears(path, &[("gate", experts, hidden, false)])?;
        if of.router.correction {
            self.vector(format!("{path}.{}", of.names.correction), experts)?;
        }
        let shapes = [(of.inner, hidden), (of.inner, hidden), (hidden, of.inner)];
        if self.checkpoint.get(&format!("{}.weight", stacked(path, PROJECTIONS[0]))).is_some() {
            for (name, (outputs, inputs)) in PROJECTIONS.into_iter().zip(shapes) {
                self.stack(stacked(path, name), experts, outputs, inputs)?;
            }
        } else {
            for expert in 0..experts {
                for (name, (outputs, inputs)) in of.names.expert.into_iter().zip(shapes) {
                    let path = format!("{path}.experts.{expert}.{name}");
                    self.matrix(path, ModuleKind::Linear, outputs, inputs, false)?;
                }
            }
        }
        if let Some(shared) = of.shared {
            self.mlp(&format!("{path}.{}", of.names.shared), hidden, shared.inner, false)?;
            if shared.gated {
                self.linears(path, &[(of.names.shared_gate, 1, hidden, false)])?;
            }
        }
        Ok(())
    }

    /// Products below `path`: name, outputs, inputs, whether there is a bias.
    pub(super) fn linears(&mut self, path: &str, all: &[(&str, usize, usize, bool)]) -> Result<(), LoadError> {
        all.iter().try_for_each(|&(name, outputs, inputs, bias)| {
            self.matrix(format!("{path}.{name}"), ModuleKind::Linear, outputs, inputs, bias)
        })
    }

    pub(super) fn norm(&mut self, path: String, length: usize) -> Result<(), LoadError> {
        let dtype = self.floats(format!("{path}.weight"), &[length])?;
        self.insert(path, self.norm, length, false, dtype);
        Ok(())
    }

    /// A norm with a bias.
    pub(super) fn layer_norm(&mut self, path: String, length: usize) -> Result<(), LoadError> {
        self.floats(format!("{path}.bias"), &[length])?;
        let dtype = self.floats(format!("{path}.weight"), &[length])?;
        self.insert(path, ModuleKind::Norm, length, true, dtype);
        Ok(())
    }

    fn vector(&mut self, name: String, length: usize) -> Result<(), LoadError> {
        let dtype = self.floats(name.clone(), &[length])?;
        self.insert(name, ModuleKind::Vector, length, false, dtype);
        Ok(())
    }

    fn insert(&mut self, path: String, kind: ModuleKind, length: usize, bias: bool, dtype: Dtype) {
        let storage = Storage::Dense(dtype);
        self.modules.insert(path, Module { kind, parts: 1, outputs: length, inputs: 1, storage, bias });
    }

    pub(super) fn matrix(
        &mut self,
        path: String,
        kind: ModuleKind,
        outputs: usize,
        inputs: usize,
        bias: bool,
    ) -> Result<(), LoadError> {
        let storage = self.storage(&path, &[outputs], inputs)?;
        if bias {
            self.floats(format!("{path}.bias"), &[outputs])?;
        }
        self.modules.insert(path, Module { kind, parts: 1, outputs, inputs, storage, bias });
        Ok(())
    }

    /// Several matrices in one tensor.
    fn stack(&mut self, path: String, parts: usize, outputs: usize, inputs: usize) -> Result<(), LoadError> {
        let storage = self.storage(&path, &[parts, outputs], inputs)?;
        let kind = ModuleKind::Linear;
        self.modules.insert(path, Module { kind, parts, outputs, inputs, storage, bias: false });
        Ok(())
    }
}

/// The weights of a convolution over time.
const CONVOLUTION: &str = "conv1d.weight";

/// Whether a converter for MLX has rewritten the tensors: it puts the channels of a convolution last, and adds what was
/// taken from norms.
fn is_converted(checkpoint: &Checkpoint) -> bool {
    let convolution = checkpoint.names().find(|name| name.ends_with(CONVOLUTION)).and_then(|name| checkpoint.get(name));
    convolution.is_some_and(|tensor| tensor.shape.last() == Some(&1) && tensor.shape.get(1) != Some(&1))
}
