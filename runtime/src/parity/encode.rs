//! The same for encoders: texts, pairs and lists in, vectors and scores out.

use super::error::ParityError;
use super::output::{Tensor, floats};
use crate::pooling::{Cut, Documents, Encoded, PoolingError, Purpose, Side, TextEncoder};
use crate::runner::{Encode, EncodeRow};
use safetensors::Dtype;
use serde::Deserialize;

/// What an encoder is to compute, as `inputs.json` of a fixture says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncoderInputs {
    /// Texts to be embedded, prompts included.
    Texts(Vec<String>),
    /// Queries and documents to be scored.
    Pairs(Vec<Pair>),
    /// Queries with all their documents.
    Cases(Vec<Case>),
}

/// A query and a document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pair {
    query: String,
    document: String,
}

/// A query and its documents.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Case {
    query: String,
    documents: Vec<String>,
    #[serde(default)]
    instruction: Option<String>,
}

#[derive(Deserialize)]
struct File {
    texts: Option<Vec<String>>,
    pairs: Option<Vec<Pair>>,
    cases: Option<Vec<Case>>,
}

impl EncoderInputs {
    /// Reads `inputs.json`.
    ///
    /// # Errors
    /// [`ParityError::Inputs`] for anything but one of the three.
    pub fn from_json(json: &[u8]) -> Result<Self, ParityError> {
        let file: File = serde_json::from_slice(json).map_err(|error| ParityError::Inputs(error.to_string()))?;
        match (file.texts, file.pairs, file.cases) {
            (Some(texts), None, None) => Ok(Self::Texts(texts)),
            (None, Some(pairs), None) => Ok(Self::Pairs(pairs)),
            (None, None, Some(cases)) => Ok(Self::Cases(cases)),
            _ => Err(ParityError::Inputs("this model reads `texts`, `pairs` or `cases`, one of them".to_owned())),
        }
    }

    /// Computes them, one after the other or all in one batch, and gives what is to be written. What is too long is cut.
    ///
    /// # Errors
    /// [`ParityError`]; nothing is skipped.
    pub fn run(&self, of: &TextEncoder, encode: &mut dyn Encode, batch: bool) -> Result<Vec<Tensor>, ParityError> {
        let cut = Cut::To { tokens: None, side: Side::Right };
        match self {
            Self::Texts(texts) => {
                let row = |text: &String| of.text(text, Purpose::Bare, cut);
                let rows = texts.iter().map(row).collect::<Result<Vec<_>, _>>()?;
                let vectors = of.finish(encoded(&rows, encode, batch)?, of.width, of.normalize);
                Ok(vec![("embeddings".to_owned(), Dtype::F32, vec![texts.len(), of.width], floats(&vectors))])
            }
            Self::Pairs(pairs) => {
                let row = |pair: &Pair| of.pair(&pair.query, &pair.document, None, cut);
                let rows = pairs.iter().map(row).collect::<Result<Vec<_>, _>>()?;
                let vectors = encoded(&rows, encode, batch)?;
                let scores = Documents::Pairs.relevance(&vectors, of.width);
                let (raw, likely): (Vec<_>, Vec<_>) = scores.iter().map(|of| (of.raw, of.score)).unzip();
                let tensor =
                    |name: &str, values: &[f32]| (name.to_owned(), Dtype::F32, vec![values.len()], floats(values));
                Ok(vec![tensor("scores", &raw), tensor("probabilities", &likely)])
            }
            Self::Cases(cases) => {
                let mut tensors = Vec::new();
                for (number, case) in cases.iter().enumerate() {
                    let documents: Vec<&str> = case.documents.iter().map(String::as_str).collect();
                    let instruction = case.instruction.as_deref();
                    let lists = of.reranking(&case.query, &documents, instruction, None, cut)?;
                    let (rows, documents) = lists.into_rows();
                    let vectors = encoded(&rows, encode, batch)?;
                    let scores: Vec<f32> =
                        documents.relevance(&vectors, of.width).iter().map(|relevance| relevance.score).collect();
                    tensors.push((format!("scores.{number}"), Dtype::F32, vec![scores.len()], floats(&scores)));
                }
                Ok(tensors)
            }
        }
    }
}

/// The vectors of all rows.
fn encoded(rows: &[Encoded], encode: &mut dyn Encode, batch: bool) -> Result<Vec<f32>, ParityError> {
    let rows: Vec<EncodeRow<'_>> = rows.iter().map(Encoded::row).collect();
    let (mut all, mut vectors) = (Vec::new(), Vec::new());
    for rows in rows.chunks(if batch { rows.len().max(1) } else { 1 }) {
        encode.encode(rows, &mut vectors).map_err(ParityError::Forward)?;
        all.extend_from_slice(&vectors);
    }
    Ok(all)
}

impl From<PoolingError> for ParityError {
    fn from(error: PoolingError) -> Self {
        Self::Inputs(error.to_string())
    }
}
