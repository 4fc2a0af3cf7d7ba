use super::config::EncoderConfig;
use super::task::{EncoderTask, MODULES_FILE, PROJECTOR_FILE};
use crate::checkpoint::{Checkpoint, LoadError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Which rows of the last layer make the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's.
    First,
    /// The last token's.
    Last,
    /// The mean of all.
    Mean,
    /// The largest of each component.
    Max,
    /// Those of marked tokens, each for itself.
    Marks,
}

/// What happens to a pooled row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSpec {
    /// Which rows.
    pub pooling: Pooling,
    /// Products that follow.
    pub layers: Vec<HeadLayer>,
    /// Whether the result is divided by its length, which is not the executor's work.
    pub normalize: bool,
}

/// A product of the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadLayer {
    /// The file with its weights; `None`: they stand with all others.
    pub file: Option<String>,
    /// The module's path there; with others: below the prefix or not, whichever is there.
    pub path: String,
    /// What follows.
    pub activation: Activation,
}

/// What follows a product of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// The hyperbolic tangent.
    Tanh,
    /// What is negative becomes zero.
    Relu,
    /// `0.5 x (1 + erf(x / sqrt(2)))`.
    Gelu,
}

#[derive(Deserialize)]
struct ModuleEntry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct DenseConfig {
    activation_function: Option<String>,
}

const POOLING_PREFIX: &str = "pooling_mode_";

impl HeadSpec {
    /// The head of a checkpoint that is for `task`. `pooling`: that of models whose files do not say.
    pub(super) fn read(
        checkpoint: &Checkpoint,
        config: &EncoderConfig,
        task: EncoderTask,
        pooling: Pooling,
    ) -> Result<Self, LoadError> {
        match task {
            EncoderTask::Embed => embedding(checkpoint, pooling),
            EncoderTask::Score => classifier(checkpoint, config),
            EncoderTask::YesNo => Ok(Self { pooling: Pooling::Last, layers: Vec::new(), normalize: false }),
            EncoderTask::Listwise => Ok(projector(checkpoint)),
        }
    }
}

/// The modules of sentence-transformers behind the first one.
fn embedding(checkpoint: &Checkpoint, pooling: Pooling) -> Result<HeadSpec, LoadError> {
    let mut head = HeadSpec { pooling, layers: Vec::new(), normalize: true };
    let Some(entries) = read::<Vec<ModuleEntry>>(checkpoint, MODULES_FILE)? else { return Ok(head) };
    head.normalize = false;
    for ModuleEntry { path, kind } in entries {
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Pooling" => {
                if let Some(found) = read_pooling(checkpoint, &format!("{path}/config.json"))? {
                    head.pooling = found;
                }
            }
            "Dense" => head.layers.push(dense(checkpoint, &path, head.layers.len())?),
            "Normalize" => head.normalize = true,
            _ => return Err(LoadError::arch(format!("type in {MODULES_FILE}"), kind)),
        }
    }
    Ok(head)
}

fn read_pooling(checkpoint: &Checkpoint, name: &str) -> Result<Option<Pooling>, LoadError> {
    let Some(config) = read::<Map<String, Value>>(checkpoint, name)? else { return Ok(None) };
    if config.get("include_prompt") == Some(&Value::Bool(false)) {
        return Err(LoadError::arch(format!("include_prompt in {name}"), "false"));
    }
    // Newer files have one word in place of a switch for each way.
    if let Some(mode) = config.get("pooling_mode").and_then(Value::as_str) {
        return way(mode).map(Some).ok_or_else(|| LoadError::arch(format!("pooling_mode in {name}"), mode));
    }
    let on = config.iter().filter(|(_, value)| **value == Value::Bool(true));
    let ways: Vec<&str> = on.filter_map(|(key, _)| key.strip_prefix(POOLING_PREFIX)).collect();
    match ways[..] {
        [] => Ok(None),
        [one] => way(one).map(Some).ok_or_else(|| LoadError::arch(format!("{POOLING_PREFIX}{one} in {name}"), "true")),
        [..] => Err(LoadError::arch(format!("{POOLING_PREFIX}* in {name}"), ways.join(" and "))),
    }
}

