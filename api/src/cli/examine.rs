//! Looks at a model without loading it.

use crate::models::has_tokenizer;
use lmx_runtime::checkpoint::{Checkpoint, LoadError, MissingFile, Source};
use lmx_runtime::model::encoder::{EncoderBlueprint, EncoderTask};
use lmx_runtime::model::{Blueprint, ModelConfig, ModelFacts, WeightFacts};
use lmx_runtime::pooling::Advice;
use lmx_runtime::runner::Backend;

/// A model whose files are all there and agree with each other.
pub(super) struct Examined {
    pub(super) checkpoint: Checkpoint,
    pub(super) kind: Kind,
}

/// What a model does with a text.
pub(super) enum Kind {
    /// It continues it.
    Decoder(Box<Decoder>),
    /// It turns it into vectors or scores.
    Encoder(Box<Encoder>),
}

/// A model that continues texts.
pub(super) struct Decoder {
    pub(super) blueprint: Blueprint,
    pub(super) facts: ModelFacts,
}

/// A model for embedding or reranking.
pub(super) struct Encoder {
    pub(super) blueprint: EncoderBlueprint,
    pub(super) advice: Advice,
    pub(super) weights: WeightFacts,
}

/// Opens and checks a model. Reads no weights.
pub(super) fn examine(source: &Source) -> Result<Examined, LoadError> {
    let checkpoint = Checkpoint::open(source)?;
    let kind = match EncoderTask::of(&checkpoint) {
        None => {
            let blueprint = Blueprint::read(&checkpoint)?;
            let facts = ModelFacts::of(&blueprint);
            Kind::Decoder(Box::new(Decoder { blueprint, facts }))
        }
        Some(task) => {
            let blueprint = EncoderBlueprint::read(&checkpoint, task)?;
            let advice = Advice::read(&checkpoint, &blueprint)?;
            let weights = WeightFacts::of(blueprint.all_modules());
            Kind::Encoder(Box::new(Encoder { blueprint, advice, weights }))
        }
    };
    if !has_tokenizer(&checkpoint)? {
        return Err(LoadError::ModelIncomplete {
            model: checkpoint.id().to_owned(),
            missing: vec![MissingFile::absent("tokenizer.json")],
            hint: "without it the model can neither read nor write text".to_owned(),
        });
    }
    Ok(Examined { checkpoint, kind })
}

impl Examined {
    /// The family's name.
    pub(super) fn family(&self) -> &'static str {
        match &self.kind {
            Kind::Decoder(of) => of.facts.family,
            Kind::Encoder(of) => of.blueprint.family,
        }
    }

    /// What it is for, in one word.
    pub(super) fn task(&self) -> &'static str {
        match &self.kind {
            Kind::Decoder(_) => "generate",
            Kind::Encoder(of) => of.blueprint.task.name(),
        }
    }

    /// Its configuration.
    pub(super) fn config(&self) -> &ModelConfig {
        match &self.kind {
            Kind::Decoder(of) => &of.blueprint.config,
            Kind::Encoder(of) => &of.blueprint.config,
        }
    }

    /// How many weights it has, and how they are stored.
    pub(super) fn weights(&self) -> &WeightFacts {
        match &self.kind {
            Kind::Decoder(of) => &of.facts.weights,
            Kind::Encoder(of) => &of.weights,
        }
    }

    /// Bytes of all its weights on disk.
    pub(super) fn weights_bytes(&self) -> u64 {
        match &self.kind {
            Kind::Decoder(_) => self.checkpoint.weights_bytes(),
            Kind::Encoder(of) => of.blueprint.weights_bytes(&self.checkpoint),
        }
    }

    /// Bytes that the loaded weights will take.
    pub(super) fn memory_bytes(&self, backend: &Backend) -> u64 {
        match &self.kind {
            Kind::Decoder(of) => backend.weights_bytes(&of.blueprint),
            Kind::Encoder(of) => backend.encoder_bytes(&of.blueprint),
        }
    }

    /// Bytes of weights that stay in the file.
    pub(super) fn mapped_bytes(&self, backend: &Backend) -> u64 {
        match &self.kind {
            Kind::Decoder(of) => backend.mapped_bytes(&of.blueprint, &self.checkpoint),
            Kind::Encoder(of) => backend.encoder_mapped_bytes(&of.blueprint, &self.checkpoint),
        }
    }

    /// What computes it.
    pub(super) fn computed_by(&self, backend: &Backend) -> String {
        match &self.kind {
            Kind::Decoder(_) => backend.describe(),
            Kind::Encoder(_) => backend.describe_encoder(),
        }
    }

    /// What stands before the names of its tensors.
    pub(super) fn key_prefix(&self) -> &str {
        match &self.kind {
            Kind::Decoder(of) => &of.facts.key_prefix,
            Kind::Encoder(of) => of.blueprint.key_prefix(),
        }
    }

    /// Tensors that nothing asks for, and how many were skipped by rule.
    pub(super) fn leftovers(&self) -> (&[String], usize) {
        match &self.kind {
            Kind::Decoder(of) => (&of.blueprint.unexpected, of.blueprint.skipped),
            Kind::Encoder(of) => (&of.blueprint.unexpected, of.blueprint.skipped),
        }
    }

    /// How most matrices are stored, and whether others are stored otherwise.
    pub(super) fn quantization(&self) -> String {
        match &self.weights().storage[..] {
            [] => "none".to_owned(),
            [(only, _)] => only.clone(),
            [(most, _), ..] => format!("{most}, mixed"),
        }
    }
}
