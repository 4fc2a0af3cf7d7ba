use super::Truncation;
use super::limits::{at_least_one, list_length};
use crate::error::ApiError;
use crate::openai::body::{FromBody, read_fields};
use actix_web::http::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Documents that one request may hold.
const MAX_DOCUMENTS: usize = 2048;

/// A body of `POST /rerank`, `/v1/rerank` or `/v2/rerank`. Its form decides about the form of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum RerankBody {
    /// Jina's and Cohere's form.
    Ranked(RerankRequest),
    /// That of text-embeddings-inference: `texts` and no `documents`.
    Tei(TeiRerankRequest),
}

/// A request in the form of Jina, Cohere and vLLM.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    /// The model that the client names.
    pub model: Option<String>,
    /// What is asked; not empty.
    pub query: String,
    /// What is ranked, at least one; a document may be empty.
    pub documents: Vec<String>,
    /// How many of the best are answered, at least 1 and perhaps more than there are; absent: all.
    pub top_n: Option<usize>,
    /// Whether the answer repeats the documents; absent: as the route is used to.
    pub return_documents: Option<bool>,
    /// Tokens of each document that are read, at least 1; absent: all.
    pub max_tokens_per_doc: Option<usize>,
    /// What becomes of a query and document that are too long together.
    pub truncation: Truncation,
}

/// A request in the form of text-embeddings-inference; the answer is a bare list.
#[derive(Debug, Clone, PartialEq)]
pub struct TeiRerankRequest {
    /// The model that the client names.
    pub model: Option<String>,
    /// What is asked; not empty.
    pub query: String,
    /// What is ranked, at least one; a text may be empty.
    pub texts: Vec<String>,
    /// Whether scores are left as the model gives them, not brought into [0, 1].
    pub raw_scores: bool,
    /// Whether the answer repeats the texts.
    pub return_text: bool,
    /// What becomes of a query and text that are too long together.
    pub truncation: Truncation,
}

#[derive(Deserialize)]
struct Fields {
    model: Option<String>,
    query: String,
    top_n: Option<i64>,
    return_documents: Option<bool>,
    rank_fields: Option<Vec<String>>,
    max_tokens_per_doc: Option<i64>,
    max_chunks_per_doc: Option<i64>,
}

#[derive(Deserialize)]
struct TeiFields {
    model: Option<String>,
    query: String,
    texts: Vec<String>,
    raw_scores: Option<bool>,
    return_text: Option<bool>,
}

impl FromBody for RerankBody {
    fn from_body(body: &Value, headers: &HeaderMap) -> Result<Self, ApiError> {
        let has = |field| body.get(field).is_some_and(|value| !value.is_null());
        if has("texts") && !has("documents") {
            return TeiRerankRequest::from_body(body, headers).map(Self::Tei);
        }
        RerankRequest::from_body(body, headers).map(Self::Ranked)
    }
}

impl FromBody for RerankRequest {
    fn from_body(body: &Value, _: &HeaderMap) -> Result<Self, ApiError> {
        let fields: Fields = read_fields(body)?;
        let request = Self {
            model: fields.model,
            query: checked_query(fields.query)?,
            documents: documents(body.get("documents"), &fields.rank_fields.unwrap_or_default())?,
            top_n: at_least_one("top_n", fields.top_n)?,
            return_documents: fields.return_documents,
            max_tokens_per_doc: at_least_one("max_tokens_per_doc", fields.max_tokens_per_doc)?,
            truncation: Truncation::read(body)?,
        };
        // Chunks beyond the first hold what a cut would drop: without a cut their number changes nothing.
        let cuts = request.max_tokens_per_doc.is_some() || request.truncation != Truncation::Off;
        if at_least_one("max_chunks_per_doc", fields.max_chunks_per_doc)?.is_some_and(|chunks| chunks > 1) && cuts {
            return Err(ApiError::unsupported("max_chunks_per_doc", "a document that is cut has one chunk"));
        }
        Ok(request)
    }
}

impl FromBody for TeiRerankRequest {
    fn from_body(body: &Value, _: &HeaderMap) -> Result<Self, ApiError> {
        let fields: TeiFields = read_fields(body)?;
        list_length("texts", fields.texts.len(), MAX_DOCUMENTS)?;
        Ok(Self {
            model: fields.model,
            query: checked_query(fields.query)?,
            texts: fields.texts,
            raw_scores: fields.raw_scores.unwrap_or(false),
            return_text: fields.return_text.unwrap_or(false),
            truncation: Truncation::read(body)?,
        })
    }
}

fn checked_query(query: String) -> Result<String, ApiError> {
    if query.is_empty() { Err(ApiError::invalid("query", "the text is empty")) } else { Ok(query) }
}

/// Reads strings and objects. Of an object `rank_fields` are read, one per line, or `text` where there are none.
fn documents(given: Option<&Value>, rank_fields: &[String]) -> Result<Vec<String>, ApiError> {
    let list = match given {
        Some(Value::Array(list)) => list,
        Some(Value::Null) | None => return Err(ApiError::invalid("documents", "missing")),
        Some(_) => return Err(ApiError::invalid("documents", "expected a list of strings or objects")),
    };
    list_length("documents", list.len(), MAX_DOCUMENTS)?;
    let one = |(i, document): (usize, &Value)| match document {
        Value::String(text) => Ok(text.clone()),
        Value::Object(object) if rank_fields.is_empty() => text_of(object, "text", i).map(str::to_owned),
        Value::Object(object) => {
            let lines = rank_fields.iter().map(|field| text_of(object, field, i));
            lines.collect::<Result<Vec<_>, _>>().map(|lines| lines.join("\n"))
        }
        other => {
            let reason = format!("{other} is neither text nor an object");
            Err(ApiError::invalid(format!("documents[{i}]"), reason))
        }
    };
    list.iter().enumerate().map(one).collect()
}

