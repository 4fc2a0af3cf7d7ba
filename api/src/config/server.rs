use super::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address or name to listen on. The default is reachable from this machine alone.
    pub host: String,
    /// Port to listen on; 0 takes any free one.
    pub port: u16,
    /// Seconds that a request may take from its arrival to the end of its answer. Longer: long answers finish, stuck
    /// clients hold their place longer.
    pub request_timeout_sec: NonZeroU64,
    /// Seconds between comments of a stream that has no token to send. Shorter: survives stricter proxies, more bytes.
    pub keepalive_sec: NonZeroU64,
    /// Bytes that a request's body may have. Larger: longer prompts, more memory per request.
    pub max_body_bytes: NonZeroUsize,
    /// Seconds that running requests get to finish when the server stops.
    pub shutdown_grace_sec: u64,
    /// Origins whose pages may call the server, such as `https://chat.example`; `*` allows all of them.
    pub cors_allowed_origins: Vec<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let seconds = |n| NonZeroU64::new(n).expect("the default is not zero");
        Self {
            host: "127.0.0.1".to_owned(),
            port: 1234,
            request_timeout_sec: seconds(300),
            keepalive_sec: seconds(5),
            max_body_bytes: NonZeroUsize::new(32 << 20).expect("the default is not zero"),
            shutdown_grace_sec: 30,
            cors_allowed_origins: Vec::new(),
        }
    }
}

impl ServerConfig {
    /// [`request_timeout_sec`](Self::request_timeout_sec) as a duration.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_sec.get())
    }

    /// [`keepalive_sec`](Self::keepalive_sec) as a duration.
    pub fn keepalive(&self) -> Duration {
        Duration::from_secs(self.keepalive_sec.get())
    }

    /// [`shutdown_grace_sec`](Self::shutdown_grace_sec) as a duration.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_sec)
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.host.trim().is_empty() {
            problems.push(Problem::new("server.host", "an empty name is no address"));
        }
        for (i, origin) in self.cors_allowed_origins.iter().enumerate() {
            let has_scheme = origin.starts_with("http://") || origin.starts_with("https://");
            if origin != "*" && (!has_scheme || origin.ends_with('/')) {
                let reason = format!("`{origin}` is neither `*` nor of the form `https://host`");
                problems.push(Problem::new(format!("server.cors_allowed_origins[{i}]"), reason));
            }
        }
        problems
    }
}
