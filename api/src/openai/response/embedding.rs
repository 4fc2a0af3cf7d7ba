use super::PromptUsage;
use crate::openai::request::EncodingFormat;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Serialize, Serializer};

/// Vectors of one length, one after the other. Serialised they are a bare list: the answer of `POST /embed`.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    values: Vec<f32>,
    dimensions: usize,
}

/// The answer of `POST /v1/embeddings`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbeddingList {
    object: &'static str,
    data: Rows,
    /// The model that answered.
    pub model: String,
    /// Tokens of all inputs.
    pub usage: PromptUsage,
}

impl Vectors {
    /// Takes `[inputs, dimensions]` values; `dimensions` is at least 1.
    pub fn new(values: Vec<f32>, dimensions: usize) -> Self {
        debug_assert!(values.len().is_multiple_of(dimensions), "every vector has the same length");
        Self { values, dimensions }
    }

    fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimensions)
    }
}

impl EmbeddingList {
    /// The answer that holds these vectors, in the order of the inputs.
    pub fn new(model: String, vectors: Vectors, encoding: EncodingFormat, prompt_tokens: usize) -> Self {
        Self { object: "list", data: Rows { vectors, encoding }, model, usage: PromptUsage::new(prompt_tokens) }
    }
}

// Millions of numbers may be answered: they are written from the flat values, without a tree of JSON in between.
impl Serialize for Vectors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Rows {
    vectors: Vectors,
    encoding: EncodingFormat,
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = |(index, vector)| Embedding { object: "embedding", index, embedding: self.written(vector) };
        serializer.collect_seq(self.vectors.iter().enumerate().map(entry))
    }
}

impl Rows {
    fn written<'a>(&self, vector: &'a [f32]) -> Written<'a> {
        match self.encoding {
            EncodingFormat::Float => Written::Floats(vector),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                Written::Base64(BASE64_STANDARD.encode(bytes))
            }
        }
    }
}

#[derive(Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: usize,
    embedding: Written<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    Floats(&'a [f32]),
    Base64(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(encoding: EncodingFormat) -> String {
        let vectors = Vectors::new(vec![0.1, -1.0, 1e-9, 0.333_333_34], 2);
        serde_json::to_string(&EmbeddingList::new("m".into(), vectors, encoding, 7)).unwrap()
    }

    #[test]
    fn numbers_are_the_shortest_that_give_the_same_float() {
        insta::assert_snapshot!(json(EncodingFormat::Float), @r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-1.0]},{"object":"embedding","index":1,"embedding":[1e-9,0.33333334]}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#);
    }

    #[test]
    fn base64_holds_little_endian_floats() {
        insta::assert_snapshot!(json(EncodingFormat::Base64), @r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"zczMPQAAgL8="},{"object":"embedding","index":1,"embedding":"X3CJMKuqqj4="}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#);
    }

    #[test]
    fn the_other_form_is_a_bare_list() {
        let vectors = Vectors::new(vec![0.5, 0.25, 0.75], 3);

        assert_eq!(serde_json::to_string(&vectors).unwrap(), "[[0.5,0.25,0.75]]");
    }
}
