//! From the events of token streams to answers, whole or streamed.

mod chat;
mod completion;
mod events;
mod stream;

pub use chat::{ChatFormat, collect_chat};
pub use completion::{CompletionFormat, Echo, collect_completion};
pub use events::{Answer, AnswerEvent};
pub use stream::{StreamFormat, sse};
