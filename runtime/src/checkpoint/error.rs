use std::path::PathBuf;

/// Why a model cannot be loaded. One variant per thing that somebody has to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such model: give another name, or download it.
    #[error("there is no model `{model}` in {}", list(.looked_in))]
    ModelNotFound {
        /// What was asked for.
        model: String,
        /// Folders that were searched.
        looked_in: Vec<PathBuf>,
    },
    /// Files are missing or short: finish the download.
    #[error("`{model}` is incomplete: {}; {hint}", list(.missing))]
    ModelIncomplete {
        /// The model's id or path.
        model: String,
        /// Every file that is missing or short.
        missing: Vec<MissingFile>,
        /// What repairs it.
        hint: String,
    },
    /// The files are there and wrong: fetch or convert the checkpoint again.
    #[error("`{tensor}`: {reason}")]
    InvalidCheckpoint {
        /// The tensor, or the file if it is not about one tensor.
        tensor: String,
        /// What is wrong with it, in numbers.
        reason: String,
    },
    /// The architecture is not supported: choose another model.
    #[error("unsupported architecture: `{key}` is `{value}`")]
    UnsupportedArch {
        /// The configuration key that decided it.
        key: String,
        /// Its value.
        value: String,
    },
    /// The quantisation is not supported: choose another conversion of the model.
    #[error("unsupported quantisation: `{key}` is `{value}`")]
    UnsupportedQuantization {
        /// The configuration key that decided it.
        key: String,
        /// Its value.
        value: String,
    },
    /// The weights do not fit: free memory or choose a smaller model.
    #[error("{needed} bytes are needed, {available} are available")]
    InsufficientMemory {
        /// Bytes the loaded model takes.
        needed: u64,
        /// Bytes that may be taken.
        available: u64,
    },
    /// The operating system refused to read a file: mend its permissions or the disk.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The device refused the weights.
    #[error("the device refused `{what}`: {message}")]
    Device {
        /// The tensor or the memory that was to be made.
        what: String,
        /// The device's own words.
        message: String,
    },
}

/// A file that should be there in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingFile {
    /// Its name inside the model's folder.
    pub name: String,
    /// For a file that is there and short: bytes present, bytes expected.
    pub short: Option<(u64, u64)>,
}

impl MissingFile {
    /// A file that is not there at all.
    pub fn absent(name: impl Into<String>) -> Self {
        Self { name: name.into(), short: None }
    }
}

impl std::fmt::Display for MissingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.short {
            None => write!(f, "{} is missing", self.name),
            Some((present, expected)) => write!(f, "{} has {present} of {expected} bytes", self.name),
        }
    }
}

impl LoadError {
    /// The outcome's word, the same in the API, events, metrics and the compatibility matrix.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::ModelNotFound { .. } => "model_not_found",
            Self::ModelIncomplete { .. } => "model_incomplete",
            Self::InvalidCheckpoint { .. } | Self::Io { .. } => "invalid_checkpoint",
            Self::UnsupportedArch { .. } => "unsupported_arch",
            Self::UnsupportedQuantization { .. } => "unsupported_quantization",
            Self::InsufficientMemory { .. } => "insufficient_memory",
            Self::Device { .. } => "loader_crashed",
        }
    }

    /// A checkpoint that is there and wrong.
    pub(crate) fn invalid(tensor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidCheckpoint { tensor: tensor.into(), reason: reason.into() }
    }

    /// A configuration value that names an architecture (or a part of one) that is not there.
    pub(crate) fn arch(key: impl Into<String>, value: impl ToString) -> Self {
        Self::UnsupportedArch { key: key.into(), value: value.to_string() }
    }

    /// A configuration value that names a quantisation that is not there.
    pub(crate) fn quantization(key: impl Into<String>, value: impl ToString) -> Self {
        Self::UnsupportedQuantization { key: key.into(), value: value.to_string() }
    }
}

fn list<T: ListItem>(items: &[T]) -> String {
    items.iter().map(ListItem::item).collect::<Vec<_>>().join(", ")
}

trait ListItem {
    fn item(&self) -> String;
}

impl ListItem for PathBuf {
    fn item(&self) -> String {
        self.display().to_string()
    }
}

impl ListItem for MissingFile {
    fn item(&self) -> String {
        self.to_string()
    }
}
