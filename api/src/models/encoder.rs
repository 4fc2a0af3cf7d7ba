use super::{LoadFailure, read_tokenizer};
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::model::encoder::{EncoderBlueprint, EncoderTask};
use lmx_runtime::pooling::TextEncoder;
use lmx_runtime::runner::{Backend, Encoder, LoadProgress};
use std::sync::Arc;

/// An encoder in memory, without its actor.
pub struct LoadedEncoder {
    /// What turns texts into rows.
    pub text: TextEncoder,
    /// What turns rows into vectors.
    pub encoder: Encoder,
    /// What it is.
    pub blueprint: EncoderBlueprint,
}

impl LoadedEncoder {
    /// Reads a checkpoint that is for `task`. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`LoadFailure`]; nothing of the model is left then.
    pub fn read(
        checkpoint: &Checkpoint,
        task: EncoderTask,
        backend: &Backend,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, LoadFailure> {
        let blueprint = EncoderBlueprint::read(checkpoint, task)?;
        let tokenizer = read_tokenizer(checkpoint)?.ok_or(LoadFailure::MissingFile("tokenizer.json"))?;
        let answers = TextEncoder::answers(task, &tokenizer);
        let text = TextEncoder::read(checkpoint, &blueprint, Arc::new(tokenizer))?;
        let encoder = backend.load_encoder(checkpoint, &blueprint, answers, progress)?;
        Ok(Self { text, encoder, blueprint })
    }
}
