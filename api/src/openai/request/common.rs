//! The fields that chats and completions share, and their limits.

use super::limits::{logit_bias, share, token_limit, top_k, within};
use super::priority::choose_priority;
use super::{Generation, RequestDefaults};
use crate::error::ApiError;
use crate::openai::body::read_fields;
use actix_web::http::header::HeaderMap;
use lmx_runtime::sampling::SamplingParams;
use lmx_runtime::sequence::Priority;
use lmx_runtime::text::ParseOptions;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};
use std::fmt;

/// Answers that one request may ask for.
const MAX_N: u32 = 128;
/// Strings that may end an answer.
const MAX_STOP: usize = 16;

/// Sampling, limits and form of the answer, as the client wrote them. Null is the same as absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Common {
    pub(super) model: Option<String>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    repetition_penalty: Option<f32>,
    repeat_penalty: Option<f32>,
    logit_bias: Option<Map<String, Value>>,
    seed: Option<i64>,
    stop: Option<Stop>,
    stop_token_ids: Option<Vec<u32>>,
    include_stop_str_in_output: Option<bool>,
    skip_special_tokens: Option<bool>,
    ignore_eos: Option<bool>,
    min_tokens: Option<u32>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    num_ctx: Option<u32>,
    n: Option<u32>,
    best_of: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(skip)]
    priority: Priority,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

