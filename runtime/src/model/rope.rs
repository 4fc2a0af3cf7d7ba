use super::config::ModelConfig;
use super::spec::QueryGrowth;
use crate::checkpoint::LoadError;
use serde::Deserialize;
use serde_json::Value;
use std::f64::consts::PI;

/// A rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// How many leading components of a head rotate; even.
    pub dim: usize,
    /// Which components rotate together.
    pub pairs: RopePairs,
    /// What is done to the frequencies to reach further than the model was trained.
    pub scaling: RopeScaling,
}

/// Which components of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// Component `k` with component `k + dim / 2`.
    Halves,
    /// Component `2 k` with component `2 k + 1`.
    Neighbours,
}

/// How rotary frequencies are stretched.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Slow ones by a factor, fast ones not, a ramp between (Llama 3.1).
    Llama3 {
        /// The factor of slow frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are slow.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are fast.
        high_freq_factor: f64,
        /// Positions of the training.
        original_context: f64,
    },
    /// A ramp over the components, and a factor on cosine and sine.
    Yarn {
        /// The factor of slow frequencies.
        factor: f64,
        /// Turns over the training context above which a component keeps its frequency.
        beta_fast: f64,
        /// Turns below which it takes the factor.
        beta_slow: f64,
        /// Positions of the training.
        original_context: f64,
        /// Whether the ramp's ends are rounded to whole components.
        truncate: bool,
        /// What cosine and sine are multiplied by.
        attention_factor: f64,
        /// What latent attention multiplies its scores by, besides.
        score_factor: f64,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    truncate: Option<bool>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    llama_4_scaling_beta: Option<f64>,
}

/// The object that says how positions are embedded, and its key.
fn fields(config: &ModelConfig) -> Result<(&'static str, Fields), LoadError> {
    let (key, value) = match (&config.rope_parameters, &config.rope_scaling) {
        (Some(value), _) => ("rope_parameters", value),
        (None, Some(value)) => ("rope_scaling", value),
        (None, None) => ("rope_parameters", &Value::Null),
    };
    let fields = match value {
        Value::Null => Fields::default(),
        value => Fields::deserialize(value)
            .map_err(|error| LoadError::invalid("config.json", format!("`{key}`: {error}")))?,
    };
    Ok((key, fields))
}

/// How queries grow with their position; `None`: they do not.
///
/// # Errors
/// [`LoadError::InvalidCheckpoint`] if the training context is not given.
pub(super) fn query_growth(config: &ModelConfig) -> Result<Option<QueryGrowth>, LoadError> {
    let (key, fields) = fields(config)?;
    let Some(beta) = fields.llama_4_scaling_beta.filter(|beta| *beta != 0.0) else { return Ok(None) };
    let context = fields.original_max_position_embeddings.filter(|context| *context >= 1.0).ok_or_else(|| {
        let reason = format!("`{key}.original_max_position_embeddings` is missing or not positive");
        LoadError::invalid("config.json", reason)
    })?;
    Ok(Some(QueryGrowth { beta, original_context: context as usize }))
}

impl RopeSpec {
    /// Reads the old keys (`rope_theta`, `rope_scaling`) or the new one (`rope_parameters`).
    pub(super) fn parse(config: &ModelConfig, head_dim: usize, pairs: RopePairs) -> Result<Self, LoadError> {
        let (key, fields) = fields(config)?;
        let partial = fields.partial_rotary_factor.or(config.partial_rotary_factor).unwrap_or(1.0);
        let dim = config.rotary_dim.unwrap_or((head_dim as f64 * partial) as usize);
        if dim == 0 || dim > head_dim || !dim.is_multiple_of(2) {
            return Err(LoadError::invalid("config.json", format!("{dim} of {head_dim} components of a head rotate")));
        }
        let theta = fields.rope_theta.or(config.rope_theta).unwrap_or(10_000.0);
        Ok(Self { theta, dim, pairs, scaling: scaling(key, &fields, config)? })
    }

