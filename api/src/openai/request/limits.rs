//! What single values of a request may be.

use crate::error::ApiError;
use serde_json::{Map, Value};

/// Alternatives that may be reported per token.
const MAX_LOGPROBS: i64 = 20;

/// -1 asks for as many as fit, as absence does.
pub(super) fn token_limit(field: &'static str, given: Option<i64>, least: u32) -> Result<Option<u32>, ApiError> {
    match given {
        None | Some(-1) => Ok(None),
        Some(tokens) if tokens < i64::from(least) => {
            Err(ApiError::invalid(field, format!("{tokens} tokens are fewer than {least}")))
        }
        // More than any context holds: clamped there, not refused here.
        Some(tokens) => Ok(Some(u32::try_from(tokens).unwrap_or(u32::MAX))),
    }
}

/// A number of things of which there must be one.
pub(super) fn at_least_one(field: &'static str, given: Option<i64>) -> Result<Option<usize>, ApiError> {
    match given {
        Some(number) if number < 1 => Err(ApiError::invalid(field, format!("{number} is less than 1"))),
        ok => Ok(ok.map(|number| usize::try_from(number).unwrap_or(usize::MAX))),
    }
}

/// A list that is not empty, and no longer than `max`.
pub(super) fn list_length(field: &'static str, length: usize, max: usize) -> Result<(), ApiError> {
    match length {
        0 => Err(ApiError::invalid(field, "the list is empty")),
        length if length > max => Err(ApiError::invalid(field, format!("{length} entries are more than {max}"))),
        _ => Ok(()),
    }
}

/// 0 and -1 are off.
pub(super) fn top_k(given: Option<i64>) -> Result<u32, ApiError> {
    match given {
        None | Some(-1 | 0) => Ok(0),
        Some(k) => {
            u32::try_from(k).map_err(|_| ApiError::invalid("top_k", format!("{k} is neither -1 nor in [0, 2^32)")))
        }
    }
}

/// A value in `[least, most]`.
pub(super) fn within(field: &'static str, given: Option<f32>, least: f32, most: f32) -> Result<Option<f32>, ApiError> {
    match given {
        Some(value) if !(least..=most).contains(&value) => {
            Err(ApiError::invalid(field, format!("{value} lies outside of [{least}, {most}]")))
        }
        ok => Ok(ok),
    }
}

/// A probability in `(0, 1]`.
pub(super) fn share(field: &'static str, given: Option<f32>) -> Result<Option<f32>, ApiError> {
    match given {
        Some(value) if !(value > 0.0 && value <= 1.0) => {
            Err(ApiError::invalid(field, format!("{value} lies outside of (0, 1]")))
        }
        ok => Ok(ok),
    }
}

/// Biases by token id, in `[-100, 100]`, in the order of the ids.
pub(super) fn logit_bias(given: Map<String, Value>) -> Result<Vec<(u32, f32)>, ApiError> {
    let mut biases = given
        .into_iter()
        .map(|(key, bias)| {
            let field = format!("logit_bias.{key}");
            let token = key.trim().parse().map_err(|_| ApiError::invalid(field.clone(), "the key is no token id"))?;
            match bias.as_f64() {
                Some(bias) if (-100.0..=100.0).contains(&bias) => Ok((token, bias as f32)),
                Some(bias) => Err(ApiError::invalid(field, format!("{bias} lies outside of [-100, 100]"))),
                None => Err(ApiError::invalid(field, format!("{bias} is no number"))),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    biases.sort_by_key(|&(token, _)| token);
    Ok(biases)
}

/// How many alternatives are reported per token.
pub(super) fn alternatives(field: &'static str, given: i64) -> Result<u8, ApiError> {
    match u8::try_from(given) {
        Ok(alternatives) if given <= MAX_LOGPROBS => Ok(alternatives),
        Ok(_) | Err(_) => Err(ApiError::invalid(field, format!("{given} lies outside of [0, {MAX_LOGPROBS}]"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_hold_at_their_edges() {
        assert!(within("x", Some(2.0), 0.0, 2.0).is_ok() && within("x", Some(2.1), 0.0, 2.0).is_err());
        assert!(within("x", Some(f32::NAN), 0.0, 2.0).is_err());
        assert!(share("x", Some(1.0)).is_ok() && share("x", Some(0.0)).is_err());
        assert!(alternatives("x", 20).is_ok() && alternatives("x", 21).is_err() && alternatives("x", -1).is_err());
        assert_eq!([top_k(None), top_k(Some(-1)), top_k(Some(0)), top_k(Some(7))], [Ok(0), Ok(0), Ok(0), Ok(7)]);
    }

    #[test]
    fn counts_hold_at_their_edges() {
        assert_eq!([at_least_one("x", None), at_least_one("x", Some(1))], [Ok(None), Ok(Some(1))]);
        assert!(at_least_one("x", Some(0)).is_err() && at_least_one("x", Some(-1)).is_err());
        assert!(list_length("x", 2, 2).is_ok() && list_length("x", 3, 2).is_err() && list_length("x", 0, 2).is_err());
    }

    #[test]
    fn biases_are_sorted_by_token_and_need_numbers() {
        let read = |value: Value| logit_bias(value.as_object().unwrap().clone());

        assert_eq!(read(json!({"50": -100, "7": 1.5})), Ok(vec![(7, 1.5), (50, -100.0)]));
        assert_eq!(read(json!({"7": "a"})).unwrap_err().param(), Some("logit_bias.7"));
    }
}
