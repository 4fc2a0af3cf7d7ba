//! From the bytes of a body to a typed request, with OpenAI's error body for everything that can go wrong.

use crate::error::ApiError;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Bytes that a body may have, given to the app by `App::app_data(BodyLimit(bytes))`. Without it: 32 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit(pub usize);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(32 << 20)
    }
}

/// A request that can be read from a JSON object.
pub trait FromBody: Sized {
    /// Reads the request from a JSON object and the headers that belong to it.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] or [`ApiError::Unsupported`], with the path of the field.
    fn from_body(body: &Value, headers: &HeaderMap) -> Result<Self, ApiError>;
}

/// Extracts a [`FromBody`] from a request.
///
/// A missing content type is taken for JSON; another one is refused, because browsers send `text/plain` across origins
/// without asking first.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: FromBody + 'static> FromRequest for JsonBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (req, mut payload) = (req.clone(), payload.take());
        Box::pin(async move {
            check_content_type(req.headers())?;
            let limit = req.app_data::<BodyLimit>().copied().unwrap_or_default().0;
            let bytes = read(&mut payload, req.headers(), limit).await?;
            T::from_body(&parse(&bytes)?, req.headers()).map(Self)
        })
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = String::from_utf8_lossy(given.as_bytes());
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(ApiError::UnsupportedMediaType { got: given.into_owned() })
}

async fn read(payload: &mut Payload, headers: &HeaderMap, max: usize) -> Result<web::BytesMut, ApiError> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > max as u64) {
        return Err(ApiError::BodyTooLarge { max });
    }
    let mut bytes = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|e| ApiError::InvalidJson { reason: format!("the body broke off: {e}") })?;
        if bytes.len() + chunk.len() > max {
            return Err(ApiError::BodyTooLarge { max });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| ApiError::InvalidJson { reason: e.to_string() })?;
    if !value.is_object() {
        return Err(ApiError::InvalidJson { reason: format!("expected an object, got {}", kind(&value)) });
    }
    Ok(value)
}

/// What a JSON value is called.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads a struct from a JSON value; unknown fields are passed over.
///
/// # Errors
/// [`ApiError::Invalid`] with the path of the first field of a wrong type.
pub(super) fn read_fields<T: DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(body).map_err(|e| {
        let path = Some(e.path().to_string()).filter(|path| path != ".");
        let reason = e.into_inner().to_string();
        let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        match (path, missing) {
            (Some(path), Some(name)) => ApiError::invalid(format!("{path}.{name}"), "missing"),
            (None, Some(name)) => ApiError::invalid(name.to_owned(), "missing"),
            (path, None) => ApiError::invalid(path.unwrap_or_else(|| "body".to_owned()), reason),
        }
    })
}

/// Answers paths that no route has.
///
/// # Errors
/// Always [`ApiError::UnknownUrl`].
pub async fn default_service(req: HttpRequest) -> Result<actix_web::HttpResponse, ApiError> {
    Err(ApiError::UnknownUrl { method: req.method().to_string(), path: req.path().to_owned() })
}

/// Answers methods that a path does not have: the default service of a resource.
///
/// # Errors
/// Always [`ApiError::MethodNotAllowed`].
pub async fn method_not_allowed(req: HttpRequest) -> Result<actix_web::HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed { method: req.method().to_string(), path: req.path().to_owned() })
}

/// Query strings whose errors have OpenAI's body.
pub fn query_config() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|e, _| ApiError::invalid("query", e.to_string()).into())
}

/// Path parameters whose errors have OpenAI's body.
pub fn path_config() -> web::PathConfig {
    web::PathConfig::default().error_handler(|e, _| ApiError::invalid("path", e.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::App;
    use actix_web::test::{self, TestRequest};

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Probe {
        list: Vec<u32>,
    }

    impl FromBody for Probe {
        fn from_body(body: &Value, _: &HeaderMap) -> Result<Self, ApiError> {
            read_fields(body)
        }
    }

    async fn extract(request: TestRequest) -> Result<Probe, ApiError> {
        let (req, mut payload) = request.to_http_parts();
        JsonBody::<Probe>::from_request(&req, &mut payload).await.map(|body| body.0)
    }

    #[actix_web::test]
    async fn a_body_without_a_content_type_is_taken_for_json() {
        let probe = extract(TestRequest::post().set_payload(r#"{"list":[1],"unknown":true}"#)).await;

        assert_eq!(probe, Ok(Probe { list: vec![1] }));
    }

    #[actix_web::test]
    async fn a_wrong_type_names_the_path_of_the_field() {
        let error = extract(TestRequest::post().set_payload(r#"{"list":[1,"two"]}"#)).await.unwrap_err();

        assert_eq!(error.param(), Some("list[1]"));
        assert_eq!(error.to_string(), "invalid `list[1]`: invalid type: string \"two\", expected u32");
    }

    #[actix_web::test]
    async fn a_broken_body_is_invalid_json() {
        for body in ["{", "[1]", ""] {
            assert_eq!(extract(TestRequest::post().set_payload(body)).await.unwrap_err().code(), "invalid_json");
        }
    }

    #[actix_web::test]
    async fn a_body_over_the_limit_is_refused_with_and_without_a_declared_length() {
        let small = || TestRequest::post().app_data(BodyLimit(8));

        let silent = extract(small().set_payload(r#"{"list":[1]}"#)).await;
        let declared = extract(small().set_payload("{}").insert_header((header::CONTENT_LENGTH, 9))).await;

        assert_eq!(silent, Err(ApiError::BodyTooLarge { max: 8 }));
        assert_eq!(declared, Err(ApiError::BodyTooLarge { max: 8 }));
    }

    #[actix_web::test]
    async fn a_content_type_that_is_not_json_is_refused() {
        let of = |kind| TestRequest::post().insert_header((header::CONTENT_TYPE, kind)).set_payload(r#"{"list":[]}"#);

        assert_eq!(extract(of("text/plain")).await.unwrap_err().status(), 415);
        assert!(extract(of("application/json; charset=utf-8")).await.is_ok());
    }

    #[actix_web::test]
    async fn unknown_paths_and_methods_have_the_body_of_errors() {
        let probe = |_: JsonBody<Probe>| async { actix_web::HttpResponse::Ok().finish() };
        let route = web::resource("/probe").route(web::post().to(probe)).default_service(web::to(method_not_allowed));
        let app = test::init_service(App::new().service(route).default_service(web::to(default_service))).await;
        let call = async |request: TestRequest| {
            let response = test::call_service(&app, request.to_request()).await;
            let status = response.status().as_u16();
            let body: Value = test::read_body_json(response).await;
            format!("{status} {}", body["error"]["code"])
        };

        assert_eq!(call(TestRequest::get().uri("/probes")).await, "404 \"unknown_url\"");
        assert_eq!(call(TestRequest::get().uri("/probe")).await, "405 \"method_not_allowed\"");
        assert_eq!(call(TestRequest::post().uri("/probe").set_payload("{")).await, "400 \"invalid_json\"");
    }
}
