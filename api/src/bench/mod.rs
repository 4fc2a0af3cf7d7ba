//! How fast models run here: scenarios, and reports of them for people and for programs.

mod machine;
mod report;
mod runner;
mod scenario;
mod table;

pub use machine::Machine;
pub use report::{Report, Section};
pub use runner::{RunnerError, RunnerReport, measure_runner};
pub use scenario::Scenario;
pub use table::Table;
