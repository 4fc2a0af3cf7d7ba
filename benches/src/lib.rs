//! Criterion benches of Opta-LMX: see the targets beside this crate.
