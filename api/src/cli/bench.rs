//! `lmx bench`: how fast models run here.

use super::args::Outcome;
use super::args_bench::BenchArgs;
use super::terminal::{backend, configuration, fail, fail_load, print, use_threads};
use crate::bench::{Machine, Report, RunnerError, Scenario, Section, measure_runner};
use crate::builtin;
use crate::catalog::resolve;
use crate::config::Config;
use lmx_runtime::bench::RunnerPlan;
use lmx_runtime::checkpoint::Checkpoint;
use std::path::Path;

/// Runs the command.
pub fn run(args: &BenchArgs) -> Outcome {
    let loaded = match configuration(&args.config, args.settings()) {
        Ok(loaded) => loaded,
        Err(outcome) => return outcome,
    };
    use_threads(&loaded.config.compute);
    // Found before minutes of measuring, not after.
    for file in [&args.json, &args.md].into_iter().flatten() {
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            let (file, folder) = (file.display(), folder.display());
            return fail(Outcome::Usage, format_args!("cannot write {file}: there is no folder {folder}"));
        }
    }
    let report = match measure(args, &loaded.config) {
        Ok(report) => report,
        Err(outcome) => return outcome,
    };
    print(&report.markdown());
    let files = [(&args.json, Report::json as fn(&Report) -> String), (&args.md, Report::markdown)];
    for (file, text) in files {
        if let Some(file) = file
            && let Err(outcome) = write(file, &text(&report))
        {
            return outcome;
        }
    }
    Outcome::Done
}

fn measure(args: &BenchArgs, config: &Config) -> Result<Report, Outcome> {
    let backend = backend(&config.compute)?;
    backend.check_block_tokens(config.kv.block_tokens.get()).map_err(|error| fail(Outcome::Usage, error))?;
    let model = args.model.clone().unwrap_or_else(|| builtin::ID.to_owned());
    let checkpoint = resolve(&model, &config.models).and_then(|source| Checkpoint::open(&source));
    let checkpoint = checkpoint.map_err(|error| fail_load(&error))?;
    let mut sections = Vec::new();
    for scenario in &args.scenarios {
        let mut said = |what: &str| eprintln!("{scenario}: {what}");
        sections.push(match scenario {
            Scenario::Runner => {
                let plan = runner_plan(args, config);
                let report = measure_runner(&checkpoint, &backend, config.kv.block_tokens, plan, &mut said);
                let report = report.map_err(|error| match error {
                    RunnerError::Load(error) => fail_load(&error),
                    RunnerError::Forward(error) => fail(Outcome::Failed, error),
                })?;
                for what in &report.left_out {
                    said(&format!("left out, the model takes too few tokens: {what}"));
                }
                Section::Runner(report)
            }
        });
    }
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here(),
        model,
        computed_by: backend.describe(),
        repeat: args.repeat.get(),
        sections,
    })
}

fn runner_plan(args: &BenchArgs, config: &Config) -> RunnerPlan {
    let plan = RunnerPlan::default();
    let streams = args.levels(&plan.streams);
    RunnerPlan { streams, chunk: config.scheduler.prefill_chunk, repeat: args.repeat, ..plan }
}

fn write(file: &Path, text: &str) -> Result<(), Outcome> {
    std::fs::write(file, text)
        .map_err(|error| fail(Outcome::Failed, format_args!("cannot write {}: {error}", file.display())))
}
