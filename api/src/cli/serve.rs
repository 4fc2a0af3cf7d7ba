//! `lmx serve`.

use super::args::{Outcome, ServeArgs};
use super::terminal;
use crate::builtin;
use crate::catalog;
use crate::config::{Loaded, ModelsConfig, Surroundings};
use crate::models::{LoadFailure, Loader, Served, TextPool};
use crate::presets::Presets;
use crate::server;
use crate::state::AppState;
use crate::telemetry::{self, Metrics};
use lmx_actors::cell::ActorSystem;
use lmx_actors::supervise::Fatal;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process whose engine hangs: its thread cannot be ended, only the process.
const HUNG: i32 = 70;

/// Everything that is decided before the server starts.
pub(super) struct Setup {
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
pub(super) fn run_on(setup: Setup, listener: TcpListener) -> Outcome {
    actix_rt::System::new().block_on(serve(setup, listener))
}

/// Reads everything that the command line asks for. Must be called before the process has a second thread.
pub(super) fn prepare(args: &ServeArgs) -> Result<Setup, Outcome> {
    let loaded = terminal::configuration(&args.config, args.settings())?;
    let presets = Presets::load(&Surroundings::of_process()).map_err(|error| terminal::fail(Outcome::Usage, error))?;
    if let Some(name) = &args.preset {
        presets.get(name).map_err(|error| terminal::fail(Outcome::Usage, error))?;
    }
    telemetry::start_log(&loaded.config.telemetry);
    terminal::use_threads(&loaded.config.compute);
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
    let state = AppState::new(loaded.config.clone(), system.clone(), metrics);
    let wanted = wanted(&loaded, &presets, preset.as_deref());
    wanted.iter().for_each(|name| state.models.announce(name));
    let address = listener.local_addr();
    let running = match server::serve(state.clone(), listener) {
        Ok(running) => running,
        Err(error) => return terminal::fail(Outcome::Failed, format_args!("the server cannot start: {error}")),
    };
    let handle = running.handle();
    let stopped = actix_rt::spawn(running);

    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = TextPool::new(threads, loaded.config.scheduler.max_queue);
    let models = loaded.config.models.clone();
    let loader = Arc::new(Loader::new(system, presets, loaded, text, machine_bytes()));
    state.encoders.connect(loader.clone());
    state.encoders.start_expiry();
    let mut failed = 0;
    let load_all = async {
        for name in &wanted {
            let used = state.models.memory_bytes() + state.encoders.memory_bytes();
            match load(&loader, name, &models, preset.as_deref(), used).await {
                Ok(Served::Chat(model)) => state.models.insert(*model),
                Ok(Served::Encoder(model)) => {
                    state.encoders.insert(*model);
                    state.models.forget(name);
                }
                Err(error) => {
                    failed += 1;
                    state.models.fail(name, &error);
                    report(name, &error);
                }
            }
        }
    };
    let interrupted = tokio::select! {
        () = load_all => false,
        () = wait_for_signal() => true,
    };
    if failed == wanted.len() {
        handle.stop(false).await;
        return Outcome::Failed;
    }
    if !interrupted {
        if let Ok(address) = address {
            let chats = state.models.all();
            let encoders = state.encoders.all();
            let names: Vec<_> =
                chats.iter().map(|model| model.id()).chain(encoders.iter().map(|model| model.id())).collect();
            eprintln!("serving {} on http://{address}/v1", names.join(", "));
        }
        wait_for_signal().await;
    }
    server::shut_down(&state, &handle).await;
    match stopped.await {
        Ok(Ok(())) if failed > 0 => Outcome::Partly,
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => terminal::fail(Outcome::Failed, format_args!("the server failed: {error}")),
        Err(error) => terminal::fail(Outcome::Failed, format_args!("the server crashed: {error}")),
    }
}

/// The models to load: those that were asked for, else the one of the named preset; those of presets that want it; and
/// if that is none, the built-in one.
fn wanted(loaded: &Loaded, presets: &Presets, preset: Option<&str>) -> Vec<String> {
    let mut names = loaded.config.models.auto_load.clone();
    if names.is_empty() {
        names.extend(preset.and_then(|name| presets.get(name).ok()?.model.clone()));
    }
    for model in presets.iter().filter(|preset| preset.auto_load).filter_map(|preset| preset.model.as_ref()) {
        if !names.contains(model) {
            names.push(model.clone());
        }
    }
    if names.is_empty() {
        names.push(builtin::ID.to_owned());
    }
    names
}

async fn load(
    loader: &Arc<Loader>,
    name: &str,
    models: &ModelsConfig,
    preset: Option<&str>,
    used_bytes: u64,
) -> Result<Served, LoadFailure> {
    loader.load(name, catalog::resolve(name, models)?, preset, used_bytes).await
}

fn report(name: &str, error: &LoadFailure) {
    let outcome = error.outcome();
    metrics::counter!("lmx_model_load_failures_total", "outcome" => outcome).increment(1);
    tracing::error!(model = name, outcome, "the model is not loaded");
    match error {
        LoadFailure::Checkpoint(error) => terminal::fail_load(error),
        other => terminal::fail(Outcome::Failed, format_args!("{name}: {outcome}: {other}")),
    };
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
