use super::serving::Load;
use std::fmt;
use std::str::FromStr;

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A short answer to a short prompt, one stream.
    Short64,
    /// The same, longer.
    Medium256,
    /// The same, longer still.
    Long512,
    /// Several streams at once.
    Concurrency,
    /// Prompts with a shared beginning.
    Prefix,
    /// The forward pass alone.
    Runner,
    /// The kernels one by one, against what the machine could do at most.
    Kernels,
    /// What the machine could do at most.
    Limits,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Short64,
        Self::Medium256,
        Self::Long512,
        Self::Concurrency,
        Self::Prefix,
        Self::Runner,
        Self::Kernels,
        Self::Limits,
    ];
    /// What is measured unless something else is asked for.
    pub const DEFAULT: [Self; 5] = [Self::Short64, Self::Medium256, Self::Long512, Self::Concurrency, Self::Prefix];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Short64 => "short_64",
            Self::Medium256 => "medium_256",
            Self::Long512 => "long_512",
            Self::Concurrency => "concurrency",
            Self::Prefix => "prefix",
            Self::Runner => "runner",
            Self::Kernels => "kernels",
            Self::Limits => "limits",
        }
    }

    /// Whether a server is measured.
    pub fn is_served(self) -> bool {
        match self {
            Self::Short64 | Self::Medium256 | Self::Long512 | Self::Concurrency | Self::Prefix => true,
            Self::Runner | Self::Kernels | Self::Limits => false,
        }
    }

    /// Repetitions, unless asked for otherwise.
    pub fn repeat(self) -> usize {
        match self {
            Self::Short64 | Self::Medium256 | Self::Concurrency => 3,
            Self::Long512 => 2,
            Self::Prefix | Self::Runner | Self::Kernels | Self::Limits => 5,
        }
    }

    /// Sizes of the requests of one stream; `None` for other scenarios.
    pub fn load(self) -> Option<Load> {
        let square = |tokens| Some(Load { prompt_tokens: tokens, answer_tokens: tokens });
        match self {
            Self::Short64 => square(64),
            Self::Medium256 => square(256),
            Self::Long512 => square(512),
            Self::Concurrency | Self::Prefix | Self::Runner | Self::Kernels | Self::Limits => None,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| format!("`{name}` is none of {}", names()))
    }
}
