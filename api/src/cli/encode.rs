//! What `lmx embed` and `lmx rerank` share: texts from files, a model without a server, batches with a progress bar.

use super::args::{ConfigFlags, Outcome};
use super::args_encode::settings;
use super::terminal::{backend, configuration, fail, fail_load, use_threads};
use crate::catalog::resolve;
use crate::models::{LoadFailure, LoadedEncoder};
use indicatif::{ProgressBar, ProgressStyle};
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::config::ComputeMode;
use lmx_runtime::model::encoder::EncoderTask;
use lmx_runtime::pooling::{Encoded, TextEncoder};
use lmx_runtime::runner::{Encode, EncodeRow};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Texts that are computed between two looks at the progress bar.
const BATCH: usize = 64;

/// A text, and where it comes from.
pub(super) struct Text {
    /// The file; none for standard input.
    pub(super) file: Option<PathBuf>,
    /// The line, from 1; none for a whole file.
    pub(super) line: Option<usize>,
    pub(super) text: String,
}

impl Text {
    /// Where it comes from, for people.
    pub(super) fn place(&self) -> String {
        let file = self.file.as_deref().map_or_else(|| "stdin".to_owned(), |file| file.display().to_string());
        self.line.map_or(file.clone(), |line| format!("{file}:{line}"))
    }
}

/// Reads texts: each line of `files`, or of standard input without any, is one; with `whole` each file is.
///
/// # Errors
/// [`Outcome::Usage`], with what is wrong already printed.
pub(super) fn read_texts(files: &[PathBuf], whole: bool) -> Result<Vec<Text>, Outcome> {
    let unreadable =
        |place: &str, error: std::io::Error| fail(Outcome::Usage, format_args!("cannot read {place}: {error}"));
    let mut texts = Vec::new();
    let mut take = |file: Option<&Path>, content: String, whole: bool| {
        if whole {
            texts.push(Text { file: file.map(Path::to_owned), line: None, text: content });
            return;
        }
        let lines = content.lines().zip(1..).filter(|(text, _)| !text.is_empty());
        texts.extend(lines.map(|(text, line)| Text {
            file: file.map(Path::to_owned),
            line: Some(line),
            text: text.to_owned(),
        }));
    };
    if files.is_empty() {
        let mut content = String::new();
        std::io::stdin().read_to_string(&mut content).map_err(|error| unreadable("standard input", error))?;
        take(None, content, false);
    }
    for file in files {
        let content = std::fs::read_to_string(file).map_err(|error| unreadable(&file.display().to_string(), error))?;
        take(Some(file), content, whole);
    }
    match texts.is_empty() {
        true => Err(fail(Outcome::Usage, "there is no text: every line is empty")),
        false => Ok(texts),
    }
}

/// A model in this process.
pub(super) struct Local {
    pub(super) text: TextEncoder,
    encode: Box<dyn Encode>,
}

/// Loads the model for `rerank` or for embedding.
///
/// # Errors
/// The outcome, with what is wrong already printed.
pub(super) fn load(
    model: &str,
    rerank: bool,
    compute: Option<ComputeMode>,
    config: &ConfigFlags,
) -> Result<Local, Outcome> {
    let loaded = configuration(config, settings(compute, config))?;
    use_threads(&loaded.config.compute);
    let backend = backend(&loaded.config.compute)?;
    let source = resolve(model, &loaded.config.models).map_err(|error| fail_load(&error))?;
    let checkpoint = Checkpoint::open(&source).map_err(|error| fail_load(&error))?;
    let task = EncoderTask::of(&checkpoint);
    let Some(task) = task.filter(|task| (*task != EncoderTask::Embed) == rerank) else {
        let wanted = if rerank { "reranking" } else { "embedding" };
        return Err(fail(
            Outcome::Usage,
            format_args!("`{model}` is no {wanted} model; `lmx inspect` says what it is"),
        ));
    };
    let read = LoadedEncoder::read(&checkpoint, task, &backend, &mut |_| {});
    let LoadedEncoder { text, encoder, .. } = read.map_err(|error| match error {
        LoadFailure::Checkpoint(error) => fail_load(&error),
        other => fail(Outcome::Failed, format_args!("{model}: {}: {other}", other.outcome())),
    })?;
    let encode = encoder.encode().map_err(|error| fail_load(&error))?;
    Ok(Local { text, encode })
}

impl Local {
    /// The vectors of all rows, one after the other, with a progress bar on a terminal.
    ///
    /// # Errors
    /// [`Outcome::Failed`], with what is wrong already printed.
    pub(super) fn vectors(&mut self, rows: &[Encoded]) -> Result<Vec<f32>, Outcome> {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(rows.len() as u64),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} texts, {per_sec}, {eta} left") {
            bar.set_style(style);
        }
        let (mut all, mut vectors) = (Vec::new(), Vec::new());
        for batch in rows.chunks(BATCH) {
            let batch: Vec<EncodeRow<'_>> = batch.iter().map(Encoded::row).collect();
            self.encode.encode(&batch, &mut vectors).map_err(|error| fail(Outcome::Failed, error))?;
            all.extend_from_slice(&vectors);
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        Ok(all)
    }
}
