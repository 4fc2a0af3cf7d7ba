use super::float8::Float8;
use super::micro::Microscaling;
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

/// How a module is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// In whole numbers.
    Affine(Quantization),
    /// In small floats.
    Micro(Microscaling),
}

/// What `config.json` says about quantisation. The tensors have the last word on whether a module is quantised at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuantizationMap {
    /// The checkpoint's general setting.
    global: Option<Setting>,
    /// Modules that are named: their own setting, or `None` for "not quantised".
    named: BTreeMap<String, Option<Setting>>,
    /// What shares a scale of float8 weights.
    float8: Option<Float8>,
    /// Widths and groups of whole numbers around zero, packed as compressed-tensors does.
    packed: Vec<Quantization>,
}

const WIDTHS: [usize; 6] = [2, 3, 4, 5, 6, 8];
const GROUPS: [usize; 3] = [32, 64, 128];
/// Width of codes that compressed-tensors packs; others are read by nobody here.
pub(super) const PACKED_BITS: usize = 4;

impl QuantizationMap {
    /// Reads `quantization` (or `quantization_config`, which MLX converters write as a copy) of the configuration, or of
    /// its language model's part.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedQuantization`] for any other method, mode, width or group.
    pub(super) fn parse(config: &Value) -> Result<Self, LoadError> {
        const PLACES: [(&str, &str); 4] = [
            ("quantization", "/quantization"),
            ("quantization_config", "/quantization_config"),
            ("text_config.quantization", "/text_config/quantization"),
            ("text_config.quantization_config", "/text_config/quantization_config"),
        ];
        let object = |place| config.pointer(place).and_then(Value::as_object);
        let Some((key, object)) = PLACES.iter().find_map(|(key, place)| Some((*key, object(place)?))) else {
            return Ok(Self::default());
        };
        match object.get("quant_method").filter(|method| !method.is_null()) {
            None => Self::mlx(key, object),
            Some(method) if method == "fp8" => Ok(Self { float8: float8(key, object)?, ..Self::default() }),
            Some(method) if method == "compressed-tensors" => {
                Ok(Self { packed: packed(key, object)?, ..Self::default() })
            }
            Some(method) => Err(LoadError::quantization(format!("{key}.quant_method"), plain(method))),
        }
    }

    /// MLX's: a general setting, and others by module.
    fn mlx(key: &str, object: &Map<String, Value>) -> Result<Self, LoadError> {
        let mut map = Self { global: setting(key, object)?, ..Self::default() };
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
    pub fn global(&self) -> Option<Setting> {
        self.global
    }

    /// What shares a scale of float8 weights that have more than one.
    pub(super) fn float8(&self) -> Option<Float8> {
        self.float8
    }

    /// Whether there may be modules of such whole numbers around zero.
    pub(super) fn packs(&self, quantization: Quantization) -> bool {
        self.packed.contains(&quantization)
    }

    /// What the configuration says about the module at `path`: `None` if it does not name it.
    pub fn named(&self, path: &str) -> Option<Option<Setting>> {
        self.named.get(path).copied()
    }

    /// The setting of a module that has scales: bytes for small floats (`micro`), floats for affine codes.
    ///
    /// A named path wins. Otherwise both numbers follow from the shapes, as in newer versions of mlx-lm: a recipe need
    /// not name every module that it treats differently.
    ///
    /// `words`: 32-bit words per row of codes. `groups`: scales per row. `inputs`: columns of the dense matrix.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the numbers do not belong together,
    /// [`LoadError::UnsupportedQuantization`] if there is no such width, group or format.
    pub(super) fn of_module(
        &self,
        path: &str,
        micro: bool,
        words: usize,
        groups: usize,
        inputs: usize,
    ) -> Result<Setting, LoadError> {
        let shape = || format!("{words} words and {groups} scales per row for {inputs} inputs");
        if groups == 0 || inputs == 0 || !inputs.is_multiple_of(groups) || !(words * 32).is_multiple_of(inputs) {
            return Err(LoadError::invalid(path, format!("{} fit no quantisation", shape())));
        }
        let derived = Quantization { bits: words * 32 / inputs, group_size: inputs / groups };
        let setting = if micro {
            let fits =
                |format: &Microscaling| (format.bits(), format.group_size()) == (derived.bits, derived.group_size);
            let format = Microscaling::ALL.into_iter().find(fits);
            let format =
                format.ok_or_else(|| LoadError::quantization(format!("scales of bytes in {path}"), derived))?;
            Setting::Micro(format)
        } else {
            Setting::Affine(derived)
        };
        let found = self.named(path).flatten().unwrap_or(setting);
        if found != setting {
            let scales = if micro { ", the scales being bytes" } else { "" };
            let reason = format!("config.json says {found}, but there are {}{scales}", shape());
            return Err(LoadError::invalid(path, reason));
        }
        if let Setting::Affine(Quantization { bits, group_size }) = found {
            if !WIDTHS.contains(&bits) {
                return Err(LoadError::quantization(format!("bits of {path}"), bits));
            }
            if !GROUPS.contains(&group_size) {
                return Err(LoadError::quantization(format!("group_size of {path}"), group_size));
            }
        }
        Ok(found)
    }
}

/// Reads `bits`, `group_size` and `mode` of one object.
fn setting(key: &str, object: &Map<String, Value>) -> Result<Option<Setting>, LoadError> {
    // An entry without a mode is affine, even below another global mode.
    let format = match object.get("mode").filter(|mode| !mode.is_null()) {
        None => None,
        Some(mode) if mode.as_str() == Some("affine") => None,
        Some(mode) => Some(
            Microscaling::ALL
                .into_iter()
                .find(|format| mode.as_str() == Some(format.name()))
                .ok_or_else(|| LoadError::quantization(format!("{key}.mode"), plain(mode)))?,
        ),
    };
    let number = |name: &str, allowed: &[usize]| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| allowed.contains(n))
            .map(Some)
            .ok_or_else(|| LoadError::quantization(format!("{key}.{name}"), plain(value))),
    };
    if let Some(format) = format {
        // A format has one width and one group; who writes others means something else.
        number("bits", &[format.bits()])?;
        number("group_size", &[format.group_size()])?;
        return Ok(Some(Setting::Micro(format)));
    }
    let (bits, group_size) = (number("bits", &WIDTHS)?, number("group_size", &GROUPS)?);
    Ok(bits.zip(group_size).map(|(bits, group_size)| Setting::Affine(Quantization { bits, group_size })))
}

