use crate::state::AppState;
use crate::telemetry;
use actix_web::{HttpResponse, web};
use std::sync::Arc;

/// `GET /metrics`: Prometheus' text form; answers also when no model is loaded.
pub(super) async fn metrics(state: web::Data<Arc<AppState>>) -> HttpResponse {
    let models = state.models.all();
    let mut readings = state.system.egress_readings();
    readings.extend(models.iter().flat_map(|model| model.cell().readings()));
    telemetry::show_mailboxes(&readings);
    let ready = models.iter().filter(|model| model.cell().is_ready()).count();
    let of = |state| metrics::gauge!("lmx_models", "state" => state);
    of("routable").set(ready as f64);
    of("not_ready").set((models.len() - ready) as f64);
    of("loading").set(state.models.loading() as f64);
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(state.metrics.render())
}
