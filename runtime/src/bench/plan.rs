use std::num::NonZeroUsize;

/// What of the forward pass is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerPlan {
    /// Lengths of prompts.
    pub prefill: Vec<usize>,
    /// Tokens of a prompt per step.
    pub chunk: NonZeroUsize,
    /// Tokens of context after which one stream decodes.
    pub contexts: Vec<usize>,
    /// How many streams decode together.
    pub streams: Vec<usize>,
    /// Tokens of context of each of these.
    pub stream_context: usize,
    /// Tokens that a stream decodes in a repetition.
    pub decode_tokens: usize,
    /// Repetitions.
    pub repeat: NonZeroUsize,
}

impl Default for RunnerPlan {
    fn default() -> Self {
        let positive = |n| NonZeroUsize::new(n).expect("the default is not zero");
        Self {
            prefill: vec![512, 2048],
            chunk: positive(512),
            contexts: vec![128, 2048],
            streams: vec![1, 2, 4, 8, 16],
            stream_context: 128,
            decode_tokens: 64,
            repeat: positive(5),
        }
    }
}

impl RunnerPlan {
    /// What of it a model can do that takes `context_tokens`, and what it cannot, in words.
    pub fn fit(mut self, context_tokens: usize) -> (Self, Vec<String>) {
        let decode = self.decode_tokens;
        let mut left_out = Vec::new();
        self.prefill.retain(|&tokens| tokens <= context_tokens || say(&mut left_out, "a prompt of", tokens));
        self.contexts
            .retain(|&context| context + decode <= context_tokens || say(&mut left_out, "decoding after", context));
        if self.stream_context + decode > context_tokens && !self.streams.is_empty() {
            say(&mut left_out, "streams after", self.stream_context);
            self.streams.clear();
        }
        (self, left_out)
    }
}

/// False, for filters.
fn say(left_out: &mut Vec<String>, what: &str, tokens: usize) -> bool {
    left_out.push(format!("{what} {tokens} tokens"));
    false
}
