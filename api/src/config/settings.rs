use super::{ActorsConfig, MemoryConfig, ModelsConfig, Problem, RoutingConfig, ServerConfig, TelemetryConfig};
use lmx_runtime::config::{ComputeConfig, KvConfig, SchedulerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that `lmx.yaml` may say.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP server.
    pub server: ServerConfig,
    /// Where models are found and which are loaded.
    pub models: ModelsConfig,
    /// How sequences share the engine.
    pub scheduler: SchedulerConfig,
    /// What computes, and how exactly.
    pub compute: ComputeConfig,
    /// Memory for keys and values.
    pub kv: KvConfig,
    /// What models may take.
    pub memory: MemoryConfig,
    /// Other names for models.
    pub routing: RoutingConfig,
    /// What the server tells about itself.
    pub telemetry: TelemetryConfig,
    /// How the actors are wired.
    pub actors: ActorsConfig,
}

impl Config {
    /// Everything that types cannot rule out and that is wrong with these values.
    pub fn problems(&self) -> Vec<Problem> {
        let runtime =
            [self.compute.validate(), self.kv.validate(), self.scheduler.validate(self.kv.block_tokens.get())];
        let runtime = runtime.into_iter().filter_map(Result::err).map(|e| Problem::new(e.key, e.reason));
        let own = [self.memory.problems(), self.server.problems(), self.routing.problems(), self.actors.problems()];
        runtime.chain(own.into_iter().flatten()).collect()
    }
}

/// The JSON Schema of `lmx.yaml`.
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problems() {
        assert_eq!(Config::default().problems(), []);
    }

    #[test]
    fn every_problem_is_named_not_only_the_first() {
        let mut config = Config::default();
        config.actors.mailbox.engine = std::num::NonZeroUsize::MIN;
        config.kv.memory_fraction = 2.0;
        config.server.cors_allowed_origins = vec!["chat.example".into()];
        config.routing.aliases.insert("code".into(), Vec::new());

        let keys: Vec<_> = config.problems().into_iter().map(|problem| problem.key).collect();

        assert_eq!(
            keys,
            ["kv.memory_fraction", "server.cors_allowed_origins[0]", "routing.aliases.code", "actors.mailbox.engine"]
        );
    }

    #[test]
    fn every_setting_is_described() {
        fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
            for (key, child) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{key}");
                if child["description"].as_str().is_none_or(str::is_empty) {
                    found.push(path.clone());
                }
                undescribed(child, &path, found);
            }
        }
        let (schema, mut found) = (schema(), Vec::new());

        undescribed(&schema, "", &mut found);
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            undescribed(definition, name, &mut found);
        }

        assert_eq!(found, [""; 0]);
    }
}
