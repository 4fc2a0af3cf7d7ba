//! Arguments that the model writes as text between tags: turned into JSON by the schema of the tool.

use super::event::Sink;
use super::tools::{Kind, Tools};
use serde_json::{Number, Value};

/// How a family means the text of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// By the schema, `null` is null; a line feed at each end belongs to the tags if `in_lines`.
    Typed {
        /// Whether tags and values stand in lines of their own.
        in_lines: bool,
    },
    /// By the schema, else as JSON, else as text.
    Json,
}

/// Writes the arguments of one call as a JSON object, piece by piece. Texts go out as they come.
#[derive(Debug)]
pub(super) struct WrittenArguments {
    values: Values,
    any: bool,
    kinds: Vec<Kind>,
    /// What has come of the value and is not written.
    value: String,
    /// Whether the value is a text that is being written.
    open: bool,
}

impl WrittenArguments {
    pub(super) fn new(values: Values) -> Self {
        Self { values, any: false, kinds: Vec::new(), value: String::new(), open: false }
    }

    /// Begins the value of a parameter.
    pub(super) fn key(&mut self, tool: &str, parameter: &str, tools: &Tools, sink: &mut Sink) {
        sink.arguments(if self.any { ", " } else { "{" });
        sink.arguments(&Value::from(parameter).to_string());
        sink.arguments(": ");
        self.any = true;
        self.kinds = tools.kinds(tool, parameter);
        self.value.clear();
        self.open = false;
    }

    /// Adds to the value.
    pub(super) fn text(&mut self, piece: &str, sink: &mut Sink) {
        self.value.push_str(piece);
        if !self.is_text() {
            return;
        }
        if !self.open {
            if self.may_be_null() {
                return;
            }
            if self.in_lines() && self.value.starts_with('\n') {
                self.value.remove(0);
            }
            sink.arguments("\"");
            self.open = true;
        }
        // The last line feed may be the one before the tag.
        let last = if self.in_lines() && self.value.ends_with('\n') { "\n" } else { "" };
        self.value.truncate(self.value.len() - last.len());
        sink.arguments(escaped(&self.value).as_str());
        self.value = last.to_owned();
    }

    /// Ends the value.
    pub(super) fn end_value(&mut self, sink: &mut Sink) {
        if self.open {
            self.open = false;
            sink.arguments("\"");
        } else {
            sink.arguments(&self.json());
        }
    }

    /// Ends the object.
    pub(super) fn close(&mut self, sink: &mut Sink) {
        sink.arguments(if self.any { "}" } else { "{}" });
    }

    fn in_lines(&self) -> bool {
        self.values == Values::Typed { in_lines: true }
    }

    /// Whether the value can only be a text.
    fn is_text(&self) -> bool {
        match self.values {
            Values::Typed { .. } => self.kinds.is_empty() || self.kinds == [Kind::String],
            Values::Json => self.kinds == [Kind::String],
        }
    }

    /// Whether the text so far may become `null` and nothing else.
    fn may_be_null(&self) -> bool {
        matches!(self.values, Values::Typed { .. }) && "null".starts_with(&self.stripped().to_ascii_lowercase())
    }

    /// The value without the line feeds that belong to its tags.
    fn stripped(&self) -> &str {
        if !self.in_lines() {
            return &self.value;
        }
        let value = self.value.strip_prefix('\n').unwrap_or(&self.value);
        value.strip_suffix('\n').unwrap_or(value)
    }

    fn json(&self) -> String {
        let text = self.stripped();
        let fitting = || self.kinds.iter().find_map(|&kind| read_as(kind, text));
        let as_json = || valid(text.trim()).map(|_| text.trim().to_owned());
        let as_text = || Value::from(text).to_string();
        match self.values {
            Values::Typed { .. } if text.trim().eq_ignore_ascii_case("null") => "null".to_owned(),
            Values::Typed { .. } => fitting().unwrap_or_else(as_text),
            Values::Json => fitting().or_else(as_json).unwrap_or_else(as_text),
        }
    }
}

/// The JSON of a text, if it can be read as a value of this kind.
fn read_as(kind: Kind, text: &str) -> Option<String> {
    let trimmed = text.trim();
    let number = || serde_json::from_str::<Number>(trimmed).ok().map(|_| trimmed.to_owned());
    match kind {
        Kind::Integer => number().filter(|text| text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())),
        Kind::Number => number(),
        Kind::Boolean => {
            let word = trimmed.to_ascii_lowercase();
            matches!(word.as_str(), "true" | "false").then_some(word)
        }
        Kind::Object => valid(trimmed).filter(Value::is_object).map(|_| trimmed.to_owned()),
        Kind::Array => valid(trimmed).filter(Value::is_array).map(|_| trimmed.to_owned()),
        Kind::Null => trimmed.eq_ignore_ascii_case("null").then(|| "null".to_owned()),
        Kind::String => Some(Value::from(text).to_string()),
    }
}

