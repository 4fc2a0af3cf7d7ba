//! How long a model may think before it answers.

use super::RequestDefaults;
use crate::error::ApiError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a request says about thinking, as it came.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ThinkingFields {
    thinking_budget: Option<i64>,
    thinking_token_budget: Option<i64>,
}

/// How long a model may think.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Thinking {
    /// As long as it likes.
    #[default]
    Free,
    /// Not at all; the field that says so.
    Off(&'static str),
    /// As many tokens as the request says.
    Asked(u32),
    /// As many as the preset says.
    Preset(u32),
    /// As many as go with an effort, where the template does not deal with efforts itself.
    Effort(u32),
}

impl ThinkingFields {
    /// Joins what the request, its template variables and the preset say. -1 is no limit. `effort`: one of
    /// [`EFFORTS`].
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for other numbers below 0.
    pub(super) fn resolve(
        &self,
        kwargs: &Map<String, Value>,
        effort: Option<&str>,
        defaults: &RequestDefaults,
    ) -> Result<Thinking, ApiError> {
        // A wrong number is wrong whatever else the request says.
        let asked = budget("thinking_budget", self.thinking_budget)?;
        let asked = asked.or(budget("thinking_token_budget", self.thinking_token_budget)?);
        let effort = EFFORTS.into_iter().find(|(name, _)| Some(*name) == effort);
        if kwargs.get("enable_thinking") == Some(&Value::Bool(false)) {
            let by_effort = effort.is_some_and(|(name, _)| name == "none");
            return Ok(Thinking::Off(if by_effort { "reasoning_effort" } else { "enable_thinking" }));
        }
        Ok(match (asked, effort.and_then(|(_, tokens)| tokens), defaults.parameters.thinking_budget) {
            (Some(asked), ..) => asked,
            (None, Some(tokens), _) => Thinking::Effort(tokens),
            (None, None, Some(tokens)) => Thinking::Preset(tokens),
            (None, None, None) => Thinking::Free,
        })
    }
}

fn budget(field: &'static str, tokens: Option<i64>) -> Result<Option<Thinking>, ApiError> {
    Ok(match tokens {
        None => None,
        Some(-1) => Some(Thinking::Free),
        Some(tokens) if tokens < 0 => return Err(ApiError::invalid(field, "neither -1 nor a number of tokens")),
        Some(tokens) => Some(Thinking::Asked(u32::try_from(tokens).unwrap_or(u32::MAX))),
    })
}

/// The values of `reasoning_effort` and the tokens that go with them, where they are a limit. The steps are those that
/// clients of several servers expect; `none` switches thinking off.
const EFFORTS: [(&str, Option<u32>); 7] = [
    ("none", None),
    ("minimal", Some(256)),
    ("low", Some(1024)),
    ("medium", Some(4096)),
    ("high", None),
    ("xhigh", None),
    ("max", None),
];

/// Checks a `reasoning_effort`. A template with words of its own gets them by `chat_template_kwargs`.
///
/// # Errors
/// [`ApiError::Invalid`] for an unknown one.
pub(super) fn check_effort(effort: &str) -> Result<(), ApiError> {
    let known = EFFORTS.map(|(name, _)| name);
    if known.contains(&effort) {
        return Ok(());
    }
    Err(ApiError::invalid("reasoning_effort", format!("`{effort}` is none of {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::request::Parameters;
    use serde_json::json;

    fn resolve(body: Value, kwargs: Value, effort: Option<&str>) -> Result<Thinking, ApiError> {
        let parameters = Parameters { thinking_budget: Some(70), ..Parameters::default() };
        let defaults = RequestDefaults { parameters, ..RequestDefaults::default() };
        let fields: ThinkingFields = serde_json::from_value(body).unwrap();
        fields.resolve(kwargs.as_object().unwrap(), effort, &defaults)
    }

    #[test]
    fn a_request_wins_over_an_effort_and_an_effort_over_the_preset() {
        let of = |body, effort| resolve(body, json!({}), effort).unwrap();

        assert_eq!(of(json!({"thinking_budget": 5}), Some("low")), Thinking::Asked(5));
        assert_eq!(of(json!({"thinking_token_budget": 6}), None), Thinking::Asked(6));
        assert_eq!(of(json!({"thinking_budget": -1}), Some("low")), Thinking::Free);
        assert_eq!(of(json!({}), Some("low")), Thinking::Effort(1024));
        assert_eq!(of(json!({}), Some("high")), Thinking::Preset(70));
        assert_eq!(of(json!({}), None), Thinking::Preset(70));
        let off = resolve(json!({"thinking_budget": 5}), json!({"enable_thinking": false}), None);
        assert_eq!(off, Ok(Thinking::Off("enable_thinking")));
        let off = resolve(json!({}), json!({"enable_thinking": false}), Some("none"));
        assert_eq!(off, Ok(Thinking::Off("reasoning_effort")));
    }

    #[test]
    fn a_wrong_budget_is_refused_whatever_else_is_said() {
        for field in ["thinking_budget", "thinking_token_budget"] {
            for enabled in [true, false] {
                let error = resolve(json!({field: -2}), json!({"enable_thinking": enabled}), Some("low")).unwrap_err();
                assert_eq!(error.param(), Some(field));
            }
        }
        let both = json!({"thinking_budget": 5, "thinking_token_budget": -2});
        assert_eq!(resolve(both, json!({}), None).unwrap_err().param(), Some("thinking_token_budget"));
    }
}
