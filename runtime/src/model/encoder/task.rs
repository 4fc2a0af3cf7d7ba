use crate::checkpoint::Checkpoint;
use serde_json::Value;

/// What an encoder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderTask {
    /// Vectors of texts.
    Embed,
    /// A score of a query and a document, which are read together.
    Score,
    /// The same, as the probability of a `yes` behind a prompt that asks.
    YesNo,
    /// Scores of all documents of a query, which are read together.
    Listwise,
}

/// Weights that Jina's reranker has in a file of their own where a converter wrote it.
pub(super) const PROJECTOR_FILE: &str = "projector.safetensors";
/// The first of them where it has none.
pub(super) const PROJECTOR_WEIGHT: &str = "projector.0.weight";
/// What makes a model of sentence-transformers out of a checkpoint.
pub(super) const MODULES_FILE: &str = "modules.json";

impl EncoderTask {
    /// What a checkpoint is for; `None`: for continuing texts, or it is of no known kind.
    ///
    /// Decoders are used as encoders too. What tells one is, in this order: the class that the configuration names,
    /// weights that only a reranker has, `modules.json`, and the last part of the model's name: converters drop the
    /// other signs.
    pub fn of(checkpoint: &Checkpoint) -> Option<Self> {
        let config = checkpoint.config();
        let classes = config["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let class = classes.map(str::to_owned).next().unwrap_or_default();
        if class == "JinaForRanking"
            || checkpoint.get(PROJECTOR_WEIGHT).is_some()
            || checkpoint.has_file(PROJECTOR_FILE)
        {
            return Some(Self::Listwise);
        }
        if class.ends_with("ForSequenceClassification") {
            return Some(Self::Score);
        }
        if checkpoint.has_file(MODULES_FILE) {
            return Some(Self::Embed);
        }
        match config["model_type"].as_str() {
            Some("bert" | "roberta" | "xlm-roberta") => return Some(Self::Embed),
            Some("gemma3_text") if config["use_bidirectional_attention"] == true => return Some(Self::Embed),
            _ => {}
        }
        let name = checkpoint.id().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_lowercase();
        match () {
            () if name.contains("reranker") => Some(Self::YesNo),
            () if name.contains("embedding") => Some(Self::Embed),
            () => None,
        }
    }

    /// Its name, as it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Score | Self::YesNo | Self::Listwise => "rerank",
        }
    }
}
