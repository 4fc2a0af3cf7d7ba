use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Where models are found and which are loaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    /// A folder of model folders, looked into before the hub cache.
    pub directory: Option<PathBuf>,
    /// Cache of the model hub. Default: `HF_HUB_CACHE`, `HF_HOME/hub`, then `~/.cache/huggingface/hub`.
    pub hub_cache: PathBuf,
    /// Model of requests that name none. Absent: the first that is loaded.
    pub default_model: Option<String>,
    /// Models to load at start, ids or folders. Empty: the built-in one.
    pub auto_load: Vec<String>,
    /// Whether a request for vectors or a ranking loads the model that it names, if its files are here.
    pub load_on_request: bool,
    /// Seconds that loading a model may take.
    pub load_timeout_sec: NonZeroU64,
    /// Whether a model computes one step before it serves, so that the first request does not pay for it.
    pub warmup: bool,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            directory: None,
            hub_cache: PathBuf::from("~/.cache/huggingface/hub"),
            default_model: None,
            auto_load: Vec::new(),
            load_on_request: true,
            load_timeout_sec: NonZeroU64::new(600).expect("the default is not zero"),
            warmup: true,
        }
    }
}

impl ModelsConfig {
    /// [`load_timeout_sec`](Self::load_timeout_sec) as a duration.
    pub fn load_timeout(&self) -> Duration {
        Duration::from_secs(self.load_timeout_sec.get())
    }
}
