//! Text: tokens to text and back, stop strings, chat templates, the parts of answers.
//!
//! Nothing here knows a model or a sequence; the same types serve requests, benches and the terminal.

mod conventions;
mod detokenize;
mod jinja;
mod parse;
mod pieces;
mod py_json;
mod special;
mod stop;
mod template;
mod tiktoken;
mod tokenizer;

pub use conventions::{Chosen, Conventions};
pub use detokenize::Detokenizer;
pub use parse::{CallOptions, CallPolicy, ParseOptions, Parsed, Parser, ReasoningFormat, Start, ToolFormat, Tools};
pub use special::{SpecialToken, SpecialTokens};
pub use stop::{Matched, StopMatcher};
pub use template::{ChatTemplate, RenderInput, TemplateError, TemplateFiles};
pub use tiktoken::TIKTOKEN_FILE;
pub use tokenizer::{Joined, TextError, Tokenizer};
