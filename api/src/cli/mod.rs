//! The command line.

pub mod args;
pub mod args_bench;
pub mod args_config;
pub mod args_encode;
pub mod bench;
pub mod chat;
pub mod config;
pub mod embed;
mod encode;
mod examine;
pub mod inspect;
pub mod list;
mod own_server;
pub mod parity;
pub mod rerank;
pub mod serve;
pub mod terminal;
mod units;
