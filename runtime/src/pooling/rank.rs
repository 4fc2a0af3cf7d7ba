use super::encoder::{Cut, Encoded, TextEncoder};
use super::error::PoolingError;
use super::listwise::{self, Block};
use crate::model::encoder::EncoderTask;

/// How relevant a document is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relevance {
    /// The model's own score.
    pub raw: f32,
    /// What clients are told: a probability, or the cosine of a model that compares directions.
    pub score: f32,
}

/// A query and its documents as a model reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reranking {
    /// Each document with the query.
    Pairs(Vec<Encoded>),
    /// Blocks of documents with the query.
    Blocks(Vec<Block>),
}

impl TextEncoder {
    /// A query and its documents, of which each takes at most `document_tokens`.
    ///
    /// # Errors
    /// [`PoolingError`], with the number of the document that is at fault, if one is.
    pub fn reranking(
        &self,
        query: &str,
        documents: &[&str],
        instruction: Option<&str>,
        document_tokens: Option<usize>,
        cut: Cut,
    ) -> Result<Reranking, PoolingError> {
        if self.task == EncoderTask::Listwise {
            return listwise::blocks(self, query, documents, instruction, document_tokens, cut).map(Reranking::Blocks);
        }
        let pair = |document: &&str| self.pair(query, document, document_tokens, cut);
        documents.iter().map(pair).collect::<Result<_, _>>().map(Reranking::Pairs)
    }
}

impl Reranking {
    /// The rows to encode, in order.
    pub fn into_rows(self) -> (Vec<Encoded>, Documents) {
        match self {
            Self::Pairs(pairs) => (pairs, Documents::Pairs),
            Self::Blocks(blocks) => {
                let counts = blocks.iter().map(|block| block.documents.len()).collect();
                (blocks.into_iter().map(|block| block.encoded).collect(), Documents::Blocks(counts))
            }
        }
    }
}

/// Which vectors belong to which documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Documents {
    /// One to each.
    Pairs,
    /// Blocks: those of so many documents, then that of the query.
    Blocks(Vec<usize>),
}

impl Documents {
    /// The relevance of each document, from the vectors of all rows, `[vectors, width]`.
    pub fn relevance(&self, vectors: &[f32], width: usize) -> Vec<Relevance> {
        match self {
            Self::Pairs => vectors.chunks_exact(width).map(of_logits).collect(),
            Self::Blocks(counts) => of_blocks(counts, vectors, width),
        }
    }
}

/// Of one logit, or of those of `yes` and `no`.
fn of_logits(logits: &[f32]) -> Relevance {
    let raw = match logits {
        [yes, no] => yes - no,
        [logit, ..] => *logit,
        [] => 0.0,
    };
    Relevance { raw, score: 1.0 / (1.0 + (-raw).exp()) }
}

/// All documents are compared with one query: the mean of those of the blocks, where a block counts by its best document.
fn of_blocks(counts: &[usize], vectors: &[f32], width: usize) -> Vec<Relevance> {
    let mut rest = vectors;
    let mut documents = Vec::new();
    let (mut query, mut weights) = (vec![0.0_f64; width], 0.0);
    for count in counts {
        let (block, later) = rest.split_at((count + 1) * width);
        let (own, of_query) = block.split_at(count * width);
        let scores = own.chunks_exact(width).map(|document| cosine(document, of_query.iter().map(|x| f64::from(*x))));
        let weight = scores.fold(f64::NEG_INFINITY, f64::max).mul_add(0.5, 0.5).max(0.0);
        query.iter_mut().zip(of_query).for_each(|(sum, x)| *sum += weight * f64::from(*x));
        weights += weight;
        documents.extend(own.chunks_exact(width));
        rest = later;
    }
    if weights > 0.0 {
        query.iter_mut().for_each(|x| *x /= weights);
    }
    let relevance = |document| {
        let cosine = cosine(document, query.iter().copied()) as f32;
        Relevance { raw: cosine, score: cosine }
    };
    documents.into_iter().map(relevance).collect()
}

fn cosine(a: &[f32], b: impl Iterator<Item = f64>) -> f64 {
    let (mut dot, mut a_squares, mut b_squares) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().map(|a| f64::from(*a)).zip(b) {
        dot += a * b;
        a_squares += a * a;
        b_squares += b * b;
    }
    dot / (a_squares.sqrt() * b_squares.sqrt()).max(1e-12)
}
