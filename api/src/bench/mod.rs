//! How fast models run here: scenarios, and reports of them for people and for programs.

mod kernels;
mod machine;
mod report;
mod runner;
mod scenario;
pub mod serving;
mod table;

pub use kernels::{KernelReport, kernel_plan, measure_kernels, measure_machine};
pub use machine::{Machine, resident_bytes};
pub use report::{Figures, Report, Section};
pub use runner::{RunnerError, RunnerReport, measure_runner};
pub use scenario::Scenario;
pub use table::Table;
