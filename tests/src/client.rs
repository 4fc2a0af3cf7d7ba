//! A client over a plain socket: it can stop reading, or leave, at any moment.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sends requests to one server.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    address: SocketAddr,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub text: String,
}

/// An answer that is still coming.
#[derive(Debug)]
pub struct Stream {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    chunked: bool,
    pending: Vec<u8>,
    over: bool,
}

impl Client {
    /// A client of the server at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Sends a request and reads the whole answer.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let mut stream = self.open(method, path, body);
        let text = stream.rest();
        Reply { status: stream.status, headers: stream.headers, text }
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None)
    }

    /// `POST` of a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, Some(body))
    }

    /// Sends a request and reads the head of the answer.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn open(&self, method: &str, path: &str, body: Option<&Value>) -> Stream {
        let mut stream = self.send(method, path, body);
        let mut reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
        stream.flush().expect("the request is sent");
        let mut line = String::new();
        reader.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).expect("headers");
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        Stream { status, headers, reader, chunked, pending: Vec::new(), over: false }
    }

    /// Sends a request and reads nothing. Dropping the socket is leaving.
    ///
    /// # Panics
    /// If the server cannot be reached.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("the head is sent");
        stream.write_all(body.as_bytes()).expect("the body is sent");
        stream
    }
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// Values of all `data:` events, without `[DONE]`.
    pub fn events(&self) -> Vec<Value> {
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("JSON events")).collect()
    }

    /// The text of a choice of a streamed chat.
    pub fn streamed_text(&self, choice: u64) -> String {
        let events = self.events();
        let deltas = events.iter().flat_map(|event| event["choices"].as_array().into_iter().flatten());
        let own = deltas.filter(|delta| delta["index"] == choice);
        own.filter_map(|delta| delta["delta"]["content"].as_str()).collect()
    }
}

impl Stream {
    /// The next line of the body without its end; `None` at the end of the body.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next `data:` event; `None` at the end of the body.
    pub fn event(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.line()?.strip_prefix("data: ") {
                return Some(data.to_owned());
            }
        }
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> String {
        while self.fill() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    fn fill(&mut self) -> bool {
        if self.over {
            return false;
        }
        let before = self.pending.len();
        if self.chunked {
            let mut size = String::new();
            // A connection that breaks off is the end of the body.
            let read = self.reader.read_line(&mut size).unwrap_or(0);
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            if read > 0 && size > 0 {
                let mut chunk = vec![0; size + 2];
                if self.reader.read_exact(&mut chunk).is_ok() {
                    self.pending.extend(&chunk[..size]);
                }
            }
        } else if self.reader.read_to_end(&mut self.pending).is_err() {
            self.over = true;
        }
        self.over |= !self.chunked || self.pending.len() == before;
        self.pending.len() > before
    }
}
