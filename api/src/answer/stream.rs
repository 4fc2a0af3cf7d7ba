//! The body of a streamed answer.

use super::{Answer, AnswerEvent};
use crate::error::ApiError;
use crate::inflight::InFlight;
use crate::openai::response::Usage;
use crate::sse;
use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::stream;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

/// How the events of an answer are written.
pub trait StreamFormat {
    /// What an event looks like on the wire; nothing for an event that says nothing.
    fn event(&mut self, event: AnswerEvent, usage: Usage) -> Vec<Bytes>;

    /// What ends a stream that went well.
    fn end(&mut self, usage: Usage) -> Bytes;
}

struct Body<F> {
    answer: Answer,
    format: F,
    keepalive: Duration,
    ready: VecDeque<Bytes>,
    guard: InFlight,
    over: bool,
}

/// Answers with a stream of server-sent events. The head goes out at once, before the prompt is computed.
pub fn sse<F: StreamFormat + 'static>(answer: Answer, format: F, keepalive: Duration, guard: InFlight) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    for header in sse::HEADERS {
        response.insert_header(header);
    }
    let body = Body { answer, format, keepalive, ready: VecDeque::new(), guard, over: false };
    // A first comment makes the head leave, whatever buffers there are.
    let opening = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b": ok\n\n"))]);
    let events = stream::unfold(body, |mut body| async move { Some((Ok(body.next().await?), body)) });
    response.streaming(stream::StreamExt::chain(opening, events))
}

impl<F: StreamFormat> Body<F> {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.over {
                return None;
            }
            match tokio::time::timeout(self.keepalive, self.answer.next()).await {
                Err(_) => {
                    let (done, total) = self.answer.prefill();
                    return Some(sse::keepalive(done, total));
                }
                Ok(Some(Ok(event))) => {
                    let usage = self.answer.usage();
                    self.ready.extend(self.format.event(event, usage));
                }
                Ok(Some(Err(error))) => {
                    self.over = true;
                    self.guard.failed(&error);
                    return Some(error.to_event());
                }
                Ok(None) => {
                    self.over = true;
                    self.guard.done();
                    return Some(self.format.end(self.answer.usage()));
                }
            }
        }
    }
}

/// Reads an answer to its end.
///
/// # Errors
/// Why it failed.
pub(super) async fn read_all(
    mut answer: Answer,
    mut take: impl FnMut(AnswerEvent),
    guard: &mut InFlight,
) -> Result<Usage, ApiError> {
    while let Some(event) = answer.next().await {
        match event {
            Ok(event) => take(event),
            Err(error) => {
                guard.failed(&error);
                return Err(error);
            }
        }
    }
    guard.done();
    Ok(answer.usage())
}
