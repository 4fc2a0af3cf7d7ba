use crate::state::AppState;
use crate::telemetry;
use actix_web::{HttpResponse, web};
use std::sync::Arc;

/// `GET /metrics`: Prometheus' text form; answers also when no model is loaded.
pub(super) async fn metrics(state: web::Data<Arc<AppState>>) -> HttpResponse {
    let models = state.models.all();
    let mut readings = state.system.egress_readings();
    readings.extend(models.iter().flat_map(|model| model.cell().readings()));
    let encoders = state.encoders.all();
    readings.extend(encoders.iter().map(|model| model.cell().reading()));
    telemetry::show_mailboxes(&readings);
    let ready = models.iter().filter(|model| model.cell().is_ready()).count()
        + encoders.iter().filter(|model| model.cell().is_ready()).count();
    let all = models.len() + encoders.len();
    let of = |state| metrics::gauge!("lmx_models", "state" => state);
    of("routable").set(ready as f64);
    of("not_ready").set((all - ready) as f64);
    of("loading").set((state.models.loading() + state.encoders.loading()) as f64);
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(state.metrics.render())
}
