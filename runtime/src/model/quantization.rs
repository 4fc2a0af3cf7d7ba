use crate::checkpoint::LoadError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Affine quantisation of one matrix: `w = code * scale + bias`, one scale and bias per group along the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantization {
    /// Width of a code.
    pub bits: usize,
    /// Inputs that share a scale.
    pub group_size: usize,
}

/// What `config.json` says about quantisation. The tensors have the last word on whether a module is quantised at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuantizationMap {
    /// The checkpoint's general setting.
    global: Option<Quantization>,
    /// Modules that are named: their own setting, or `None` for "not quantised".
    named: BTreeMap<String, Option<Quantization>>,
}

const WIDTHS: [usize; 6] = [2, 3, 4, 5, 6, 8];
const GROUPS: [usize; 3] = [32, 64, 128];

impl QuantizationMap {
    /// Reads `quantization` (or `quantization_config`, which MLX converters write as a copy).
    ///
    /// # Errors
    /// [`LoadError::UnsupportedQuantization`] for any other method, mode, width or group.
    pub(super) fn parse(config: &Value) -> Result<Self, LoadError> {
        let (key, object) = match (config.get("quantization"), config.get("quantization_config")) {
            (Some(Value::Object(object)), _) => ("quantization", object),
            (_, Some(Value::Object(object))) => ("quantization_config", object),
            _ => return Ok(Self::default()),
        };
        if let Some(method) = object.get("quant_method").filter(|method| !method.is_null()) {
            return Err(LoadError::quantization(format!("{key}.quant_method"), plain(method)));
        }
        let mut map = Self { global: setting(key, object)?, named: BTreeMap::new() };
        for (path, value) in object {
            match value {
                Value::Object(own) => {
                    map.named.insert(path.clone(), setting(&format!("{key}.{path}"), own)?);
                }
                Value::Bool(false) => {
                    map.named.insert(path.clone(), None);
                }
                _ => {}
            }
        }
        Ok(map)
    }

    /// The checkpoint's general setting.
    pub fn global(&self) -> Option<Quantization> {
        self.global
    }

    /// What the configuration says about the module at `path`: `None` if it does not name it.
    pub fn named(&self, path: &str) -> Option<Option<Quantization>> {
        self.named.get(path).copied()
    }

    /// The setting of a module that has scales.
    ///
    /// A named path wins. Otherwise both numbers follow from the shapes, as in newer versions of mlx-lm: a recipe need
    /// not name every module that it treats differently.
    ///
    /// `words`: 32-bit words per row of codes. `groups`: scales per row. `inputs`: columns of the dense matrix.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the numbers do not belong together.
    pub(super) fn of_module(
        &self,
        path: &str,
        words: usize,
        groups: usize,
        inputs: usize,
    ) -> Result<Quantization, LoadError> {
        let shape = || format!("{words} words and {groups} scales per row for {inputs} inputs");
        if groups == 0 || inputs == 0 || !inputs.is_multiple_of(groups) || !(words * 32).is_multiple_of(inputs) {
            return Err(LoadError::invalid(path, format!("{} fit no quantisation", shape())));
        }
        let derived = Quantization { bits: words * 32 / inputs, group_size: inputs / groups };
        let found = self.named(path).flatten().unwrap_or(derived);
        if found != derived {
            let reason = format!(
                "config.json says {} bits in groups of {}, but there are {}",
                found.bits,
                found.group_size,
                shape()
            );
            return Err(LoadError::invalid(path, reason));
        }
        if !WIDTHS.contains(&found.bits) {
            return Err(LoadError::quantization(format!("bits of {path}"), found.bits));
        }
        if !GROUPS.contains(&found.group_size) {
            return Err(LoadError::quantization(format!("group_size of {path}"), found.group_size));
        }
        Ok(found)
    }
}

/// Reads `bits`, `group_size` and `mode` of one object.
fn setting(key: &str, object: &Map<String, Value>) -> Result<Option<Quantization>, LoadError> {
    // An entry without a mode is affine, even below another global mode.
    if let Some(mode) = object.get("mode").filter(|mode| !mode.is_null())
        && mode.as_str() != Some("affine")
    {
        return Err(LoadError::quantization(format!("{key}.mode"), plain(mode)));
    }
    let number = |name: &str, allowed: &[usize]| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| allowed.contains(n))
            .map(Some)
            .ok_or_else(|| LoadError::quantization(format!("{key}.{name}"), plain(value))),
    };
    let (bits, group_size) = (number("bits", &WIDTHS)?, number("group_size", &GROUPS)?);
    Ok(bits.zip(group_size).map(|(bits, group_size)| Quantization { bits, group_size }))
}

/// A JSON value as a person would say it: strings without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl std::fmt::Display for Quantization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-bit, group {}", self.bits, self.group_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(config: Value) -> String {
        let error = QuantizationMap::parse(&config).unwrap_err();
        assert_eq!(error.outcome(), "unsupported_quantization");
        error.to_string()
    }

    #[test]
    fn what_is_not_affine_is_refused_by_key_and_value() {
        assert!(refused(json!({"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp4"}})).contains("mxfp4"));
        assert!(refused(json!({"quantization_config": {"quant_method": "fp8"}})).contains("quant_method"));
        assert!(refused(json!({"quantization": {"bits": 7, "group_size": 64}})).contains("quantization.bits` is `7"));
        assert!(refused(json!({"quantization": {"bits": 4, "group_size": 48}})).contains("48"));
    }

    #[test]
    fn a_named_module_wins_over_the_general_setting() {
        let config = json!({"quantization": {
            "bits": 4, "group_size": 64,
            "lm_head": {"bits": 6, "group_size": 32, "mode": "affine"},
            "model.layers.0.mlp.down_proj": false,
        }});

        let map = QuantizationMap::parse(&config).unwrap();

        assert_eq!(map.global(), Some(Quantization { bits: 4, group_size: 64 }));
        assert_eq!(map.named("lm_head"), Some(Some(Quantization { bits: 6, group_size: 32 })));
        assert_eq!(map.named("model.layers.0.mlp.down_proj"), Some(None));
        assert_eq!(map.named("model.embed_tokens"), None);
    }

    #[test]
    fn a_module_that_is_not_named_takes_its_numbers_from_the_shapes() {
        let map = QuantizationMap::parse(&json!({"quantization": {"bits": 4, "group_size": 64}})).unwrap();

        // 256 inputs in 64 words are 8 bits; 8 scales make groups of 32.
        assert_eq!(map.of_module("m", 64, 8, 256).unwrap(), Quantization { bits: 8, group_size: 32 });
        assert!(map.of_module("m", 65, 8, 256).is_err());
    }

    #[test]
    fn an_unquantised_checkpoint_has_an_empty_map() {
        let map = QuantizationMap::parse(&json!({"quantization": null, "hidden_size": 8})).unwrap();
        assert_eq!(map, QuantizationMap::default());
    }
}