/// Reads `weight_block_size`; missing, every matrix has one scale.
fn float8(key: &str, object: &Map<String, Value>) -> Result<Option<Float8>, LoadError> {
    let given = |name: &str| object.get(name).filter(|value| !value.is_null());
    if let Some(format) = given("fmt").filter(|format| !["e4m3", "float8_e4m3fn"].iter().any(|known| *format == known))
    {
        return Err(LoadError::quantization(format!("{key}.fmt"), plain(format)));
    }
    let Some(block) = given("weight_block_size") else { return Ok(None) };
    let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    match block.as_array().map(|sizes| sizes.iter().map(size).collect::<Vec<_>>()).as_deref() {
        Some(&[Some(rows), Some(columns)]) => Ok(Some(Float8::Blocks { rows, columns })),
        _ => Err(LoadError::quantization(format!("{key}.weight_block_size"), block)),
    }
}

/// Reads the groups of compressed-tensors. Which modules they are for is told by the tensors, as is what a module has
/// besides: offsets and orders of inputs are tensors that nobody asks for.
fn packed(key: &str, object: &Map<String, Value>) -> Result<Vec<Quantization>, LoadError> {
    let refuse = |key: String, value: Option<&Value>| {
        Err(LoadError::quantization(key, value.map_or_else(|| "missing".to_owned(), plain)))
    };
    let is = |value: Option<&Value>, wanted: &str| value.and_then(Value::as_str) == Some(wanted);
    if !is(object.get("format"), "pack-quantized") {
        return refuse(format!("{key}.format"), object.get("format"));
    }
    let mut all = Vec::new();
    for (name, group) in object.get("config_groups").and_then(Value::as_object).into_iter().flatten() {
        let key = format!("{key}.config_groups.{name}");
        let own = group.get("format").filter(|format| !format.is_null());
        if own.is_some() && !is(own, "pack-quantized") {
            return refuse(format!("{key}.format"), own);
        }
        let of = |name: &str| group.pointer(&format!("/weights/{name}"));
        let number = |name: &str| of(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let unknown = [
            ("num_bits", number("num_bits") == Some(PACKED_BITS)),
            ("type", is(of("type"), "int")),
            ("symmetric", of("symmetric").and_then(Value::as_bool) == Some(true)),
            ("strategy", is(of("strategy"), "group")),
            ("group_size", number("group_size").is_some_and(|size| GROUPS.contains(&size))),
        ];
        if let Some((name, _)) = unknown.iter().find(|(_, known)| !known) {
            return refuse(format!("{key}.weights.{name}"), of(name));
        }
        all.extend(number("group_size").map(|group_size| Quantization { bits: PACKED_BITS, group_size }));
    }
    Ok(all)
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

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Affine(quantization) => quantization.fmt(f),
            Self::Micro(format) => format.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn affine(bits: usize, group_size: usize) -> Setting {
        Setting::Affine(Quantization { bits, group_size })
    }

    fn refused(config: Value) -> String {
        let error = QuantizationMap::parse(&config).unwrap_err();
        assert_eq!(error.outcome(), "unsupported_quantization");
        error.to_string()
    }

    #[test]
    fn what_is_unknown_is_refused_by_key_and_value() {
        assert!(refused(json!({"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp5"}})).contains("mxfp5"));
        assert!(
            refused(json!({"quantization": {"bits": 4, "group_size": 64, "mode": "mxfp4"}})).contains("group_size")
        );
        assert!(refused(json!({"quantization_config": {"quant_method": "awq"}})).contains("quant_method"));
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

        assert_eq!(map.global(), Some(affine(4, 64)));
        assert_eq!(map.named("lm_head"), Some(Some(affine(6, 32))));
        assert_eq!(map.named("model.layers.0.mlp.down_proj"), Some(None));
        assert_eq!(map.named("model.embed_tokens"), None);
    }

    #[test]
    fn a_module_that_is_not_named_takes_its_numbers_from_the_shapes() {
        let map = QuantizationMap::parse(&json!({"quantization": {"bits": 4, "group_size": 64}})).unwrap();

        // 256 inputs in 64 words are 8 bits; 8 scales make groups of 32.
        assert_eq!(map.of_module("m", false, 64, 8, 256).unwrap(), affine(8, 32));
        assert!(map.of_module("m", false, 65, 8, 256).is_err());
    }

    #[test]
    fn scales_of_bytes_tell_the_format_of_small_floats() {
        let config = json!({"quantization": {
            "bits": 4, "group_size": 32, "mode": "mxfp4",
            "router": {"bits": 8, "group_size": 64},
        }});
        let map = QuantizationMap::parse(&config).unwrap();

        assert_eq!(map.global(), Some(Setting::Micro(Microscaling::Mxfp4)));
        assert_eq!(map.named("router"), Some(Some(affine(8, 64))));
        assert_eq!(map.of_module("m", true, 32, 8, 256).unwrap(), Setting::Micro(Microscaling::Mxfp4));
        assert_eq!(map.of_module("m", true, 32, 16, 256).unwrap(), Setting::Micro(Microscaling::Nvfp4));
        assert_eq!(map.of_module("m", true, 64, 8, 256).unwrap(), Setting::Micro(Microscaling::Mxfp8));
        assert_eq!(map.of_module("m", true, 32, 4, 256).unwrap_err().outcome(), "unsupported_quantization");
        assert_eq!(map.of_module("router", true, 32, 8, 256).unwrap_err().outcome(), "invalid_checkpoint");
    }

    #[test]
    fn blocks_of_float8_weights_are_read_wherever_they_are_written() {
        let own = json!({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 64]});
        let blocks = Some(Float8::Blocks { rows: 128, columns: 64 });
        let read = |config: Value| QuantizationMap::parse(&config).unwrap().float8();
        assert_eq!(read(json!({"quantization_config": own})), blocks);
        assert_eq!(read(json!({"text_config": {"quantization_config": own}})), blocks);
        assert_eq!(read(json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": null}})), None);

        let with = |key: &str, value: Value| json!({"quantization_config": {"quant_method": "fp8", key: value}});
        assert!(refused(with("fmt", json!("e5m2"))).contains("`quantization_config.fmt` is `e5m2`"));
        for sizes in [json!([128]), json!([0, 128]), json!([1, 2, 3]), json!(128)] {
            assert!(refused(with("weight_block_size", sizes)).contains("weight_block_size"));
        }
    }

    #[test]
    fn packed_whole_numbers_are_accepted_in_four_symmetric_bits_only() {
        let with = |place: &str, value: Value| {
            let mut config = json!({"quantization_config": {
                "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
                "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": null, "weights": {
                    "num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 32,
                }}},
            }});
            *config.pointer_mut(&format!("/quantization_config{place}")).unwrap() = value;
            config
        };
        let weights = |name: &str| format!("/config_groups/group_0/weights/{name}");

        let map = QuantizationMap::parse(&with(&weights("group_size"), json!(128))).unwrap();
        assert!(map.packs(Quantization { bits: 4, group_size: 128 }));
        assert!(!map.packs(Quantization { bits: 4, group_size: 32 }));

        assert!(refused(with("/format", json!("float-quantized"))).contains("quantization_config.format"));
        for (name, value) in [
            ("num_bits", json!(8)),
            ("type", json!("float")),
            ("symmetric", json!(false)),
            ("strategy", json!("channel")),
            ("group_size", json!(48)),
        ] {
            let text = refused(with(&weights(name), value.clone()));
            let said = format!("`quantization_config.config_groups.group_0.weights.{name}` is `{}`", plain(&value));
            assert!(text.contains(&said), "{text}");
        }
    }

    #[test]
    fn an_unquantised_checkpoint_has_an_empty_map() {
        let map = QuantizationMap::parse(&json!({"quantization": null, "hidden_size": 8})).unwrap();
        assert_eq!(map, QuantizationMap::default());
    }
}
