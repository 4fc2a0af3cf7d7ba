use crate::error::ApiError;
use crate::openai::response::{ModelEntry, ModelList};
use crate::state::AppState;
use actix_web::web;
use std::sync::Arc;

/// `GET /v1/models`.
pub(super) async fn list(state: web::Data<Arc<AppState>>) -> web::Json<ModelList> {
    web::Json(ModelList::new([state.models.entries(), state.encoders.entries()].concat()))
}

/// `GET /v1/models/{id}`.
pub(super) async fn one(
    state: web::Data<Arc<AppState>>,
    id: web::Path<String>,
) -> Result<web::Json<ModelEntry>, ApiError> {
    if let Some(model) = state.encoders.loaded(&id) {
        return Ok(web::Json(model.entry()));
    }
    Ok(web::Json(state.models.find(Some(&id))?.entry()))
}
