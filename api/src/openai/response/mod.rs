//! What clients get: complete answers, chunks of a stream, lists of models and tokens.

mod chat;
mod completion;
mod logprobs;
mod models;
mod tokenize;
mod usage;

pub use chat::{
    AssistantMessage, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, FunctionCall, FunctionDelta,
    ToolCall, ToolCallDelta,
};
pub use completion::{TextChoice, TextCompletion};
pub use logprobs::{ChatLogprobs, ChatTokenLogprob, CompletionLogprobs, TokenText, TopLogprob};
pub use models::{ModelEntry, ModelList};
pub use tokenize::{DetokenizeResponse, TokenizeResponse};
pub use usage::{CompletionTokensDetails, FinishReason, PromptTokensDetails, Usage, UsageField};
