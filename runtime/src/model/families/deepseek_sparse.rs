use super::deepseek::latent_decoder;
use crate::checkpoint::LoadError;
use crate::model::config::{LayerPattern, ModelConfig};
use crate::model::family::Family;
use crate::model::rope::RopePairs;
use crate::model::spec::{DecoderSpec, IndexerSpec, SparseSpec};

/// GLM-5 and later: DeepSeek V3 whose tokens attend to the positions that an indexer chooses.
pub(in crate::model) const GLM_MOE_DSA: Family = Family {
    name: "glm_moe_dsa",
    model_types: &["glm_moe_dsa"],
    architectures: &["GlmMoeDsaForCausalLM"],
    spec: |config| spec(config, RopePairs::Neighbours),
};

/// DeepSeek V3.2: the same, but for what rotates together in the indexer.
pub(in crate::model) const DEEPSEEK_V32: Family = Family {
    name: "deepseek_v32",
    model_types: &["deepseek_v32"],
    architectures: &["DeepseekV32ForCausalLM"],
    spec: |config| spec(config, RopePairs::Halves),
};

/// `pairs`: what rotates together in an indexer, where the file does not say.
fn spec(config: &ModelConfig, pairs: RopePairs) -> Result<DecoderSpec, LoadError> {
    let of = &config.sparse;
    // Its queries are made of what the attention's own are.
    config.require(config.latent.q_lora_rank, "q_lora_rank")?;
    let indexer = IndexerSpec {
        heads: config.require(of.index_n_heads, "index_n_heads")?,
        head_dim: config.require(of.index_head_dim, "index_head_dim")?,
        pairs: match of.indexer_rope_interleave {
            None => pairs,
            Some(true) => RopePairs::Neighbours,
            Some(false) => RopePairs::Halves,
        },
    };
    let rotary = config.require(config.latent.qk_rope_head_dim, "qk_rope_head_dim")?;
    if rotary > indexer.head_dim {
        let reason = format!("{rotary} of {} components of an indexer rotate", indexer.head_dim);
        return Err(LoadError::invalid("config.json", reason));
    }
    let top_k = config.require(of.index_topk, "index_topk")?;
    let full = full_layers(config)?;
    latent_decoder(config, |number| Some(SparseSpec { top_k, indexer: full[number].then(|| indexer.clone()) }))
}

/// Whether each layer has an indexer of its own.
fn full_layers(config: &ModelConfig) -> Result<Vec<bool>, LoadError> {
    let num_layers = config.require(config.num_hidden_layers, "num_hidden_layers")?;
    let of = &config.sparse;
    let (key, full) = match (&of.indexer_types, &of.index_topk_pattern) {
        (Some(types), _) => ("indexer_types", by_words("indexer_types", types)?),
        (None, Some(LayerPattern::Words(words))) => ("index_topk_pattern", by_words("index_topk_pattern", words)?),
        (None, Some(LayerPattern::Letters(letters))) => ("index_topk_pattern", by_letters(letters)?),
        (None, None) => {
            let (every, offset) = (of.index_topk_freq.unwrap_or(1).max(1), of.index_skip_topk_offset.unwrap_or(2));
            let rule = |layer: usize| (layer + 1).saturating_sub(offset).is_multiple_of(every);
            ("index_topk_freq", (0..num_layers).map(rule).collect())
        }
    };
    if full.len() != num_layers {
        let reason = format!("`{key}` names {} of {num_layers} layers", full.len());
        return Err(LoadError::invalid("config.json", reason));
    }
    if full[0] {
        return Ok(full);
    }
    Err(LoadError::invalid("config.json", format!("`{key}`: the first layer has no indexer, and none before it")))
}

fn by_words(key: &str, words: &[String]) -> Result<Vec<bool>, LoadError> {
    let full = |word: &String| match word.as_str() {
        "full" => Ok(true),
        "shared" => Ok(false),
        other => Err(LoadError::arch(key, other)),
    };
    words.iter().map(full).collect()
}

fn by_letters(letters: &str) -> Result<Vec<bool>, LoadError> {
    let full = |letter| match letter {
        'F' => Ok(true),
        'S' => Ok(false),
        _ => Err(LoadError::arch("index_topk_pattern", letters)),
    };
    letters.chars().map(full).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    /// Whether each of five layers has an indexer.
    fn full(keys: Value) -> Result<Vec<bool>, LoadError> {
        let mut config = json!({"num_hidden_layers": 5});
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        full_layers(&ModelConfig::deserialize(&config).unwrap())
    }

    #[test]
    fn layers_share_by_list_by_pattern_or_by_rule() {
        let expected = [true, false, false, true, false];
        let types = json!(["full", "shared", "shared", "full", "shared"]);
        assert_eq!(full(json!({"indexer_types": types})).unwrap(), expected);
        assert_eq!(full(json!({"index_topk_pattern": types})).unwrap(), expected);
        assert_eq!(full(json!({"index_topk_pattern": "FSSFS"})).unwrap(), expected);
        assert_eq!(full(json!({"index_topk_freq": 3, "index_skip_topk_offset": 1})).unwrap(), expected);
        // The list counts, whatever else the file says.
        let both = json!({"indexer_types": types, "index_topk_pattern": "FFFFF", "index_topk_freq": 1});
        assert_eq!(full(both).unwrap(), expected);
        // By default the rule counts from the second layer, and the first one has its own.
        assert_eq!(full(json!({"index_topk_freq": 3})).unwrap(), [true, true, false, false, true]);
        assert_eq!(full(json!({})).unwrap(), [true; 5]);
        assert_eq!(full(json!({"index_topk_freq": 0, "index_topk_pattern": null})).unwrap(), [true; 5]);
    }

    #[test]
    fn what_layers_cannot_share_is_refused_by_its_key() {
        let refused = |keys: Value| full(keys).unwrap_err().to_string();
        assert!(refused(json!({"index_topk_pattern": "FSSF"})).contains("`index_topk_pattern` names 4 of 5 layers"));
        assert!(refused(json!({"index_topk_pattern": "SFFFF"})).contains("the first layer has no indexer"));
        assert!(refused(json!({"index_topk_pattern": "FFXFF"})).contains("index_topk_pattern` is `FFXFF"));
        assert!(refused(json!({"indexer_types": ["full", "none"]})).contains("indexer_types` is `none"));
    }
}
