use crate::error::ApiError;
use actix_web::http::header::HeaderMap;
use lmx_runtime::sequence::Priority;
use serde_json::Value;

/// The header that gives a priority to requests whose body has none.
pub const PRIORITY_HEADER: &str = "x-priority";

/// Chooses between the body's `priority` and the header: the body wins.
///
/// Numbers are taken as other servers take them: lower comes first, 0 is normal.
///
/// # Errors
/// [`ApiError::Invalid`] for a word that is none of the three.
pub(super) fn choose_priority(field: Option<&Value>, headers: &HeaderMap) -> Result<Priority, ApiError> {
    match field {
        Some(Value::String(word)) => from_word(word, "priority"),
        Some(Value::Number(number)) => Ok(match number.as_f64().unwrap_or(0.0) {
            n if n < 0.0 => Priority::Interactive,
            n if n > 0.0 => Priority::Background,
            _ => Priority::Normal,
        }),
        Some(Value::Null) | None => match headers.get(PRIORITY_HEADER) {
            Some(value) => from_word(&String::from_utf8_lossy(value.as_bytes()), PRIORITY_HEADER),
            None => Ok(Priority::default()),
        },
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(ApiError::invalid("priority", "give `interactive`, `normal`, `background` or a number"))
        }
    }
}

fn from_word(word: &str, field: &'static str) -> Result<Priority, ApiError> {
    match word.trim().to_ascii_lowercase().as_str() {
        "interactive" => Ok(Priority::Interactive),
        "normal" => Ok(Priority::Normal),
        "background" => Ok(Priority::Background),
        _ => Err(ApiError::invalid(field, format!("`{word}` is none of interactive, normal, background"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};
    use serde_json::json;

    fn headers(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(PRIORITY_HEADER), HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn the_body_wins_over_the_header() {
        let field = json!("background");

        assert_eq!(choose_priority(Some(&field), &headers("interactive")), Ok(Priority::Background));
        assert_eq!(choose_priority(None, &headers("interactive")), Ok(Priority::Interactive));
        assert_eq!(choose_priority(Some(&Value::Null), &HeaderMap::new()), Ok(Priority::Normal));
    }

    #[test]
    fn numbers_are_ordered_as_other_servers_order_them() {
        let of = |n: i64| choose_priority(Some(&json!(n)), &HeaderMap::new()).unwrap();

        assert_eq!([of(-3), of(0), of(5)], [Priority::Interactive, Priority::Normal, Priority::Background]);
    }

    #[test]
    fn an_unknown_word_is_refused_where_it_stands() {
        let in_header = choose_priority(None, &headers("urgent")).unwrap_err();
        let in_body = choose_priority(Some(&json!("urgent")), &HeaderMap::new()).unwrap_err();

        assert_eq!(in_header.param(), Some("x-priority"));
        assert_eq!(in_body.param(), Some("priority"));
    }
}
