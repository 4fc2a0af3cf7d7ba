//! The tools of a request, as far as reading a call needs them.

use serde_json::{Map, Value};
use std::collections::HashSet;

/// Names and argument schemas of the tools of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// Name, schema of the arguments.
    list: Vec<(String, Value)>,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    // In the order in which a text is tried.
    Integer,
    Number,
    Boolean,
    Object,
    Array,
    Null,
    String,
}

impl Tools {
    /// Reads the `tools` of a request: objects with `function.name` and `function.parameters`. Others are passed over.
    pub fn from_request(tools: &[Value]) -> Self {
        let one = |tool: &Value| {
            let function = tool.get("function").unwrap_or(tool);
            let name = function.get("name")?.as_str()?.to_owned();
            Some((name, function.get("parameters").cloned().unwrap_or(Value::Null)))
        };
        Self { list: tools.iter().filter_map(one).collect() }
    }

    /// Whether there is such a tool.
    pub(super) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|(known, _)| known == name)
    }

    /// What a parameter of a tool may be, in the order in which to try; empty if its schema does not say.
    pub(super) fn kinds(&self, tool: &str, parameter: &str) -> Vec<Kind> {
        let Some((_, root)) = self.list.iter().find(|(known, _)| known == tool) else { return Vec::new() };
        let mut kinds = Vec::new();
        if let Some(schema) = root.get("properties").and_then(|properties| properties.get(parameter)) {
            collect(schema, root, &mut kinds);
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// Looks at each part of a schema once, so that one that refers to itself ends.
fn collect<'a>(schema: &'a Value, root: &'a Value, kinds: &mut Vec<Kind>) {
    let (mut ahead, mut seen) = (vec![schema], HashSet::new());
    while let Some(part) = ahead.pop() {
        let Some(schema) = part.as_object().filter(|_| seen.insert(std::ptr::from_ref(part))) else { continue };
        match schema.get("type") {
            Some(Value::String(word)) => kinds.extend(kind(word)),
            Some(Value::Array(words)) => kinds.extend(words.iter().filter_map(Value::as_str).filter_map(kind)),
            _ => from_values(schema, kinds),
        }
        let branches = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| schema.get(key)?.as_array());
        ahead.extend(branches.flatten());
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
        ahead.extend(target.and_then(|path| root.pointer(path)));
    }
}

/// A schema without a type may list its values, or speak of properties or items.
fn from_values(schema: &Map<String, Value>, kinds: &mut Vec<Kind>) {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten().chain(schema.get("const"));
    kinds.extend(listed.map(|value| match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Boolean,
        Value::Number(number) if number.is_f64() => Kind::Number,
        Value::Number(_) => Kind::Integer,
        Value::String(_) => Kind::String,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Object,
    }));
    kinds.extend(schema.contains_key("properties").then_some(Kind::Object));
    kinds.extend(schema.contains_key("items").then_some(Kind::Array));
}

/// The word of a schema. Clients also write the words of their own languages.
fn kind(word: &str) -> Option<Kind> {
    Some(match word.to_ascii_lowercase().as_str() {
        "integer" | "int" | "long" => Kind::Integer,
        "number" | "float" | "double" => Kind::Number,
        "boolean" | "bool" => Kind::Boolean,
        "object" | "dict" | "map" => Kind::Object,
        "array" | "list" => Kind::Array,
        "null" | "none" => Kind::Null,
        "string" | "str" | "text" => Kind::String,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_kinds_of_a_parameter_come_from_all_parts_of_its_schema() {
        let parameters = json!({
            "type": "object",
            "properties": {
                "plain": {"type": "string"},
                "union": {"type": ["string", "integer", "null"]},
                "any": {"anyOf": [{"type": "array"}, {"type": "boolean"}]},
                "listed": {"enum": ["a", 2]},
                "shared": {"$ref": "#/$defs/point"},
                "silent": {"description": "?"},
                "looped": {"$ref": "#/properties/looped"},
            },
            "$defs": {"point": {"properties": {"x": {}}}},
        });
        let tools =
            Tools::from_request(&[json!({"type": "function", "function": {"name": "f", "parameters": parameters}})]);
        let kinds = |parameter| tools.kinds("f", parameter);

        assert_eq!(kinds("plain"), [Kind::String]);
        assert_eq!(kinds("union"), [Kind::Integer, Kind::Null, Kind::String]);
        assert_eq!(kinds("any"), [Kind::Boolean, Kind::Array]);
        assert_eq!(kinds("listed"), [Kind::Integer, Kind::String]);
        assert_eq!(kinds("shared"), [Kind::Object]);
        for unknown in ["silent", "looped", "missing"] {
            assert_eq!(kinds(unknown), []);
        }
        assert!(tools.has("f") && !tools.has("g") && tools.kinds("g", "plain").is_empty());
    }

    #[test]
    fn a_schema_that_refers_to_itself_many_times_is_read_once() {
        // Followed to a depth of a few, this would be looked at a thousand times a thousand times a thousand.
        let itself = json!({"$ref": "#/properties/looped"});
        let looped = json!({"anyOf": vec![itself; 1000], "oneOf": [{"type": "null"}]});
        let parameters = json!({"properties": {"looped": looped}});
        let tools = Tools::from_request(&[json!({"function": {"name": "f", "parameters": parameters}})]);

        assert_eq!(tools.kinds("f", "looped"), [Kind::Null]);
    }

    #[test]
    fn a_long_chain_of_references_is_followed_to_its_end() {
        let mut properties = Map::new();
        for i in 0..20_000 {
            properties.insert(format!("p{i}"), json!({"$ref": format!("#/properties/p{}", i + 1)}));
        }
        properties.insert("p20000".into(), json!({"type": "integer"}));
        let function = json!({"name": "f", "parameters": {"properties": properties}});
        let tools = Tools::from_request(&[json!({"function": function})]);

        assert_eq!(tools.kinds("f", "p0"), [Kind::Integer]);
    }
}
