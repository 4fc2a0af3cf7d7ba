//! Fits the values of layers into a struct, one by one, so that each wrong value is found and knows its own place.

use super::Problem;
use super::keys;
use super::layer::Layer;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::marker::PhantomData;

/// A struct that grows from layers, the strongest last.
#[derive(Debug)]
pub(crate) struct Fit<T> {
    schema: Value,
    base: Value,
    tree: Value,
    kind: PhantomData<T>,
}

impl<T: DeserializeOwned> Fit<T> {
    /// Starts from the tree of the struct's defaults and the schema of its keys.
    pub(crate) fn new(schema: Value, defaults: Value) -> Self {
        Self { schema, tree: defaults.clone(), base: defaults, kind: PhantomData }
    }

    /// Adds a layer and says what is wrong with it. What says nothing (`server:` with nothing below) leaves the layer,
    /// and so does what is wrong.
    pub(crate) fn apply(&mut self, layer: &mut Layer) -> Vec<Problem> {
        let mut problems = Vec::new();
        layer.values.retain(|key, (value, source)| {
            let parts = match keys::parts(&self.schema, key) {
                Ok(parts) => parts,
                Err(reason) => {
                    problems.push(Problem::new(key, reason).at(source.clone()));
                    return false;
                }
            };
            let says_nothing = value.is_null() || value.as_object().is_some_and(Map::is_empty);
            if says_nothing && keys::is_section(&self.schema, key) {
                return false;
            }
            let mut alone = self.base.clone();
            place(&mut alone, &parts, value.clone());
            match serde_json::from_value::<T>(alone) {
                Ok(_) => place(&mut self.tree, &parts, value.clone()),
                Err(e) => problems.push(Problem::new(key, e.to_string()).at(source.clone())),
            }
            true
        });
        problems
    }

    /// The struct with all values that fit.
    pub(crate) fn finish(self) -> T {
        serde_json::from_value(self.tree).expect("each value fits its key")
    }
}

/// Puts a value into a tree, below its path.
fn place(tree: &mut Value, path: &[&str], value: Value) {
    let mut here = tree;
    for part in path {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        here = &mut here[*part];
    }
    *here = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_placed_value_grows_the_tree_that_it_needs() {
        let mut tree = json!({"a": {"b": 1}});

        place(&mut tree, &["a", "c", "d.e"], json!(2));

        assert_eq!(tree, json!({"a": {"b": 1, "c": {"d.e": 2}}}));
    }
}
