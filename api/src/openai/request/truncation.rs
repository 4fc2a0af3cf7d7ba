use crate::error::ApiError;
use crate::openai::body::read_fields;
use serde::Deserialize;
use serde_json::Value;

/// What becomes of an input that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// It is refused.
    Off,
    /// It is cut.
    Cut {
        /// Tokens that may stay, special ones included; absent: as many as the model takes.
        to: Option<usize>,
        /// Where tokens are dropped.
        side: TruncationSide,
    },
}

/// Where an input loses tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TruncationSide {
    /// At its start.
    Left,
    /// At its end.
    Right,
}

#[derive(Deserialize)]
struct Fields {
    truncate: Option<Value>,
    truncate_prompt_tokens: Option<i64>,
    #[serde(alias = "truncation_side")]
    truncation_direction: Option<String>,
}

/// What `truncate` asks for.
#[derive(Clone, Copy)]
struct Asked {
    cut: bool,
    side: Option<TruncationSide>,
}

impl Truncation {
    /// Reads `truncate` (a boolean as for text-embeddings-inference, or a word as for Cohere), `truncate_prompt_tokens`
    /// (vLLM) and `truncation_direction`. Tokens are dropped at the end unless the request says otherwise.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for other words and for fields that contradict each other.
    pub(super) fn read(body: &Value) -> Result<Self, ApiError> {
        let fields: Fields = read_fields(body)?;
        let asked = fields.truncate.as_ref().map(read_truncate).transpose()?;
        let direction = fields.truncation_direction.as_deref().map(read_direction).transpose()?;
        let to = match fields.truncate_prompt_tokens {
            None | Some(-1) => None,
            Some(tokens @ 1..) => Some(usize::try_from(tokens).unwrap_or(usize::MAX)),
            Some(tokens) => {
                let reason = format!("{tokens} is neither -1 nor at least 1");
                return Err(ApiError::invalid("truncate_prompt_tokens", reason));
            }
        };
        let side = match (asked.and_then(|asked| asked.side), direction) {
            (Some(word), Some(direction)) if word != direction => {
                return Err(ApiError::invalid("truncation_direction", "`truncate` names the other side"));
            }
            (word, direction) => word.or(direction).unwrap_or(TruncationSide::Right),
        };
        match (asked.map(|asked| asked.cut), fields.truncate_prompt_tokens) {
            (Some(false), Some(_)) => Err(ApiError::invalid("truncate_prompt_tokens", "`truncate` forbids to cut")),
            (Some(false) | None, None) => Ok(Self::Off),
            (Some(true), _) | (None, Some(_)) => Ok(Self::Cut { to, side }),
        }
    }
}

fn read_truncate(value: &Value) -> Result<Asked, ApiError> {
    let asked = |cut, side| Ok(Asked { cut, side });
    match value {
        Value::Bool(cut) => asked(*cut, None),
        Value::String(word) => match word.to_ascii_uppercase().as_str() {
            "NONE" => asked(false, None),
            "START" | "LEFT" => asked(true, Some(TruncationSide::Left)),
            "END" | "RIGHT" => asked(true, Some(TruncationSide::Right)),
            _ => Err(ApiError::invalid("truncate", format!("`{word}` is none of NONE, START, END, LEFT, RIGHT"))),
        },
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(ApiError::invalid("truncate", format!("{value} is neither a boolean nor a word")))
        }
    }
}

fn read_direction(word: &str) -> Result<TruncationSide, ApiError> {
    match word.to_ascii_lowercase().as_str() {
        "left" => Ok(TruncationSide::Left),
        "right" => Ok(TruncationSide::Right),
        _ => Err(ApiError::invalid("truncation_direction", format!("`{word}` is neither left nor right"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TruncationSide::{Left, Right};
    use serde_json::json;

    #[test]
    fn every_servers_words_mean_the_same() {
        let cut = |to, side| Truncation::Cut { to, side };
        let cases = [
            (json!({}), Truncation::Off),
            (json!({"truncate": null, "truncate_prompt_tokens": null}), Truncation::Off),
            (json!({"truncate": false}), Truncation::Off),
            (json!({"truncate": "none", "truncation_direction": "left"}), Truncation::Off),
            (json!({"truncate": true}), cut(None, Right)),
            (json!({"truncate": true, "truncation_direction": "Left"}), cut(None, Left)),
            (json!({"truncate": "START"}), cut(None, Left)),
            (json!({"truncate": "End"}), cut(None, Right)),
            (json!({"truncate": "LEFT", "truncate_prompt_tokens": 8}), cut(Some(8), Left)),
            (json!({"truncate_prompt_tokens": -1}), cut(None, Right)),
            (json!({"truncate_prompt_tokens": 1, "truncation_side": "left"}), cut(Some(1), Left)),
        ];

        for (body, truncation) in cases {
            assert_eq!(Truncation::read(&body), Ok(truncation), "{body}");
        }
    }

    #[test]
    fn other_words_and_contradictions_are_refused() {
        let cases = [
            (json!({"truncate": "MIDDLE"}), "invalid `truncate`: `MIDDLE` is none of NONE, START, END, LEFT, RIGHT"),
            (json!({"truncate": 1}), "invalid `truncate`: 1 is neither a boolean nor a word"),
            (json!({"truncation_direction": "up"}), "invalid `truncation_direction`: `up` is neither left nor right"),
            (
                json!({"truncate": "START", "truncation_direction": "right"}),
                "invalid `truncation_direction`: `truncate` names the other side",
            ),
            (json!({"truncate_prompt_tokens": 0}), "invalid `truncate_prompt_tokens`: 0 is neither -1 nor at least 1"),
            (
                json!({"truncate": "NONE", "truncate_prompt_tokens": 5}),
                "invalid `truncate_prompt_tokens`: `truncate` forbids to cut",
            ),
            (
                json!({"truncate_prompt_tokens": 2.5}),
                "invalid `truncate_prompt_tokens`: invalid type: floating point `2.5`, expected i64",
            ),
        ];

        for (body, message) in cases {
            assert_eq!(Truncation::read(&body).unwrap_err().to_string(), message);
        }
    }
}
