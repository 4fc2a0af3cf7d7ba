use serde::{Serialize, Serializer};
use std::ops::AddAssign;

/// Tokens of a request, counted, never estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt, once for all of its choices.
    pub prompt_tokens: usize,
    /// Tokens of all answers.
    pub completion_tokens: usize,
    /// Their sum.
    pub total_tokens: usize,
    /// What the prompt consisted of.
    pub prompt_tokens_details: PromptTokensDetails,
    /// What the answers consisted of.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// What a prompt consisted of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PromptTokensDetails {
    /// Tokens that were found in the prefix index and not computed again.
    pub cached_tokens: usize,
}

/// What the answers consisted of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CompletionTokensDetails {
    /// Tokens of reasoning.
    pub reasoning_tokens: usize,
    /// Draft tokens that the model agreed with.
    pub accepted_prediction_tokens: usize,
    /// Draft tokens that it did not agree with.
    pub rejected_prediction_tokens: usize,
}

impl Usage {
    /// Usage of a prompt and its answers, without reasoning and drafts.
    pub fn new(prompt_tokens: usize, cached_tokens: usize, completion_tokens: usize) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptTokensDetails { cached_tokens },
            completion_tokens_details: CompletionTokensDetails::default(),
        }
    }
}

impl Usage {
    /// The same with this many tokens of reasoning among those of the answers.
    pub fn with_reasoning(mut self, reasoning_tokens: usize) -> Self {
        self.completion_tokens_details.reasoning_tokens = reasoning_tokens;
        self
    }
}

/// Adds the usage of another prompt of the same request.
impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        let (mine, theirs) = (&mut self.completion_tokens_details, other.completion_tokens_details);
        mine.reasoning_tokens += theirs.reasoning_tokens;
        mine.accepted_prediction_tokens += theirs.accepted_prediction_tokens;
        mine.rejected_prediction_tokens += theirs.rejected_prediction_tokens;
        self.prompt_tokens_details.cached_tokens += other.prompt_tokens_details.cached_tokens;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.total_tokens += other.total_tokens;
    }
}

/// Tokens of a request whose answer has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PromptUsage {
    /// Tokens that the model read.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}

impl PromptUsage {
    /// Usage of a request that read this many tokens.
    pub fn new(prompt_tokens: usize) -> Self {
        Self { prompt_tokens, total_tokens: prompt_tokens }
    }
}

/// The `usage` of a chunk: clients that did not ask must not see the field, the others see null until it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageField {
    /// No field.
    Absent,
    /// `null`.
    Null,
    /// The counts.
    Counted(Usage),
}

impl UsageField {
    /// Whether the field is left out.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl Serialize for UsageField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => serializer.serialize_none(),
            Self::Counted(usage) => usage.serialize(serializer),
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string or token did.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
    /// The model asks for tools.
    ToolCalls,
    /// It was withheld.
    ContentFilter,
}

impl FinishReason {
    /// The word in answers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_of_several_prompts_adds_up() {
        let mut usage = Usage::new(10, 8, 3);

        usage += Usage::new(5, 0, 4);

        assert_eq!(usage, Usage::new(15, 8, 7));
    }

    #[test]
    fn a_finish_reason_has_one_word() {
        for reason in [FinishReason::Stop, FinishReason::Length, FinishReason::ToolCalls, FinishReason::ContentFilter] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
