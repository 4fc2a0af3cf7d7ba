use super::fixture;
use lmx_runtime::checkpoint::{Checkpoint, LoadError, Source};
use lmx_runtime::config::ComputeMode;
use lmx_runtime::kernels::Form;
use lmx_runtime::model::encoder::{EncoderBlueprint, EncoderTask};
use lmx_runtime::pooling::{Cut, Encoded, Purpose, Side, TextEncoder};
use lmx_runtime::runner::native::{LoadOptions, NativeEncode, NativeEncoder};
use lmx_runtime::runner::{Encode, EncodeRow, Threads};
use lmx_runtime::text::Tokenizer;
use serde_json::{Value, json};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// What a text is cut to when references are made: as much of its beginning as the model takes.
pub(crate) const CUT: Cut = Cut::To { tokens: None, side: Side::Right };

/// A fixture of `tests/fixtures` whose model reads texts whole.
pub(crate) struct EncoderFixture {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) inputs: Value,
}

/// The encoders among the fixtures.
pub(crate) fn all() -> Vec<EncoderFixture> {
    let folders = fixture::folders();
    folders.iter().filter(|path| fixture::inputs(path).get("prompts").is_none()).map(|path| read(path)).collect()
}

/// An encoder's fixture of the repository by name.
pub(crate) fn named(name: &str) -> EncoderFixture {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name))
}

fn read(path: &Path) -> EncoderFixture {
    EncoderFixture {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        path: path.to_owned(),
        inputs: fixture::inputs(path),
    }
}

/// An encoder's checkpoint, read, but no weights loaded.
pub(crate) struct Read {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) blueprint: EncoderBlueprint,
    pub(crate) text: TextEncoder,
    pub(crate) answers: Option<[u32; 2]>,
}

/// Reads the folder of a model.
pub(crate) fn open(folder: &Path) -> Result<Read, LoadError> {
    let checkpoint = Checkpoint::open(&Source::Folder(folder.to_owned()))?;
    let task = EncoderTask::of(&checkpoint).expect("the model is an encoder");
    let blueprint = EncoderBlueprint::read(&checkpoint, task)?;
    let file = |name| checkpoint.file(name).unwrap();
    let tokenizer = file("tokenizer.json").expect("a tokenizer");
    let tokenizer = Tokenizer::from_bytes(&tokenizer, file("tokenizer_config.json").as_deref()).unwrap();
    let answers = TextEncoder::answers(task, &tokenizer);
    let text = TextEncoder::read(&checkpoint, &blueprint, Arc::new(tokenizer))?;
    Ok(Read { checkpoint, blueprint, text, answers })
}

impl EncoderFixture {
    pub(crate) fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    pub(crate) fn open(&self) -> Read {
        open(&self.model()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Texts, pairs or lists as the model reads them.
    pub(crate) fn rows(&self, text: &TextEncoder) -> Vec<Encoded> {
        let all = |key: &str| self.inputs[key].as_array().into_iter().flatten();
        let word = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
        let texts = all("texts").map(|of| text.text(of.as_str().unwrap(), Purpose::Bare, CUT).unwrap());
        let pairs = all("pairs").map(|of| text.pair(&word(of, "query"), &word(of, "document"), None, CUT).unwrap());
        let lists = all("cases").flat_map(|of| {
            let documents: Vec<&str> = of["documents"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let instruction = of["instruction"].as_str();
            text.reranking(&word(of, "query"), &documents, instruction, None, CUT).unwrap().into_rows().0
        });
        texts.chain(pairs).chain(lists).collect()
    }
}

impl Read {
    pub(crate) fn native(&self, mode: ComputeMode, form: Form, threads: usize) -> NativeEncode {
        self.native_with(mode, form, &Threads::anywhere(NonZeroUsize::new(threads).unwrap()).into())
    }

    pub(crate) fn native_with(&self, mode: ComputeMode, form: Form, options: &LoadOptions) -> NativeEncode {
        let Self { checkpoint, blueprint, answers, .. } = self;
        let model = NativeEncoder::load(checkpoint, blueprint, *answers, mode, options, &mut |_| {}).unwrap();
        NativeEncode::new(model, form, &options.threads).unwrap()
    }
}

/// The vectors of rows in one batch.
pub(crate) fn together(encode: &mut NativeEncode, rows: &[Encoded]) -> Vec<f32> {
    let rows: Vec<EncodeRow<'_>> = rows.iter().map(Encoded::row).collect();
    let mut vectors = Vec::new();
    encode.encode(&rows, &mut vectors).unwrap();
    vectors
}

/// The same, each row by itself.
pub(crate) fn alone(encode: &mut NativeEncode, rows: &[Encoded]) -> Vec<f32> {
    rows.iter().flat_map(|row| together(encode, std::slice::from_ref(row))).collect()
}

/// Copies a folder and what is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

/// A decoder's model in a folder of this name, with two more tokens: `yes` and `no`.
pub(crate) fn answering(fixture: &str, name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join(name);
    copy(&fixture::named(fixture).model, &model);
    let path = model.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let taken = |key: &Value| key["id"].as_u64().unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap().values().filter_map(Value::as_u64);
    let added = tokenizer["added_tokens"].as_array().unwrap().iter().map(taken);
    let first = vocab.chain(added).max().unwrap() + 1;
    for (id, content) in (first..).zip(["yes", "no"]) {
        let token = json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false});
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    }
    fs::write(path, tokenizer.to_string()).unwrap();
    (folder, model)
}
