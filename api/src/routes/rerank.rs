use crate::error::ApiError;
use crate::models::Ranked;
use crate::openai::JsonBody;
use crate::openai::request::{RerankBody, RerankRequest, TeiRerankRequest, Truncation};
use crate::openai::response::{RerankResponse, RerankResult, RerankVersion, TeiRank};
use crate::state::AppState;
use actix_web::{HttpResponse, web};
use std::sync::Arc;
use uuid::Uuid;

/// `POST /v1/rerank`: Jina's and Cohere's first form; documents are given back unless the request says otherwise.
pub(super) async fn v1(
    state: web::Data<Arc<AppState>>,
    JsonBody(body): JsonBody<RerankBody>,
) -> Result<HttpResponse, ApiError> {
    answer(&state, body, RerankVersion::V1, true).await
}

/// `POST /v2/rerank`: Cohere's second form.
pub(super) async fn v2(
    state: web::Data<Arc<AppState>>,
    JsonBody(body): JsonBody<RerankBody>,
) -> Result<HttpResponse, ApiError> {
    answer(&state, body, RerankVersion::V2, false).await
}

async fn answer(
    state: &AppState,
    body: RerankBody,
    version: RerankVersion,
    with_documents: bool,
) -> Result<HttpResponse, ApiError> {
    match body {
        RerankBody::Ranked(request) => ranked(state, request, version, with_documents).await,
        RerankBody::Tei(request) => tei(state, request).await,
    }
}

async fn ranked(
    state: &AppState,
    request: RerankRequest,
    version: RerankVersion,
    with_documents: bool,
) -> Result<HttpResponse, ApiError> {
    let RerankRequest { model, query, documents, top_n, return_documents, max_tokens_per_doc, truncation } = request;
    let kept = return_documents.unwrap_or(with_documents).then(|| documents.clone());
    let (model, Ranked { relevance, tokens }) =
        rank(state, model.as_deref(), query, documents, max_tokens_per_doc, truncation).await?;
    let scores: Vec<f32> = relevance.iter().map(|of| of.score).collect();
    let results = RerankResult::rank(&scores, kept, top_n);
    let id = format!("rerank-{}", Uuid::new_v4().simple());
    Ok(HttpResponse::Ok().json(RerankResponse::new(id, model, results, tokens, version)))
}

async fn tei(state: &AppState, request: TeiRerankRequest) -> Result<HttpResponse, ApiError> {
    let TeiRerankRequest { model, query, texts, raw_scores, return_text, truncation } = request;
    let kept = return_text.then(|| texts.clone());
    let (_, Ranked { relevance, .. }) = rank(state, model.as_deref(), query, texts, None, truncation).await?;
    let scores: Vec<f32> = relevance.iter().map(|of| if raw_scores { of.raw } else { of.score }).collect();
    Ok(HttpResponse::Ok().json(TeiRank::rank(&scores, kept)))
}

async fn rank(
    state: &AppState,
    model: Option<&str>,
    query: String,
    documents: Vec<String>,
    document_tokens: Option<usize>,
    truncation: Truncation,
) -> Result<(String, Ranked), ApiError> {
    let limit = state.config.server.request_timeout();
    let work = async {
        let model = state.encoders.get(model, true, &state.models).await?;
        let ranked = model.rank(query, documents, document_tokens, truncation).await?;
        Ok((model.id().to_owned(), ranked))
    };
    tokio::time::timeout(limit, work).await.unwrap_or(Err(ApiError::RequestTimeout { limit }))
}
