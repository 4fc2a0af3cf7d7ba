//! The conventions of model families: what in the text of an answer is reasoning, what calls a tool, what is content.

mod event;
mod feed;
mod format;
mod glm;
mod head;
mod hermes;
mod json_arguments;
mod json_call;
mod json_value;
mod llama;
mod mistral;
mod options;
mod parser;
mod section;
mod tagged;
mod tools;
mod watch;
mod written_arguments;

pub use event::Parsed;
pub use options::{CallOptions, CallPolicy, ParseOptions, ReasoningFormat, Start, ToolFormat};
pub use parser::Parser;
pub use tools::Tools;
