//! `lmx serve`.

use super::args::{Outcome, ServeArgs};
use super::terminal;
use crate::builtin;
use crate::catalog;
use crate::config::{Loaded, Surroundings};
use crate::models::{LoadFailure, LoadedModel, Loader, TextPool};
use crate::presets::Presets;
use crate::server;
use crate::state::AppState;
use crate::telemetry::{self, Metrics};
use lmx_actors::cell::ActorSystem;
use lmx_actors::supervise::Fatal;
use lmx_runtime::checkpoint::Source;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process whose engine hangs: its thread cannot be ended, only the process.
const HUNG: i32 = 70;

/// Everything that is decided before the server starts.
struct Setup {
    loaded: Loaded,
    presets: Presets,
    preset: Option<String>,
}

/// Runs the command.
pub fn run(args: &ServeArgs) -> Outcome {
    let setup = match prepare(args) {
        Ok(setup) => setup,
        Err(outcome) => return outcome,
    };
    let address = (setup.loaded.config.server.host.as_str(), setup.loaded.config.server.port);
    match TcpListener::bind(address) {
        Ok(listener) => actix_rt::System::new().block_on(serve(setup, listener)),
        Err(error) => {
            let (host, port) = address;
            let advice = "choose another address with --host and --port";
            terminal::fail(Outcome::Failed, format_args!("cannot listen on {host}:{port}: {error}; {advice}"))
        }
    }
}

/// Serves on a listener that is already bound.
pub(super) fn run_on(args: &ServeArgs, listener: TcpListener) -> Outcome {
    match prepare(args) {
        Ok(setup) => actix_rt::System::new().block_on(serve(setup, listener)),
        Err(outcome) => outcome,
    }
}

fn prepare(args: &ServeArgs) -> Result<Setup, Outcome> {
    let loaded = terminal::configuration(&args.config, args.settings())?;
    let presets = Presets::load(&Surroundings::of_process()).map_err(|error| terminal::fail(Outcome::Usage, error))?;
    if let Some(name) = &args.preset {
        presets.get(name).map_err(|error| terminal::fail(Outcome::Usage, error))?;
    }
    telemetry::start_log(&loaded.config.telemetry);
    Ok(Setup { loaded, presets, preset: args.preset.clone() })
}

async fn serve(setup: Setup, listener: TcpListener) -> Outcome {
    let Setup { loaded, presets, preset } = setup;
    let metrics = match Metrics::install() {
        Ok(metrics) => metrics,
        Err(error) => return terminal::fail(Outcome::Failed, error),
    };
    metrics.start_upkeep();
    let system = ActorSystem::start(Box::new(|fatal| {
        std::process::exit(match fatal {
            Fatal::RestartBudget(_) => i32::from(Outcome::Failed.code()),
            Fatal::Hung(_) => HUNG,
        })
    }));
    let sources = match sources(&loaded) {
        Ok(sources) => sources,
        Err(error) => return terminal::fail_load(&error),
    };
    let state = AppState::new(loaded.config.clone(), system.clone(), metrics);
    sources.iter().for_each(|source| state.models.announce(&source.id()));
    let address = listener.local_addr();
    let running = match server::serve(state.clone(), listener) {
        Ok(running) => running,
        Err(error) => return terminal::fail(Outcome::Failed, format_args!("the server cannot start: {error}")),
    };
    let handle = running.handle();
    let stopped = actix_rt::spawn(running);

    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = TextPool::new(threads, loaded.config.scheduler.max_queue);
    let loader = Arc::new(Loader::new(system, presets, loaded, text, machine_bytes()));
    let mut failed = 0;
    let asked = sources.len();
    for source in sources {
        let id = source.id();
        match load(&loader, source, preset.clone()).await {
            Ok(model) => state.models.insert(model),
            Err(error) => {
                failed += 1;
                state.models.withdraw(&id);
                let outcome = error.outcome();
                metrics::counter!("lmx_model_load_failures_total", "outcome" => outcome).increment(1);
                tracing::error!(model = id, outcome, "the model is not loaded");
                match &error {
                    LoadFailure::Checkpoint(error) => terminal::fail_load(error),
                    other => terminal::fail(Outcome::Failed, format_args!("{id}: {outcome}: {other}")),
                };
            }
        }
    }
    if failed == asked {
        handle.stop(false).await;
        return Outcome::Failed;
    }
    if let Ok(address) = address {
        let names: Vec<_> = state.models.all().iter().map(|model| model.id().to_owned()).collect();
        eprintln!("serving {} on http://{address}/v1", names.join(", "));
    }
    wait_for_signal().await;
    server::shut_down(&state, &handle).await;
    match stopped.await {
        Ok(Ok(())) if failed > 0 => Outcome::Partly,
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => terminal::fail(Outcome::Failed, format_args!("the server failed: {error}")),
        Err(error) => terminal::fail(Outcome::Failed, format_args!("the server crashed: {error}")),
    }
}

/// What to load: the models that were asked for, else the built-in one.
fn sources(loaded: &Loaded) -> Result<Vec<Source>, lmx_runtime::checkpoint::LoadError> {
    let models = &loaded.config.models;
    if models.auto_load.is_empty() {
        return Ok(vec![builtin::source()]);
    }
    models.auto_load.iter().map(|name| catalog::resolve(name, models)).collect()
}

async fn load(loader: &Arc<Loader>, source: Source, preset: Option<String>) -> Result<LoadedModel, LoadFailure> {
    let limit = loader.time_limit();
    let reader = loader.clone();
    let task = tokio::task::spawn_blocking(move || reader.prepare(&source, preset.as_deref(), &mut |_| {}));
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(prepared)) => loader.start(prepared?),
        Ok(Err(panic)) => Err(LoadFailure::Crashed(panic.to_string())),
        Err(_) => Err(LoadFailure::Timeout(limit.as_secs())),
    }
}

/// Resolves when somebody wants the process to end.
async fn wait_for_signal() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without signals the process is ended from outside.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Memory of this machine.
pub(super) fn machine_bytes() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    system.total_memory()
}
