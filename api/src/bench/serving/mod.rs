//! A server under load, as its clients see it: streamed completions over HTTP, against any OpenAI-compatible server.

mod answer;
mod client;
mod figures;
mod prompts;
mod run;

pub use client::{Endpoint, ServingError};
pub use figures::{LoadFigure, Percentiles, ServingReport, ServingRow};
pub use run::{Load, ServingBench};
