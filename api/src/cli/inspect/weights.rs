use super::super::examine::Examined;
use super::super::units;
use super::report::{Line, list};
use lmx_runtime::runner::Backend;
use serde::Serialize;

/// A model's weights: how many there are, how they are stored, what they take.
#[derive(Debug, Serialize)]
pub(super) struct Weights {
    parameters: u64,
    key_prefix: String,
    /// How many matrices are stored how, most frequent first.
    storage: Vec<Stored>,
    quantization: Option<String>,
    /// Modules that `config.json` or the shapes set apart from `quantization`.
    exceptions: usize,
    weights_bytes: u64,
    /// What computes here.
    backend: String,
    /// What the loaded weights take there, KV memory apart.
    memory_bytes: u64,
    /// What stays in the file, and in memory only as long as the system has room.
    mapped_bytes: u64,
    unexpected_tensors: Vec<String>,
    skipped_tensors: usize,
}

/// Matrices that are stored alike.
#[derive(Debug, Serialize)]
struct Stored {
    storage: String,
    matrices: usize,
}

impl Weights {
    pub(super) fn new(model: &Examined, backend: &Backend) -> Self {
        let facts = model.weights();
        let quantization = model.config().quantization.global().map(|global| global.to_string());
        let differs = |storage: &String| quantization.as_ref().is_some_and(|global| storage != global);
        let exceptions = facts.storage.iter().filter(|(storage, _)| differs(storage));
        let stored = |(storage, matrices): &(String, usize)| Stored { storage: storage.clone(), matrices: *matrices };
        let (unexpected, skipped) = model.leftovers();
        Self {
            parameters: facts.parameters,
            key_prefix: model.key_prefix().to_owned(),
            storage: facts.storage.iter().map(stored).collect(),
            exceptions: exceptions.map(|(_, matrices)| matrices).sum(),
            quantization,
            weights_bytes: model.weights_bytes(),
            backend: model.computed_by(backend),
            memory_bytes: model.memory_bytes(backend),
            mapped_bytes: model.mapped_bytes(backend),
            unexpected_tensors: unexpected.to_vec(),
            skipped_tensors: skipped,
        }
    }

    /// One line per fact.
    pub(super) fn lines(&self) -> Vec<Line> {
        let storage = self.storage.iter().map(|stored| format!("{} x {}", stored.matrices, stored.storage));
        let quantization = match &self.quantization {
            None => "none".to_owned(),
            Some(global) if self.exceptions == 0 => global.clone(),
            Some(global) => format!("{global}; {} matrices differ", self.exceptions),
        };
        let prefix = if self.key_prefix.is_empty() { "none" } else { &self.key_prefix };
        let mapped = match self.mapped_bytes {
            0 => String::new(),
            bytes => format!("; {} stay in the file", units::bytes(bytes)),
        };
        vec![
            ("parameters", units::count(self.parameters)),
            ("key prefix", prefix.to_owned()),
            ("quantisation", quantization),
            ("matrices", list(storage)),
            ("weights", format!("{} on disk", units::bytes(self.weights_bytes))),
            ("memory", format!("{} with {}{mapped}", units::bytes(self.memory_bytes), self.backend)),
            ("skipped tensors", self.skipped_tensors.to_string()),
            ("unknown tensors", list(self.unexpected_tensors.iter().cloned())),
        ]
    }
}
