//! What commands say: results to stdout, everything else to stderr.

use super::args::{ConfigFlags, Outcome};
use crate::config::{LoadOptions, Loaded, Surroundings, load};
use crate::presets::Presets;
use lmx_runtime::checkpoint::LoadError;
use lmx_runtime::config::ComputeConfig;
use lmx_runtime::runner::Backend;
use std::io::Write;

/// Prints a result. A reader that has gone away (`lmx list | head`) is no failure.
pub fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints why a command ends, and ends it with `outcome`.
pub fn fail(outcome: Outcome, message: impl std::fmt::Display) -> Outcome {
    eprintln!("lmx: {message}");
    outcome
}

/// Prints why a model cannot be used: the outcome's word, the reason, what to do.
pub fn fail_load(error: &LoadError) -> Outcome {
    eprintln!("lmx: {}: {error}\n     {}", error.outcome(), advice(error));
    Outcome::Failed
}

/// What to do about a model that cannot be used.
pub fn advice(error: &LoadError) -> &'static str {
    match error {
        LoadError::ModelNotFound { .. } => "`lmx list` shows the models on disk; a folder can be given by its path",
        LoadError::ModelIncomplete { .. } => "finish the download, then try again",
        LoadError::InvalidCheckpoint { .. } => "download or convert the model again",
        LoadError::UnsupportedArch { .. } => "choose a model of another architecture",
        LoadError::UnsupportedQuantization { .. } => {
            "choose another conversion of the model: unquantised, MLX affine of 2, 3, 4, 5, 6 or 8 bits, or MLX's mxfp4, \
             nvfp4 or mxfp8"
        }
        LoadError::InsufficientMemory { .. } => "free memory, choose a smaller model or lower kv.memory_fraction",
        LoadError::Io { .. } => "check the file's permissions and the disk",
        LoadError::Device { .. } => "free memory of the device, or choose a smaller model",
    }
}

/// Loads the configuration that a command's flags ask for, from what surrounds this process. `settings` override it.
///
/// # Errors
/// [`Outcome::Usage`], with everything that is wrong already printed.
pub fn configuration(flags: &ConfigFlags, settings: Vec<(String, String)>) -> Result<Loaded, Outcome> {
    let options = LoadOptions { file: flags.config.clone(), settings };
    load(&options, &Surroundings::of_process())
        .map_err(|error| fail(Outcome::Usage, format_args!("the configuration cannot be used\n{error}")))
}

/// Loads the presets of the program and of the user.
///
/// # Errors
/// [`Outcome::Usage`], with everything that is wrong already printed.
pub fn presets() -> Result<Presets, Outcome> {
    Presets::load(&Surroundings::of_process())
        .map_err(|error| fail(Outcome::Usage, format_args!("the presets cannot be used\n{error}")))
}

/// Decides who computes.
///
/// # Errors
/// [`Outcome::Usage`], with what is wrong already printed.
pub fn backend(config: &ComputeConfig) -> Result<Backend, Outcome> {
    Backend::choose(config).map_err(|error| fail(Outcome::Usage, error))
}

/// Gives candle its threads. Must be called before the process has a second thread.
pub(super) fn use_threads(config: &ComputeConfig) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Its threads wait by spinning: with all cores taken, every other program's work would hold all of them up.
    let threads = config.threads.map_or(cores.saturating_sub(1).max(1), std::num::NonZero::get).to_string();
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // Whoever sets the library's own variable means it.
        if std::env::var_os(name).is_none() {
            // SAFETY: commands call this while the process has its first thread only, so nobody reads the environment.
            unsafe { std::env::set_var(name, &threads) };
        }
    }
}
