use lmx_runtime::checkpoint::{Checkpoint, Source};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One folder of `tests/fixtures`: a tiny checkpoint and the outputs of another implementation.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) model: PathBuf,
    pub(crate) prompts: BTreeMap<String, Prompt>,
    pub(crate) quantized: bool,
    /// Whether tokens choose among experts.
    pub(crate) routed: bool,
    /// Positions that an indexer chooses for each token.
    pub(crate) chosen: Option<usize>,
}

/// A prompt and its reference.
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    /// `[tokens, vocab]`.
    pub(crate) logits: Vec<f32>,
    /// The greedy continuation.
    pub(crate) greedy: Vec<u32>,
    /// `[steps, vocab]`; row `n` is what token `n` was taken from.
    pub(crate) greedy_logits: Vec<f32>,
}

/// The decoders among the fixtures of the repository, or of the folder that `LMX_FIXTURES` names.
pub(crate) fn all() -> Vec<Fixture> {
    folders().iter().filter(|path| inputs(path).get("prompts").is_some()).map(|path| Fixture::read(path)).collect()
}

/// All fixtures, sorted.
pub(crate) fn folders() -> Vec<PathBuf> {
    let folder = std::env::var_os("LMX_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures"), PathBuf::from);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("reference").is_dir())
        .collect();
    paths.sort();
    paths
}

/// What a fixture's model is to compute.
pub(crate) fn inputs(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path.join("reference/inputs.json")).unwrap()).unwrap()
}

/// A fixture of the repository by name.
pub(crate) fn named(name: &str) -> Fixture {
    Fixture::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name))
}

impl Fixture {
    pub(crate) fn read(path: &Path) -> Self {
        let json = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(path.join("reference").join(name)).unwrap()).unwrap()
        };
        let bytes = std::fs::read(path.join("reference/reference.safetensors")).unwrap();
        let reference = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: String| -> Vec<f32> {
            let tensor = reference.tensor(&name).unwrap();
            assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
            tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let ids = |name: String| -> Vec<u32> {
            let tensor = reference.tensor(&name).unwrap();
            let width = tensor.dtype().bitsize() / 8;
            tensor.data().chunks(width).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let meta = json("meta.json");
        let config: Value = serde_json::from_slice(&std::fs::read(path.join("model/config.json")).unwrap()).unwrap();
        let config = config.get("text_config").unwrap_or(&config);
        let has = |key: &str| meta.get(key).is_some_and(|value| !value.is_null());
        let prompts = inputs(path)["prompts"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, tokens)| {
                let prompt = Prompt {
                    ids: serde_json::from_value(tokens.clone()).unwrap(),
                    logits: floats(format!("logits.{name}")),
                    greedy: ids(format!("greedy_ids.{name}")),
                    greedy_logits: floats(format!("greedy_logits.{name}")),
                };
                (name.clone(), prompt)
            })
            .collect();
        Self {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            model: path.join("model"),
            prompts,
            routed: config.get("num_experts_per_tok").is_some(),
            chosen: config.get("index_topk").and_then(Value::as_u64).map(|count| count as usize),
            quantized: has("mlx_quant") || has("compressed_tensors"),
        }
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint::open(&Source::Folder(self.model.clone())).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}
