use crate::state::AppState;
use actix_web::{HttpResponse, web};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `GET /healthz`: the process is alive.
pub(super) async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: at least one model can take a request now.
pub(super) async fn ready(state: web::Data<Arc<AppState>>) -> HttpResponse {
    let models = state.models.all();
    let encoders = state.encoders.all();
    let ready = models.iter().filter(|model| model.cell().is_ready()).count()
        + encoders.iter().filter(|model| model.cell().is_ready()).count();
    let all = models.len() + encoders.len();
    let draining = state.draining.load(Ordering::Acquire);
    let status = match (draining, ready) {
        (true, _) => "draining",
        (false, 0) if state.models.loading() > 0 => "loading",
        (false, 0) => "no model is ready",
        (false, _) => "ok",
    };
    let body = json!({ "status": status, "models": all, "ready": ready, "loading": state.models.loading() });
    if status == "ok" { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

/// `GET /version`.
pub(super) async fn version() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}
