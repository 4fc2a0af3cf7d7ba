use super::InvalidSetting;
use schemars::JsonSchema;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::num::NonZeroUsize;

/// What computes, and how exactly.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeConfig {
    /// Which executor runs the forward pass.
    pub executor: Executor,
    /// Precision of the products with quantised weights.
    pub mode: ComputeMode,
    /// Threads of the forward pass on CPUs. Absent: one per core; of `candle` all but one, because its threads wait by
    /// spinning, so that with as many of them as cores every other program's work holds all of them up.
    pub threads: Option<NonZeroUsize>,
    /// Cores that the threads of the native executor stay on, one each, by their numbers; `threads` is then as many unless
    /// it says fewer. For machines where other work has cores of its own, or with several memories. Absent: the system
    /// chooses. Linux only.
    pub cores: Option<Vec<usize>>,
    /// Large pages of memory for the weights and the KV memory of the native executor.
    pub huge_pages: HugePages,
    /// Whether the native executor leaves weights in the file and rearranges each part whenever it is read, instead of
    /// once in memory of its own. Takes no memory that the system cannot take back, and costs speed in every step.
    pub mapped: bool,
    /// Percent of a processor that embedding and reranking models get while a chat model wants all of it, 1 to 100; what
    /// nobody else wants is theirs in any case. 50 and more: as much as the chat. Linux only.
    pub share_percent: u8,
}

/// A twentieth: what a chat leaves idle between its steps and stages comes on top of it. With a tenth the slowest steps of a
/// chat took up to half as long again, and now and then twice as long.
const SHARE_PERCENT_DEFAULT: u8 = 5;

impl Default for ComputeConfig {
    fn default() -> Self {
        Self {
            executor: Executor::default(),
            mode: ComputeMode::default(),
            threads: None,
            cores: None,
            huge_pages: HugePages::default(),
            mapped: false,
            share_percent: SHARE_PERCENT_DEFAULT,
        }
    }
}

impl ComputeConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`InvalidSetting`] if the list of cores is empty, names a core twice, or is shorter than there are threads, and for
    /// a share that is none.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let invalid = |key, reason| Err(InvalidSetting { key, reason });
        if !(1..=100).contains(&self.share_percent) {
            return invalid("compute.share_percent", format!("{} does not lie in 1 to 100", self.share_percent));
        }
        let Some(cores) = &self.cores else { return Ok(()) };
        if cores.is_empty() {
            return invalid("compute.cores", "the list is empty: leave it out to let the system choose".to_owned());
        }
        if let Some(twice) = cores.iter().enumerate().find(|(i, core)| cores[..*i].contains(core)) {
            return invalid("compute.cores", format!("core {} is named twice", twice.1));
        }
        match self.threads {
            Some(threads) if threads.get() > cores.len() => invalid(
                "compute.threads",
                format!(
                    "{threads} threads on the {} cores of `compute.cores`: name as many or leave it out",
                    cores.len()
                ),
            ),
            _ => Ok(()),
        }
    }
}

/// Whether memory comes in huge pages (2 MiB on most machines): fewer of them are looked up while weights are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// Asked for; where the system has none, small pages do.
    #[default]
    Auto,
    /// Asked for; a model is not loaded where the system gives none. Linux only.
    On,
    /// Not asked for: the system's own setting decides.
    Off,
}

impl<'de> Deserialize<'de> for HugePages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HugePagesVisitor)
    }
}

/// Takes truth values as well: YAML reads `on` and `off` as such.
struct HugePagesVisitor;

impl Visitor<'_> for HugePagesVisitor {
    type Value = HugePages;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("auto, on or off")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<HugePages, E> {
        Ok(if on { HugePages::On } else { HugePages::Off })
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<HugePages, E> {
        match word {
            "auto" => Ok(HugePages::Auto),
            "on" => Ok(HugePages::On),
            "off" => Ok(HugePages::Off),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }
}

/// Who runs the forward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// The best one for the device: `native` on CPUs, `candle` on GPUs.
    #[default]
    Auto,
    /// Own kernels over rearranged weights: CPUs.
    Native,
    /// Candle's own operators: CPU, Metal, CUDA.
    Candle,
}

impl std::fmt::Display for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Candle => "candle",
        })
    }
}

/// Precision of the products with quantised weights. A model runs whole in one mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeMode {
    /// Weights stay quantised, activations are rounded to 15 bits per group (float32 on GPUs).
    #[default]
    Int16,
    /// Weights stay quantised, activations are rounded to 8 bits per group (float32 on GPUs): faster for prompts. Float
    /// weights of embedding and reranking models are rounded to 16 bits, their activations to 14.
    Int8,
    /// Everything in float32. With `candle` weights are dequantised once, when the model is loaded, to four bytes each.
    F32,
}

impl std::fmt::Display for ComputeMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Int16 => "int16",
            Self::Int8 => "int8",
            Self::F32 => "f32",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_words_or_what_yaml_makes_of_them() {
        let read = |json: &str| serde_json::from_str::<HugePages>(json).map_err(|error| error.to_string());
        for (json, pages) in [
            ("\"auto\"", HugePages::Auto),
            ("\"on\"", HugePages::On),
            ("true", HugePages::On),
            ("false", HugePages::Off),
        ] {
            assert_eq!(read(json), Ok(pages));
        }
        assert!(read("\"always\"").unwrap_err().contains("expected auto, on or off"));
        assert_eq!(serde_json::to_string(&HugePages::Off).unwrap(), "\"off\"");
    }

    fn problem(cores: &[usize], threads: Option<usize>) -> Option<String> {
        let threads = threads.map(|n| NonZeroUsize::new(n).unwrap());
        let config = ComputeConfig { cores: Some(cores.to_vec()), threads, ..ComputeConfig::default() };
        config.validate().err().map(|error| error.to_string())
    }

    #[test]
    fn cores_are_a_set_with_one_for_each_thread() {
        assert_eq!(problem(&[3, 1], None), None);
        assert_eq!(problem(&[3, 1], Some(1)), None);
        assert!(problem(&[], None).unwrap().contains("`compute.cores`: the list is empty"));
        assert!(problem(&[2, 0, 2], None).unwrap().contains("core 2 is named twice"));
        assert!(problem(&[0, 1], Some(3)).unwrap().contains("`compute.threads`: 3 threads on the 2 cores"));
    }
}
