use super::config::ModelConfig;
use super::family::Family;
use super::keys::{Keys, is_skipped};
use super::module::{ACTIVATION_SCALE, Module, ModuleKind, Storage};
use super::spec::{DecoderSpec, RoutedSpec};
use super::survey::{GATE_AND_UP, PROJECTIONS, Survey, stacked};
use crate::checkpoint::{Checkpoint, LoadError};
use std::collections::BTreeMap;

/// A checkpoint checked against its configuration: every tensor that the model needs is there, in the shape it must
/// have. What an executor builds from.
#[derive(Debug)]
pub struct Blueprint {
    /// The family.
    pub family: &'static Family,
    /// The layers.
    pub spec: DecoderSpec,
    /// The configuration as it was read.
    pub config: ModelConfig,
    /// Tensors that no layer asks for and no rule explains, sorted: a sign that the model is not quite of this family.
    pub unexpected: Vec<String>,
    /// How many tensors were skipped by rule: rotary buffers, other towers, extra prediction layers.
    pub skipped: usize,
    keys: Keys,
    modules: BTreeMap<String, Module>,
}

impl Blueprint {
    /// Reads and checks. Allocates nothing for weights.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedArch`], [`LoadError::UnsupportedQuantization`], [`LoadError::InvalidCheckpoint`] with
    /// the tensor.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, LoadError> {
        let config = ModelConfig::read(checkpoint)?;
        let family = Family::of(&config)?;
        let spec = (family.spec)(&config)?;
        let keys = Keys::detect(checkpoint)?;

        let mut survey = Survey::new(checkpoint, &config, &spec);
        survey.matrix(keys.path("embed_tokens"), ModuleKind::Embedding, spec.vocab, spec.hidden, false)?;
        for (number, layer) in spec.layers.iter().enumerate() {
            survey.layer(&keys.path(&format!("layers.{number}")), &spec, layer)?;
        }
        survey.norm(keys.path("norm"), spec.hidden)?;
        match (&keys.head, spec.tied) {
            // A head beside tied embeddings is a leftover of a conversion: the embedding is what counts.
            (_, true) => {}
            (Some(head), false) => {
                survey.matrix(head.clone(), ModuleKind::Linear, spec.vocab, spec.hidden, false)?;
            }
            (None, false) => {
                let reason = "the checkpoint has no head, and config.json does not tie it to the embedding";
                return Err(LoadError::invalid("lm_head.weight", reason));
            }
        }

        let Survey { modules, used, .. } = survey;
        let (mut unexpected, mut skipped) = (Vec::new(), 0);
        for name in checkpoint.names().filter(|name| !used.contains(*name)) {
            let tied_head = spec.tied && keys.head.as_deref().is_some_and(|head| name.starts_with(head));
            let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
            let beside = modules.get(path).map(|module| module.storage);
            let activations = matches!(beside, Some(Storage::Float8(_))) && last == ACTIVATION_SCALE;
            if tied_head || activations || is_skipped(name, &keys.prefix, spec.layers.len()) {
                skipped += 1;
                continue;
            }
            match beside {
                // Whatever it is, the module's weights are not what they would be taken for without it.
                Some(storage) if !matches!(storage, Storage::Dense(_)) => {
                    return Err(LoadError::quantization(name, "a tensor of which this program knows nothing"));
                }
                _ => unexpected.push(name.to_owned()),
            }
        }
        Ok(Self { family, spec, config, unexpected, skipped, keys, modules })
    }

    /// What stands before the names of the language model's tensors.
    pub fn key_prefix(&self) -> &str {
        &self.keys.prefix
    }

    /// All modules by path, without `.weight`.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.modules.iter().map(|(path, module)| (path.as_str(), module))
    }

    /// Bytes of `checkpoint` that the modules take from it.
    pub fn stored_bytes(&self, checkpoint: &Checkpoint) -> u64 {
        let bytes = |name: &str| checkpoint.get(name).map_or(0, |tensor| tensor.data.len() as u64);
        let module = |(path, module): (&String, &Module)| match module.kind {
            ModuleKind::Vector => bytes(path),
            ModuleKind::Embedding | ModuleKind::Linear | ModuleKind::Norm | ModuleKind::CentredNorm => {
                let bias = if module.bias { bytes(&format!("{path}.bias")) } else { 0 };
                bias + module.weight_bytes(checkpoint, path)
            }
        };
        self.modules.iter().map(module).sum()
    }

    /// Path of the module `name` of layer `number`.
    pub fn layer_path(&self, number: usize, name: &str) -> String {
        self.keys.path(&format!("layers.{number}.{name}"))
    }

    /// Path of the embedding.
    pub fn embedding_path(&self) -> String {
        self.keys.path("embed_tokens")
    }

    /// Path of the last norm.
    pub fn norm_path(&self) -> String {
        self.keys.path("norm")
    }

    /// Path of the head; `None` if it is the embedding.
    pub fn head_path(&self) -> Option<&str> {
        self.keys.head.as_deref().filter(|_| !self.spec.tied)
    }

    /// Where the gate, up and down projections of an expert are: the path of a module, and which part of it.
    pub fn expert_paths(&self, layer: usize, of: &RoutedSpec, expert: usize) -> [(String, usize); 3] {
        let block = self.layer_path(layer, of.names.block);
        if self.modules.contains_key(&stacked(&block, PROJECTIONS[0])) {
            return PROJECTIONS.map(|name| (stacked(&block, name), expert));
        }
        of.names.expert.map(|name| (format!("{block}.experts.{expert}.{name}"), 0))
    }

    /// What is added to the stored factors of a norm.
    pub fn norm_offset(&self, path: &str) -> f32 {
        match self.modules.get(path) {
            Some(Module { kind: ModuleKind::CentredNorm, .. }) => 1.0,
            _ => 0.0,
        }
    }

    /// Where gate and up of the MLP at `path` are, if they are one matrix: the gate's rows, then as many of the other.
    pub fn gate_and_up_path(&self, path: &str) -> Option<String> {
        Some(format!("{path}.{GATE_AND_UP}")).filter(|path| self.has(path))
    }

    /// Whether the model has a module at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.modules.contains_key(path)
    }

    /// The module at `path`.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the model has none there.
    pub fn module(&self, path: &str) -> Result<&Module, LoadError> {
        self.modules.get(path).ok_or_else(|| LoadError::invalid(path, "the model has no module of this name"))
    }
}
