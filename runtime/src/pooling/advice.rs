use super::error::PoolingError;
use crate::checkpoint::{Checkpoint, LoadError};
use crate::model::encoder::EncoderBlueprint;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// How a model wants its texts, as its files say.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// Most tokens of a text, special ones included.
    pub max_tokens: usize,
    /// Whether texts are put into lower case before they are tokenised.
    pub lower_case: bool,
    /// What is put before a text, by name.
    pub prompts: BTreeMap<String, String>,
    /// The one that is used where none is named.
    pub default_prompt: Option<String>,
    /// Which shorter vectors there are.
    pub dimensions: Dimensions,
}

/// Which shorter vectors a model has been trained for: beginnings of the whole one.
///
/// Source: Kusupati et al., "Matryoshka Representation Learning", 2022.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimensions {
    /// None.
    Whole,
    /// Those of these lengths.
    Listed(Vec<usize>),
    /// All from this length on.
    From(usize),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PromptConfig {
    prompts: BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

/// A `model_max_length` beyond this is a library's way of saying that nobody has set it.
const NO_LENGTH: f64 = 1e8;
/// Tokens of a text where a decoder's files do not say: its own context is for other work, and memory grows with it.
const DECODER_TOKENS: usize = 8192;
/// The shortest vectors of Qwen3-Embedding.
const QWEN_LEAST: usize = 32;
/// The lengths of EmbeddingGemma's vectors, as parts of the whole one.
const GEMMA_PARTS: [usize; 3] = [6, 3, 2];

impl Advice {
    /// Reads `sentence_bert_config.json`, `config_sentence_transformers.json`, `tokenizer_config.json` and
    /// `matryoshka_dimensions` of `config.json`, as far as they are there.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] with the file that is none of the kind.
    pub fn read(checkpoint: &Checkpoint, blueprint: &EncoderBlueprint) -> Result<Self, LoadError> {
        let sentence: SentenceConfig = read(checkpoint, "sentence_bert_config.json")?;
        let PromptConfig { prompts, default_prompt_name } = read(checkpoint, "config_sentence_transformers.json")?;
        let tokenizer: TokenizerConfig = read(checkpoint, "tokenizer_config.json")?;
        let positions = blueprint.spec.max_tokens;
        let own = tokenizer.model_max_length.filter(|max| (1.0..NO_LENGTH).contains(max)).map(|max| max as usize);
        let otherwise =
            if blueprint.spec.attention.causal { own.unwrap_or(DECODER_TOKENS) } else { own.unwrap_or(positions) };
        let default_prompt = default_prompt_name.and_then(|name| prompts.get(&name).cloned());
        Ok(Self {
            max_tokens: sentence.max_seq_length.unwrap_or(otherwise).min(positions),
            lower_case: sentence.do_lower_case,
            prompts,
            default_prompt,
            dimensions: Dimensions::of(checkpoint.config(), blueprint),
        })
    }

    /// The prompt of a name.
    ///
    /// # Errors
    /// [`PoolingError::NoPrompt`].
    pub fn prompt(&self, name: &str) -> Result<&str, PoolingError> {
        let known = || self.prompts.keys().cloned().collect();
        let found = self.prompts.get(name).map(String::as_str);
        found.ok_or_else(|| PoolingError::NoPrompt { asked: name.to_owned(), known: known() })
    }
}

impl Dimensions {
    fn of(config: &Value, blueprint: &EncoderBlueprint) -> Self {
        let listed = config["matryoshka_dimensions"].as_array();
        let listed = listed.map(|list| list.iter().filter_map(|n| n.as_u64()?.try_into().ok()).collect::<Vec<_>>());
        match (listed, blueprint.family) {
            (Some(listed), _) if !listed.is_empty() => Self::Listed(listed),
            (_, "qwen3") => Self::From(QWEN_LEAST.min(blueprint.width)),
            (_, "gemma3") => Self::Listed(GEMMA_PARTS.map(|part| blueprint.width / part).to_vec()),
            _ => Self::Whole,
        }
    }

    /// The length that a vector of `width` is cut to.
    ///
    /// # Errors
    /// [`PoolingError::Dimensions`] for one that the model has not been trained for.
    pub fn check(&self, asked: Option<usize>, width: usize) -> Result<usize, PoolingError> {
        let Some(asked) = asked else { return Ok(width) };
        let allowed = match self {
            Self::Whole => asked == width,
            Self::Listed(listed) => asked == width || (asked < width && listed.contains(&asked)),
            Self::From(least) => (*least..=width).contains(&asked),
        };
        if allowed {
            return Ok(asked);
        }
        let allowed = match self {
            Self::Whole => format!("the model has {width} only"),
            Self::Listed(listed) => {
                let listed = listed.iter().chain([&width]).map(usize::to_string).collect::<Vec<_>>();
                format!("the model has {}", listed.join(", "))
            }
            Self::From(least) => format!("the model has {least} to {width}"),
        };
        Err(PoolingError::Dimensions { asked, allowed })
    }
}

fn read<T: DeserializeOwned + Default>(checkpoint: &Checkpoint, name: &str) -> Result<T, LoadError> {
    let Some(json) = checkpoint.file(name)? else { return Ok(T::default()) };
    serde_json::from_slice(&json).map_err(|error| LoadError::invalid(name, error.to_string()))
}
