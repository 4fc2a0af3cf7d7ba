//! Why a request could not be served: one enum, mapped in one place to status, type and code.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use lmx_runtime::ids::StepId;
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::time::Duration;

/// Why a request could not be served, one variant per action that somebody must take.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// A value that cannot be: fix the request.
    #[error("invalid `{field}`: {reason}")]
    Invalid {
        /// Path of the field, such as `messages[2].role`.
        field: Cow<'static, str>,
        /// What is wrong, with the limit.
        reason: String,
    },
    /// A known field that would change the answer and cannot be honoured: leave it out.
    #[error("`{field}` is not supported: {reason}")]
    Unsupported {
        /// Path of the field.
        field: Cow<'static, str>,
        /// What is supported instead.
        reason: Cow<'static, str>,
    },
    /// The body is not JSON, or no object.
    #[error("the body is not valid JSON: {reason}")]
    InvalidJson {
        /// Where it breaks.
        reason: String,
    },
    /// The prompt does not fit: shorten it.
    #[error("the prompt has {got} tokens, the model takes {max}")]
    TooLong {
        /// Tokens of the prompt.
        got: usize,
        /// Tokens that fit.
        max: usize,
    },
    /// The body is larger than `server.max_body_bytes`.
    #[error("the body is larger than {max} bytes")]
    BodyTooLarge {
        /// The limit.
        max: usize,
    },
    /// The body is declared to be something else than JSON.
    #[error("content type `{got}` is not supported, send `application/json`")]
    UnsupportedMediaType {
        /// What the client declared.
        got: String,
    },
    /// No route has this path.
    #[error("unknown url: {method} {path}")]
    UnknownUrl {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// The path exists, with another method.
    #[error("method {method} is not allowed for {path}")]
    MethodNotAllowed {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// No such model, or none with this alias.
    #[error("the model `{model}` does not exist or is not loaded")]
    ModelNotFound {
        /// The name that the client gave.
        model: String,
    },
    /// No request with this id is under way.
    #[error("no request `{id}` is under way")]
    RequestNotFound {
        /// The id that the client gave.
        id: String,
    },
    /// The model is known and cannot serve, and waiting alone does not help.
    #[error("the model `{model}` cannot serve: {reason}")]
    ModelNotReady {
        /// The model.
        model: String,
        /// Its state.
        reason: String,
    },
    /// The model could not be loaded: what its outcome says must be done.
    #[error("the model `{model}` is not loaded: {outcome}: {reason}")]
    ModelFailed {
        /// The model.
        model: String,
        /// One of the closed set of outcomes of loading.
        outcome: &'static str,
        /// What is wrong, by name.
        reason: String,
    },
    /// The model will serve soon.
    #[error("the model `{model}` is loading, retry in {} s", seconds(.retry_after))]
    ModelLoading {
        /// The model.
        model: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// `scheduler.queue_timeout_sec` went by without a place.
    #[error("the request waited {} s for a place", seconds(.waited))]
    QueueTimeout {
        /// How long it waited.
        waited: Duration,
    },
    /// `server.request_timeout_sec` went by before the answer was complete.
    #[error("the request took longer than {} s", seconds(.limit))]
    RequestTimeout {
        /// The limit.
        limit: Duration,
    },
    /// `scheduler.max_queue` requests are waiting: wait your turn.
    #[error("the queue is full, retry in {} s", seconds(.retry_after))]
    QueueFull {
        /// When to try again.
        retry_after: Duration,
    },
    /// A mailbox refused.
    #[error("overloaded, retry in {} s", seconds(.retry_after))]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The server drains.
    #[error("the server is shutting down, retry in {} s", seconds(.retry_after))]
    ShuttingDown {
        /// When to try again.
        retry_after: Duration,
    },
    /// Somebody cancelled the request by its id.
    #[error("the request was cancelled")]
    Cancelled,
    /// The client went away; nobody reads this, it is logged and counted.
    #[error("the client closed the connection")]
    ClientGone,
    /// The engine failed: retry, the server lives.
    #[error("the engine failed while computing this request")]
    EngineFault {
        /// The step that failed, for the log.
        step: StepId,
    },
    /// A fault of ours. The client reads `internal error`, the log the detail.
    #[error("internal error: {detail}")]
    Internal {
        /// What happened, for the log alone.
        detail: String,
    },
}

/// What clients find under `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// Class of the error.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The field that is wrong, if one is.
    pub param: Option<String>,
    /// For programs.
    pub code: &'static str,
}

/// Whole seconds, at least one: what a `Retry-After` header can say.
fn seconds(duration: &Duration) -> u64 {
    duration.as_secs_f64().ceil().max(1.0) as u64
}

/// The status of requests whose client left before the answer; never seen by anybody but the log.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).expect("499 lies between 100 and 999")
}

/// The status of an outcome of loading.
fn outcome_status(outcome: &str) -> StatusCode {
    match outcome {
        "insufficient_memory" | "insufficient_disk" => StatusCode::INSUFFICIENT_STORAGE,
        "unsupported_arch" | "unsupported_quantization" | "invalid_checkpoint" => StatusCode::UNPROCESSABLE_ENTITY,
        "model_not_found" => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    }
}

