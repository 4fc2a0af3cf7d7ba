use crate::models::{read_template, read_tokenizer};
use crate::presets::Formats;
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::text::{Conventions, SpecialToken};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a model's tokenizer and chat templates say.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) eos_tokens: Vec<Token>,
    /// By their role.
    pub(super) special_tokens: BTreeMap<&'static str, Token>,
    pub(super) chat_templates: Vec<String>,
    /// How calls of tools and reasoning are read.
    pub(super) parsers: Option<(&'static str, &'static str)>,
    /// Files that cannot be used.
    pub(super) problems: Vec<String>,
}

/// A token by id and text, as far as they are known.
#[derive(Debug, Serialize)]
pub(super) struct Token {
    pub(super) id: Option<u32>,
    pub(super) text: Option<String>,
}

impl Text {
    /// Reads them; what cannot be read becomes a problem.
    pub(super) fn read(checkpoint: &Checkpoint, eos_ids: &[u32], formats: Formats) -> Self {
        let mut text = Self::default();
        let tokenizer = read_tokenizer(checkpoint).unwrap_or_else(|problem| {
            text.problems.push(problem.to_string());
            None
        });
        let template = read_template(checkpoint, None).unwrap_or_else(|problem| {
            text.problems.push(problem.to_string());
            None
        });
        text.chat_templates.extend(template.iter().flat_map(|all| all.names().to_vec()));
        text.parsers = tokenizer
            .as_ref()
            .map(|tokenizer| Conventions::of(template.as_ref(), tokenizer, formats.tools, formats.reasoning).names());
        let name = |&id: &u32| Token { id: Some(id), text: tokenizer.as_ref().and_then(|known| known.id_to_token(id)) };
        text.eos_tokens = eos_ids.iter().map(name).collect();
        if let Some(tokenizer) = &tokenizer {
            let special = tokenizer.special();
            let roles = [("bos", &special.bos), ("eos", &special.eos), ("pad", &special.pad), ("unk", &special.unk)];
            text.special_tokens =
                roles.into_iter().filter_map(|(role, token)| Some((role, token.as_ref()?.into()))).collect();
        }
        text
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
