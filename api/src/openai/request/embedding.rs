use super::limits::at_least_one;
use super::{Prompt, Truncation};
use crate::error::ApiError;
use crate::openai::body::{FromBody, read_fields};
use actix_web::http::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

/// Inputs that one request may hold.
const MAX_INPUTS: usize = 2048;

/// A body of `POST /v1/embeddings`.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingRequest {
    /// The model that the client names.
    pub model: Option<String>,
    /// How vectors are written.
    pub encoding: EncodingFormat,
    /// What is embedded, and how.
    pub parts: EmbeddingParts,
}

/// A body of `POST /embed`, the form of text-embeddings-inference; the answer is a bare list of vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest {
    /// The model that the client names.
    pub model: Option<String>,
    /// What is embedded, and how.
    pub parts: EmbeddingParts,
}

/// What is embedded, and how: the same for every route.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingParts {
    /// At least one; no text and no list of ids is empty.
    pub inputs: Vec<Prompt>,
    /// What the model is to read before each input; absent: the model's default.
    pub prompt: Option<PromptChoice>,
    /// Components to keep of each vector, at least 1; absent: all.
    pub dimensions: Option<usize>,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// What becomes of inputs that are too long.
    pub truncation: Truncation,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// Lists of numbers.
    #[default]
    Float,
    /// Little-endian 32-bit floats in base64.
    Base64,
}

/// Which of the model's prompts goes before an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptChoice {
    /// The one of this name.
    Named(String),
    /// The one for this kind of text.
    For {
        /// The kind.
        kind: InputType,
        /// The client's word for it, in lower case: models name their prompts by such words.
        word: String,
    },
}

/// What an input is in a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputType {
    /// What is asked.
    Query,
    /// What is searched.
    Document,
}

/// The words of Cohere, Voyage and Nvidia.
const INPUT_TYPES: [(&str, InputType); 5] = [
    ("query", InputType::Query),
    ("search_query", InputType::Query),
    ("document", InputType::Document),
    ("passage", InputType::Document),
    ("search_document", InputType::Document),
];

#[derive(Deserialize)]
struct Fields {
    model: Option<String>,
    encoding_format: Option<EncodingFormat>,
    dimensions: Option<i64>,
    normalize: Option<bool>,
    input_type: Option<String>,
    prompt_name: Option<String>,
}

impl FromBody for EmbeddingRequest {
    fn from_body(body: &Value, _: &HeaderMap) -> Result<Self, ApiError> {
        let fields: Fields = read_fields(body)?;
        let (model, encoding) = (fields.model.clone(), fields.encoding_format.unwrap_or_default());
        Ok(Self { model, encoding, parts: fields.into_parts(body, "input")? })
    }
}

impl FromBody for EmbedRequest {
    fn from_body(body: &Value, _: &HeaderMap) -> Result<Self, ApiError> {
        let fields: Fields = read_fields(body)?;
        Ok(Self { model: fields.model.clone(), parts: fields.into_parts(body, "inputs")? })
    }
}

impl Fields {
    fn into_parts(self, body: &Value, field: &'static str) -> Result<EmbeddingParts, ApiError> {
        let inputs = Prompt::read_list(body, field, MAX_INPUTS)?;
        if let Some(empty) = inputs.iter().position(|input| matches!(input, Prompt::Text(text) if text.is_empty())) {
            let path = if body[field].is_array() { format!("{field}[{empty}]") } else { field.to_owned() };
            return Err(ApiError::invalid(path, "the text is empty"));
        }
        let prompt = match (self.prompt_name, self.input_type) {
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("prompt_name", "give `prompt_name` or `input_type`, not both"));
            }
            (Some(name), None) => Some(PromptChoice::Named(name)),
            (None, Some(word)) => Some(read_input_type(&word)?),
            (None, None) => None,
        };
        Ok(EmbeddingParts {
            inputs,
            prompt,
            dimensions: at_least_one("dimensions", self.dimensions)?,
            normalize: self.normalize.unwrap_or(true),
            truncation: Truncation::read(body)?,
        })
    }
}

