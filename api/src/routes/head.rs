//! What the routes that generate have in common.

use crate::inflight::InFlight;
use crate::models::{LoadedModel, unix_seconds};
use crate::openai::request::Generation;
use crate::sse::{StreamHead, UsageMode};
use crate::state::AppState;
use actix_web::{HttpMessage, HttpRequest};
use lmx_runtime::ids::RequestId;
use std::sync::Arc;
use uuid::Uuid;

/// The id of a request, as its answer carries it in `x-request-id`.
#[derive(Debug, Clone)]
pub(crate) struct RequestName(pub(crate) String);

/// Marks a request that is counted and timed when its answer ends, not when its head goes out.
pub(crate) struct CountedByAnswer;

/// Notes that a request is under way, under the id of its answer and its own.
pub(super) fn enter(
    state: &AppState,
    req: &HttpRequest,
    route: &'static str,
    head: &StreamHead,
    model: &Arc<LoadedModel>,
    requests: &[RequestId],
) -> InFlight {
    let own = req.extensions().get::<RequestName>().map(|name| name.0.clone());
    req.extensions_mut().insert(CountedByAnswer);
    let names = own.into_iter().chain([head.id.clone()]).collect();
    state.inflight.enter(route, names, model, requests)
}

/// The fields that every chunk of an answer repeats.
pub(super) fn stream_head(prefix: &str, model: &LoadedModel, generation: &Generation) -> StreamHead {
    StreamHead {
        id: format!("{prefix}-{}", Uuid::new_v4().simple()),
        created: unix_seconds(),
        model: model.id().to_owned(),
        usage: UsageMode::of(generation),
    }
}

/// The request's seed, or another one each time.
pub(super) fn seed(generation: &Generation) -> u64 {
    generation.seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0)
}
