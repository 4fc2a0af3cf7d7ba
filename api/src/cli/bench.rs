//! `lmx bench`: how fast models run here.

use super::args::{ConfigFlags, Outcome};
use super::args_bench::{BenchArgs, numbers};
use super::own_server;
use super::serve::Setup;
use super::terminal::{backend, configuration, fail, fail_load, print, use_threads};
use crate::bench::serving::{Endpoint, ServingBench, ServingError, ServingReport};
use crate::bench::{Figures, KernelReport, Machine, Report, RunnerError, RunnerReport, Scenario, Section};
use crate::bench::{kernel_plan, measure_kernels, measure_machine, measure_runner};
use crate::builtin;
use crate::catalog::resolve;
use crate::config::Config;
use lmx_runtime::bench::RunnerPlan;
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::model::Blueprint;
use lmx_runtime::runner::Threads;
use std::num::NonZeroUsize;

/// Runs the command.
pub fn run(args: &BenchArgs) -> Outcome {
    match measure(args) {
        Ok((report, outcome)) => finish(args, &report, outcome),
        Err(outcome) => outcome,
    }
}

fn finish(args: &BenchArgs, report: &Report, outcome: Outcome) -> Outcome {
    print(&report.markdown());
    let files = [(&args.json, Report::json as fn(&Report) -> String), (&args.md, Report::markdown)];
    for (file, text) in files {
        if let Some(file) = file
            && let Err(error) = std::fs::write(file, text(report))
        {
            return fail(Outcome::Failed, format_args!("cannot write {}: {error}", file.display()));
        }
    }
    outcome
}

fn measure(args: &BenchArgs) -> Result<(Report, Outcome), Outcome> {
    check(args)?;
    let loaded = configuration(&args.config, args.settings())?;
    use_threads(&loaded.config.compute);
    let mut computed_by = backend(&loaded.config.compute)?.describe();
    let served = args.wanted().iter().any(|scenario| scenario.is_served());
    // The log and the environment are set up while there is one thread; the server starts when it is needed.
    let setup = if served && args.url.is_none() {
        let config = ConfigFlags { set: args.settings(), ..args.config.clone() };
        Some(own_server::prepare(args.model.as_deref(), &config)?)
    } else {
        None
    };
    let mut sections = Vec::new();
    // The model of the one is gone before that of the other is there.
    for &scenario in args.wanted() {
        if let Some(figures) = inside(args, &loaded.config, scenario)? {
            sections.push(Section { scenario: scenario.name(), figures });
        }
    }
    let mut model = args.model.clone().unwrap_or_else(|| builtin::ID.to_owned());
    let mut short_answers = 0;
    if served {
        let mut bench = connect(args, setup)?;
        if args.url.is_some() {
            bench.endpoint().model().clone_into(&mut model);
            bench.endpoint().url().clone_into(&mut computed_by);
        }
        for &scenario in args.wanted().iter().filter(|scenario| scenario.is_served()) {
            let mut report = serve(args, &mut bench, scenario).map_err(failed)?;
            report.resident_bytes = crate::bench::resident_bytes().filter(|_| args.url.is_none());
            short_answers += report.short_answers();
            sections.push(Section { scenario: scenario.name(), figures: Figures::Serving(report) });
        }
    }
    let report = Report { version: env!("CARGO_PKG_VERSION"), machine: Machine::here(), model, computed_by, sections };
    let outcome = match short_answers {
        0 => Outcome::Done,
        n => fail(Outcome::Partly, format_args!("{n} answers are shorter than asked for: the server ends them itself")),
    };
    Ok((report, outcome))
}

/// What can be found before minutes of measuring.
fn check(args: &BenchArgs) -> Result<(), Outcome> {
    for file in [&args.json, &args.md].into_iter().flatten() {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
        if let Some(folder) = folder {
            let (file, folder) = (file.display(), folder.display());
            return Err(fail(Outcome::Usage, format_args!("cannot write {file}: there is no folder {folder}")));
        }
    }
    if args.url.is_some()
        && let Some(inside) = args.wanted().iter().find(|scenario| !scenario.is_served())
    {
        return Err(fail(Outcome::Usage, format_args!("`{inside}` looks inside of this program: leave --url out")));
    }
    Ok(())
}

fn connect(args: &BenchArgs, setup: Option<Setup>) -> Result<ServingBench, Outcome> {
    let endpoint = match setup {
        Some(setup) => Endpoint::new(&own_server::start(setup)?, None, None),
        None => Endpoint::new(args.url.as_deref().unwrap_or_default(), args.api_key.clone(), args.model.clone()),
    };
    endpoint.and_then(ServingBench::new).map_err(failed)
}

