use std::time::{SystemTime, UNIX_EPOCH};

/// Words that most tokenizers hold whole.
const WORDS: &str = "the of and to in is was for that with as on it by from are this be at which not have has but one \
    were their had its all also been can more other some time when out only into over made they new these two first \
    may then after such any most part where many work year people state system about between through called during \
    under number used both same different being later long could well world great there use within since around small \
    found several each while every large until public line point group high name order area power form city house";

/// Makes texts that no server has seen before.
#[derive(Debug, Clone)]
pub(super) struct Prompts {
    words: Vec<&'static str>,
    state: u64,
    /// Of a word, as the server's tokenizer counts.
    tokens_per_word: f64,
}

impl Prompts {
    /// Texts from `seed` on, a token for a word until [`Self::calibrate`] says otherwise.
    pub(super) fn new(seed: u64) -> Self {
        Self { words: WORDS.split_whitespace().collect(), state: seed, tokens_per_word: 1.0 }
    }

    /// Others in every run: a server that runs on remembers those of the last one.
    pub(super) fn fresh() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::new(now.as_nanos() as u64)
    }

    /// Learns from a text of so many words.
    pub(super) fn calibrate(&mut self, words: usize, tokens: u64) {
        self.tokens_per_word = tokens as f64 / words as f64;
    }

    /// A text of so many words.
    pub(super) fn of_words(&mut self, words: usize) -> String {
        let mut text = String::new();
        for _ in 0..words {
            // The high bits of a linear congruential generator are the good ones.
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(' ');
            text.push_str(self.words[(self.state >> 33) as usize % self.words.len()]);
        }
        text
    }

    /// A text of about so many tokens.
    pub(super) fn of_tokens(&mut self, tokens: usize) -> String {
        self.of_words(((tokens as f64 / self.tokens_per_word) as usize).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ_and_have_their_length() {
        let mut prompts = Prompts::new(7);
        let (a, b) = (prompts.of_words(50), prompts.of_words(50));
        assert!(a != b && a.split_whitespace().count() == 50);

        prompts.calibrate(100, 125);
        assert_eq!(prompts.of_tokens(500).split_whitespace().count(), 400);
    }
}
