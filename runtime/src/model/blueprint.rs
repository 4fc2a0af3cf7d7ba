use super::config::ModelConfig;
use super::family::Family;
use super::keys::{Keys, is_skipped};
use super::module::{ModuleKind, Modules};
use super::spec::{DecoderSpec, RoutedSpec};
use super::survey::{GATE_AND_UP, Leftovers, PROJECTIONS, Survey, stacked};
use crate::checkpoint::{Checkpoint, LoadError};

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
    modules: Modules,
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

        let mut survey = Survey::new(checkpoint, &config, spec.centred_norms);
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

        let tied_head = keys.head.as_deref().filter(|_| spec.tied);
        let skips = |name: &str| {
            tied_head.is_some_and(|head| name.starts_with(head)) || is_skipped(name, &keys.prefix, spec.layers.len())
        };
        let (modules, Leftovers { unexpected, skipped }) = survey.finish(skips)?;
        Ok(Self { family, spec, config, unexpected, skipped, keys, modules })
    }

    /// What stands before the names of the language model's tensors.
    pub fn key_prefix(&self) -> &str {
        &self.keys.prefix
    }

    /// All modules.
    pub fn modules(&self) -> &Modules {
        &self.modules
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
        if self.modules.has(&stacked(&block, PROJECTIONS[0])) {
            return PROJECTIONS.map(|name| (stacked(&block, name), expert));
        }
        of.names.expert.map(|name| (format!("{block}.experts.{expert}.{name}"), 0))
    }

    /// Where gate and up of the MLP at `path` are, if they are one matrix: the gate's rows, then as many of the other.
    pub fn gate_and_up_path(&self, path: &str) -> Option<String> {
        Some(format!("{path}.{GATE_AND_UP}")).filter(|path| self.modules.has(path))
    }
}
