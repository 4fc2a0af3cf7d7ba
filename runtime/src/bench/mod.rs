//! How fast the forward pass is, measured through the same executor that serves.

mod kernels;
mod limits;
mod plan;
mod runner;
mod spread;
mod streams;
mod work;

pub use kernels::{AttentionFigure, KernelBench, KernelPlan, ProductFigure};
pub use limits::{LimitsFigure, measure_limits};
pub use plan::RunnerPlan;
pub use runner::{DecodeFigure, PrefillFigure, RunnerBench, StreamsFigure};
pub use spread::Spread;
pub use work::Work;

#[cfg(test)]
mod tests;
