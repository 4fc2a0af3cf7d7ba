use super::config::EncoderConfig;
use super::families::{self, Found};
use super::head::{HeadLayer, HeadSpec};
use super::names::EncoderNames;
use super::spec::{EncoderSpec, NormKind, NormOrder};
use super::task::EncoderTask;
use crate::checkpoint::{Checkpoint, LoadError};
use crate::model::config::ModelConfig;
use crate::model::keys::is_skipped;
use crate::model::module::{ModuleKind, Modules};
use crate::model::spec::QkNorm;
use crate::model::survey::{Leftovers, Survey};
use std::collections::BTreeMap;

/// An encoder's checkpoint, checked against its configuration: every tensor that it needs is there, in the shape it must
/// have. What an executor builds from.
#[derive(Debug)]
pub struct EncoderBlueprint {
    /// The family's name.
    pub family: &'static str,
    /// What it is for.
    pub task: EncoderTask,
    /// The layers.
    pub spec: EncoderSpec,
    /// What its modules are called.
    pub names: &'static EncoderNames,
    /// What happens to the last layer's rows.
    pub head: HeadSpec,
    /// Length of a result.
    pub width: usize,
    /// The configuration as it was read.
    pub config: ModelConfig,
    /// Tensors that nothing asks for and no rule explains, sorted.
    pub unexpected: Vec<String>,
    /// How many tensors were skipped by rule.
    pub skipped: usize,
    prefix: String,
    modules: Modules,
    /// Heads' weights that stand in files of their own, by file.
    beside: BTreeMap<String, (Checkpoint, Modules)>,
}

/// Where a product of the head finds its weights.
#[derive(Debug)]
pub struct HeadWeights<'a> {
    /// Its own checkpoint; `None`: that of the model.
    pub beside: Option<&'a Checkpoint>,
    /// The modules there.
    pub modules: &'a Modules,
    /// Its path there.
    pub path: String,
}

/// What may stand before the names of an encoder's tensors.
const PREFIXES: [&str; 6] = ["", "bert.", "roberta.", "model.", "encoder.", "0.auto_model."];

/// Tensors of encoders that embed nothing: buffers, heads of the training.
const OF_NO_USE: [&str; 6] =
    ["embeddings.position_ids", "embeddings.token_type_ids", "pooler.", "cls.", "lm_head.", "logit_scale"];

impl EncoderBlueprint {
    /// Reads and checks. Allocates nothing for weights.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedArch`], [`LoadError::UnsupportedQuantization`], [`LoadError::InvalidCheckpoint`] with
    /// the tensor.
    pub fn read(checkpoint: &Checkpoint, task: EncoderTask) -> Result<Self, LoadError> {
        let config = ModelConfig::read(checkpoint)?;
        let own = EncoderConfig::read(checkpoint.config())?;
        let Found { family, names, spec, pooling } = families::find(&config, &own)?;
        let head = HeadSpec::read(checkpoint, &own, task, pooling)?;
        let prefix = prefix(checkpoint, names)?;

        let mut survey = Survey::new(checkpoint, &config, spec.centred_norms);
        survey.encoder(&prefix, names, &spec)?;
        let mut files = BTreeMap::new();
        for file in head.layers.iter().filter_map(|layer| layer.file.as_ref()) {
            if let Some(found) = checkpoint.beside(file)? {
                files.insert(file.clone(), found);
            }
        }
        let mut surveys: BTreeMap<&String, Survey<'_>> =
            files.iter().map(|(file, found)| (file, Survey::new(found, &config, false))).collect();
        let mut width = spec.hidden;
        for layer in &head.layers {
            let (of, survey) = match &layer.file {
                None => (checkpoint, &mut survey),
                Some(file) => {
                    let missing = || LoadError::invalid(file.clone(), "the file is missing");
                    (files.get(file).ok_or_else(missing)?, surveys.get_mut(file).ok_or_else(missing)?)
                }
            };
            let path = head_path(of, &prefix, layer);
            let weight = of.tensor(&format!("{path}.weight"))?;
            let outputs = weight.shape.first().copied().unwrap_or(0);
            let bias = of.get(&format!("{path}.bias")).is_some();
            survey.matrix(path, ModuleKind::Linear, outputs, width, bias)?;
            width = outputs;
        }
        if task == EncoderTask::YesNo {
            width = 2;
            if let Some(path) = answers_path(checkpoint, &prefix, names, &config) {
                survey.matrix(path, ModuleKind::Linear, spec.vocab, spec.hidden, false)?;
            }
        }
        if task == EncoderTask::Score && width != 1 {
            return Err(LoadError::arch("num_labels", format!("{width}, where a reranker has one")));
        }

        let num_layers = spec.layers.len();
        let skips = |name: &str| {
            let inner = name.strip_prefix(prefix.as_str()).unwrap_or(name);
            is_skipped(name, &prefix, num_layers)
                || OF_NO_USE.iter().any(|of_no_use| inner.starts_with(of_no_use) || name.starts_with(of_no_use))
        };
        let (modules, Leftovers { unexpected, skipped }) = survey.finish(skips)?;
        let mut found = BTreeMap::new();
        for (file, survey) in surveys {
            found.insert(file.clone(), survey.finish(|_| false)?.0);
        }
        let beside = files.into_iter().filter_map(|(file, checkpoint)| {
            let modules = found.remove(&file)?;
            Some((file, (checkpoint, modules)))
        });
        let beside = beside.collect();
        Ok(Self { family, task, spec, names, head, width, config, unexpected, skipped, prefix, modules, beside })
    }

