//! The prompt of Qwen3-Reranker, which asks whether a document answers a query.
//!
//! Source: the model card of Qwen3-Reranker; Zhang et al., "Qwen3 Embedding", 2025.

use super::encoder::{Cut, Encoded, Side, TextEncoder};
use super::error::PoolingError;
use crate::text::Tokenizer;

const BEFORE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
const BEHIND: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
const INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";

/// The tokens of `yes` and `no`.
pub(super) fn answers(tokenizer: &Tokenizer) -> Option<[u32; 2]> {
    Some([tokenizer.token_to_id("yes")?, tokenizer.token_to_id("no")?])
}

/// The prompt for a query and a document. Only what stands between its fixed parts is cut.
pub(super) fn encode(of: &TextEncoder, query: &str, document: &str, cut: Cut) -> Result<Encoded, PoolingError> {
    let ids = |text: &str| of.tokenizer.encode(text, false);
    let (before, behind) = (ids(BEFORE)?, ids(BEHIND)?);
    let mut asked = ids(&format!("<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {document}"))?;
    let (limit, fixed) = (of.limit(cut), before.len() + behind.len());
    let got = fixed + asked.len();
    if got > limit {
        let room = limit.saturating_sub(fixed);
        match cut {
            _ if room == 0 => return Err(PoolingError::TooLong { got, max: limit }),
            Cut::Refuse => return Err(PoolingError::TooLong { got, max: limit }),
            Cut::To { side: Side::Right, .. } => asked.truncate(room),
            Cut::To { side: Side::Left, .. } => drop(asked.drain(..asked.len() - room)),
        }
    }
    let tokens = [before, asked, behind].concat();
    Ok(Encoded { first_segment: tokens.len(), tokens, marks: Vec::new() })
}
