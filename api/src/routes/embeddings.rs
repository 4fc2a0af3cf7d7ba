use crate::error::ApiError;
use crate::openai::JsonBody;
use crate::openai::request::{EmbedRequest, EmbeddingParts, EmbeddingRequest};
use crate::openai::response::{EmbeddingList, Vectors};
use crate::state::AppState;
use actix_web::web;
use std::sync::Arc;

/// `POST /v1/embeddings`.
pub(super) async fn embeddings(
    state: web::Data<Arc<AppState>>,
    JsonBody(body): JsonBody<EmbeddingRequest>,
) -> Result<web::Json<EmbeddingList>, ApiError> {
    let (model, vectors, tokens) = embed(&state, body.model.as_deref(), body.parts).await?;
    Ok(web::Json(EmbeddingList::new(model, vectors, body.encoding, tokens)))
}

/// `POST /embed`, the form of text-embeddings-inference.
pub(super) async fn embed_tei(
    state: web::Data<Arc<AppState>>,
    JsonBody(body): JsonBody<EmbedRequest>,
) -> Result<web::Json<Vectors>, ApiError> {
    let (_, vectors, _) = embed(&state, body.model.as_deref(), body.parts).await?;
    Ok(web::Json(vectors))
}

/// The model's id, the vectors, and the tokens that were read.
async fn embed(
    state: &AppState,
    model: Option<&str>,
    parts: EmbeddingParts,
) -> Result<(String, Vectors, usize), ApiError> {
    let limit = state.config.server.request_timeout();
    let work = async {
        let model = state.encoders.get(model, false, &state.models).await?;
        let (vectors, tokens) = model.embed(parts).await?;
        Ok((model.id().to_owned(), vectors, tokens))
    };
    tokio::time::timeout(limit, work).await.unwrap_or(Err(ApiError::RequestTimeout { limit }))
}