/// `stop`: a string or a list of strings.
#[derive(Debug, Clone, PartialEq)]
struct Stop(Vec<String>);

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Stop;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop(vec![text.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Stop, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Stop)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Common {
    /// Reads the shared fields, after what cannot be honoured has been refused.
    pub(super) fn read(body: &Value, headers: &HeaderMap) -> Result<Self, ApiError> {
        super::refused::check(body)?;
        let mut common: Self = read_fields(body)?;
        common.priority = choose_priority(body.get("priority"), headers)?;
        Ok(common)
    }

    /// Checks the limits and fills the gaps from `defaults`. An answer may not be shorter than `least_tokens`; log
    /// probabilities are added by the caller, since chats and completions ask for them differently.
    pub(super) fn resolve(
        self,
        defaults: &RequestDefaults,
        least_tokens: u32,
    ) -> Result<(SamplingParams, Generation), ApiError> {
        let generation = self.generation(defaults, least_tokens)?;
        let params = self.sampling(defaults)?;
        if generation.max_tokens.is_some_and(|max| params.min_tokens > max) {
            return Err(ApiError::invalid("min_tokens", format!("{} are more than `max_tokens`", params.min_tokens)));
        }
        Ok((params, generation))
    }

    fn generation(&self, defaults: &RequestDefaults, least_tokens: u32) -> Result<Generation, ApiError> {
        let max_tokens = match self.max_completion_tokens {
            Some(_) => token_limit("max_completion_tokens", self.max_completion_tokens, least_tokens)?,
            None => token_limit("max_tokens", self.max_tokens, least_tokens)?,
        };
        let n = self.n.unwrap_or(1);
        if !(1..=MAX_N).contains(&n) {
            return Err(ApiError::invalid("n", format!("{n} lies outside of [1, {MAX_N}]")));
        }
        if let Some(best_of) = self.best_of.filter(|&best_of| best_of != n) {
            return Err(ApiError::invalid(
                "best_of",
                format!("{best_of} is not `n` ({n}), and ranking is not available"),
            ));
        }
        let num_ctx = self.num_ctx.or(defaults.parameters.num_ctx);
        if num_ctx == Some(0) {
            return Err(ApiError::invalid("num_ctx", "0 tokens hold no prompt"));
        }
        let options = self.stream_options.clone().unwrap_or_default();
        let include_usage = options.include_usage.unwrap_or(false);
        Ok(Generation {
            max_tokens: max_tokens.or(defaults.parameters.max_tokens),
            num_ctx,
            stop: self.stop(defaults)?,
            include_stop: self.include_stop_str_in_output.unwrap_or(false),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            skip_special_tokens: self.skip_special_tokens.unwrap_or(true),
            n,
            seed: self.seed.map(i64::cast_unsigned),
            stream: self.stream.unwrap_or(false),
            include_usage,
            continuous_usage: include_usage && options.continuous_usage_stats.unwrap_or(false),
            priority: self.priority,
            parse: ParseOptions::default(),
        })
    }

    fn stop(&self, defaults: &RequestDefaults) -> Result<Vec<String>, ApiError> {
        let stop = match &self.stop {
            Some(Stop(list)) => list.clone(),
            None => defaults.parameters.stop.clone(),
        };
        if stop.len() > MAX_STOP {
            return Err(ApiError::invalid("stop", format!("{} strings are more than {MAX_STOP}", stop.len())));
        }
        if let Some(empty) = stop.iter().position(String::is_empty) {
            return Err(ApiError::invalid("stop", format!("string {empty} is empty")));
        }
        Ok(stop)
    }

    fn sampling(self, defaults: &RequestDefaults) -> Result<SamplingParams, ApiError> {
        let (neutral, preset) = (SamplingParams::default(), &defaults.parameters);
        let repetition = ("repetition_penalty", self.repetition_penalty);
        let repeat = ("repeat_penalty", self.repeat_penalty);
        let (repetition_field, repetition_given) = if repetition.1.is_some() { repetition } else { repeat };
        let repetition_penalty = repetition_given.or(preset.repetition_penalty).unwrap_or(neutral.repetition_penalty);
        if !(repetition_penalty > 0.0 && repetition_penalty.is_finite()) {
            return Err(ApiError::invalid(repetition_field, format!("{repetition_penalty} is not above 0")));
        }
        Ok(SamplingParams {
            temperature: within("temperature", self.temperature.or(preset.temperature), 0.0, 2.0)?
                .unwrap_or(neutral.temperature),
            top_p: share("top_p", self.top_p.or(preset.top_p))?.unwrap_or(neutral.top_p),
            top_k: top_k(self.top_k.or(preset.top_k))?,
            min_p: within("min_p", self.min_p.or(preset.min_p), 0.0, 1.0)?.unwrap_or(neutral.min_p),
            typical_p: share("typical_p", self.typical_p)?.unwrap_or(neutral.typical_p),
            repetition_penalty,
            frequency_penalty: within(
                "frequency_penalty",
                self.frequency_penalty.or(preset.frequency_penalty),
                -2.0,
                2.0,
            )?
            .unwrap_or(neutral.frequency_penalty),
            presence_penalty: within("presence_penalty", self.presence_penalty.or(preset.presence_penalty), -2.0, 2.0)?
                .unwrap_or(neutral.presence_penalty),
            logit_bias: logit_bias(self.logit_bias.unwrap_or_default())?,
            stop_ids: self.stop_token_ids.unwrap_or_default(),
            min_tokens: self.min_tokens.unwrap_or(0),
            ..neutral
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Parameters;
    use super::*;
    use serde_json::json;

    fn resolve(body: Value) -> Result<(SamplingParams, Generation), ApiError> {
        resolve_with(body, Parameters::default())
    }

    fn resolve_with(body: Value, parameters: Parameters) -> Result<(SamplingParams, Generation), ApiError> {
        let defaults = RequestDefaults { parameters, ..RequestDefaults::default() };
        Common::read(&body, &HeaderMap::new())?.resolve(&defaults, 1)
    }

    #[test]
    fn nulls_are_the_same_as_absent() {
        let fields = [
            "model",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "logit_bias",
            "seed",
            "stop",
            "max_tokens",
            "n",
            "stream",
            "stream_options",
            "priority",
            "repetition_penalty",
        ];
        let nulls = Value::Object(fields.iter().map(|&f| (f.to_owned(), Value::Null)).collect());

        assert_eq!(resolve(nulls).unwrap(), resolve(json!({})).unwrap());
    }

    #[test]
    fn a_request_wins_over_the_preset_and_the_preset_over_the_neutral_value() {
        let preset =
            Parameters { temperature: Some(0.6), top_k: Some(20), max_tokens: Some(9), ..Parameters::default() };

        let (params, generation) = resolve_with(json!({"temperature": 0.1}), preset).unwrap();

        assert_eq!((params.temperature, params.top_k, params.top_p), (0.1, 20, 1.0));
        assert_eq!(generation.max_tokens, Some(9));
    }

    #[test]
    fn values_out_of_range_name_the_field_and_the_limit() {
        let cases = [
            (json!({"temperature": 2.5}), "invalid `temperature`: 2.5 lies outside of [0, 2]"),
            (json!({"temperature": -0.1}), "invalid `temperature`: -0.1 lies outside of [0, 2]"),
            (json!({"top_p": 0}), "invalid `top_p`: 0 lies outside of (0, 1]"),
            (json!({"typical_p": 1.5}), "invalid `typical_p`: 1.5 lies outside of (0, 1]"),
            (json!({"min_p": 2}), "invalid `min_p`: 2 lies outside of [0, 1]"),
            (json!({"top_k": -2}), "invalid `top_k`: -2 is neither -1 nor in [0, 2^32)"),
            (json!({"frequency_penalty": 3}), "invalid `frequency_penalty`: 3 lies outside of [-2, 2]"),
            (json!({"repeat_penalty": 0}), "invalid `repeat_penalty`: 0 is not above 0"),
            (json!({"n": 0}), "invalid `n`: 0 lies outside of [1, 128]"),
            (json!({"n": 2, "best_of": 3}), "invalid `best_of`: 3 is not `n` (2), and ranking is not available"),
            (json!({"max_tokens": 0}), "invalid `max_tokens`: 0 tokens are fewer than 1"),
            (json!({"max_tokens": 4, "min_tokens": 5}), "invalid `min_tokens`: 5 are more than `max_tokens`"),
            (json!({"logit_bias": {"hello": 1}}), "invalid `logit_bias.hello`: the key is no token id"),
            (json!({"logit_bias": {"7": 101}}), "invalid `logit_bias.7`: 101 lies outside of [-100, 100]"),
            (json!({"stop": [""]}), "invalid `stop`: string 0 is empty"),
            (json!({"stop": vec!["x"; 17]}), "invalid `stop`: 17 strings are more than 16"),
            (json!({"num_ctx": 0}), "invalid `num_ctx`: 0 tokens hold no prompt"),
        ];

        for (body, message) in cases {
            assert_eq!(resolve(body).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn wrong_types_name_the_path() {
        let cases = [
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"stop": [1]}), "stop[0]"),
            (json!({"stop": 3}), "stop"),
            (json!({"stream_options": {"include_usage": "yes"}}), "stream_options.include_usage"),
            (json!({"seed": 1.5}), "seed"),
        ];

        for (body, field) in cases {
            assert_eq!(resolve(body).unwrap_err().param(), Some(field));
        }
    }

    #[test]
    fn the_newer_name_of_the_token_limit_wins_and_minus_one_means_no_limit() {
        let limit = |body| resolve(body).unwrap().1.max_tokens;

        assert_eq!(limit(json!({"max_tokens": 5, "max_completion_tokens": 7})), Some(7));
        assert_eq!(limit(json!({"max_tokens": -1})), None);
        assert_eq!(limit(json!({"max_tokens": 10_000_000_000_u64})), Some(u32::MAX));
    }

    #[test]
    fn a_negative_seed_is_a_seed() {
        assert_eq!(resolve(json!({"seed": -1})).unwrap().1.seed, Some(u64::MAX));
    }

    #[test]
    fn stop_is_a_string_or_a_list() {
        let stop = |body| resolve(body).unwrap().1.stop;

        assert_eq!(stop(json!({"stop": "END"})), ["END"]);
        assert_eq!(stop(json!({"stop": ["a", "b"]})), ["a", "b"]);
    }

    #[test]
    fn usage_in_each_chunk_needs_usage_at_the_end() {
        let of = |options: Value| resolve(json!({"stream": true, "stream_options": options})).unwrap().1;

        assert!(!of(json!({"continuous_usage_stats": true})).continuous_usage);
        assert!(of(json!({"continuous_usage_stats": true, "include_usage": true})).continuous_usage);
        assert!(of(json!({"include_usage": true, "include_obfuscation": false})).include_usage);
    }

    #[test]
    fn biases_are_read_by_token_id() {
        let (params, _) = resolve(json!({"logit_bias": {"50": -100, "7": 1.5}})).unwrap();

        assert_eq!(params.logit_bias, [(7, 1.5), (50, -100.0)]);
    }
}