fn failed(error: ServingError) -> Outcome {
    fail(Outcome::Failed, error)
}

fn serve(args: &BenchArgs, bench: &mut ServingBench, scenario: Scenario) -> Result<ServingReport, ServingError> {
    eprintln!("{scenario}");
    let runs = args.repetitions(scenario);
    match scenario.load() {
        Some(load) => bench.single(load, runs),
        None if scenario == Scenario::Prefix => bench.prefix(runs),
        None => bench.concurrency(&numbers(&args.concurrency, &[1, 4, 16]), runs),
    }
}

/// Measures a scenario that needs no server; `None` for the others.
fn inside(args: &BenchArgs, config: &Config, scenario: Scenario) -> Result<Option<Figures>, Outcome> {
    Ok(match scenario {
        Scenario::Runner => Some(Figures::Runner(runner(args, config)?)),
        Scenario::Kernels => Some(Figures::Kernels(kernels(args, config)?)),
        Scenario::Limits => {
            let limits = measure_machine(&threads(config)?, config.compute.huge_pages, repetitions(args, scenario));
            Some(Figures::Limits(limits.map_err(|error| fail_load(&error))?))
        }
        Scenario::Short64 | Scenario::Medium256 | Scenario::Long512 | Scenario::Concurrency | Scenario::Prefix => None,
    })
}

fn runner(args: &BenchArgs, config: &Config) -> Result<RunnerReport, Outcome> {
    let backend = backend(&config.compute)?;
    let name = args.model.as_deref().unwrap_or(builtin::ID);
    let checkpoint = resolve(name, &config.models).and_then(|source| Checkpoint::open(&source));
    let checkpoint = checkpoint.map_err(|error| fail_load(&error))?;
    let mut said = |what: &str| eprintln!("{}: {what}", Scenario::Runner);
    let plan = runner_plan(args, config);
    let report = measure_runner(&checkpoint, &backend, &config.kv.format(), plan, &mut said);
    let report = report.map_err(|error| match error {
        RunnerError::Load(error) => fail_load(&error),
        RunnerError::Setting(error) => fail(Outcome::Usage, error),
        RunnerError::Forward(error) => fail(Outcome::Failed, error),
    })?;
    for what in &report.left_out {
        said(&format!("left out, the model takes too few tokens: {what}"));
    }
    Ok(report)
}

fn runner_plan(args: &BenchArgs, config: &Config) -> RunnerPlan {
    let plan = RunnerPlan::default();
    RunnerPlan {
        prefill: numbers(&args.prompt_tokens, &plan.prefill),
        contexts: numbers(&args.context_tokens, &plan.contexts),
        streams: numbers(&args.concurrency, &plan.streams),
        chunk: config.scheduler.prefill_chunk,
        repeat: args.repeat.unwrap_or(plan.repeat),
        ..plan
    }
}

/// The kernels in the sizes of the model that was named, else in those of common models.
fn kernels(args: &BenchArgs, config: &Config) -> Result<KernelReport, Outcome> {
    let blueprint = match &args.model {
        Some(name) => {
            let checkpoint = resolve(name, &config.models).and_then(|source| Checkpoint::open(&source));
            Some(checkpoint.and_then(|checkpoint| Blueprint::read(&checkpoint)).map_err(|error| fail_load(&error))?)
        }
        None => None,
    };
    let modes = args.compute.map(|mode| vec![mode]);
    let plan = kernel_plan(blueprint.as_ref(), modes, repetitions(args, Scenario::Kernels));
    let mut said = |what: &str| eprintln!("{}: {what}", Scenario::Kernels);
    let report = measure_kernels(plan, &threads(config)?, config.compute.huge_pages, &mut said);
    let report = report.map_err(|error| fail_load(&error))?;
    for what in &report.left_out {
        said(&format!("left out: {what}"));
    }
    Ok(report)
}

fn repetitions(args: &BenchArgs, scenario: Scenario) -> NonZeroUsize {
    NonZeroUsize::new(args.repetitions(scenario)).unwrap_or(NonZeroUsize::MIN)
}

/// As the native executor has them.
fn threads(config: &Config) -> Result<Threads, Outcome> {
    Threads::configured(&config.compute).map_err(|error| fail(Outcome::Usage, error))
}