    /// What stands before the names of the tensors.
    pub fn key_prefix(&self) -> &str {
        &self.prefix
    }

    /// All modules that stand with the model's own weights.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// All modules of all files.
    pub fn all_modules(&self) -> impl Iterator<Item = &Modules> {
        std::iter::once(&self.modules).chain(self.beside.values().map(|(_, modules)| modules))
    }

    /// Bytes that the modules take from the checkpoint and the files beside it.
    pub fn stored_bytes(&self, checkpoint: &Checkpoint) -> u64 {
        let beside = self.beside.values().map(|(checkpoint, modules)| modules.stored_bytes(checkpoint)).sum::<u64>();
        self.modules.stored_bytes(checkpoint) + beside
    }

    /// Bytes of all tensors of the checkpoint and of the files beside it, whether they are asked for or not.
    pub fn weights_bytes(&self, checkpoint: &Checkpoint) -> u64 {
        checkpoint.weights_bytes() + self.beside.values().map(|(beside, _)| beside.weights_bytes()).sum::<u64>()
    }

    /// Path of a module by its name.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Path of the module `name` of layer `number`.
    pub fn layer_path(&self, number: usize, name: &str) -> String {
        layer_path(&self.prefix, self.names, number, name)
    }

    /// Where the products of the head find their weights.
    pub fn head_weights<'a>(&'a self, checkpoint: &'a Checkpoint) -> impl Iterator<Item = HeadWeights<'a>> {
        self.head.layers.iter().map(|layer| match layer.file.as_ref().and_then(|file| self.beside.get(file)) {
            Some((beside, modules)) => {
                HeadWeights { beside: Some(beside), modules, path: head_path(beside, &self.prefix, layer) }
            }
            None => {
                let path = head_path(checkpoint, &self.prefix, layer);
                HeadWeights { beside: None, modules: &self.modules, path }
            }
        })
    }

    /// Path of the matrix with a row for each token that may follow; `None`: it is the embedding.
    pub fn answers_path(&self, checkpoint: &Checkpoint) -> Option<String> {
        answers_path(checkpoint, &self.prefix, self.names, &self.config)
    }
}

fn layer_path(prefix: &str, names: &EncoderNames, number: usize, name: &str) -> String {
    format!("{prefix}{}{number}.{name}", names.layer)
}

/// A classifier stands beside the encoder, not in it.
fn head_path(checkpoint: &Checkpoint, prefix: &str, layer: &HeadLayer) -> String {
    let inner = format!("{prefix}{}", layer.path);
    match checkpoint.get(&format!("{inner}.weight")) {
        Some(_) => inner,
        None => layer.path.clone(),
    }
}

fn answers_path(checkpoint: &Checkpoint, prefix: &str, names: &EncoderNames, config: &ModelConfig) -> Option<String> {
    let own = ["lm_head".to_owned(), format!("{}lm_head", prefix.strip_suffix("model.").unwrap_or(prefix))];
    let own = own.into_iter().find(|path| checkpoint.get(&format!("{path}.weight")).is_some());
    let tied = config.tie_word_embeddings.unwrap_or(false) || names.embedding.is_empty();
    own.filter(|_| !tied)
}

