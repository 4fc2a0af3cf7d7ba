//! How fast models run here: scenarios, and reports of them for people and for programs.

mod machine;
mod report;
mod runner;
mod scenario;
pub mod serving;
mod table;

pub use machine::{Machine, resident_bytes};
pub use report::{Figures, Report, Section};
pub use runner::{RunnerError, RunnerReport, measure_runner};
pub use scenario::Scenario;
pub use table::Table;
