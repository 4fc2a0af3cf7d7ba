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
    /// Not at all.
    Off,
    /// As many tokens as the request says.
    Asked(u32),
    /// As many as the preset says.
    Preset(u32),
    /// As many as go with an effort, where the template does not deal with efforts itself.
    Effort(u32),
}

impl ThinkingFields {
    /// Joins what the request, its template variables and the preset say. -1 is no limit.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for other numbers below 0.
    pub(super) fn resolve(
        &self,
        kwargs: &Map<String, Value>,
        effort: Option<&str>,
        defaults: &RequestDefaults,
    ) -> Result<Thinking, ApiError> {
        let asked = match (self.thinking_budget, self.thinking_token_budget) {
            (Some(tokens), _) => Some(("thinking_budget", tokens)),
            (None, tokens) => tokens.map(|tokens| ("thinking_token_budget", tokens)),
        };
        if kwargs.get("enable_thinking") == Some(&Value::Bool(false)) {
            return Ok(Thinking::Off);
        }
        Ok(match (asked, effort.and_then(budget_of), defaults.parameters.thinking_budget) {
            (Some((_, -1)), ..) => Thinking::Free,
            (Some((field, tokens)), ..) => {
                let tokens = u64::try_from(tokens);
                let tokens = tokens.map_err(|_| ApiError::invalid(field, "neither -1 nor a number of tokens"))?;
                Thinking::Asked(u32::try_from(tokens).unwrap_or(u32::MAX))
            }
            (None, Some(tokens), _) => Thinking::Effort(tokens),
            (None, None, Some(tokens)) => Thinking::Preset(tokens),
            (None, None, None) => Thinking::Free,
        })
    }
}

/// Tokens that go with an effort; `high` is no limit. The steps are those that clients of several servers expect.
fn budget_of(effort: &str) -> Option<u32> {
    match effort {
        "minimal" => Some(256),
        "low" => Some(1024),
        "medium" => Some(4096),
        _ => None,
    }
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
        assert_eq!(off, Ok(Thinking::Off));
        let error = resolve(json!({"thinking_token_budget": -2}), json!({}), None).unwrap_err();
        assert_eq!(error.param(), Some("thinking_token_budget"));
    }
}