impl ApiError {
    /// An [`Invalid`](Self::Invalid) value.
    pub fn invalid(field: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    /// An [`Unsupported`](Self::Unsupported) field.
    pub fn unsupported(field: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported { field: field.into(), reason: reason.into() }
    }

    /// The status, the type and the code that clients see. The only place that knows them.
    fn class(&self) -> (StatusCode, &'static str, &'static str) {
        const REQUEST: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        match self {
            Self::Invalid { .. } => (StatusCode::BAD_REQUEST, REQUEST, "invalid_value"),
            Self::Unsupported { .. } => (StatusCode::BAD_REQUEST, REQUEST, "unsupported_parameter"),
            Self::InvalidJson { .. } => (StatusCode::BAD_REQUEST, REQUEST, "invalid_json"),
            Self::TooLong { .. } => (StatusCode::BAD_REQUEST, REQUEST, "context_length_exceeded"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, REQUEST, "body_too_large"),
            Self::UnsupportedMediaType { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, REQUEST, "unsupported_media_type")
            }
            Self::UnknownUrl { .. } => (StatusCode::NOT_FOUND, REQUEST, "unknown_url"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, REQUEST, "method_not_allowed"),
            Self::ModelNotFound { .. } => (StatusCode::NOT_FOUND, REQUEST, "model_not_found"),
            Self::RequestNotFound { .. } => (StatusCode::NOT_FOUND, REQUEST, "request_not_found"),
            Self::ModelNotReady { .. } => (StatusCode::CONFLICT, REQUEST, "model_not_ready"),
            Self::ModelFailed { outcome, .. } => (outcome_status(outcome), REQUEST, outcome),
            Self::ModelLoading { .. } => (StatusCode::SERVICE_UNAVAILABLE, SERVER, "model_loading"),
            Self::QueueTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, SERVER, "queue_timeout"),
            Self::RequestTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, SERVER, "request_timeout"),
            Self::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "queue_full"),
            Self::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, SERVER, "overloaded"),
            Self::ShuttingDown { .. } => (StatusCode::SERVICE_UNAVAILABLE, SERVER, "shutting_down"),
            Self::Cancelled => (client_closed_request(), REQUEST, "request_cancelled"),
            Self::ClientGone => (client_closed_request(), REQUEST, "client_closed_request"),
            Self::EngineFault { .. } => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, "engine_failure"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal_error"),
        }
    }

    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        self.class().0
    }

    /// The `type` of the error body.
    pub fn kind(&self) -> &'static str {
        self.class().1
    }

    /// The `code` of the error body, the same word in logs and metrics.
    pub fn code(&self) -> &'static str {
        self.class().2
    }

    /// The field that is wrong, if one is.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } | Self::Unsupported { field, .. } => Some(field),
            Self::ModelNotFound { .. }
            | Self::ModelNotReady { .. }
            | Self::ModelFailed { .. }
            | Self::ModelLoading { .. } => Some("model"),
            Self::InvalidJson { .. }
            | Self::TooLong { .. }
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedMediaType { .. }
            | Self::UnknownUrl { .. }
            | Self::MethodNotAllowed { .. }
            | Self::RequestNotFound { .. }
            | Self::QueueTimeout { .. }
            | Self::RequestTimeout { .. }
            | Self::QueueFull { .. }
            | Self::Overloaded { .. }
            | Self::ShuttingDown { .. }
            | Self::Cancelled
            | Self::ClientGone
            | Self::EngineFault { .. }
            | Self::Internal { .. } => None,
        }
    }

    /// When to try again, for errors that time heals.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ModelLoading { retry_after, .. }
            | Self::QueueFull { retry_after }
            | Self::Overloaded { retry_after }
            | Self::ShuttingDown { retry_after } => Some(*retry_after),
            Self::Invalid { .. }
            | Self::Unsupported { .. }
            | Self::InvalidJson { .. }
            | Self::TooLong { .. }
            | Self::BodyTooLarge { .. }
            | Self::UnsupportedMediaType { .. }
            | Self::UnknownUrl { .. }
            | Self::MethodNotAllowed { .. }
            | Self::ModelNotFound { .. }
            | Self::RequestNotFound { .. }
            | Self::ModelNotReady { .. }
            | Self::ModelFailed { .. }
            | Self::QueueTimeout { .. }
            | Self::RequestTimeout { .. }
            | Self::Cancelled
            | Self::ClientGone
            | Self::EngineFault { .. }
            | Self::Internal { .. } => None,
        }
    }

    /// What the client reads: the message, without the detail of internal errors.
    pub fn body(&self) -> ErrorBody {
        let message = match self {
            Self::Internal { .. } => "internal error".to_owned(),
            told => told.to_string(),
        };
        ErrorBody { message, kind: self.kind(), param: self.param().map(str::to_owned), code: self.code() }
    }

    /// The whole body, `{"error": …}`.
    pub fn to_json(&self) -> Value {
        json!({ "error": self.body() })
    }

    /// The same error as an event of a stream that has begun; the stream ends after it, without a finish reason.
    pub fn to_event(&self) -> bytes::Bytes {
        crate::sse::data(&self.to_json())
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        if let Some(after) = self.retry_after() {
            response.insert_header((header::RETRY_AFTER, seconds(&after)));
        }
        response.json(self.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::MessageBody;

    #[test]
    fn an_error_renders_as_the_body_that_openai_clients_read() {
        let response = ApiError::invalid("temperature", "3 lies outside of [0, 2]").error_response();

        assert_eq!(response.status(), 400);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/json");
        let body = response.into_body().try_into_bytes().unwrap();
        insta::assert_snapshot!(std::str::from_utf8(&body).unwrap(), @r#"{"error":{"message":"invalid `temperature`: 3 lies outside of [0, 2]","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}"#);
    }

    #[test]
    fn an_error_after_the_first_byte_is_one_event() {
        let event = ApiError::EngineFault { step: StepId(7) }.to_event();

        insta::assert_snapshot!(std::str::from_utf8(&event).unwrap(), @r#"data: {"error":{"message":"the engine failed while computing this request","type":"server_error","param":null,"code":"engine_failure"}}"#);
    }

    #[test]
    fn errors_that_time_heals_say_when_to_come_back_in_whole_seconds() {
        let response = ApiError::QueueFull { retry_after: Duration::from_millis(1200) }.error_response();

        assert_eq!(response.status(), 429);
        assert_eq!(response.headers().get("retry-after").unwrap(), "2");
        let at_once = ApiError::Overloaded { retry_after: Duration::ZERO }.error_response();
        assert_eq!(at_once.headers().get("retry-after").unwrap(), "1");
    }

    #[test]
    fn the_detail_of_an_internal_error_stays_in_the_log() {
        let error = ApiError::Internal { detail: "slot 4 of /srv/model".into() };

        assert_eq!(error.body().message, "internal error");
        assert!(error.to_string().contains("slot 4"));
    }

    #[test]
    fn statuses_and_codes_are_those_of_the_contract() {
        let wait = Duration::from_secs(1);
        let model = || "m".to_owned();
        let table = [
            ApiError::unsupported("tools", "not in this version"),
            ApiError::InvalidJson { reason: "eof".into() },
            ApiError::TooLong { got: 9, max: 8 },
            ApiError::BodyTooLarge { max: 1 },
            ApiError::UnsupportedMediaType { got: "text/plain".into() },
            ApiError::UnknownUrl { method: "GET".into(), path: "/x".into() },
            ApiError::MethodNotAllowed { method: "PUT".into(), path: "/v1/models".into() },
            ApiError::ModelNotFound { model: model() },
            ApiError::ModelNotReady { model: model(), reason: "quarantined".into() },
            ApiError::ModelLoading { model: model(), retry_after: wait },
            ApiError::QueueTimeout { waited: wait },
            ApiError::RequestTimeout { limit: wait },
            ApiError::QueueFull { retry_after: wait },
            ApiError::Overloaded { retry_after: wait },
            ApiError::ShuttingDown { retry_after: wait },
            ApiError::Cancelled,
            ApiError::ClientGone,
            ApiError::EngineFault { step: StepId(1) },
            ApiError::Internal { detail: "x".into() },
        ];

        let lines: Vec<_> = table
            .iter()
            .map(|e| format!("{} {} {}: {}", e.status().as_u16(), e.kind(), e.code(), e.body().message))
            .collect();

        insta::assert_snapshot!(lines.join("\n"), @r#"
        400 invalid_request_error unsupported_parameter: `tools` is not supported: not in this version
        400 invalid_request_error invalid_json: the body is not valid JSON: eof
        400 invalid_request_error context_length_exceeded: the prompt has 9 tokens, the model takes 8
        413 invalid_request_error body_too_large: the body is larger than 1 bytes
        415 invalid_request_error unsupported_media_type: content type `text/plain` is not supported, send `application/json`
        404 invalid_request_error unknown_url: unknown url: GET /x
        405 invalid_request_error method_not_allowed: method PUT is not allowed for /v1/models
        404 invalid_request_error model_not_found: the model `m` does not exist or is not loaded
        409 invalid_request_error model_not_ready: the model `m` cannot serve: quarantined
        503 server_error model_loading: the model `m` is loading, retry in 1 s
        408 server_error queue_timeout: the request waited 1 s for a place
        408 server_error request_timeout: the request took longer than 1 s
        429 rate_limit_error queue_full: the queue is full, retry in 1 s
        503 server_error overloaded: overloaded, retry in 1 s
        503 server_error shutting_down: the server is shutting down, retry in 1 s
        499 invalid_request_error request_cancelled: the request was cancelled
        499 invalid_request_error client_closed_request: the client closed the connection
        500 server_error engine_failure: the engine failed while computing this request
        500 server_error internal_error: internal error
        "#);
    }
}
