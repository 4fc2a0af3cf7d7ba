use super::LoadFailure;
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::text::{ChatTemplate, TemplateFiles, Tokenizer};

/// Where a model keeps the templates beside its default one, a file each.
const ADDITIONAL_TEMPLATES: &str = "additional_chat_templates";

/// A model's tokenizer; none if it has no `tokenizer.json`.
///
/// # Errors
/// [`LoadFailure::Checkpoint`] if a file cannot be read, [`LoadFailure::Tokenizer`] if it cannot be used.
pub(crate) fn read_tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, LoadFailure> {
    let Some(json) = checkpoint.file("tokenizer.json")? else { return Ok(None) };
    let config = checkpoint.file("tokenizer_config.json")?;
    Ok(Some(Tokenizer::from_bytes(&json, config.as_deref())?))
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
