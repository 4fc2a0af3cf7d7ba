//! What clients send: each request is read as it came, then turned into parts that the runtime understands.

mod chat;
mod common;
mod completion;
mod defaults;
mod generation;
mod limits;
mod message;
mod priority;
mod refused;
mod thinking;
mod tokenize;
mod tools;

pub use chat::{ChatParts, ChatRequest, TemplateInput};
pub use completion::{CompletionParts, CompletionRequest, Prompt};
pub use defaults::{Parameters, RequestDefaults};
pub use generation::Generation;
pub use priority::PRIORITY_HEADER;
pub use thinking::Thinking;
pub use tokenize::{DetokenizeRequest, TokenizeRequest, TokenizeText};
pub use tools::ToolUse;
