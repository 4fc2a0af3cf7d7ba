//! The command line.

pub mod args;
pub mod args_config;
pub mod chat;
pub mod serve;
