//! Text: tokens to text and back, stop strings, chat templates.
//!
//! Nothing here knows a model or a sequence; the same types serve requests, benches and the terminal.

mod detokenize;
mod jinja;
mod pieces;
mod py_json;
mod special;
mod stop;
mod template;
mod tokenizer;

pub use detokenize::Detokenizer;
pub use special::{SpecialToken, SpecialTokens};
pub use stop::{Matched, StopMatcher};
pub use template::{ChatTemplate, RenderInput, TemplateError, TemplateFiles};
pub use tokenizer::{TextError, Tokenizer};
