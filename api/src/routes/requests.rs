use crate::error::ApiError;
use crate::state::AppState;
use actix_web::{HttpResponse, web};
use serde_json::json;
use std::sync::Arc;

/// `DELETE /v1/requests/{id}`: the id of an answer (`chatcmpl-…`) or of a request (`x-request-id`).
pub(super) async fn cancel(state: web::Data<Arc<AppState>>, id: web::Path<String>) -> Result<HttpResponse, ApiError> {
    if !state.inflight.cancel(&id) {
        return Err(ApiError::RequestNotFound { id: id.into_inner() });
    }
    Ok(HttpResponse::Ok().json(json!({ "id": *id, "object": "request", "cancelled": true })))
}
