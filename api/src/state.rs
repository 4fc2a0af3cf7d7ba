//! What all handlers share.

use crate::config::Config;
use crate::inflight::InFlightIndex;
use crate::models::{Encoders, Registry};
use crate::telemetry::Metrics;
use lmx_actors::cell::ActorSystem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What all handlers share.
pub struct AppState {
    /// The configuration in force.
    pub config: Config,
    /// The models that serve chats and completions.
    pub models: Registry,
    /// The models that embed and rerank.
    pub encoders: Arc<Encoders>,
    /// Requests under way.
    pub inflight: Arc<InFlightIndex>,
    /// The actors behind them.
    pub system: Arc<ActorSystem>,
    /// Where metrics are collected.
    pub metrics: Metrics,
    /// Whether the server is on its way out.
    pub draining: AtomicBool,
}

impl AppState {
    /// A server without models yet.
    pub fn new(config: Config, system: Arc<ActorSystem>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            models: Registry::new(&config.models, &config.routing),
            encoders: Arc::new(Encoders::new(&config)),
            config,
            inflight: Arc::default(),
            system,
            metrics,
            draining: AtomicBool::new(false),
        })
    }
}
