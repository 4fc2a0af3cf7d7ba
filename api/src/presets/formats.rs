use lmx_runtime::text::{Chosen, ReasoningFormat, ToolFormat};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How a preset says that answers are to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Formats {
    /// How the model calls tools.
    pub tools: Chosen<ToolFormat>,
    /// How it marks its reasoning.
    pub reasoning: Chosen<ReasoningFormat>,
}

/// A key that names a format, and what is wrong with the name.
pub(super) type WrongFormat = (&'static str, String);

impl Formats {
    /// Reads the names in a preset; one that is wrong counts as not given and is reported.
    pub(super) fn read(tools: Option<&str>, reasoning: Option<&str>) -> (Self, Vec<WrongFormat>) {
        let mut wrong = Vec::new();
        let tools = choose("tool_parser", tools, &ToolFormat::ALL.map(ToolFormat::name), &mut wrong);
        let reasoning =
            choose("reasoning_parser", reasoning, &ReasoningFormat::ALL.map(ReasoningFormat::name), &mut wrong);
        (Self { tools, reasoning }, wrong)
    }
}

fn choose<T: DeserializeOwned>(
    key: &'static str,
    name: Option<&str>,
    known: &[&str],
    wrong: &mut Vec<WrongFormat>,
) -> Chosen<T> {
    match name {
        None | Some("auto") => Chosen::Detected,
        Some("none") => Chosen::None,
        Some(name) => serde_json::from_value(Value::from(name)).map(Chosen::Format).unwrap_or_else(|_| {
            wrong.push((key, format!("`{name}` is none of auto, none, {}", known.join(", "))));
            Chosen::Detected
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_named_or_found_or_switched_off() {
        let (formats, wrong) = Formats::read(Some("glm47"), Some("none"));
        assert_eq!((formats.tools, formats.reasoning), (Chosen::Format(ToolFormat::Glm4), Chosen::None));
        assert!(wrong.is_empty());
        assert_eq!(Formats::read(Some("auto"), None), (Formats::default(), Vec::new()));

        let (formats, wrong) = Formats::read(Some("glm"), Some("thinking"));
        assert_eq!(formats, Formats::default());
        assert_eq!(wrong[0].0, "tool_parser");
        assert_eq!(wrong[1], ("reasoning_parser", "`thinking` is none of auto, none, think, mistral".to_owned()));
    }
}
