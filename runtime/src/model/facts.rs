use super::blueprint::{Blueprint, Storage};
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
    /// Weights, a tied head counted once.
    pub parameters: u64,
    /// What stands before the names of the tensors.
    pub key_prefix: String,
    /// How many matrices are stored how, most frequent first: `4-bit, group 64` or `BF16`.
    pub storage: Vec<(String, usize)>,
    /// Tokens that end an answer.
    pub eos_ids: Vec<u32>,
}

impl ModelFacts {
    /// Collects the facts.
    pub fn of(blueprint: &Blueprint) -> Self {
        let spec = &blueprint.spec;
        let first = spec.layers.first().map(|layer| &layer.attention);
        let windows: Vec<usize> = spec.layers.iter().filter_map(|layer| layer.attention.window).collect();
        let mut storage: BTreeMap<String, usize> = BTreeMap::new();
        let mut parameters = 0;
        for (_, module) in blueprint.modules() {
            parameters += (module.outputs * (module.inputs + usize::from(module.bias))) as u64;
            if module.inputs > 1 {
                *storage.entry(name(module.storage)).or_default() += 1;
            }
        }
        let mut storage: Vec<(String, usize)> = storage.into_iter().collect();
        storage.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self {
            family: blueprint.family.name,
            layers: spec.layers.len(),
            hidden: spec.hidden,
            heads: first.map_or(0, |attention| attention.heads),
            kv_heads: first.map_or(0, |attention| attention.kv_heads),
            head_dim: first.map_or(0, |attention| attention.head_dim),
            vocab: spec.vocab,
            context_tokens: spec.context,
            window: windows.iter().min().map(|&smallest| (windows.len(), smallest)),
            kv_elements_per_token: spec.layers.iter().map(|layer| 2 * layer.attention.kv_width()).sum(),
            parameters,
            key_prefix: blueprint.key_prefix().to_owned(),
            storage,
            eos_ids: blueprint.config.eos_ids.clone(),
        }
    }
}

fn name(storage: Storage) -> String {
    match storage {
        Storage::Dense(dtype) => float_name(dtype).to_owned(),
        Storage::Affine(quantization) => quantization.to_string(),
        Storage::Micro(format) => format.to_string(),
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