    /// What latent attention multiplies its scores by, besides the root of the width.
    pub fn score_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { score_factor, .. } => score_factor,
            _ => 1.0,
        }
    }

    /// The frequencies, `[dim / 2]`, in radians per position, and the factor on cosine and sine.
    ///
    /// Rounded to f32 as the reference implementations hold them: at position 100000 the rounding is visible in the
    /// angles, and models were trained with it.
    ///
    /// Source: transformers, `modeling_rope_utils.py`; Peng et al., "YaRN", 2023, for that scaling.
    pub fn frequencies(&self) -> (Vec<f32>, f32) {
        let dim = self.dim as f64;
        let plain = (0..self.dim / 2).map(|k| 1.0 / self.theta.powf((2 * k) as f64 / dim));
        match self.scaling {
            RopeScaling::None => (plain.map(|f| f as f32).collect(), 1.0),
            RopeScaling::Linear { factor } => (plain.map(|f| (f / factor) as f32).collect(), 1.0),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let scaled = plain.map(|f| {
                    let wavelength = 2.0 * PI / f;
                    let smooth =
                        (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let smooth = smooth.clamp(0.0, 1.0);
                    (f * ((1.0 - smooth) / factor + smooth)) as f32
                });
                (scaled.collect(), 1.0)
            }
            RopeScaling::Yarn {
                factor, beta_fast, beta_slow, original_context, truncate, attention_factor, ..
            } => {
                let component =
                    |turns: f64| dim * (original_context / (2.0 * PI * turns)).ln() / (2.0 * self.theta.ln());
                let (mut low, mut high) = (component(beta_fast), component(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(dim - 1.0));
                if low == high {
                    high += 0.001;
                }
                let scaled = plain.enumerate().map(|(k, f)| {
                    let ramp = ((k as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    (f * (1.0 - ramp) + f / factor * ramp) as f32
                });
                (scaled.collect(), attention_factor as f32)
            }
        }
    }
}

fn scaling(key: &str, fields: &Fields, config: &ModelConfig) -> Result<RopeScaling, LoadError> {
    let need = |value: Option<f64>, name: &str| {
        value
            .filter(|value| value.is_finite() && *value > 0.0)
            .ok_or_else(|| LoadError::invalid("config.json", format!("`{key}.{name}` is missing or not positive")))
    };
    let original_context = fields.original_max_position_embeddings.or(config.max_position_embeddings.map(|n| n as f64));
    let kind = fields.rope_type.as_deref().or(fields.kind.as_deref()).unwrap_or("default");
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: need(fields.factor, "factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: need(fields.factor, "factor")?,
            low_freq_factor: need(fields.low_freq_factor, "low_freq_factor")?,
            high_freq_factor: need(fields.high_freq_factor, "high_freq_factor")?,
            original_context: need(original_context, "original_max_position_embeddings")?,
        }),
        "yarn" => {
            let factor = need(fields.factor, "factor")?;
            let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
            let of_scales = match (fields.mscale.unwrap_or(0.0), fields.mscale_all_dim.unwrap_or(0.0)) {
                (own, all) if own != 0.0 && all != 0.0 => magnitude(own) / magnitude(all),
                _ => magnitude(1.0),
            };
            Ok(RopeScaling::Yarn {
                factor,
                beta_fast: fields.beta_fast.unwrap_or(32.0),
                beta_slow: fields.beta_slow.unwrap_or(1.0),
                original_context: need(original_context, "original_max_position_embeddings")?,
                truncate: fields.truncate.unwrap_or(true),
                attention_factor: fields.attention_factor.unwrap_or(of_scales),
                score_factor: magnitude(fields.mscale_all_dim.unwrap_or(0.0)).powi(2),
            })
        }
        other => Err(LoadError::arch(format!("{key}.rope_type"), other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(config: Value) -> Result<RopeSpec, LoadError> {
        RopeSpec::parse(&ModelConfig::deserialize(&config).unwrap(), 16, RopePairs::Halves)
    }

    #[test]
    fn old_and_new_keys_mean_the_same() {
        let old = json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}});
        let new = json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4.0}});
        assert_eq!(spec(old).unwrap(), spec(new).unwrap());
    }

    #[test]
    fn llama3_scaling_leaves_fast_frequencies_and_divides_slow_ones() {
        let scaled = spec(json!({"rope_theta": 10000.0, "max_position_embeddings": 131072, "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}}))
        .unwrap();
        let plain = spec(json!({"rope_theta": 10000.0})).unwrap();

        let (scaled, plain) = (scaled.frequencies().0, plain.frequencies().0);

        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[7], plain[7] / 8.0);
    }

    #[test]
    fn an_unknown_scaling_is_refused_by_key_and_value() {
        let error = spec(json!({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}})).unwrap_err();
        assert_eq!(error.outcome(), "unsupported_arch");
        assert!(error.to_string().contains("rope_scaling.rope_type` is `longrope"), "{error}");
    }
}
