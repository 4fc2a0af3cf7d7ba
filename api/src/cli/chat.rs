//! `lmx chat`: a conversation in the terminal.

use super::args::{ChatArgs, Outcome};
use super::own_server;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use ureq::Agent;

const HELP: &str = "/clear forgets the conversation, /exit or Ctrl-D leaves, everything else is sent";

/// Why a turn of the conversation failed.
#[derive(Debug, thiserror::Error)]
enum ChatError {
    #[error("cannot reach {url}: {source}; is a server running there?")]
    Unreachable { url: String, source: Box<ureq::Error> },
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// Runs the command.
pub fn run(args: &ChatArgs) -> Outcome {
    let agent = Agent::new_with_config(Agent::config_builder().http_status_as_error(false).build());
    let url = match &args.url {
        Some(url) => url.trim_end_matches('/').trim_end_matches("/v1").to_owned(),
        None => match own_server::prepare(args.model.as_deref(), &args.config).and_then(own_server::start) {
            Ok(url) => url,
            Err(outcome) => return outcome,
        },
    };
    let mut editor = match DefaultEditor::new() {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("the terminal cannot be read: {error}");
            return Outcome::Failed;
        }
    };
    eprintln!("{HELP}");
    converse(&mut editor, &agent, &url, args)
}

fn converse(editor: &mut DefaultEditor, agent: &Agent, url: &str, args: &ChatArgs) -> Outcome {
    let system = args.system.iter().map(|text| json!({ "role": "system", "content": text }));
    let opening: Vec<Value> = system.collect();
    let mut messages = opening.clone();
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Outcome::Done,
            Err(error) => {
                eprintln!("the terminal cannot be read: {error}");
                return Outcome::Failed;
            }
        };
        match line.trim() {
            "" => continue,
            "/exit" | "/quit" => return Outcome::Done,
            "/clear" => {
                messages.clone_from(&opening);
                continue;
            }
            "/help" => {
                eprintln!("{HELP}");
                continue;
            }
            text => {
                // A history that cannot be kept is no reason to stop.
                let _ = editor.add_history_entry(text);
                messages.push(json!({ "role": "user", "content": text }));
            }
        }
        // In this process the one model is the default; a server is asked for the one that was named.
        let model = args.url.as_ref().and(args.model.as_deref());
        match answer(agent, url, model, &messages) {
            Ok(text) => messages.push(json!({ "role": "assistant", "content": text })),
            Err(error @ ChatError::Unreachable { .. }) => {
                eprintln!("{error}");
                return Outcome::Failed;
            }
            Err(error) => {
                // The turn is taken back, so that the next one is a valid conversation.
                eprintln!("{error}");
                messages.pop();
            }
        }
    }
}

/// Sends the conversation and prints the answer as it comes.
fn answer(agent: &Agent, url: &str, model: Option<&str>, messages: &[Value]) -> Result<String, ChatError> {
    let body = json!({ "model": model, "messages": messages, "stream": true });
    let response = agent.post(format!("{url}/v1/chat/completions")).send_json(&body);
    let mut response =
        response.map_err(|source| ChatError::Unreachable { url: url.to_owned(), source: Box::new(source) })?;
    if response.status() != 200 {
        let body: Value = response.body_mut().read_json().unwrap_or(Value::Null);
        let message = body["error"]["message"].as_str().unwrap_or("no reason given");
        return Err(ChatError::Refused(format!("{} ({})", message, response.status())));
    }
    let (mut text, mut thought) = (String::new(), false);
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line.map_err(|error| ChatError::Broken(error.to_string()))?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            println!();
            return Ok(text);
        }
        let chunk: Value = serde_json::from_str(data).map_err(|error| ChatError::Broken(error.to_string()))?;
        if let Some(message) = chunk["error"]["message"].as_str() {
            println!();
            return Err(ChatError::Broken(message.to_owned()));
        }
        let delta = &chunk["choices"][0]["delta"];
        if let Some(piece) = delta["reasoning_content"].as_str() {
            // What the model thinks is for people to see, not part of what it says.
            if std::io::stdout().is_terminal() {
                show(&format!("\x1b[2m{piece}\x1b[0m"));
                thought = true;
            }
        }
        if let Some(piece) = delta["content"].as_str().filter(|piece| !piece.is_empty()) {
            if std::mem::take(&mut thought) {
                show("\n\n");
            }
            show(piece);
            text.push_str(piece);
        }
    }
    Err(ChatError::Broken("the connection was closed".to_owned()))
}

fn show(piece: &str) {
    print!("{piece}");
    // A terminal that does not take text shows it later.
    let _ = std::io::stdout().flush();
}
