use super::blueprint::Blueprint;
use super::micro::Microscaling;
use super::module::{Modules, Storage};
use super::spec::{DecoderSpec, ExpertGroups, LayerSpec, MixerSpec, RoutedSpec, Scoring};
use crate::checkpoint::Dtype;
use std::collections::BTreeMap;

/// What people want to know of a model before they load it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts {
    /// The family's name.
    pub family: &'static str,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding matrix.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context_tokens: usize,
    /// Layers with a sliding window, and the smallest window; `None` if there is none.
    pub window: Option<(usize, usize)>,
    /// Elements of keys and values that one token takes in all layers; multiply by the bytes of an element.
    pub kv_elements_per_token: usize,
    /// Layers with a recurrent state, and the numbers that the states of one sequence are; `None` if there is none.
    pub recurrent: Option<(usize, usize)>,
    /// Its weights, a tied head counted once.
    pub weights: WeightFacts,
    /// Weights that one token passes, its embedding apart.
    pub active_parameters: u64,
    /// What mixes positions.
    pub attention: &'static str,
    /// The mixtures of experts, if there are any.
    pub experts: Option<ExpertFacts>,
    /// What stands before the names of the tensors.
    pub key_prefix: String,
    /// Tokens that end an answer.
    pub eos_ids: Vec<u32>,
}

/// How many weights modules have, and how they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightFacts {
    /// Weights.
    pub parameters: u64,
    /// How many matrices are stored how, most frequent first: `4-bit, group 64` or `bf16`.
    pub storage: Vec<(String, usize)>,
}

impl WeightFacts {
    /// Counts.
    pub fn of<'a>(modules: impl IntoIterator<Item = &'a Modules>) -> Self {
        let mut storage: BTreeMap<String, usize> = BTreeMap::new();
        let mut parameters = 0;
        for (_, module) in modules.into_iter().flat_map(Modules::iter) {
            parameters += (module.parts * module.outputs * (module.inputs + usize::from(module.bias))) as u64;
            if module.inputs > 1 {
                *storage.entry(name(module.storage)).or_default() += 1;
            }
        }
        let mut storage: Vec<(String, usize)> = storage.into_iter().collect();
        storage.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self { parameters, storage }
    }
}

/// What people want to know of a mixture of experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertFacts {
    /// Layers that have one.
    pub layers: usize,
    /// Experts of a layer.
    pub experts: usize,
    /// Experts of a token.
    pub top_k: usize,
    /// Whether every token passes another MLP besides.
    pub shared: bool,
    /// How experts are chosen.
    pub router: String,
}

impl ExpertFacts {
    fn of(spec: &DecoderSpec) -> Option<Self> {
        let routed = || spec.layers.iter().filter_map(LayerSpec::routed);
        let RoutedSpec { router, shared, .. } = routed().next()?;
        let scoring = match router.scoring {
            Scoring::Softmax => "softmax",
            Scoring::Sigmoid => "sigmoid",
        };
        let mut how = vec![scoring.to_owned()];
        if router.correction {
            how.push("correction bias".to_owned());
        }
        if let Some(ExpertGroups { count, kept }) = router.groups {
            how.push(format!("{kept} of {count} groups"));
        }
        Some(Self {
            layers: routed().count(),
            experts: router.experts,
            top_k: router.top_k,
            shared: shared.is_some(),
            router: how.join(", "),
        })
    }
}

impl ModelFacts {
    /// Collects the facts.
    pub fn of(blueprint: &Blueprint) -> Self {
        let spec = &blueprint.spec;
        let recurrent = |layer: &&LayerSpec| layer.mixer.state() > 0;
        let recurrent_layers = spec.layers.iter().filter(recurrent).count();
        let first = spec.layers.iter().find(|layer| !recurrent(layer)).map(|layer| &layer.mixer);
        let attention = spec.layers.iter().filter_map(LayerSpec::attention);
        let windows: Vec<usize> = attention.filter_map(|attention| attention.window).collect();
        let weights = WeightFacts::of([blueprint.modules()]);
        Self {
            family: blueprint.family.name,
            layers: spec.layers.len(),
            hidden: spec.hidden,
            heads: first.map_or(0, MixerSpec::heads),
            kv_heads: first.map_or(0, MixerSpec::kv_heads),
            head_dim: first.map_or(0, MixerSpec::key_width),
            vocab: spec.vocab,
            context_tokens: spec.context,
            window: windows.iter().min().map(|&smallest| (windows.len(), smallest)),
            kv_elements_per_token: spec.layers.iter().map(|layer| layer.mixer.cached()).sum(),
            recurrent: (recurrent_layers > 0)
                .then(|| (recurrent_layers, spec.layers.iter().map(|layer| layer.mixer.state()).sum())),
            active_parameters: weights.parameters - idle_parameters(spec) - embedding_parameters(spec),
            attention: match first {
                Some(MixerSpec::Latent(of)) if of.sparse.is_some() => "sparse latent",
                Some(MixerSpec::Latent(_)) => "latent",
                Some(MixerSpec::Attention(of)) if of.group() == 1 => "multi-head",
                Some(MixerSpec::Attention(_)) => "grouped-query",
                Some(MixerSpec::Delta(_)) | None => "none",
            },
            experts: ExpertFacts::of(spec),
            key_prefix: blueprint.key_prefix().to_owned(),
            weights,
            eos_ids: blueprint.config.eos_ids.clone(),
        }
    }
}

/// Weights of the experts that a token does not get.
fn idle_parameters(spec: &DecoderSpec) -> u64 {
    let routed = spec.layers.iter().filter_map(LayerSpec::routed);
    routed.map(|of| (3 * spec.hidden * of.inner * (of.router.experts - of.router.top_k)) as u64).sum()
}

/// Weights of an embedding of which a token takes one row; a tied one is multiplied with whole.
fn embedding_parameters(spec: &DecoderSpec) -> u64 {
    if spec.tied { 0 } else { (spec.hidden * spec.vocab) as u64 }
}

fn name(storage: Storage) -> String {
    match storage {
        Storage::Dense(dtype) => float_name(dtype).to_owned(),
        Storage::Affine(quantization) => quantization.to_string(),
        Storage::Packed(quantization) => format!("{quantization}, packed"),
        Storage::Micro(format) => format.to_string(),
        Storage::ScaledNvfp4 => format!("{}, scaled", Microscaling::Nvfp4),
        Storage::Float8(format) => format.to_string(),
    }
}

fn float_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
        Dtype::BF16 => "bf16",
        _ => "other",
    }
}
