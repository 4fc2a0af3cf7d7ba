//! Requests under way: found by their public ids, counted and timed, also when the client leaves.

use crate::error::ApiError;
use crate::models::LoadedModel;
use dashmap::DashMap;
use lmx_runtime::ids::RequestId;
use std::sync::Arc;
use std::time::Instant;

/// The requests under way by the ids that clients know: that of the answer, and `x-request-id`.
#[derive(Default)]
pub struct InFlightIndex(DashMap<String, Vec<(Arc<LoadedModel>, RequestId)>>);

impl InFlightIndex {
    /// Notes a request under all of its names until the guard is dropped.
    pub fn enter(
        self: &Arc<Self>,
        route: &'static str,
        names: Vec<String>,
        model: &Arc<LoadedModel>,
        requests: &[RequestId],
    ) -> InFlight {
        for name in &names {
            let entry = requests.iter().map(|&request| (model.clone(), request)).collect();
            self.0.insert(name.clone(), entry);
        }
        InFlight { index: self.clone(), names, route, since: Instant::now(), code: None }
    }

    /// Cancels the request with this id. False if there is none.
    pub fn cancel(&self, name: &str) -> bool {
        let Some(requests) = self.0.get(name) else { return false };
        requests.iter().for_each(|(model, request)| model.cell().cancel(*request));
        true
    }

    /// Requests under way, each counted once per name.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no request is under way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A request under way. Dropped before it is done, it counts as left by its client.
pub struct InFlight {
    index: Arc<InFlightIndex>,
    names: Vec<String>,
    route: &'static str,
    since: Instant,
    code: Option<u16>,
}

impl InFlight {
    /// The answer is complete.
    pub fn done(&mut self) {
        self.code = Some(200);
    }

    /// The answer failed.
    pub fn failed(&mut self, error: &ApiError) {
        self.code = Some(error.status().as_u16());
        if error.status().is_server_error() {
            tracing::error!(request = self.names.first(), %error, "request failed");
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        for name in &self.names {
            self.index.0.remove(name);
        }
        let code = self.code.unwrap_or_else(|| {
            let error = ApiError::ClientGone;
            tracing::info!(request = self.names.first(), code = error.code(), "the client left");
            error.status().as_u16()
        });
        crate::telemetry::count_request(self.route, code, self.since.elapsed());
    }
}
