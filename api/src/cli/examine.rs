//! Looks at a model without loading it.

use crate::models::has_tokenizer;
use lmx_runtime::checkpoint::{Checkpoint, LoadError, MissingFile, Source};
use lmx_runtime::model::{Blueprint, ModelFacts};
use lmx_runtime::runner::Backend;

/// A model whose files are all there and agree with each other.
pub(super) struct Examined {
    pub(super) checkpoint: Checkpoint,
    pub(super) blueprint: Blueprint,
    pub(super) facts: ModelFacts,
}

/// Opens and checks a model. Reads no weights.
pub(super) fn examine(source: &Source) -> Result<Examined, LoadError> {
    let checkpoint = Checkpoint::open(source)?;
    let blueprint = Blueprint::read(&checkpoint)?;
    if !has_tokenizer(&checkpoint)? {
        return Err(LoadError::ModelIncomplete {
            model: checkpoint.id().to_owned(),
            missing: vec![MissingFile::absent("tokenizer.json")],
            hint: "without it the model can neither read nor write text".to_owned(),
        });
    }
    let facts = ModelFacts::of(&blueprint);
    Ok(Examined { checkpoint, blueprint, facts })
}

impl Examined {
    /// Bytes that the loaded weights will take.
    pub(super) fn memory_bytes(&self, backend: &Backend) -> u64 {
        backend.weights_bytes(&self.blueprint)
    }

    /// How most matrices are stored, and whether others are stored otherwise.
    pub(super) fn quantization(&self) -> String {
        match &self.facts.storage[..] {
            [] => "none".to_owned(),
            [(only, _)] => only.clone(),
            [(most, _), ..] => format!("{most}, mixed"),
        }
    }
}