fn text_of<'a>(document: &'a Map<String, Value>, field: &str, i: usize) -> Result<&'a str, ApiError> {
    let reason = match document.get(field) {
        Some(Value::String(text)) => return Ok(text),
        Some(Value::Null) | None => "missing",
        Some(_) => "expected a string",
    };
    Err(ApiError::invalid(format!("documents[{i}].{field}"), reason))
}

#[cfg(test)]
mod tests {
    use super::super::TruncationSide;
    use super::*;
    use serde_json::json;

    fn ranked(mut body: Value) -> Result<RerankRequest, ApiError> {
        for (field, value) in [("query", json!("q")), ("documents", json!(["a", "b"]))] {
            let given = body.as_object_mut().unwrap();
            given.entry(field).or_insert(value);
        }
        RerankRequest::from_body(&body, &HeaderMap::new())
    }

    fn read(body: Value) -> Result<RerankBody, ApiError> {
        RerankBody::from_body(&body, &HeaderMap::new())
    }

    #[test]
    fn documents_are_strings_or_objects() {
        let of = |body| ranked(body).unwrap().documents;
        let book = json!({"title": "T", "year": 1999, "text": "x", "blurb": "B"});

        assert_eq!(of(json!({"documents": ["a", "", {"text": "b"}]})), ["a", "", "b"]);
        assert_eq!(of(json!({"documents": ["a", book], "rank_fields": ["blurb", "title"]})), ["a", "B\nT"]);
        assert_eq!(of(json!({"documents": [book], "rank_fields": []})), ["x"]);
        assert_eq!(of(json!({"documents": ["title: T\ntext: x\n"]})), ["title: T\ntext: x\n"]);
    }

    #[test]
    fn texts_without_documents_are_the_other_form() {
        let tei = json!({"query": "q", "texts": ["a"], "documents": null, "raw_scores": true, "truncate": true});
        let both = json!({"query": "q", "texts": ["a"], "documents": ["b"]});

        let RerankBody::Tei(request) = read(tei).unwrap() else { panic!("texts were sent") };
        let RerankBody::Ranked(other) = read(both).unwrap() else { panic!("documents were sent") };

        assert_eq!((request.texts, request.raw_scores, request.return_text), (vec!["a".to_owned()], true, false));
        assert_eq!(request.truncation, Truncation::Cut { to: None, side: TruncationSide::Right });
        assert_eq!(other.documents, ["b"]);
        assert_eq!(read(json!({"query": "q"})).unwrap_err().to_string(), "invalid `documents`: missing");
        assert_eq!(
            read(json!({"query": "q", "texts": ["a", 1]})).unwrap_err().to_string(),
            "invalid `texts[1]`: invalid type: integer `1`, expected a string"
        );
        assert_eq!(
            read(json!({"query": "q", "texts": []})).unwrap_err().to_string(),
            "invalid `texts`: the list is empty"
        );
    }

    #[test]
    fn what_is_left_out_is_left_to_the_route() {
        let request = ranked(json!({"top_n": null, "return_documents": null, "user": "u"})).unwrap();

        assert_eq!((request.top_n, request.return_documents, request.max_tokens_per_doc), (None, None, None));
        assert_eq!(ranked(json!({"top_n": 9_000})).unwrap().top_n, Some(9_000));
    }

    #[test]
    fn chunks_count_only_where_documents_are_cut() {
        let refused = |body| ranked(body).unwrap_err().to_string();

        assert!(ranked(json!({"max_chunks_per_doc": 10})).is_ok());
        assert!(ranked(json!({"max_chunks_per_doc": 1, "truncate": true, "max_tokens_per_doc": 9})).is_ok());
        for cut in [
            json!({"max_chunks_per_doc": 10, "truncate": true}),
            json!({"max_chunks_per_doc": 2, "max_tokens_per_doc": 9}),
        ] {
            assert_eq!(refused(cut), "`max_chunks_per_doc` is not supported: a document that is cut has one chunk");
        }
        assert_eq!(refused(json!({"max_chunks_per_doc": 0})), "invalid `max_chunks_per_doc`: 0 is less than 1");
    }

    #[test]
    fn what_cannot_be_is_refused_where_it_stands() {
        let cases = [
            (json!({"query": null}), "invalid `query`: invalid type: null, expected a string"),
            (json!({"query": ""}), "invalid `query`: the text is empty"),
            (json!({"documents": null}), "invalid `documents`: missing"),
            (json!({"documents": "a"}), "invalid `documents`: expected a list of strings or objects"),
            (json!({"documents": []}), "invalid `documents`: the list is empty"),
            (json!({"documents": vec!["a"; 2049]}), "invalid `documents`: 2049 entries are more than 2048"),
            (json!({"documents": ["a", 5]}), "invalid `documents[1]`: 5 is neither text nor an object"),
            (json!({"documents": ["a", {"title": "T"}]}), "invalid `documents[1].text`: missing"),
            (
                json!({"documents": [{"year": 1999}], "rank_fields": ["year"]}),
                "invalid `documents[0].year`: expected a string",
            ),
            (json!({"top_n": 0}), "invalid `top_n`: 0 is less than 1"),
            (json!({"top_n": -1}), "invalid `top_n`: -1 is less than 1"),
            (json!({"max_tokens_per_doc": 0}), "invalid `max_tokens_per_doc`: 0 is less than 1"),
        ];

        for (body, message) in cases {
            assert_eq!(ranked(body).unwrap_err().to_string(), message);
        }
    }
}
