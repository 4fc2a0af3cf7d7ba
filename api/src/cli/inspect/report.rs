use super::super::examine::{Examined, Kind};
use super::decoder::DecoderReport;
use super::encoder::EncoderReport;
use super::text::{Text, Token};
use super::weights::Weights;
use crate::presets::Formats;
use lmx_runtime::config::{InvalidSetting, KvFormat};
use lmx_runtime::runner::Backend;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that can be told of a model before it is loaded.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    id: String,
    path: Option<PathBuf>,
    pub(super) outcome: &'static str,
    pub(super) family: &'static str,
    /// What the model is for.
    task: &'static str,
    #[serde(flatten)]
    shape: Shape,
    special_tokens: BTreeMap<&'static str, Token>,
    #[serde(flatten)]
    weights: Weights,
    /// What keeps the model from being served although its weights are sound.
    pub(super) problems: Vec<String>,
}

/// What is told of one kind of models only.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Shape {
    Decoder(Box<DecoderReport>),
    Encoder(Box<EncoderReport>),
}

/// A fact: its name, and what is so.
pub(super) type Line = (&'static str, String);

impl Report {
    /// `id`: the name that the model was asked for by.
    pub(super) fn new(
        id: &str,
        model: &Examined,
        backend: &Backend,
        kv: &KvFormat,
        formats: Formats,
    ) -> Result<Self, InvalidSetting> {
        let checkpoint = &model.checkpoint;
        let mut text = Text::read(checkpoint);
        let shape = match &model.kind {
            Kind::Decoder(of) => {
                let kv = backend.kv_shape(&of.blueprint, kv)?;
                Shape::Decoder(Box::new(DecoderReport::new(of, kv, text.chat(checkpoint, &of.facts.eos_ids, formats))))
            }
            Kind::Encoder(of) => {
                text.check_encoder(checkpoint, &of.blueprint);
                Shape::Encoder(Box::new(EncoderReport::new(of, checkpoint)))
            }
        };
        Ok(Self {
            id: id.to_owned(),
            path: checkpoint.path().map(ToOwned::to_owned),
            outcome: if text.problems.is_empty() { "loadable" } else { "invalid_checkpoint" },
            family: model.family(),
            task: model.task(),
            shape,
            special_tokens: text.special_tokens(),
            weights: Weights::new(model, backend),
            problems: text.problems,
        })
    }

    /// One line per fact.
    pub(super) fn to_text(&self) -> String {
        let folder =
            self.path.as_ref().map_or_else(|| "inside the program".to_owned(), |path| path.display().to_string());
        let specials = self.special_tokens.iter().map(|(role, token)| format!("{role} {token}"));
        let mut lines = vec![("model", self.id.clone()), ("folder", folder), ("family", self.family.to_owned())];
        lines.extend(match &self.shape {
            Shape::Decoder(of) => of.lines(),
            Shape::Encoder(of) => of.lines(self.task),
        });
        lines.push(("special tokens", list(specials)));
        lines.extend(self.weights.lines());
        lines.extend(self.problems.iter().map(|problem| ("problem", problem.clone())));
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        lines.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
    }
}

/// The first few of a list, and how many more there are.
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let items: Vec<String> = items.collect();
    match items.len() {
        0 => "none".to_owned(),
        n if n <= SHOWN => items.join(", "),
        n => format!("{} and {} more", items[..SHOWN].join(", "), n - SHOWN),
    }
}

/// What attention is called, its heads, and how many of them share keys.
pub(super) fn attention(kind: &str, heads: usize, kv_heads: usize, head_dim: usize) -> String {
    match heads / kv_heads.max(1) {
        1 => format!("{kind}, {heads} heads of {head_dim}"),
        group => format!("{kind}, {heads} heads of {head_dim}, {group} per key head"),
    }
}
