use serde::Serialize;

/// The answer of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelList {
    object: &'static str,
    /// The models; routers register the first.
    pub data: Vec<ModelEntry>,
}

impl ModelList {
    /// A list of models.
    pub fn new(data: Vec<ModelEntry>) -> Self {
        Self { object: "list", data }
    }
}

/// A model, as lists and `GET /v1/models/{id}` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelEntry {
    /// The name that requests give.
    pub id: String,
    object: &'static str,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// `opta-lmx`: routers look for the names of engines that they know and treat others as generic.
    pub owned_by: String,
    /// The model behind an alias; the id itself otherwise.
    pub root: String,
    /// Always null: there are no adapters.
    pub parent: Option<String>,
    /// Tokens of prompt and answer together, as routers read it.
    pub max_model_len: usize,
    /// The same.
    pub context_length: usize,
    /// Its readiness, `routable` when it serves.
    pub status: String,
    /// What it can do: `chat`, `completion`.
    pub capabilities: Vec<String>,
}

impl ModelEntry {
    /// A model that serves chats and completions under its own name.
    pub fn new(id: impl Into<String>, created: u64, context_length: usize) -> Self {
        let id = id.into();
        Self {
            root: id.clone(),
            id,
            object: "model",
            created,
            owned_by: "opta-lmx".to_owned(),
            parent: None,
            max_model_len: context_length,
            context_length,
            status: "routable".to_owned(),
            capabilities: vec!["chat".to_owned(), "completion".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_models_has_what_clients_and_routers_read() {
        insta::assert_json_snapshot!(ModelList::new(vec![ModelEntry::new("org/m", 1_700_000_000, 4096)]), @r#"
        {
          "object": "list",
          "data": [
            {
              "id": "org/m",
              "object": "model",
              "created": 1700000000,
              "owned_by": "opta-lmx",
              "root": "org/m",
              "parent": null,
              "max_model_len": 4096,
              "context_length": 4096,
              "status": "routable",
              "capabilities": [
                "chat",
                "completion"
              ]
            }
          ]
        }
        "#);
    }
}
