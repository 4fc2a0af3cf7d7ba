//! The HTTP API, command line and telemetry of Opta-LMX.

pub mod error;
pub mod openai;
pub mod sse;
