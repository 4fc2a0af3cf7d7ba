//! Tools of a chat: what the model is told of them, and which calls it may make.

use crate::error::ApiError;
use lmx_runtime::text::{CallPolicy, Tools};
use serde_json::Value;
use std::sync::Arc;

/// What a request says about tools, as it came.
#[derive(Debug, Default)]
pub(super) struct ToolFields {
    pub(super) tools: Option<Vec<Value>>,
    pub(super) tool_choice: Option<Value>,
    pub(super) parallel_tool_calls: Option<bool>,
}

/// The tools of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolUse {
    /// As the client wrote them, for the template.
    pub list: Vec<Value>,
    /// As calls are read by them.
    pub tools: Arc<Tools>,
    /// Which calls the answer may hold.
    pub policy: CallPolicy,
}

impl ToolFields {
    /// Checks them; `None` if there are no tools.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for a tool without a name and a choice without tools, [`ApiError::Unsupported`] for a choice
    /// that calls have to be forced for.
    pub(super) fn resolve(self) -> Result<Option<ToolUse>, ApiError> {
        let list = self.tools.unwrap_or_default();
        let wanted = self.tool_choice.as_ref().map_or(Ok(true), |choice| may_call(choice, !list.is_empty()))?;
        for (i, tool) in list.iter().enumerate() {
            check(tool, i)?;
        }
        if list.is_empty() {
            return Ok(None);
        }
        let policy = match (wanted, self.parallel_tool_calls) {
            (false, _) => CallPolicy::None,
            (true, Some(false)) => CallPolicy::One,
            (true, None | Some(true)) => CallPolicy::Any,
        };
        Ok(Some(ToolUse { tools: Arc::new(Tools::from_request(&list)), list, policy }))
    }
}

impl ToolUse {
    /// What the template is told: nothing where no call is wanted.
    pub fn for_template(&self) -> Option<&[Value]> {
        (self.policy != CallPolicy::None).then_some(&self.list)
    }
}

fn may_call(choice: &Value, has_tools: bool) -> Result<bool, ApiError> {
    let forced = "a call cannot be forced, only `auto` and `none` are available";
    match choice.as_str() {
        Some("none") => Ok(false),
        Some("auto" | "required") if !has_tools => Err(ApiError::invalid("tool_choice", "needs `tools`")),
        Some("auto") => Ok(true),
        Some("required") => Err(ApiError::unsupported("tool_choice", forced)),
        None if choice.is_object() => Err(ApiError::unsupported("tool_choice", forced)),
        Some(_) | None => Err(ApiError::invalid("tool_choice", format!("{choice} is none of auto, none, required"))),
    }
}

fn check(tool: &Value, i: usize) -> Result<(), ApiError> {
    let missing = |path: &str| ApiError::invalid(format!("tools[{i}].{path}"), "missing");
    match tool.get("type").and_then(Value::as_str) {
        None | Some("function") => {}
        Some(other) => {
            let reason = format!("a tool of type `{other}`, only functions can be called");
            return Err(ApiError::unsupported(format!("tools[{i}].type"), reason));
        }
    }
    let function = tool.get("function").filter(|function| function.is_object()).ok_or_else(|| missing("function"))?;
    let name = function.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    name.ok_or_else(|| missing("function.name"))?;
    match function.get("parameters") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err(ApiError::invalid(format!("tools[{i}].function.parameters"), "expected an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resolve(body: Value) -> Result<Option<ToolUse>, ApiError> {
        let tools = body.get("tools").map(|tools| tools.as_array().unwrap().clone());
        let parallel_tool_calls = body.get("parallel_tool_calls").and_then(Value::as_bool);
        ToolFields { tools, tool_choice: body.get("tool_choice").cloned(), parallel_tool_calls }.resolve()
    }

    fn tool() -> Value {
        json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}})
    }

    #[test]
    fn a_choice_decides_what_the_template_is_told_and_what_an_answer_may_hold() {
        let policy = |more: Value| {
            let mut body = json!({"tools": [tool()]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let found = resolve(body).unwrap().unwrap();
            (found.policy, found.for_template().is_some())
        };

        assert_eq!(policy(json!({})), (CallPolicy::Any, true));
        assert_eq!(policy(json!({"tool_choice": "auto", "parallel_tool_calls": true})), (CallPolicy::Any, true));
        assert_eq!(policy(json!({"parallel_tool_calls": false})), (CallPolicy::One, true));
        assert_eq!(policy(json!({"tool_choice": "none"})), (CallPolicy::None, false));
        assert_eq!(resolve(json!({"tools": [], "tool_choice": "none"})), Ok(None));
        assert_eq!(resolve(json!({"parallel_tool_calls": true})), Ok(None));
    }

    #[test]
    fn a_choice_that_forces_a_call_is_refused_and_says_so() {
        let forced = [json!("required"), json!({"type": "function", "function": {"name": "f"}})];
        for choice in forced {
            let error = resolve(json!({"tools": [tool()], "tool_choice": choice})).unwrap_err();
            assert_eq!((error.code(), error.param()), ("unsupported_parameter", Some("tool_choice")));
            assert!(error.to_string().contains("cannot be forced"), "{error}");
        }
        for wrong in [json!("maybe"), json!(3)] {
            let error = resolve(json!({"tools": [tool()], "tool_choice": wrong})).unwrap_err();
            assert_eq!((error.code(), error.param()), ("invalid_value", Some("tool_choice")));
        }
        assert_eq!(resolve(json!({"tool_choice": "auto"})).unwrap_err().param(), Some("tool_choice"));
    }

    #[test]
    fn a_tool_that_cannot_be_called_is_named() {
        let cases = [
            (json!({"type": "function"}), "tools[1].function"),
            (json!({"function": {"name": ""}}), "tools[1].function.name"),
            (json!({"function": {"name": "f", "parameters": []}}), "tools[1].function.parameters"),
            (json!({"type": "web_search"}), "tools[1].type"),
        ];
        for (wrong, path) in cases {
            assert_eq!(resolve(json!({"tools": [tool(), wrong]})).unwrap_err().param(), Some(path));
        }
    }
}
