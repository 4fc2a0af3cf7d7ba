use super::client::ServingError;
use serde_json::Value;
use std::time::Instant;

/// A streamed answer, as it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// When it was asked for.
    pub(super) begun: Instant,
    /// When each chunk with text arrived; at least one.
    pub(super) chunks: Vec<Instant>,
    /// Tokens of the prompt, as the server's tokenizer counts them.
    pub(super) prompt_tokens: u64,
    /// Those of them that the server found computed, if it says so.
    pub(super) cached_tokens: Option<u64>,
    /// Tokens of the answer.
    pub(super) answer_tokens: u64,
}

/// Collects the events of a stream.
#[derive(Debug)]
pub(super) struct Reading {
    begun: Instant,
    chunks: Vec<Instant>,
    usage: Value,
}

impl Reading {
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, chunks: Vec::new(), usage: Value::Null }
    }

    /// Takes the data of an event that arrived `now`; false at the end of the stream.
    pub(super) fn take(&mut self, data: &str, now: Instant) -> Result<bool, ServingError> {
        if data == "[DONE]" {
            return Ok(false);
        }
        let mut event: Value = serde_json::from_str(data).map_err(|error| ServingError::Broken(error.to_string()))?;
        if let Some(message) = event["error"]["message"].as_str() {
            return Err(ServingError::Broken(message.to_owned()));
        }
        if event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()) {
            self.chunks.push(now);
        }
        if event["usage"].is_object() {
            self.usage = event["usage"].take();
        }
        Ok(true)
    }

    pub(super) fn finish(self) -> Result<Answer, ServingError> {
        let Self { begun, chunks, usage } = self;
        let count = |name: &str| usage[name].as_u64().ok_or(ServingError::Uncounted);
        let (prompt_tokens, answer_tokens) = (count("prompt_tokens")?, count("completion_tokens")?);
        if chunks.is_empty() {
            return Err(ServingError::Broken("the answer has no text".to_owned()));
        }
        let cached_tokens = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
        Ok(Answer { begun, chunks, prompt_tokens, cached_tokens, answer_tokens })
    }
}

impl Answer {
    pub(super) fn first(&self) -> Instant {
        self.chunks[0]
    }

    pub(super) fn last(&self) -> Instant {
        self.chunks[self.chunks.len() - 1]
    }

    /// Milliseconds from asking to the first text.
    pub(super) fn ttft_ms(&self) -> f64 {
        (self.first() - self.begun).as_secs_f64() * 1e3
    }

    /// Milliseconds between texts.
    pub(super) fn gaps_ms(&self) -> impl Iterator<Item = f64> {
        self.chunks.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3)
    }

    /// Tokens per second after the first text; `None` of an answer in one piece.
    pub(super) fn tokens_per_s(&self) -> Option<f64> {
        let seconds = (self.last() - self.first()).as_secs_f64();
        (seconds > 0.0).then(|| self.answer_tokens.saturating_sub(1) as f64 / seconds)
    }

    /// Tokens that arrived after `from` and until `to`, all chunks taken as equal.
    pub(super) fn tokens_between(&self, from: Instant, to: Instant) -> f64 {
        let chunks = self.chunks.iter().filter(|&&at| from < at && at <= to).count();
        chunks as f64 * self.answer_tokens as f64 / self.chunks.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_answer_is_timed_by_its_texts_and_counted_by_usage() {
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let mut reading = Reading::new(begun);
        for (ms, data) in [
            (5, r#"{"choices":[{"text":""}]}"#),
            (10, r#"{"choices":[{"text":"a"}],"usage":null}"#),
            (30, r#"{"choices":[{"text":"bc"}]}"#),
            (70, r#"{"choices":[{"text":"d"}]}"#),
            (
                71,
                r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,
                    "prompt_tokens_details":{"cached_tokens":8}}}"#,
            ),
        ] {
            assert!(reading.take(data, after(ms)).unwrap());
        }
        assert!(!reading.take("[DONE]", after(72)).unwrap());

        let answer = reading.finish().unwrap();

        assert_eq!((answer.prompt_tokens, answer.cached_tokens, answer.answer_tokens), (9, Some(8), 4));
        assert!((answer.ttft_ms() - 10.0).abs() < 1e-6);
        assert_eq!(answer.gaps_ms().map(f64::round).collect::<Vec<_>>(), [20.0, 40.0]);
        assert!((answer.tokens_per_s().unwrap() - 50.0).abs() < 1e-6);
        assert!((answer.tokens_between(after(10), after(30)) - 4.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_stream_without_usage_or_with_an_error_counts_for_nothing() {
        let text = r#"{"choices":[{"text":"a"}]}"#;
        let mut reading = Reading::new(Instant::now());
        reading.take(text, Instant::now()).unwrap();
        assert!(matches!(reading.finish(), Err(ServingError::Uncounted)));

        let mut reading = Reading::new(Instant::now());
        let refused = reading.take(r#"{"error":{"message":"no room"}}"#, Instant::now());
        assert_eq!(refused.unwrap_err().to_string(), "the answer broke off: no room");
    }
}
