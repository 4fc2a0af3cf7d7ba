//! `lmx parity`: numbers for checks against other implementations.

use super::args::{Outcome, ParityArgs};
use super::terminal::{backend, configuration, fail, fail_load, use_threads};
use crate::catalog::resolve;
use crate::models::{LoadFailure, LoadedEncoder};
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::model::Blueprint;
use lmx_runtime::model::encoder::EncoderTask;
use lmx_runtime::parity::{self, EncoderInputs, ParityError, ParityInputs, ParityOptions, PromptNumbers};
use lmx_runtime::runner::Backend;

/// Runs the command.
pub fn run(args: &ParityArgs) -> Outcome {
    let loaded = match configuration(&args.config, args.settings()) {
        Ok(loaded) => loaded,
        Err(outcome) => return outcome,
    };
    use_threads(&loaded.config.compute);
    let json = match std::fs::read(&args.inputs) {
        Ok(json) => json,
        Err(error) => return fail(Outcome::Usage, format_args!("cannot read {}: {error}", args.inputs.display())),
    };
    // Found before the prompts are computed, not after.
    if let Some(folder) = args.out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return fail(
            Outcome::Usage,
            format_args!("cannot write {}: there is no folder {}", args.out.display(), folder.display()),
        );
    }
    let checkpoint = resolve(&args.model, &loaded.config.models).and_then(|source| Checkpoint::open(&source));
    let backend = match backend(&loaded.config.compute) {
        Ok(backend) => backend,
        Err(outcome) => return outcome,
    };
    let format = loaded.config.kv.format();
    let checkpoint = match checkpoint {
        Ok(checkpoint) => checkpoint,
        Err(error) => return fail_load(&error),
    };
    if let Some(task) = EncoderTask::of(&checkpoint) {
        return encode(args, &backend, &checkpoint, task, &json);
    }
    let inputs = match ParityInputs::from_json(&json) {
        Ok(inputs) => inputs,
        Err(error) => return fail(Outcome::Usage, format_args!("{}: {error}", args.inputs.display())),
    };
    let kv = match Blueprint::read(&checkpoint).map(|blueprint| backend.kv_shape(&blueprint, &format)) {
        Ok(Ok(kv)) => kv,
        Ok(Err(error)) => return fail(Outcome::Usage, error),
        Err(error) => return fail_load(&error),
    };
    let model = match backend.load(&checkpoint, &mut |_| {}) {
        Ok(model) => model,
        Err(error) => return fail_load(&error),
    };
    let options = ParityOptions { chunk: args.chunk, batch: args.batch, reuse_prefix: args.reuse_prefix };
    let forward = |size| model.forward(size, &format);
    let context_tokens = model.facts().context_tokens;
    let mut done = |prompt: &PromptNumbers| eprintln!("{}", line(prompt));
    let numbers = match parity::run(&inputs, options, context_tokens, kv.spans, forward, &mut done) {
        Ok(numbers) => numbers,
        Err(ParityError::Load(error)) => return fail_load(&error),
        Err(error) => return fail(Outcome::Failed, error),
    };
    match parity::write(&args.out, &numbers) {
        Ok(()) => Outcome::Done,
        Err(error) => fail(Outcome::Failed, format_args!("cannot write {}: {error}", args.out.display())),
    }
}

/// The numbers of an encoder.
fn encode(args: &ParityArgs, backend: &Backend, checkpoint: &Checkpoint, task: EncoderTask, json: &[u8]) -> Outcome {
    let inputs = match EncoderInputs::from_json(json) {
        Ok(inputs) => inputs,
        Err(error) => return fail(Outcome::Usage, format_args!("{}: {error}", args.inputs.display())),
    };
    if args.chunk.is_some() || args.reuse_prefix {
        return fail(Outcome::Usage, "an encoder reads texts whole: leave out --chunk and --reuse-prefix");
    }
    let loaded = LoadedEncoder::read(checkpoint, task, backend, &mut |_| {});
    let (text, encoder) = match loaded {
        Ok(LoadedEncoder { text, encoder, .. }) => (text, encoder),
        Err(LoadFailure::Checkpoint(error)) => return fail_load(&error),
        Err(error) => return fail(Outcome::Failed, error),
    };
    let tensors = match encoder.encode().map(|mut encode| inputs.run(&text, &mut *encode, args.batch)) {
        Ok(Ok(tensors)) => tensors,
        Ok(Err(error)) => return fail(Outcome::Failed, error),
        Err(error) => return fail_load(&error),
    };
    match parity::write_tensors(&args.out, &tensors) {
        Ok(()) => Outcome::Done,
        Err(error) => fail(Outcome::Failed, format_args!("cannot write {}: {error}", args.out.display())),
    }
}

fn line(prompt: &PromptNumbers) -> String {
    let (computed, cached) = (prompt.prompt_tokens(), prompt.cached_tokens);
    let cached = if cached > 0 { format!(" ({cached} cached)") } else { String::new() };
    let (generated, ms) = (prompt.greedy_ids.len(), prompt.elapsed.as_secs_f64() * 1e3);
    format!("{}: {computed} prompt tokens{cached}, {generated} generated, {ms:.1} ms", prompt.name)
}
