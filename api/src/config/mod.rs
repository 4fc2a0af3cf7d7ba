//! The configuration: what `lmx.yaml` may say, where it is found, what overrides it, and where each value comes from.

mod actors;
mod effective;
mod environment;
mod fit;
mod keys;
mod layer;
mod load;
mod memory;
mod models;
mod problem;
mod routing;
mod server;
mod settings;
mod surroundings;
mod telemetry;

pub use actors::{ActorsConfig, MailboxConfig};
pub use effective::{Effective, to_json_lines, to_table};
pub(crate) use fit::Fit;
pub use layer::{Layer, Source};
pub use load::{LoadOptions, Loaded, load};
pub use memory::MemoryConfig;
pub use models::ModelsConfig;
pub use problem::{ConfigError, Problem};
pub use routing::RoutingConfig;
pub use server::ServerConfig;
pub use settings::{Config, schema};
pub use surroundings::Surroundings;
pub use telemetry::{LogConfig, LogFormat, LogLevel, TelemetryConfig};
