//! The actors of Opta-LMX: each owns one piece of the runtime, has a mailbox with a bound and a thread it runs on.
//!
//! Actors decide; the forward pass computes; nothing inside the forward pass waits on a mailbox.

#[cfg(test)]
extern crate self as lmx_actors;

pub mod cell;
mod choice_text;
pub mod egress;
pub mod embedding;
pub mod engine;
pub mod kv_cache;
pub mod mailbox;
pub mod scheduler;
pub mod stream;
pub mod supervise;

// What the tests of a whole cell use too, and more of it.
#[cfg(test)]
#[allow(dead_code)]
#[path = "../tests/cell/support.rs"]
mod support;
