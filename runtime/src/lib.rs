//! The library of Opta-LMX: sequences, scheduling policy, block accounting, model code and sampling.
//!
//! It knows no actor, no socket and no clock but the time it is handed.

pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod ids;
pub mod kernels;
pub mod kv;
pub mod local;
pub mod model;
pub mod parity;
pub mod plan;
pub mod pooling;
pub mod runner;
pub mod sampling;
pub mod scheduler;
pub mod sequence;
pub mod text;
