//! The command line.

pub mod args;
pub mod args_config;
pub mod parity;
pub mod terminal;
