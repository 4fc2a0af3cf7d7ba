use super::answer::Answer;
use super::client::{Endpoint, ServingError};
use super::figures::{LoadFigure, ServingReport, ServingRow};
use super::prompts::Prompts;
use std::sync::Barrier;

/// Tokens of the prompts and answers of the scenario `concurrency`.
const CONCURRENT: Load = Load { prompt_tokens: 128, answer_tokens: 64 };
/// Tokens of a shared beginning.
const PREFIX_TOKENS: usize = 512;
/// Tokens that follow it, of each prompt its own.
const TAIL_TOKENS: usize = 16;
/// Tokens of the answers over a shared beginning: its price is in the first one.
const PREFIX_ANSWER_TOKENS: usize = 8;
/// Words that show how many tokens a word has.
const CALIBRATION_WORDS: usize = 200;

/// Sizes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Tokens of the prompt, about.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub answer_tokens: usize,
}

/// A server, and prompts in the length of its own tokens.
#[derive(Debug)]
pub struct ServingBench {
    endpoint: Endpoint,
    prompts: Prompts,
}

impl ServingBench {
    /// Asks once, to warm up and to learn how many tokens a word has.
    ///
    /// # Errors
    /// [`ServingError`].
    pub fn new(endpoint: Endpoint) -> Result<Self, ServingError> {
        let mut prompts = Prompts::fresh();
        let answer = endpoint.ask(&prompts.of_words(CALIBRATION_WORDS), 2)?;
        prompts.calibrate(CALIBRATION_WORDS, answer.prompt_tokens);
        Ok(Self { endpoint, prompts })
    }

    /// The server.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One stream: each prompt for the first time, then once more.
    ///
    /// # Errors
    /// [`ServingError`].
    pub fn single(&mut self, load: Load, runs: usize) -> Result<ServingReport, ServingError> {
        let (mut cold, mut warm) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let prompt = self.prompts.of_tokens(load.prompt_tokens);
            cold.push(vec![self.endpoint.ask(&prompt, load.answer_tokens)?]);
            warm.push(vec![self.endpoint.ask(&prompt, load.answer_tokens)?]);
        }
        let Load { prompt_tokens, answer_tokens } = load;
        let what = format!("Served: one stream, {prompt_tokens} tokens in, {answer_tokens} out");
        Ok(report(what, [("cold", cold, answer_tokens), ("warm", warm, answer_tokens)]))
    }

    /// Several streams at once, each with a prompt of its own.
    ///
    /// # Errors
    /// [`ServingError`] of the first request that fails.
    pub fn concurrency(&mut self, levels: &[usize], runs: usize) -> Result<ServingReport, ServingError> {
        let mut rows = Vec::new();
        for &streams in levels {
            let answers = (0..runs).map(|_| self.together(streams)).collect::<Result<_, _>>()?;
            rows.push(("cold", answers, CONCURRENT.answer_tokens));
        }
        let Load { prompt_tokens, answer_tokens } = CONCURRENT;
        Ok(report(format!("Served: streams at once, {prompt_tokens} tokens in, {answer_tokens} out"), rows))
    }

    fn together(&mut self, streams: usize) -> Result<Vec<Answer>, ServingError> {
        let prompts: Vec<_> = (0..streams).map(|_| self.prompts.of_tokens(CONCURRENT.prompt_tokens)).collect();
        let (endpoint, start) = (&self.endpoint, &Barrier::new(streams));
        std::thread::scope(|scope| {
            let ask = |prompt: &String| {
                let prompt = prompt.clone();
                scope.spawn(move || {
                    start.wait();
                    endpoint.ask(&prompt, CONCURRENT.answer_tokens)
                })
            };
            let clients: Vec<_> = prompts.iter().map(ask).collect();
            clients
                .into_iter()
                .map(|client| client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    /// A shared beginning: prompts over a new one, then others over the same.
    ///
    /// # Errors
    /// [`ServingError`].
    pub fn prefix(&mut self, runs: usize) -> Result<ServingReport, ServingError> {
        let (mut cold, mut warm) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let prefix = self.prompts.of_tokens(PREFIX_TOKENS);
            let mut ask = || {
                let prompt = prefix.clone() + &self.prompts.of_tokens(TAIL_TOKENS);
                Ok(vec![self.endpoint.ask(&prompt, PREFIX_ANSWER_TOKENS)?])
            };
            cold.push(ask()?);
            warm.extend([ask()?, ask()?]);
        }
        let what = format!("Served: a shared beginning of {PREFIX_TOKENS} tokens, {TAIL_TOKENS} of its own");
        Ok(report(what, [("cold", cold, PREFIX_ANSWER_TOKENS), ("warm", warm, PREFIX_ANSWER_TOKENS)]))
    }
}

fn report(what: String, rows: impl IntoIterator<Item = (&'static str, Vec<Vec<Answer>>, usize)>) -> ServingReport {
    let row = |(kind, runs, answer_tokens): (_, Vec<Vec<Answer>>, _)| {
        Some(ServingRow { kind, figure: LoadFigure::of(&runs, answer_tokens)? })
    };
    ServingReport { what, rows: rows.into_iter().filter_map(row).collect(), resident_bytes: None }
}
