use super::kernels::{KernelReport, limits_table};
use super::machine::Machine;
use super::runner::RunnerReport;
use super::serving::ServingReport;
use super::table::Table;
use lmx_runtime::bench::LimitsFigure;
use serde::Serialize;
use std::fmt::Write;

/// Everything that a run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// Where.
    pub machine: Machine,
    /// What, as it was asked for.
    pub model: String,
    /// By whom: the executor, or a server's address.
    pub computed_by: String,
    /// What each scenario found.
    pub sections: Vec<Section>,
}

/// What a scenario found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// Its name.
    pub scenario: &'static str,
    /// What it found.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Figures of each kind of scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figures {
    /// The forward pass alone.
    Runner(RunnerReport),
    /// The kernels one by one.
    Kernels(KernelReport),
    /// What the machine could do at most.
    Limits(LimitsFigure),
    /// A server.
    Serving(ServingReport),
}

impl Section {
    /// As tables.
    pub fn tables(&self) -> Vec<Table> {
        match &self.figures {
            Figures::Runner(report) => report.tables(),
            Figures::Kernels(report) => report.tables(),
            Figures::Limits(limits) => vec![limits_table(limits)],
            Figures::Serving(report) => report.tables(),
        }
    }
}

impl Report {
    /// For people.
    pub fn markdown(&self) -> String {
        let Self { version, machine, model, computed_by, sections } = self;
        let Machine { os, arch, processor, cores, memory_bytes } = machine;
        let gib = *memory_bytes as f64 / f64::from(1 << 30);
        let mut text = format!(
            "`{model}` on {computed_by}; lmx {version}, {processor} ({arch}, {os}), {cores} cores, {gib:.0} GiB.\n\
             Medians, the least and the most in brackets.\n"
        );
        for table in sections.iter().flat_map(Section::tables) {
            write!(text, "\n{table}").expect("a string takes everything");
        }
        text
    }

    /// For programs: one JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain data") + "\n"
    }
}