fn valid(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// A text as it stands in a JSON string, without the quotes. Each character on its own, so that pieces join.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse::event::Parsed;
    use crate::text::parse::options::IdStyle;
    use serde_json::json;

    fn written(values: Values, schema: Value, pieces: &[&str]) -> Value {
        let function = json!({"name": "f", "parameters": {"properties": {"p": schema}}});
        let tools = Tools::from_request(&[json!({"function": function})]);
        let mut sink = Sink::new(IdStyle::OpenAi, 0);
        let mut arguments = WrittenArguments::new(values);
        arguments.key("f", "p", &tools, &mut sink);
        pieces.iter().for_each(|piece| arguments.text(piece, &mut sink));
        arguments.end_value(&mut sink);
        arguments.close(&mut sink);
        let text = |parsed: Parsed| match parsed {
            Parsed::CallArguments { text, .. } => text,
            other => panic!("{other:?}"),
        };
        let json: String = sink.take().into_iter().map(text).collect();
        serde_json::from_str::<Value>(&json).unwrap_or_else(|error| panic!("{json}: {error}"))["p"].clone()
    }

    fn typed(schema: Value, text: &str) -> Value {
        written(Values::Typed { in_lines: false }, schema, &[text])
    }

    #[test]
    fn a_text_becomes_what_the_schema_says_and_else_stays_a_text() {
        let of = |word: &str| json!({"type": word});
        assert_eq!(typed(of("integer"), "3"), json!(3));
        assert_eq!(typed(of("integer"), "3.5"), json!("3.5"));
        assert_eq!(typed(of("integer"), "007"), json!("007"));
        assert_eq!(typed(of("number"), "1e3"), json!(1000.0));
        assert_eq!(typed(of("boolean"), "True"), json!(true));
        assert_eq!(typed(of("boolean"), "maybe"), json!("maybe"));
        assert_eq!(typed(of("object"), "{\"a\": [1]}"), json!({"a": [1]}));
        assert_eq!(typed(of("array"), "[1, "), json!("[1, "));
        assert_eq!(typed(of("string"), "3"), json!("3"));
        assert_eq!(typed(of("string"), "NULL"), Value::Null);
        assert_eq!(typed(of("string"), "nullable"), json!("nullable"));
        assert_eq!(typed(json!({"type": ["string", "integer"]}), "3"), json!(3));
        assert_eq!(typed(json!({"type": ["string", "integer"]}), "x"), json!("x"));
        assert_eq!(typed(json!({}), "3"), json!("3"));
    }

    #[test]
    fn a_family_that_writes_json_means_it_unless_the_schema_says_otherwise() {
        let of = |schema, text: &str| written(Values::Json, schema, &[text]);
        assert_eq!(of(json!({"type": "string"}), "3"), json!("3"));
        assert_eq!(of(json!({"type": "string"}), "null"), json!("null"));
        assert_eq!(of(json!({"type": "integer"}), "3"), json!(3));
        assert_eq!(of(json!({"type": "integer"}), "[3]"), json!([3]));
        assert_eq!(of(json!({"type": "boolean"}), "True"), json!(true));
        assert_eq!(of(json!({}), "[1]"), json!([1]));
        assert_eq!(of(json!({}), "plain"), json!("plain"));
        let optional = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        assert_eq!(of(optional.clone(), "12345"), json!("12345"));
        assert_eq!(of(optional.clone(), "[1]"), json!("[1]"));
        assert_eq!(of(optional, "null"), Value::Null);
    }

    #[test]
    fn exactly_one_line_feed_at_each_end_belongs_to_the_tags() {
        let values = Values::Typed { in_lines: true };
        for pieces in [vec!["\n\na\n\n"], vec!["\n", "\n", "a", "\n", "\n"]] {
            assert_eq!(written(values, json!({"type": "string"}), &pieces), json!("\na\n"));
        }
        assert_eq!(written(values, json!({"type": "string"}), &["\nnu", "ll\n"]), Value::Null);
        assert_eq!(written(values, json!({"type": "string"}), &["\nnull\n\n"]), json!("null\n"));
        assert_eq!(written(values, json!({"type": "string"}), &["\n"]), json!(""));
        assert_eq!(written(values, json!({"type": "integer"}), &["\n4", "2\n"]), json!(42));
    }

    #[test]
    fn a_text_goes_out_as_it_comes_and_escaped() {
        let pieces = ["say \"h", "i\"\n\\", "é\t"];
        assert_eq!(
            written(Values::Typed { in_lines: false }, json!({"type": "string"}), &pieces),
            json!("say \"hi\"\n\\é\t")
        );
    }
}
