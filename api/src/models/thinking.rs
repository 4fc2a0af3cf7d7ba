//! How a model is kept from thinking longer than a request wants.

use crate::error::ApiError;
use crate::openai::request::Thinking;
use lmx_runtime::sampling::ThinkingLimit;
use lmx_runtime::text::{ChatTemplate, Conventions, ParseOptions};

/// The limit on the reasoning of an answer that is read by `parse`; `None` where the template takes care of it, or
/// nobody has to.
///
/// # Errors
/// [`ApiError::Unsupported`] if the request sets a limit and nothing could keep it.
pub(super) fn limit(
    thinking: Thinking,
    conventions: &Conventions,
    template: Option<&ChatTemplate>,
    parse: &ParseOptions,
) -> Result<Option<ThinkingLimit>, ApiError> {
    let own_efforts = || template.is_some_and(|template| template.mentions("reasoning_effort"));
    let (budget, field) = match thinking {
        Thinking::Free => return Ok(None),
        // For templates that open reasoning all the same, and models that begin it themselves.
        Thinking::Off(_) if conventions.can_skip_thinking() => return Ok(conventions.thinking_limit(0, parse)),
        Thinking::Off(field) => (0, field),
        Thinking::Effort(_) if own_efforts() => return Ok(None),
        Thinking::Effort(tokens) => (tokens, "reasoning_effort"),
        Thinking::Asked(tokens) | Thinking::Preset(tokens) => (tokens, "thinking_budget"),
    };
    match conventions.thinking_limit(budget, parse) {
        Some(limit) => Ok(Some(limit)),
        None => Err(ApiError::unsupported(field, "the model does not mark its reasoning with tokens of their own")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lmx_runtime::text::{Chosen, TemplateFiles, Tokenizer};

    /// What comes of a limit for a model with this template; its vocabulary has markers of reasoning or not.
    fn of(thinking: Thinking, template: &str, markers: bool) -> Result<Option<u32>, String> {
        let (with, without) = (
            include_bytes!("../../../runtime/tests/data/text/qwen3/tokenizer.json").as_slice(),
            include_bytes!("../../../runtime/tests/data/text/llama/tokenizer.json").as_slice(),
        );
        let tokenizer = Tokenizer::from_bytes(if markers { with } else { without }, None).unwrap();
        let files = TemplateFiles { jinja: Some(template), ..TemplateFiles::default() };
        let template = ChatTemplate::from_files(&files).unwrap();
        let conventions = Conventions::of(template.as_ref(), &tokenizer, Chosen::Detected, Chosen::Detected);
        let limit = limit(thinking, &conventions, template.as_ref(), &ParseOptions::default());
        limit.map(|limit| limit.map(|limit| limit.budget)).map_err(|error| error.param().unwrap().to_owned())
    }

    #[test]
    fn thinking_that_nothing_could_switch_off_is_refused() {
        let silent = "{{ messages }} writes <think> and </think>";
        assert_eq!(of(Thinking::Off("enable_thinking"), silent, false), Err("enable_thinking".to_owned()));
        assert_eq!(of(Thinking::Off("reasoning_effort"), silent, false), Err("reasoning_effort".to_owned()));
        assert_eq!(of(Thinking::Off("enable_thinking"), silent, true), Ok(Some(0)));
        for switch in ["enable_thinking", "thinking"] {
            let told = format!("{silent} {{% if {switch} %}}<think>{{% endif %}}");
            assert_eq!(of(Thinking::Off("enable_thinking"), &told, false), Ok(None), "{switch}");
        }
        // A model that does not think does as it is told.
        assert_eq!(of(Thinking::Off("enable_thinking"), "{{ messages }}", false), Ok(None));
    }

    #[test]
    fn an_effort_is_a_budget_unless_the_template_deals_with_it() {
        let silent = "{{ messages }} writes <think> and </think>";
        assert_eq!(of(Thinking::Effort(256), silent, true), Ok(Some(256)));
        assert_eq!(of(Thinking::Effort(256), silent, false), Err("reasoning_effort".to_owned()));
        for markers in [true, false] {
            assert_eq!(of(Thinking::Effort(256), "{{ reasoning_effort }}</think>", markers), Ok(None));
        }
        assert_eq!(of(Thinking::Asked(5), silent, false), Err("thinking_budget".to_owned()));
        assert_eq!(of(Thinking::Free, silent, false), Ok(None));
    }
}
