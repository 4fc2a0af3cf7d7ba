//! The library of Opta-LMX: sequences, scheduling policy, block accounting, model code and sampling.
//!
//! It knows no actor, no socket and no clock but the time it is handed.

pub mod checkpoint;
pub mod config;
pub mod ids;
pub mod model;
pub mod plan;
pub mod runner;
pub mod sampling;
