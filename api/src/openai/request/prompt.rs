use super::limits::list_length;
use crate::error::ApiError;
use serde_json::Value;

/// One prompt of a completion, or one input to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Text for the tokenizer.
    Text(String),
    /// Tokens as they are.
    Ids(Vec<u32>),
}

impl Prompt {
    /// Reads a string, a list of strings, a list of token ids or a list of such lists; at most `max` prompts.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] with the path of what is missing or of another form.
    pub(super) fn read_list(body: &Value, field: &'static str, max: usize) -> Result<Vec<Self>, ApiError> {
        let list = match body.get(field) {
            Some(Value::String(text)) => return Ok(vec![Self::Text(text.clone())]),
            Some(Value::Null) | None => return Err(ApiError::invalid(field, "missing")),
            Some(Value::Array(list)) => list,
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                return Err(ApiError::invalid(field, "expected a string, a list of strings or token ids"));
            }
        };
        if list.first().is_some_and(Value::is_number) {
            return Ok(vec![Self::Ids(ids(list, field)?)]);
        }
        list_length(field, list.len(), max)?;
        let one = |(i, prompt): (usize, &Value)| match prompt {
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Array(tokens) if tokens.is_empty() => {
                Err(ApiError::invalid(format!("{field}[{i}]"), "the list is empty"))
            }
            Value::Array(tokens) => ids(tokens, &format!("{field}[{i}]")).map(Self::Ids),
            other => Err(ApiError::invalid(
                format!("{field}[{i}]"),
                format!("{other} is neither text nor a list of token ids"),
            )),
        };
        list.iter().enumerate().map(one).collect()
    }
}

fn ids(list: &[Value], field: &str) -> Result<Vec<u32>, ApiError> {
    let id = |(i, value): (usize, &Value)| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| ApiError::invalid(format!("{field}[{i}]"), format!("{value} is no token id")))
    };
    list.iter().enumerate().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn prompts(body: Value) -> Result<Vec<Prompt>, ApiError> {
        Prompt::read_list(&body, "prompt", 3)
    }

    #[test]
    fn a_prompt_is_text_or_ids_alone_or_in_lists() {
        let of = |prompt: Value| prompts(json!({"prompt": prompt})).unwrap();
        let text = |text: &str| Prompt::Text(text.to_owned());

        assert_eq!(of(json!("a")), [text("a")]);
        assert_eq!(of(json!(["a", "b"])), [text("a"), text("b")]);
        assert_eq!(of(json!([1, 2, 3, u32::MAX])), [Prompt::Ids(vec![1, 2, 3, u32::MAX])]);
        assert_eq!(of(json!([[1], [2, 3]])), [Prompt::Ids(vec![1]), Prompt::Ids(vec![2, 3])]);
    }

    #[test]
    fn a_prompt_of_another_form_is_refused_where_it_breaks() {
        let cases = [
            (json!({}), "invalid `prompt`: missing"),
            (json!({"prompt": null}), "invalid `prompt`: missing"),
            (json!({"prompt": []}), "invalid `prompt`: the list is empty"),
            (json!({"prompt": {}}), "invalid `prompt`: expected a string, a list of strings or token ids"),
            (json!({"prompt": [1, "a"]}), "invalid `prompt[1]`: \"a\" is no token id"),
            (json!({"prompt": [-1]}), "invalid `prompt[0]`: -1 is no token id"),
            (json!({"prompt": [4_294_967_296_u64]}), "invalid `prompt[0]`: 4294967296 is no token id"),
            (json!({"prompt": [[1], [2, 0.5]]}), "invalid `prompt[1][1]`: 0.5 is no token id"),
            (json!({"prompt": ["a", null]}), "invalid `prompt[1]`: null is neither text nor a list of token ids"),
            (json!({"prompt": [[]]}), "invalid `prompt[0]`: the list is empty"),
            (json!({"prompt": ["a", "b", "c", "d"]}), "invalid `prompt`: 4 entries are more than 3"),
        ];

        for (body, message) in cases {
            assert_eq!(prompts(body).unwrap_err().to_string(), message);
        }
    }
}
