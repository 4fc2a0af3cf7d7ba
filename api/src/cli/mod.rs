//! The command line.

pub mod args;
pub mod args_config;
