//! A server in this process, for commands that talk to one.

use super::args::{ConfigFlags, Outcome, ServeArgs};
use super::serve::{self, Setup};
use super::terminal::fail;
use std::net::TcpListener;
use std::time::Duration;
use ureq::Agent;

/// How often it is asked whether its model is there.
const READY_POLL: Duration = Duration::from_millis(50);

/// Reads what it needs. Must be called before the process has a second thread.
pub(super) fn prepare(model: Option<&str>, config: &ConfigFlags) -> Result<Setup, Outcome> {
    let mut config = config.clone();
    config.set.insert(0, ("telemetry.log.level".to_owned(), "warn".to_owned()));
    serve::prepare(&ServeArgs {
        models: model.iter().map(|&name| name.to_owned()).collect(),
        config,
        ..ServeArgs::default()
    })
}

/// Serves on a port that nobody else knows until the process ends, and gives the address once the model is there.
pub(super) fn start(setup: Setup) -> Result<String, Outcome> {
    let failed = |error: std::io::Error| fail(Outcome::Failed, format_args!("the model cannot be started: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    let url = format!("http://{}", listener.local_addr().map_err(failed)?);
    let agent = Agent::new_with_config(Agent::config_builder().http_status_as_error(false).build());
    let server = std::thread::spawn(move || serve::run_on(setup, listener));
    loop {
        let ready = agent.get(format!("{url}/readyz")).call().is_ok_and(|response| response.status() == 200);
        if ready {
            return Ok(url);
        }
        if server.is_finished() {
            // It has said why.
            return Err(server.join().unwrap_or(Outcome::Failed));
        }
        std::thread::sleep(READY_POLL);
    }
}
