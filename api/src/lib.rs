//! The HTTP API, command line and telemetry of Opta-LMX.

pub mod answer;
pub mod bench;
pub mod builtin;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub mod inflight;
pub mod models;
pub mod openai;
pub mod presets;
pub mod routes;
pub mod server;
pub mod sse;
pub mod state;
pub mod telemetry;