fn way(word: &str) -> Option<Pooling> {
    match word {
        "cls_token" | "cls" => Some(Pooling::First),
        "lasttoken" => Some(Pooling::Last),
        "mean_tokens" | "mean" => Some(Pooling::Mean),
        "max_tokens" | "max" => Some(Pooling::Max),
        _ => None,
    }
}

/// A dense module: in its folder, or, where a converter has put all weights into one file, there by its number.
fn dense(checkpoint: &Checkpoint, folder: &str, number: usize) -> Result<HeadLayer, LoadError> {
    let name = format!("{folder}/config.json");
    let function = read::<DenseConfig>(checkpoint, &name)?.and_then(|config| config.activation_function);
    let activation = match function.as_deref().map(|path| path.rsplit('.').next().unwrap_or(path)) {
        None | Some("Identity") => Activation::Identity,
        Some("Tanh") => Activation::Tanh,
        Some("ReLU") => Activation::Relu,
        Some("GELU") => Activation::Gelu,
        Some(other) => return Err(LoadError::arch(format!("activation_function in {name}"), other)),
    };
    let weights = format!("{folder}/model.safetensors");
    Ok(match checkpoint.has_file(&weights) {
        true => HeadLayer { file: Some(weights), path: "linear".to_owned(), activation },
        false => HeadLayer { file: None, path: format!("dense.{number}"), activation },
    })
}

/// One score from the first token's row, or, of a decoder, from the last one's.
fn classifier(checkpoint: &Checkpoint, config: &EncoderConfig) -> Result<HeadSpec, LoadError> {
    if let Some(labels) = config.id2label.as_ref().map(Map::len).filter(|labels| *labels != 1) {
        return Err(LoadError::arch("id2label", format!("{labels} labels, where a reranker has one")));
    }
    let layer = |path: &str, activation| HeadLayer { file: None, path: path.to_owned(), activation };
    let (pooling, layers) = if checkpoint.get("score.weight").is_some() {
        (Pooling::Last, vec![layer("score", Activation::Identity)])
    } else if checkpoint.get("classifier.out_proj.weight").is_some() {
        let dense = layer("classifier.dense", Activation::Tanh);
        (Pooling::First, vec![dense, layer("classifier.out_proj", Activation::Identity)])
    } else {
        let dense = layer("pooler.dense", Activation::Tanh);
        (Pooling::First, vec![dense, layer("classifier", Activation::Identity)])
    };
    Ok(HeadSpec { pooling, layers, normalize: false })
}

/// The projector of Jina's reranker: its rows are compared by their directions.
fn projector(checkpoint: &Checkpoint) -> HeadSpec {
    let layer = |file: Option<&str>, path: &str, activation| HeadLayer {
        file: file.map(str::to_owned),
        path: path.to_owned(),
        activation,
    };
    let layers = if checkpoint.has_file(PROJECTOR_FILE) {
        let file = Some(PROJECTOR_FILE);
        vec![layer(file, "linear1", Activation::Relu), layer(file, "linear2", Activation::Identity)]
    } else {
        vec![layer(None, "projector.0", Activation::Relu), layer(None, "projector.2", Activation::Identity)]
    };
    HeadSpec { pooling: Pooling::Marks, layers, normalize: false }
}

fn read<T: DeserializeOwned>(checkpoint: &Checkpoint, name: &str) -> Result<Option<T>, LoadError> {
    let name = name.trim_start_matches('/');
    let Some(json) = checkpoint.file(name)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&json).map_err(|error| LoadError::invalid(name, error.to_string()))?;
    Ok(Some(parsed))
}
