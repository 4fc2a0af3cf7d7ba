use super::answer::{Answer, Reading};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::time::Instant;
use ureq::http::Response;
use ureq::{Agent, Body};

/// A server to be measured.
#[derive(Debug, Clone)]
pub struct Endpoint {
    agent: Agent,
    /// Without `/v1` and without a slash at its end.
    url: String,
    key: Option<String>,
    model: String,
}

/// Why a server could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// Nobody answers.
    #[error("cannot reach {url}: {source}; is a server running there?")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The server wants something else.
    #[error("the server refused: {message} ({status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In its words.
        message: String,
    },
    /// An answer ended too early.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// Tokens cannot be counted.
    #[error("the server sends no usage with its streams (`stream_options.include_usage`), so tokens cannot be counted")]
    Uncounted,
    /// No model was named.
    #[error("the server lists no model: name one with --model")]
    NoModel,
}

impl Endpoint {
    /// A server, with or without `/v1` in its address. Without a model: the first one that it lists.
    ///
    /// # Errors
    /// [`ServingError`], if the server has to be asked and does not answer.
    pub fn new(url: &str, key: Option<String>, model: Option<String>) -> Result<Self, ServingError> {
        let agent = Agent::new_with_config(Agent::config_builder().http_status_as_error(false).build());
        let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let mut endpoint = Self { agent, url, key, model: String::new() };
        endpoint.model = match model {
            Some(model) => model,
            None => endpoint.first_model()?,
        };
        Ok(endpoint)
    }

    /// The model that is asked for.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn first_model(&self) -> Result<String, ServingError> {
        let mut request = self.agent.get(format!("{}/v1/models", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut reply = self.accepted(request.call())?;
        let list: Value = reply.body_mut().read_json().map_err(|error| ServingError::Broken(error.to_string()))?;
        list["data"][0]["id"].as_str().map(str::to_owned).ok_or(ServingError::NoModel)
    }

    /// Asks for exactly `answer_tokens` and reads the answer as it comes.
    pub(super) fn ask(&self, prompt: &str, answer_tokens: usize) -> Result<Answer, ServingError> {
        let body = json!({
            "model": self.model,
            "prompt": prompt,
            "max_tokens": answer_tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": { "include_usage": true },
            // The answer shall have its length whatever the model says, and every token shall be seen.
            "ignore_eos": true,
            "skip_special_tokens": false,
        });
        let mut request = self.agent.post(format!("{}/v1/completions", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let begun = Instant::now();
        let reply = self.accepted(request.send_json(&body))?;
        let mut reading = Reading::new(begun);
        for line in BufReader::new(reply.into_body().into_reader()).lines() {
            let line = line.map_err(|error| ServingError::Broken(error.to_string()))?;
            let now = Instant::now();
            if let Some(data) = line.strip_prefix("data:")
                && !reading.take(data.trim(), now)?
            {
                return reading.finish();
            }
        }
        Err(ServingError::Broken("the connection was closed".to_owned()))
    }

    fn accepted(&self, reply: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, ServingError> {
        let mut reply =
            reply.map_err(|source| ServingError::Unreachable { url: self.url.clone(), source: Box::new(source) })?;
        let status = reply.status().as_u16();
        if status == 200 {
            return Ok(reply);
        }
        let body: Value = reply.body_mut().read_json().unwrap_or(Value::Null);
        let message = body["error"]["message"].as_str().unwrap_or("no reason given").to_owned();
        Err(ServingError::Refused { status, message })
    }
}
