//! The text of one choice: tokens become characters, these become reasoning, calls and content, and content ends where a
//! stop string stands in it.

use crate::egress::TextOptions;
use crate::stream::StopReason;
use lmx_runtime::sampling::SampledToken;
use lmx_runtime::text::{Detokenizer, Parsed, Parser, StopMatcher, TextError, Tokenizer};
use std::sync::Arc;

/// Reads the tokens of one choice.
pub(crate) struct ChoiceText {
    detokenizer: Detokenizer,
    parser: Parser,
    stop: StopMatcher,
    stops: Vec<String>,
    include_stop: bool,
    reasoning_tokens: usize,
}

/// What new tokens brought.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// New text by what it is.
    pub(crate) parts: Vec<Parsed>,
    /// Why the choice is complete, if its text decides that.
    pub(crate) end: Option<StopReason>,
}

impl ChoiceText {
    /// The text behind a prompt that ends with `prompt_tail`; `choice`: which of the answers to it.
    pub(crate) fn new(options: &TextOptions, tokenizer: &Arc<Tokenizer>, prompt_tail: &[u32], choice: usize) -> Self {
        let detokenizer = Detokenizer::new(tokenizer.clone(), options.skip_special_tokens, prompt_tail);
        Self {
            detokenizer: detokenizer.keeping(options.parse.kept(tokenizer)),
            parser: Parser::new(&options.parse.of_choice(choice)),
            stop: StopMatcher::new(options.stop.clone(), options.include_stop),
            stops: options.stop.clone(),
            include_stop: options.include_stop,
            reasoning_tokens: 0,
        }
    }

    /// Tokens of reasoning so far, markers not counted.
    pub(crate) fn reasoning_tokens(&self) -> usize {
        self.reasoning_tokens
    }

    /// Reads new tokens; with `last`, nothing follows them.
    ///
    /// # Errors
    /// [`TextError`] if they are not text.
    pub(crate) fn read(&mut self, tokens: &[SampledToken], last: bool) -> Result<Reading, TextError> {
        let mut reading = Reading::default();
        // A stop token has no text unless asked for; it is counted because it was computed.
        let include_stop = self.include_stop;
        for token in tokens.iter().filter(|token| !token.stop || include_stop) {
            let thought = self.parser.in_reasoning();
            let parsed = self.parser.push(&self.detokenizer.push(&[token.id])?);
            self.match_stops(parsed, &mut reading);
            // Markers are not reasoning: it is open before a token of it, and after.
            self.reasoning_tokens += usize::from(thought && self.parser.in_reasoning());
            if reading.end.is_some() {
                return Ok(reading);
            }
        }
        if last {
            let parsed = self.parser.push(&self.detokenizer.finish()?);
            self.match_stops(parsed, &mut reading);
            let parsed = self.parser.finish();
            self.match_stops(parsed, &mut reading);
            if reading.end.is_none() {
                // What was held back is text, since it did not complete a stop string.
                reading.content(self.stop.finish());
            }
        }
        Ok(reading)
    }

    /// Looks for stop strings in content. They do not reach over a call or reasoning.
    fn match_stops(&mut self, parsed: Vec<Parsed>, reading: &mut Reading) {
        for part in parsed {
            if reading.end.is_some() {
                return;
            }
            match part {
                Parsed::Content(text) => {
                    let matched = self.stop.push(&text);
                    reading.content(matched.text);
                    reading.end = matched.stopped.map(|which| StopReason::Text(self.stops[which].clone()));
                }
                Parsed::Reasoning(_)
                | Parsed::CallBegin { .. }
                | Parsed::CallArguments { .. }
                | Parsed::CallEnd { .. }
                | Parsed::Malformed(_) => {
                    reading.content(self.stop.finish());
                    reading.add(part);
                }
            }
        }
        if reading.end.is_none() && self.parser.is_over() {
            reading.end = Some(StopReason::Call);
        }
    }
}

impl Reading {
    fn content(&mut self, text: String) {
        if !text.is_empty() {
            self.add(Parsed::Content(text));
        }
    }

    /// Joins text to its like: a step that brought several tokens is one piece for the reader.
    fn add(&mut self, part: Parsed) {
        match (self.parts.last_mut(), part) {
            (Some(Parsed::Content(last)), Parsed::Content(text))
            | (Some(Parsed::Reasoning(last)), Parsed::Reasoning(text)) => last.push_str(&text),
            (Some(Parsed::CallArguments { index, text: last }), Parsed::CallArguments { index: same, text })
                if *index == same =>
            {
                last.push_str(&text);
            }
            (_, part) => self.parts.push(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lmx_runtime::text::{ParseOptions, ReasoningFormat, Start};

    fn reader(parse: ParseOptions, stop: &str) -> (ChoiceText, Arc<Tokenizer>) {
        let json = include_bytes!("../../runtime/tests/data/text/qwen3/tokenizer.json");
        let tokenizer = Arc::new(Tokenizer::from_bytes(json, None).unwrap());
        let options = TextOptions { stop: vec![stop.to_owned()], parse, ..TextOptions::default() };
        (ChoiceText::new(&options, &tokenizer, &[], 0), tokenizer)
    }

    fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<SampledToken> {
        let ids = tokenizer.encode(text, false).unwrap();
        ids.into_iter().map(|id| SampledToken { id, stop: false, logprobs: None }).collect()
    }

    #[test]
    fn reasoning_is_counted_without_its_markers_and_joined_in_a_step() {
        let parse = ParseOptions { reasoning: Some(ReasoningFormat::Think), start: Start::Inside, calls: None };
        let (mut text, tokenizer) = reader(parse, "END");

        let reading = text.read(&tokens(&tokenizer, "a thought END</think>Well."), true).unwrap();

        let parts = [Parsed::Reasoning("a thought END".into()), Parsed::Content("Well.".into())];
        assert_eq!((reading.parts.as_slice(), reading.end), (parts.as_slice(), None));
        assert_eq!(text.reasoning_tokens(), tokens(&tokenizer, "a thought END").len());
    }

    #[test]
    fn a_stop_string_ends_content_and_what_may_become_one_is_held_back() {
        let (mut text, tokenizer) = reader(ParseOptions::default(), "END");

        assert_eq!(text.read(&tokens(&tokenizer, "so EN"), false).unwrap().parts, [Parsed::Content("so ".into())]);
        let reading = text.read(&tokens(&tokenizer, "D no more"), false).unwrap();

        assert!(reading.parts.is_empty());
        assert_eq!(reading.end, Some(StopReason::Text("END".into())));
    }
}
