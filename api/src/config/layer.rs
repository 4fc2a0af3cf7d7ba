//! One source of values: a tree of values and, for each leaf, where exactly it stands.

use super::Problem;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1; 0 if unknown.
        line: u64,
        /// Counted from 1; 0 if unknown.
        column: u64,
    },
    /// A variable of the environment.
    Env(String),
    /// The command line.
    Flag,
    /// A preset.
    Preset(String),
    /// The model's own files.
    Model,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::Model => f.write_str("model"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Values from one source, by the path of their key. Lists are values; objects are not, except empty ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    /// In the order of the source.
    pub values: BTreeMap<String, (Value, Source)>,
}

impl Layer {
    /// Reads a YAML file. An empty one says nothing.
    ///
    /// # Errors
    /// [`Problem`] with the place where it is no YAML, or no mapping.
    pub fn from_yaml(text: &str, path: &Path) -> Result<Self, Problem> {
        let place = |at: Location| Source::File { path: path.to_owned(), line: at.line(), column: at.column() };
        let root: Spanned<Node> = serde_saphyr::from_str(text).map_err(|e| {
            let source = place(e.location().unwrap_or(Location::UNKNOWN));
            let whole = e.without_snippet().to_string();
            let reason = whole.split(" at line ").next().unwrap_or_default();
            Problem::new("", format!("not valid YAML: {reason}")).at(source)
        })?;
        let mut layer = Self::default();
        match root.value {
            Node::Leaf(Value::Null) => {}
            Node::Map(entries) => layer.add(&[], entries, &place),
            Node::Leaf(_) | Node::List(_) => {
                return Err(Problem::new("", "expected sections such as `server:`").at(place(root.referenced)));
            }
        }
        Ok(layer)
    }

    fn add(&mut self, path: &[&str], entries: Vec<(Spanned<String>, Node)>, place: &impl Fn(Location) -> Source) {
        for (key, node) in entries {
            let path: Vec<&str> = path.iter().copied().chain([key.value.as_str()]).collect();
            match node {
                Node::Map(entries) if !entries.is_empty() => self.add(&path, entries, place),
                leaf => self.insert(&path.join("."), leaf.into_value(), place(key.referenced)),
            }
        }
    }

    /// Adds one value given as YAML text, as variables and flags give it.
    ///
    /// # Errors
    /// [`Problem`] if the text is no YAML.
    pub fn insert_yaml(&mut self, key: &str, yaml: &str, source: Source) -> Result<(), Problem> {
        let node: Node = serde_saphyr::from_str(yaml)
            .map_err(|_| Problem::new(key, format!("`{yaml}` is not valid YAML")).at(source.clone()))?;
        self.insert(key, node.into_value(), source);
        Ok(())
    }

    /// Adds a value; an object is taken apart into its keys.
    pub fn insert(&mut self, key: &str, value: Value, source: Source) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (child, value) in map {
                    let path = if key.is_empty() { child } else { format!("{key}.{child}") };
                    self.insert(&path, value, source.clone());
                }
            }
            leaf => {
                self.values.insert(key.to_owned(), (leaf, source));
            }
        }
    }
}

/// A YAML value whose keys know their place.
#[derive(Debug)]
enum Node {
    Leaf(Value),
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl Node {
    fn into_value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(list) => list.into_iter().map(Self::into_value).collect(),
            Self::Map(map) => Value::Object(map.into_iter().map(|(k, v)| (k.value, v.into_value())).collect()),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Layer, Problem> {
        Layer::from_yaml(text, Path::new("lmx.yaml"))
    }

    #[test]
    fn each_value_of_a_file_knows_its_line_and_column() {
        let layer = read("server:\n  port: 80\nmodels:\n  auto_load: [a, b]\n").unwrap();

        let lines: Vec<_> =
            layer.values.iter().map(|(key, (value, source))| format!("{key} {value} {source}")).collect();
        assert_eq!(lines, [r#"models.auto_load ["a","b"] lmx.yaml:4:3"#, "server.port 80 lmx.yaml:2:3"]);
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(read("").unwrap(), Layer::default());
        assert_eq!(read("# nothing yet\n").unwrap(), Layer::default());
    }

    #[test]
    fn what_is_no_yaml_is_named_with_its_place() {
        assert_eq!(
            read("a: [1\nb: 2\n").unwrap_err().to_string(),
            "lmx.yaml:2:2: not valid YAML: illegal placement of ':' indicator"
        );
        assert!(read("a: 1\na: 2\n").unwrap_err().to_string().starts_with("lmx.yaml:2:1: not valid YAML: duplicate"));
        assert!(read("- a\n").unwrap_err().to_string().contains("expected sections"));
    }
}
