use super::error::ParityError;
use std::time::Duration;

/// What was computed for one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptNumbers {
    /// The prompt's name.
    pub name: String,
    /// Length of a row of logits.
    pub vocab: usize,
    /// `[prompt_tokens, vocab]`: row `i` predicts the token after prompt token `i`.
    pub logits: Vec<f32>,
    /// The greedy continuation, end tokens not heeded.
    pub greedy_ids: Vec<u32>,
    /// `[greedy_ids, vocab]`: row `n` is what token `n` was taken from.
    pub greedy_logits: Vec<f32>,
    /// Prompt tokens that were not computed again in the last run.
    pub cached_tokens: usize,
    /// From submission to the last token, of the last run.
    pub elapsed: Duration,
}

impl PromptNumbers {
    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.logits.len() / self.vocab
    }
}

/// Collects the logits of one prompt, from as many runs as there are: the newest of a position counts.
#[derive(Debug)]
pub(super) struct Record {
    name: String,
    prompt_tokens: usize,
    vocab: usize,
    /// Row `i` predicts the token at position `i + 1`.
    logits: Vec<f32>,
    seen: Vec<bool>,
    tokens: Vec<u32>,
    cached_tokens: usize,
}

impl Record {
    pub(super) fn new(name: &str, prompt_tokens: usize, max_tokens: usize, vocab: usize) -> Self {
        let rows = prompt_tokens + max_tokens - 1;
        Self {
            name: name.to_owned(),
            prompt_tokens,
            vocab,
            logits: vec![0.0; rows * vocab],
            seen: vec![false; rows],
            tokens: Vec::new(),
            cached_tokens: 0,
        }
    }

    /// Takes the logits for the token at `position`. Those of positions behind the last wanted token are dropped.
    pub(super) fn put(&mut self, position: usize, row: &[f32]) {
        if let Some(seen) = self.seen.get_mut(position - 1) {
            *seen = true;
            self.logits[(position - 1) * self.vocab..position * self.vocab].copy_from_slice(row);
        }
    }

    pub(super) fn extend_tokens(&mut self, ids: impl Iterator<Item = u32>) {
        self.tokens.extend(ids);
    }

    /// Prepares for another run that finds `cached_tokens` of the prompt: what it must compute has to come again.
    pub(super) fn restart(&mut self, cached_tokens: usize) {
        self.seen[cached_tokens..].fill(false);
        self.tokens.clear();
        self.cached_tokens = cached_tokens;
    }

    pub(super) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    pub(super) fn cached_tokens(&self) -> usize {
        self.cached_tokens
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The numbers, once everything was seen.
    ///
    /// # Errors
    /// [`ParityError::Incomplete`] with the first position that was not.
    pub(super) fn finish(mut self, n_greedy: usize, elapsed: Duration) -> Result<PromptNumbers, ParityError> {
        if let Some(row) = self.seen.iter().position(|seen| !seen) {
            return Err(ParityError::Incomplete { prompt: self.name, position: row + 1 });
        }
        let (first, vocab) = (self.prompt_tokens - 1, self.vocab);
        let greedy_logits = self.logits[first * vocab..(first + n_greedy) * vocab].to_vec();
        self.logits.truncate(self.prompt_tokens * vocab);
        self.tokens.truncate(n_greedy);
        Ok(PromptNumbers {
            name: self.name,
            vocab,
            logits: self.logits,
            greedy_ids: self.tokens,
            greedy_logits,
            cached_tokens: self.cached_tokens,
            elapsed,
        })
    }
}
