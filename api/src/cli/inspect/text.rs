use crate::models::{read_template, read_tokenizer};
use crate::presets::Formats;
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::model::encoder::{EncoderBlueprint, EncoderTask};
use lmx_runtime::pooling::TextEncoder;
use lmx_runtime::text::{Conventions, SpecialToken, Tokenizer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a model's tokenizer says.
pub(super) struct Text {
    tokenizer: Option<Arc<Tokenizer>>,
    /// Files that cannot be used.
    pub(super) problems: Vec<String>,
}

/// What a chat model's tokenizer and templates say.
pub(super) struct Chat {
    pub(super) eos_tokens: Vec<Token>,
    pub(super) chat_templates: Vec<String>,
    /// How calls of tools and reasoning are read.
    pub(super) parsers: Option<(&'static str, &'static str)>,
}

/// A token by id and text, as far as they are known.
#[derive(Debug, Serialize)]
pub(super) struct Token {
    pub(super) id: Option<u32>,
    pub(super) text: Option<String>,
}

impl Text {
    /// Reads it; what cannot be read becomes a problem, here and below.
    pub(super) fn read(checkpoint: &Checkpoint) -> Self {
        match read_tokenizer(checkpoint) {
            Ok(tokenizer) => Self { tokenizer: tokenizer.map(Arc::new), problems: Vec::new() },
            Err(problem) => Self { tokenizer: None, problems: vec![problem.to_string()] },
        }
    }

    /// Special tokens by their role.
    pub(super) fn special_tokens(&self) -> BTreeMap<&'static str, Token> {
        let Some(tokenizer) = &self.tokenizer else { return BTreeMap::new() };
        let special = tokenizer.special();
        let roles = [("bos", &special.bos), ("eos", &special.eos), ("pad", &special.pad), ("unk", &special.unk)];
        roles.into_iter().filter_map(|(role, token)| Some((role, token.as_ref()?.into()))).collect()
    }

    /// Reads what only chat models have.
    pub(super) fn chat(&mut self, checkpoint: &Checkpoint, eos_ids: &[u32], formats: Formats) -> Chat {
        let template = read_template(checkpoint, None).unwrap_or_else(|problem| {
            self.problems.push(problem.to_string());
            None
        });
        let tokenizer = self.tokenizer.as_ref();
        let parsers = tokenizer
            .map(|tokenizer| Conventions::of(template.as_ref(), tokenizer, formats.tools, formats.reasoning).names());
        let name = |&id: &u32| Token { id: Some(id), text: tokenizer.and_then(|known| known.id_to_token(id)) };
        Chat {
            eos_tokens: eos_ids.iter().map(name).collect(),
            chat_templates: template.iter().flat_map(|all| all.names().to_vec()).collect(),
            parsers,
        }
    }

    /// Finds out whether an encoder's tokenizer has the tokens that its way of scoring needs.
    pub(super) fn check_encoder(&mut self, checkpoint: &Checkpoint, blueprint: &EncoderBlueprint) {
        let Some(tokenizer) = &self.tokenizer else { return };
        if blueprint.task == EncoderTask::YesNo && TextEncoder::answers(blueprint.task, tokenizer).is_none() {
            self.problems.push("tokenizer.json has no tokens `yes` and `no`".to_owned());
        }
        if let Err(problem) = TextEncoder::read(checkpoint, blueprint, tokenizer.clone()) {
            self.problems.push(problem.to_string());
        }
    }
}

impl From<&SpecialToken> for Token {
    fn from(token: &SpecialToken) -> Self {
        Self { id: token.id, text: Some(token.text.clone()) }
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.text, self.id) {
            (Some(text), Some(id)) => write!(f, "{text} ({id})"),
            (Some(text), None) => write!(f, "{text} (not in the vocabulary)"),
            (None, Some(id)) => write!(f, "{id} (without text)"),
            (None, None) => f.write_str("unknown"),
        }
    }
}
