use super::LoadFailure;
use lmx_runtime::checkpoint::{Checkpoint, LoadError};
use lmx_runtime::text::{ChatTemplate, TIKTOKEN_FILE, TemplateFiles, Tokenizer};

/// Where a model keeps the templates beside its default one, a file each.
const ADDITIONAL_TEMPLATES: &str = "additional_chat_templates";

/// Files of which each is a tokenizer, the one that is read first.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", TIKTOKEN_FILE];

/// Whether a model has a tokenizer; of a folder without reading it.
///
/// # Errors
/// [`LoadError::Io`] if a file of a model that is no folder cannot be read.
pub(crate) fn has_tokenizer(checkpoint: &Checkpoint) -> Result<bool, LoadError> {
    for name in TOKENIZERS {
        let found = match checkpoint.path() {
            Some(folder) => folder.join(name).is_file(),
            None => checkpoint.file(name)?.is_some(),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A model's tokenizer: `tokenizer.json`, or `tiktoken.model` where that is missing; none if it has neither.
///
/// # Errors
/// [`LoadFailure::Checkpoint`] if a file cannot be read, [`LoadFailure::Tokenizer`] if it cannot be used.
pub(crate) fn read_tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, LoadFailure> {
    let config = checkpoint.file("tokenizer_config.json")?;
    if let Some(json) = checkpoint.file(TOKENIZERS[0])? {
        return Ok(Some(Tokenizer::from_bytes(&json, config.as_deref())?));
    }
    let Some(ranks) = checkpoint.file(TIKTOKEN_FILE)? else { return Ok(None) };
    Ok(Some(Tokenizer::from_tiktoken(&ranks, config.as_deref())?))
}

/// A model's chat templates, `preset` in place of the default one; none if it has none.
///
/// # Errors
/// [`LoadFailure::Checkpoint`] if a file cannot be read, [`LoadFailure::Template`] if it cannot be used.
pub(crate) fn read_template(
    checkpoint: &Checkpoint,
    preset: Option<&str>,
) -> Result<Option<ChatTemplate>, LoadFailure> {
    let config = checkpoint.file("tokenizer_config.json")?;
    let json = checkpoint.file("chat_template.json")?;
    let jinja = checkpoint.file("chat_template.jinja")?;
    let jinja = jinja.as_deref().map(String::from_utf8_lossy);
    let mut additional = Vec::new();
    for file in checkpoint.files_in(ADDITIONAL_TEMPLATES)? {
        let Some(name) = file.strip_suffix(".jinja") else { continue };
        if let Some(template) = checkpoint.file(&format!("{ADDITIONAL_TEMPLATES}/{file}"))? {
            additional.push((name.to_owned(), String::from_utf8_lossy(&template).into_owned()));
        }
    }
    let files = TemplateFiles {
        tokenizer_config: config.as_deref(),
        jinja: preset.or(jinja.as_deref()),
        json: json.as_deref(),
        additional: &additional,
    };
    Ok(ChatTemplate::from_files(&files)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lmx_runtime::checkpoint::Source;
    use std::path::Path;

    #[test]
    fn a_tiktoken_file_is_read_where_there_is_no_tokenizer_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/kimi-k25-int4/model");
        let checkpoint = Checkpoint::open(&Source::Folder(folder)).unwrap();

        assert!(has_tokenizer(&checkpoint).unwrap());
        let tokenizer = read_tokenizer(&checkpoint).unwrap().unwrap();

        assert_eq!(tokenizer.encode("[BOS]a", false).unwrap(), [442, 64]);
    }
}
