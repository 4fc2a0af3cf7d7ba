//! The prompt of Jina's reranker: the query and many documents at once, each with a token behind it whose row stands for
//! it.
//!
//! Source: Wang et al., "jina-reranker-v3: Last but Not Late Interaction for Listwise Document Reranking", 2025, and the
//! code that is published with the model.

use super::encoder::{Cut, Encoded, TextEncoder};
use super::error::PoolingError;
use crate::checkpoint::LoadError;
use crate::text::Tokenizer;
use std::fmt::Write;
use std::ops::Range;

const DOCUMENT_MARK: &str = "<|embed_token|>";
const QUERY_MARK: &str = "<|rerank_token|>";
const SYSTEM: &str = "You are a search relevance expert who can determine a ranking of the passages based on how \
    relevant they are to the query. If the query is a question, how relevant a passage is depends on how well it answers \
    the question. If not, try to analyze the intent of the query and assess how well each passage satisfies the intent. If \
    an instruction is provided, you should follow the instruction when determining the ranking.";

/// Tokens of a query and of a document that are read.
const QUERY_TOKENS: usize = 512;
const DOCUMENT_TOKENS: usize = 2048;
/// Documents of a block.
const BLOCK_DOCUMENTS: usize = 125;
/// Room that a block keeps for one more document.
const BLOCK_RESERVE: usize = 2048;

/// Documents that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which of the request's.
    pub documents: Range<usize>,
    /// The prompt; its marks are those of the documents, then that of the query.
    pub encoded: Encoded,
}

/// The tokens behind a document and behind the query.
pub(super) fn marks(tokenizer: &Tokenizer) -> Result<[u32; 2], LoadError> {
    let id = |token: &str| {
        let missing = || LoadError::invalid("tokenizer.json", format!("it has no token `{token}`"));
        tokenizer.token_to_id(token).ok_or_else(missing)
    };
    Ok([id(DOCUMENT_MARK)?, id(QUERY_MARK)?])
}

/// The prompts for a query and its documents. Each document takes at most `document_tokens`.
///
/// # Errors
/// [`PoolingError::TooLong`] for texts beyond what the model was made for, unless they may be cut.
pub(super) fn blocks(
    of: &TextEncoder,
    query: &str,
    documents: &[&str],
    instruction: Option<&str>,
    document_tokens: Option<usize>,
    cut: Cut,
) -> Result<Vec<Block>, PoolingError> {
    let (query, query_tokens) = fitting(of, query, QUERY_TOKENS, cut)?;
    let most = document_tokens.unwrap_or(DOCUMENT_TOKENS).min(DOCUMENT_TOKENS);
    let cut = if document_tokens.is_some() { Cut::To { tokens: None, side: Default::default() } } else { cut };
    let fitted = documents.iter().map(|document| fitting(of, document, most, cut)).collect::<Result<Vec<_>, _>>()?;
    let whole = of.limit(Cut::Refuse).saturating_sub(2 * query_tokens);
    let (mut blocks, mut first, mut room) = (Vec::new(), 0, whole);
    for (number, (_, tokens)) in fitted.iter().enumerate() {
        room = room.saturating_sub(*tokens);
        let full = number + 1 - first >= BLOCK_DOCUMENTS || room <= BLOCK_RESERVE;
        if full || number + 1 == fitted.len() {
            let texts = fitted[first..=number].iter().map(|(text, _)| text.as_str());
            let encoded = encode(of, &prompt(&query, texts, number + 1 - first, instruction))?;
            blocks.push(Block { documents: first..number + 1, encoded });
            (first, room) = (number + 1, whole);
        }
    }
    Ok(blocks)
}

/// A text without marks, of at most so many tokens, and how many it has.
fn fitting(of: &TextEncoder, text: &str, most: usize, cut: Cut) -> Result<(String, usize), PoolingError> {
    let clean = text.replace(QUERY_MARK, "").replace(DOCUMENT_MARK, "");
    let ids = of.tokenizer.encode(&clean, false)?;
    match (ids.get(..most), cut) {
        (Some(kept), _) if kept.len() == ids.len() => Ok((clean, ids.len())),
        (None, _) => Ok((clean, ids.len())),
        (Some(_), Cut::Refuse) => Err(PoolingError::TooLong { got: ids.len(), max: most }),
        (Some(kept), Cut::To { .. }) => Ok((of.tokenizer.decode(kept, true)?, most)),
    }
}

fn prompt<'t>(
    query: &str,
    documents: impl Iterator<Item = &'t str>,
    count: usize,
    instruction: Option<&str>,
) -> String {
    let mut text = format!(
        "<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nI will provide you with {count} passages, each indicated \
         by a numerical identifier. Rank the passages based on their relevance to query: {query}\n"
    );
    // Writing to a string does not fail.
    if let Some(instruction) = instruction {
        let _ = write!(text, "<instruct>\n{instruction}\n</instruct>\n");
    }
    for (number, document) in documents.enumerate() {
        let _ = write!(text, "<passage id=\"{number}\">\n{document}{DOCUMENT_MARK}\n</passage>\n");
    }
    let _ = write!(
        text,
        "<query>\n{query}{QUERY_MARK}\n</query><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
    text
}

fn encode(of: &TextEncoder, prompt: &str) -> Result<Encoded, PoolingError> {
    let tokens = of.tokenizer.encode(prompt, false)?;
    let (limit, marks) = (of.limit(Cut::Refuse), of.mark_tokens().unwrap_or_default());
    if tokens.len() > limit {
        return Err(PoolingError::TooLong { got: tokens.len(), max: limit });
    }
    let places = |mark| (0_u32..).zip(&tokens).filter(move |(_, token)| **token == mark).map(|(at, _)| at);
    let marks = places(marks[0]).chain(places(marks[1])).collect();
    Ok(Encoded { first_segment: tokens.len(), tokens, marks })
}