fn prefix(checkpoint: &Checkpoint, names: &EncoderNames) -> Result<String, LoadError> {
    let weight = format!("{}.weight", names.embedding);
    let known = PREFIXES.into_iter().find(|prefix| checkpoint.get(&format!("{prefix}{weight}")).is_some());
    if let Some(prefix) = known {
        return Ok(prefix.to_owned());
    }
    let first = format!("{}0.", names.layer);
    let any = checkpoint.names().filter_map(|name| name.strip_suffix(&weight));
    let any = any.filter(|prefix| checkpoint.names().any(|name| name.starts_with(&format!("{prefix}{first}"))));
    let found = any.min_by_key(|prefix| prefix.len()).map(str::to_owned);
    found.ok_or_else(|| LoadError::invalid(weight, "no tensor's name ends like this"))
}

impl Survey<'_> {
    /// Everything before the head.
    fn encoder(&mut self, prefix: &str, names: &EncoderNames, spec: &EncoderSpec) -> Result<(), LoadError> {
        let (hidden, path) = (spec.hidden, |name: &str| format!("{prefix}{name}"));
        self.matrix(path(names.embedding), ModuleKind::Embedding, spec.vocab, hidden, false)?;
        if let Some(positions) = spec.input.positions {
            self.matrix(path(names.positions), ModuleKind::Embedding, positions.rows, hidden, false)?;
        }
        if spec.input.types > 0 {
            self.matrix(path(names.types), ModuleKind::Embedding, spec.input.types, hidden, false)?;
        }
        if spec.input.normed {
            self.any_norm(path(names.input_norm), hidden, spec)?;
        }
        for number in 0..spec.layers.len() {
            self.encoder_layer(|name| layer_path(prefix, names, number, name), names, spec)?;
        }
        match spec.last_norm {
            true => self.any_norm(path(names.last_norm), hidden, spec),
            false => Ok(()),
        }
    }

    fn encoder_layer(
        &mut self,
        path: impl Fn(&str) -> String,
        names: &EncoderNames,
        spec: &EncoderSpec,
    ) -> Result<(), LoadError> {
        let (hidden, of, mlp) = (spec.hidden, &spec.attention, &spec.mlp);
        let (queries, keys) = (of.query_width(), of.kv_width());
        let linear = ModuleKind::Linear;
        let [q, k, v, out] = names.attention.map(&path);
        for (path, outputs) in [(q, queries), (k, keys), (v, keys)] {
            self.matrix(path, linear, outputs, hidden, of.qkv_bias)?;
        }
        self.matrix(out, linear, hidden, queries, of.out_bias)?;
        let widths = match of.qk_norm {
            QkNorm::None => None,
            QkNorm::Heads => Some([of.head_dim; 2]),
            QkNorm::Whole => Some([queries, keys]),
        };
        for (name, width) in names.qk_norms.iter().zip(widths.into_iter().flatten()) {
            self.norm(path(name), width)?;
        }
        let (before, behind) = match spec.order {
            NormOrder::Behind => (false, true),
            NormOrder::Before => (true, false),
            NormOrder::Both => (true, true),
        };
        for [first, second] in [names.attention_norms, names.mlp_norms] {
            for (name, _) in [(first, before), (second, behind)].into_iter().filter(|(_, there)| *there) {
                self.any_norm(path(name), hidden, spec)?;
            }
        }
        let [gate, up, down] = names.mlp.map(&path);
        if mlp.activation.is_gated() {
            self.matrix(gate, linear, mlp.inner, hidden, mlp.bias)?;
        }
        self.matrix(up, linear, mlp.inner, hidden, mlp.bias)?;
        self.matrix(down, linear, hidden, mlp.inner, mlp.bias)
    }

    fn any_norm(&mut self, path: String, width: usize, spec: &EncoderSpec) -> Result<(), LoadError> {
        match spec.norm {
            NormKind::Layer => self.layer_norm(path, width),
            NormKind::Rms => self.norm(path, width),
        }
    }
}
