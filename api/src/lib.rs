//! The HTTP API, command line and telemetry of Opta-LMX.

pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub mod openai;
pub mod presets;
pub mod sse;
