use std::fmt;
use std::str::FromStr;

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// The forward pass alone.
    Runner,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Runner];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runner => "runner",
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
