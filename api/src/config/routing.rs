use super::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Other names for models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoutingConfig {
    /// Alias to models, best first: the first that is loaded answers.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Alias or model of requests that name none, before `models.default_model`.
    pub default: Option<String>,
}

impl RoutingConfig {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let empty = self.aliases.iter().filter(|(_, models)| models.is_empty());
        empty
            .map(|(alias, _)| Problem::new(format!("routing.aliases.{alias}"), "the list of models is empty"))
            .collect()
    }
}
