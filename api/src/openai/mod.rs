//! OpenAI's shapes: what clients send, what they get, and how a body becomes a request.

mod body;
pub mod request;
pub mod response;

pub use body::{BodyLimit, FromBody, JsonBody, default_service, method_not_allowed, path_config, query_config};
