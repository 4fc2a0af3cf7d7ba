//! The HTTP server around the handlers.

use crate::openai::{BodyLimit, path_config, query_config};
use crate::routes::{self, CountedByAnswer, RequestName};
use crate::state::AppState;
use crate::telemetry;
use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpMessage, HttpServer, web};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a client.
const MAX_REQUEST_ID: usize = 128;
/// Longer than the connection pools of clients and routers, or reused connections break now and then.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// HTTP workers at most: they only move text, the engine needs the cores.
const MAX_WORKERS: usize = 4;

/// Serves `state` on a bound listener. Must be called inside an actix system; runs once it is awaited.
///
/// # Errors
/// The operating system's, if the listener cannot be used.
pub fn serve(state: Arc<AppState>, listener: TcpListener) -> std::io::Result<Server> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_WORKERS);
    let grace = state.config.server.shutdown_grace().as_secs();
    let server = HttpServer::new(move || {
        // The factory runs on the worker's own thread, so its streams' text is made there.
        let egress = state.system.start_egress(state.config.actors.mailbox.egress);
        App::new()
            .app_data(web::Data::new(state.clone()))
            .app_data(web::Data::new(egress))
            .app_data(BodyLimit(state.config.server.max_body_bytes.get()))
            .app_data(query_config())
            .app_data(path_config())
            .wrap(from_fn(name_and_count))
            .wrap(cors(&state.config.server.cors_allowed_origins))
            .configure(routes::configure)
    });
    // Without the first, a stream whose client left while it waits is never noticed.
    Ok(server
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .keep_alive(KEEP_ALIVE)
        .workers(workers)
        .shutdown_timeout(grace)
        .disable_signals()
        .listen(listener)?
        .run())
}

/// Stops in order: no new requests, running ones end (within the configured grace), then the server.
pub async fn shut_down(state: &AppState, server: &actix_web::dev::ServerHandle) {
    state.draining.store(true, Ordering::Release);
    tracing::info!("draining");
    let models = state.models.all();
    let encoders = state.encoders.all();
    let chats = futures_util::future::join_all(models.iter().map(|model| model.cell().drain()));
    let others = futures_util::future::join_all(encoders.iter().map(|model| model.cell().drain()));
    let drain = futures_util::future::join(chats, others);
    if tokio::time::timeout(state.config.server.shutdown_grace(), drain).await.is_err() {
        tracing::warn!("requests were still running when the time to finish them was over");
    }
    server.stop(true).await;
    state.system.stop();
}

fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default().allow_any_method().allow_any_header().expose_headers([REQUEST_ID]);
    origins
        .iter()
        .fold(cors, |cors, origin| if origin == "*" { cors.allow_any_origin() } else { cors.allowed_origin(origin) })
}

/// Gives each request an id (the client's own if it has one) and counts it.
async fn name_and_count(
    req: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let begun = Instant::now();
    let name = req.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let name = name.filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID);
    let name = name.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let header = HeaderValue::from_str(&name);
    req.extensions_mut().insert(RequestName(name));
    let mut response = next.call(req).await?;
    if let Ok(header) = header {
        response.headers_mut().insert(REQUEST_ID, header);
    }
    if response.request().extensions().get::<CountedByAnswer>().is_none() {
        telemetry::count_request(route(&response), response.status().as_u16(), begun.elapsed());
    }
    Ok(response)
}

/// The pattern of the route: a closed set, whatever paths are asked for.
fn route<B>(response: &ServiceResponse<B>) -> &'static str {
    const KNOWN: [&str; 18] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/embed",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
        "/v1/models",
        "/v1/models/{id:.+}",
        "/v1/requests/{id}",
        "/tokenize",
        "/detokenize",
        "/healthz",
        "/livez",
        "/readyz",
        "/health",
        "/version",
        "/metrics",
    ];
    let pattern = response.request().match_pattern();
    KNOWN.into_iter().find(|known| Some(*known) == pattern.as_deref()).unwrap_or("other")
}
