//! The tokens that a model reserves for the shape of a conversation, from `tokenizer_config.json`.

use serde_json::{Map, Value};

/// A reserved token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialToken {
    /// Its text.
    pub text: String,
    /// Its id; none if the vocabulary does not hold it.
    pub id: Option<u32>,
}

/// The reserved tokens that `tokenizer_config.json` names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<SpecialToken>,
    /// Ends a text.
    pub eos: Option<SpecialToken>,
    /// Fills up batches.
    pub pad: Option<SpecialToken>,
    /// Stands for what the vocabulary cannot say.
    pub unk: Option<SpecialToken>,
    /// What templates may use: `bos_token` and the like, in the order of the file.
    pub variables: Map<String, Value>,
}

/// Keys that are special tokens in every configuration.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl SpecialTokens {
    /// Reads the tokens of a parsed `tokenizer_config.json`; `id_of` looks a token up in the vocabulary.
    pub(super) fn from_config(config: &Map<String, Value>, id_of: impl Fn(&str) -> Option<u32>) -> Self {
        let mut variables = Map::new();
        for name in NAMES {
            if let Some(text) = config.get(name).and_then(token_text) {
                variables.insert(name.into(), text.into());
            }
        }
        if let Some(Value::Array(more)) = config.get("additional_special_tokens") {
            let texts = more.iter().filter_map(token_text).map(Value::from).collect();
            variables.insert("additional_special_tokens".into(), Value::Array(texts));
        }
        // Models with images name their own: {"image_token": "<image>"}.
        for key in ["extra_special_tokens", "model_specific_special_tokens"] {
            for (name, value) in config.get(key).and_then(Value::as_object).into_iter().flatten() {
                if let Some(text) = token_text(value) {
                    variables.insert(name.clone(), text.into());
                }
            }
        }
        let token = |name: &str| {
            let text = variables.get(name)?.as_str()?.to_owned();
            Some(SpecialToken { id: id_of(&text), text })
        };
        let (bos, eos, pad, unk) = (token("bos_token"), token("eos_token"), token("pad_token"), token("unk_token"));
        Self { bos, eos, pad, unk, variables }
    }
}

/// The text of a token that is a string or an object with `content`.
pub(super) fn token_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Object(object) => object.get("content")?.as_str(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tokens_are_strings_or_objects_with_content_and_null_is_none() {
        let config = json!({
            "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
            "extra_special_tokens": {"image_token": "<image>"},
        });
        let special = SpecialTokens::from_config(config.as_object().unwrap(), |text| (text == "<s>").then_some(1));

        assert_eq!(special.bos, Some(SpecialToken { text: "<s>".into(), id: Some(1) }));
        assert_eq!(special.eos, Some(SpecialToken { text: "</s>".into(), id: None }));
        assert_eq!(special.pad, None);
        assert_eq!(special.variables.get("image_token"), Some(&json!("<image>")));
        assert!(!special.variables.contains_key("pad_token"));
    }
}
