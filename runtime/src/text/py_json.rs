//! JSON as Python's `json.dumps` writes it, character by character: templates put it into prompts, and the model was
//! trained on exactly these characters.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The options of `json.dumps` that templates use.
struct Layout {
    ensure_ascii: bool,
    /// One level of indentation; none for a single line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// The `tojson` filter: no escaping for HTML, key order kept, `", "` and `": "`.
/// Source: transformers 5, `utils/chat_template_utils.py`, `tojson`.
pub(super) fn tojson(value: &Value, options: &[Value], kwargs: Kwargs) -> Result<String, Error> {
    const NAMES: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];
    if options.len() > NAMES.len() {
        return Err(Error::new(ErrorKind::TooManyArguments, "tojson takes four options at most"));
    }
    let option = |place: usize| -> Result<Option<Value>, Error> {
        let named: Option<Value> = kwargs.get(NAMES[place])?;
        Ok(options.get(place).cloned().or(named).filter(|value| !value.is_none()))
    };
    let ensure_ascii = option(0)?.is_some_and(|value| value.is_true());
    let indent = option(1)?.map(indentation).transpose()?;
    let separators = option(2)?;
    let sort_keys = option(3)?.is_some_and(|value| value.is_true());
    kwargs.assert_all_used()?;

    let (item_separator, key_separator) = match separators {
        Some(pair) => (pair.get_item_by_index(0)?.to_string(), pair.get_item_by_index(1)?.to_string()),
        // With an indentation the line ends after the comma.
        None => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
    };
    let mut out = String::new();
    Layout { ensure_ascii, indent, item_separator, key_separator, sort_keys }.value(value, 0, &mut out)?;
    Ok(out)
}

/// A number of spaces, or a string that is used as it is.
fn indentation(value: Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Ok(" ".repeat(usize::try_from(i64::try_from(value)?).unwrap_or(0))),
    }
}

impl Layout {
    fn value(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)?),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container(('[', ']'), items.len(), depth, out, |index, out| {
                    self.value(&items[index], depth + 1, out)
                })?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    entries.push((key_text(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.container(('{', '}'), entries.len(), depth, out, |index, out| {
                    self.string(&entries[index].0, out);
                    out.push_str(&self.key_separator);
                    self.value(&entries[index].1, depth + 1, out)
                })?;
            }
            kind => {
                let reason = format!("a value of type {kind} cannot be written as JSON");
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        }
        Ok(())
    }

    fn container(
        &self,
        (open, close): (char, char),
        len: usize,
        depth: usize,
        out: &mut String,
        mut item: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for index in 0..len {
            if index > 0 {
                out.push_str(&self.item_separator);
            }
            self.line(depth + 1, out);
            item(index, out)?;
        }
        if len > 0 {
            self.line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{C}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Keys of JSON are strings; Python writes some other constants as if they were.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Number => number(key),
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("a key of type {kind} cannot be written as JSON"))),
    }
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() { Ok(value.to_string()) } else { Ok(float_repr(f64::try_from(value.clone())?)) }
}

/// A float as Python's `repr`: the shortest digits that read back the same; an exponent below 1e-4 and from 1e16.
fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        return format!("{value:?}");
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::Environment;
    use minijinja::value::Serde;
    use serde_json::json;

    fn render(filter: &str, value: serde_json::Value) -> String {
        let mut env = Environment::new();
        env.add_filter("tojson", tojson);
        let context = Value::from_pairs([("v", Value::from(Serde(value)))]);
        env.render_str(&format!("{{{{ v|{filter} }}}}"), context).unwrap()
    }

    #[test]
    fn the_default_layout_is_that_of_json_dumps() {
        let value = json!({"b": [1, 2.0, -0.5, null, true], "a": "<ü>&'\"\n\u{1}\u{7f}", "e": {}, "l": []});
        let expected =
            "{\"b\": [1, 2.0, -0.5, null, true], \"a\": \"<ü>&'\\\"\\n\\u0001\u{7f}\", \"e\": {}, \"l\": []}";
        assert_eq!(render("tojson", value), expected);
    }

    #[test]
    fn options_work_by_name_and_by_position() {
        assert_eq!(render("tojson(indent=2)", json!({"a": [1, {}]})), "{\n  \"a\": [\n    1,\n    {}\n  ]\n}");
        assert_eq!(render("tojson(separators=(',', ':'))", json!({"a": [1, 2]})), "{\"a\":[1,2]}");
        assert_eq!(render("tojson(sort_keys=true)", json!({"b": 1, "a": 2})), "{\"a\": 2, \"b\": 1}");
        assert_eq!(render("tojson(True)", json!("é😀\u{7f}")), "\"\\u00e9\\ud83d\\ude00\\u007f\"");
        assert_eq!(render("tojson(ensure_ascii=False, indent='\t')", json!(["é"])), "[\n\t\"é\"\n]");
    }

    #[test]
    fn floats_are_written_as_python_does() {
        let cases = [
            (21.5, "21.5"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (-0.0, "-0.0"),
            (1.25e100, "1.25e+100"),
        ];
        for (value, expected) in cases {
            assert_eq!(float_repr(value), expected);
        }
    }

    #[test]
    fn an_undefined_value_is_an_error() {
        let mut env = Environment::new();
        env.add_filter("tojson", tojson);
        assert!(env.render_str("{{ missing|tojson }}", ()).is_err());
    }
}