fn read_input_type(word: &str) -> Result<PromptChoice, ApiError> {
    let word = word.to_ascii_lowercase();
    match INPUT_TYPES.into_iter().find(|(known, _)| *known == word) {
        Some((_, kind)) => Ok(PromptChoice::For { kind, word }),
        None => {
            let known = INPUT_TYPES.map(|(known, _)| known).join(", ");
            Err(ApiError::invalid("input_type", format!("`{word}` is none of {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TruncationSide;
    use super::*;
    use serde_json::json;

    fn openai(body: Value) -> Result<EmbeddingRequest, ApiError> {
        EmbeddingRequest::from_body(&body, &HeaderMap::new())
    }

    fn tei(body: Value) -> Result<EmbedRequest, ApiError> {
        EmbedRequest::from_body(&body, &HeaderMap::new())
    }

    #[test]
    fn nulls_and_unknown_fields_ask_for_nothing() {
        let nulls = json!({
            "input": "a", "model": null, "encoding_format": null, "dimensions": null, "normalize": null,
            "input_type": null, "prompt_name": null, "truncate": null, "user": "u", "metadata": {},
        });

        let request = openai(nulls).unwrap();

        assert_eq!(request, openai(json!({"input": "a"})).unwrap());
        assert_eq!((request.encoding, request.parts.normalize), (EncodingFormat::Float, true));
    }

    #[test]
    fn both_forms_ask_for_the_same() {
        let asked = json!({"dimensions": 64, "truncate": true, "prompt_name": "query", "normalize": false});
        let with = |field: &str, input: Value| {
            let mut body = asked.clone();
            body[field] = input;
            body
        };

        let theirs = tei(with("inputs", json!([[7, 8], [9]]))).unwrap();

        assert_eq!(openai(with("input", json!([[7, 8], [9]]))).unwrap().parts, theirs.parts);
        assert_eq!(theirs.parts.inputs, [Prompt::Ids(vec![7, 8]), Prompt::Ids(vec![9])]);
        assert_eq!((theirs.parts.dimensions, theirs.parts.normalize), (Some(64), false));
        assert_eq!(theirs.parts.truncation, Truncation::Cut { to: None, side: TruncationSide::Right });
    }

    #[test]
    fn a_kind_of_text_has_many_words() {
        let choice = |word: &str| openai(json!({"input": "a", "input_type": word})).unwrap().parts.prompt.unwrap();

        for (word, kind) in INPUT_TYPES {
            assert_eq!(choice(&word.to_uppercase()), PromptChoice::For { kind, word: word.to_owned() });
        }
    }

    #[test]
    fn what_cannot_be_is_refused_where_it_stands() {
        let cases = [
            (json!({"model": "m"}), "invalid `input`: missing"),
            (json!({"input": ""}), "invalid `input`: the text is empty"),
            (json!({"input": [""]}), "invalid `input[0]`: the text is empty"),
            (json!({"input": ["a", "b", "c", ""]}), "invalid `input[3]`: the text is empty"),
            (json!({"input": [[5], []]}), "invalid `input[1]`: the list is empty"),
            (json!({"input": [[5], [-6]]}), "invalid `input[1][0]`: -6 is no token id"),
            (json!({"input": vec!["a"; 2049]}), "invalid `input`: 2049 entries are more than 2048"),
            (json!({"input": "a", "dimensions": 0}), "invalid `dimensions`: 0 is less than 1"),
            (
                json!({"input": "a", "encoding_format": "ubinary"}),
                "invalid `encoding_format`: unknown variant `ubinary`, expected `float` or `base64`",
            ),
            (
                json!({"input": "a", "input_type": "clustering"}),
                "invalid `input_type`: `clustering` is none of query, search_query, document, passage, search_document",
            ),
            (
                json!({"input": "a", "input_type": "query", "prompt_name": "query"}),
                "invalid `prompt_name`: give `prompt_name` or `input_type`, not both",
            ),
        ];

        for (body, message) in cases {
            assert_eq!(openai(body).unwrap_err().to_string(), message);
        }
        assert_eq!(tei(json!({"input": "a"})).unwrap_err().to_string(), "invalid `inputs`: missing");
        assert!(openai(json!({"input": vec![5; 2049]})).is_ok(), "ids are not counted as inputs");
    }
}
