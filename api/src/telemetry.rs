//! Log and metrics.

use crate::config::{LogFormat, TelemetryConfig};
use lmx_actors::mailbox::MailboxReading;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Bounds of latency histograms, in seconds: from a hop between actors to a long answer.
const SECONDS: [f64; 20] = [
    1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];
/// Bounds of the histogram of tokens per step.
const TOKENS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 8192.0];
/// Samples are kept one by one until somebody sums them up: nobody may scrape, so it is done at least this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why metrics cannot be collected.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The recorder cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Something else in the process collects them.
    #[error("something else in this process collects metrics already")]
    Taken,
}

/// The metrics of this process.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// The metrics of this process, collected from the first call on: they are process-wide, so several servers in one
    /// process share them.
    ///
    /// # Errors
    /// [`MetricsError`] if something else in the process collects metrics already.
    pub fn install() -> Result<Self, MetricsError> {
        static SHARED: Mutex<Option<Metrics>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*shared {
            return Ok(metrics.clone());
        }
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Full("lmx_batch_tokens".to_owned()), &TOKENS)?
            .build_recorder();
        let metrics = Self(recorder.handle());
        metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Taken)?;
        describe();
        Ok(shared.insert(metrics).clone())
    }

    /// Sums samples up from now on, in the current runtime.
    pub fn start_upkeep(&self) {
        let handle = self.0.clone();
        actix_rt::spawn(async move {
            let mut tick = tokio::time::interval(UPKEEP);
            loop {
                tick.tick().await;
                handle.run_upkeep();
            }
        });
    }

    /// Everything in Prometheus' text form.
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// Writes the log to stderr as configured; `LMX_LOG` takes a filter of its own. Coloured only for a terminal.
pub fn start_log(config: &TelemetryConfig) {
    let configured = || match config.log.level.as_str() {
        // What the HTTP server's own workers do is for those who debug it.
        "info" => EnvFilter::new("info,actix_server=warn"),
        level => EnvFilter::new(level),
    };
    let filter = std::env::var("LMX_LOG").map_or_else(
        |_| configured(),
        |text| {
            EnvFilter::try_new(&text).unwrap_or_else(|error| {
                eprintln!("lmx: LMX_LOG is `{text}`, which is no filter ({error}): the configured level is used");
                configured()
            })
        },
    );
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let started = match config.log.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log is written already");
    }
}

/// Counts a finished request and its time.
pub fn count_request(route: &'static str, code: u16, took: Duration) {
    metrics::counter!("lmx_requests_total", "route" => route, "code" => code.to_string()).increment(1);
    metrics::histogram!("lmx_request_duration_seconds", "route" => route).record(took);
}

/// Shows what mailboxes look like now. Mailboxes of the same actor (of several models or workers) are added up.
pub fn show_mailboxes(readings: &[MailboxReading]) {
    let mut actors: BTreeMap<&'static str, MailboxReading> = BTreeMap::new();
    for reading in readings {
        actors
            .entry(reading.actor)
            .and_modify(|sum| {
                sum.capacity += reading.capacity;
                sum.depth += reading.depth;
                sum.high_water = sum.high_water.max(reading.high_water);
                sum.full_total += reading.full_total;
                sum.restarts_total += reading.restarts_total;
            })
            .or_insert(*reading);
    }
    for (actor, sum) in actors {
        metrics::gauge!("lmx_actor_mailbox_capacity", "actor" => actor).set(sum.capacity as f64);
        metrics::gauge!("lmx_actor_mailbox_depth", "actor" => actor).set(sum.depth as f64);
        metrics::gauge!("lmx_actor_mailbox_high_water", "actor" => actor).set(sum.high_water as f64);
        metrics::counter!("lmx_actor_mailbox_full_total", "actor" => actor).absolute(sum.full_total);
        metrics::counter!("lmx_actor_restarts_total", "actor" => actor).absolute(sum.restarts_total);
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("lmx_requests_total", "Requests by route and status code; 499: the client left.");
    describe_histogram!("lmx_request_duration_seconds", "From the request's head to the end of its answer.");
    describe_histogram!("lmx_time_to_first_token_seconds", "From acceptance to the first token.");
    describe_histogram!("lmx_inter_token_latency_seconds", "Between two tokens of a choice.");
    describe_histogram!("lmx_queue_wait_seconds", "From acceptance to the entry into the engine.");
    describe_counter!("lmx_prompt_tokens_total", "Prompt tokens of requests that got a first token.");
    describe_counter!("lmx_cached_prompt_tokens_total", "Those of them that were found in the prefix index.");
    describe_counter!("lmx_generation_tokens_total", "Tokens generated.");
    describe_gauge!("lmx_sequences", "Sequences by state.");
    describe_histogram!("lmx_batch_tokens", "Tokens computed by a step.");
    describe_histogram!("lmx_step_duration_seconds", "Time of a step by phase: forward, sample, total.");
    describe_gauge!("lmx_kv_blocks", "KV blocks by state: free, active, cached.");
    describe_counter!("lmx_prefix_queries_total", "Prompts looked up in the prefix index.");
    describe_counter!("lmx_prefix_hits_total", "Prompts of which at least one block was found.");
    describe_counter!("lmx_evictions_total", "Things dropped for want of memory, by reason.");
    describe_gauge!("lmx_models", "Models by state.");
    describe_gauge!("lmx_actor_mailbox_capacity", "Letters that a mailbox may hold.");
    describe_gauge!("lmx_actor_mailbox_depth", "Letters that it holds.");
    describe_gauge!("lmx_actor_mailbox_high_water", "Most letters that it ever held.");
    describe_counter!("lmx_actor_mailbox_full_total", "Letters refused, or taken beyond the capacity.");
    describe_counter!("lmx_actor_restarts_total", "How often an actor was built anew.");
    describe_histogram!("lmx_actor_message_wait_seconds", "From a letter's sending to its opening.");
    describe_histogram!("lmx_actor_message_handle_seconds", "Time of its handler.");
}
