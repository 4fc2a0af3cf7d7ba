//! What clients send: each request is read as it came, then turned into parts that the runtime understands.

mod chat;
mod common;
mod completion;
mod defaults;
mod embedding;
mod generation;
mod limits;
mod message;
mod priority;
mod prompt;
mod refused;
mod rerank;
mod thinking;
mod tokenize;
mod tools;
mod truncation;

pub use chat::{ChatParts, ChatRequest, TemplateInput};
pub use completion::{CompletionParts, CompletionRequest};
pub use defaults::{Parameters, RequestDefaults};
pub use embedding::{EmbedRequest, EmbeddingParts, EmbeddingRequest, EncodingFormat, InputType, PromptChoice};
pub use generation::Generation;
pub use priority::PRIORITY_HEADER;
pub use prompt::Prompt;
pub use rerank::{RerankBody, RerankRequest, TeiRerankRequest};
pub use thinking::Thinking;
pub use tokenize::{DetokenizeRequest, TokenizeRequest, TokenizeText};
pub use tools::ToolUse;
pub use truncation::{Truncation, TruncationSide};
