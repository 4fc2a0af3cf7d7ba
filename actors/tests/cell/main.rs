//! A whole cell over the deterministic executor: what a reader of its streams sees.

mod cancel;
mod faults;
mod limits;
mod pace;
mod streams;
mod support;
