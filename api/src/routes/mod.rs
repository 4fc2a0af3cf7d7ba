//! Handlers, one file per family of routes.

mod chat;
mod completions;
mod embeddings;
mod head;
mod health;
mod metrics;
mod models;
mod requests;
mod rerank;
mod tokenize;

pub(crate) use head::{CountedByAnswer, RequestName};

use crate::openai::{default_service, method_not_allowed};
use actix_web::Resource;
use actix_web::web::{self, ServiceConfig};

/// Adds every route.
pub fn configure(app: &mut ServiceConfig) {
    app.service(resource("/v1/chat/completions").route(web::post().to(chat::completions)))
        .service(resource("/v1/completions").route(web::post().to(completions::completions)))
        .service(resource("/v1/embeddings").route(web::post().to(embeddings::embeddings)))
        .service(resource("/embed").route(web::post().to(embeddings::embed_tei)))
        .service(resource("/v1/rerank").route(web::post().to(rerank::v1)))
        .service(resource("/v2/rerank").route(web::post().to(rerank::v2)))
        .service(resource("/rerank").route(web::post().to(rerank::v1)))
        .service(resource("/v1/models").route(web::get().to(models::list)))
        // Ids hold slashes.
        .service(resource("/v1/models/{id:.+}").route(web::get().to(models::one)))
        .service(resource("/v1/requests/{id}").route(web::delete().to(requests::cancel)))
        .service(resource("/tokenize").route(web::post().to(tokenize::tokenize)))
        .service(resource("/detokenize").route(web::post().to(tokenize::detokenize)))
        .service(resource("/healthz").route(web::get().to(health::alive)))
        .service(resource("/livez").route(web::get().to(health::alive)))
        .service(resource("/readyz").route(web::get().to(health::ready)))
        .service(resource("/health").route(web::get().to(health::ready)))
        .service(resource("/version").route(web::get().to(health::version)))
        .service(resource("/metrics").route(web::get().to(metrics::metrics)))
        .default_service(web::to(default_service));
}

fn resource(path: &str) -> Resource {
    web::resource(path.to_owned()).default_service(web::to(method_not_allowed))
}
