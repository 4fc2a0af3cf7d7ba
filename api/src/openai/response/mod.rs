//! What clients get: complete answers, chunks of a stream, lists of vectors, ranks, models and tokens.

mod chat;
mod completion;
mod embedding;
mod logprobs;
mod models;
mod rerank;
mod tokenize;
mod usage;

pub use chat::{
    AssistantMessage, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, FunctionCall, FunctionDelta,
    ToolCall, ToolCallDelta,
};
pub use completion::{TextChoice, TextCompletion};
pub use embedding::{EmbeddingList, Vectors};
pub use logprobs::{ChatLogprobs, ChatTokenLogprob, CompletionLogprobs, TokenText, TopLogprob};
pub use models::{ModelEntry, ModelList};
pub use rerank::{RankedDocument, RerankResponse, RerankResult, RerankVersion, TeiRank};
pub use tokenize::{DetokenizeResponse, TokenizeResponse};
pub use usage::{CompletionTokensDetails, FinishReason, PromptTokensDetails, PromptUsage, Usage, UsageField};
