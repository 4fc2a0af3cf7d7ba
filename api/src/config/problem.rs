use super::Source;
use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Path of the key, such as `scheduler.prefill_chunk`; empty for a whole file.
    pub key: String,
    /// What is wrong, with the limit.
    pub reason: String,
    /// Where the value comes from, if it is known.
    pub source: Option<Source>,
}

impl Problem {
    /// A problem with a key.
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into(), source: None }
    }

    /// Says where the value comes from.
    pub fn at(self, source: Source) -> Self {
        Self { source: Some(source), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// These values must be corrected; all of them are listed.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
