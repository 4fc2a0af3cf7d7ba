use lmx_runtime::sequence::Priority;
use lmx_runtime::text::ParseOptions;

/// How far an answer goes, how it is cut and how it is sent; what the sampler does not need to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Tokens of the answer at most. Absent: as many as the context holds. More than the context holds is not an error.
    pub max_tokens: Option<u32>,
    /// Tokens of prompt and answer together, where fewer than the model holds are wanted.
    pub num_ctx: Option<u32>,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Whether the answer keeps the string or token that ended it.
    pub include_stop: bool,
    /// Whether the model's own end tokens are passed over.
    pub ignore_eos: bool,
    /// Whether special tokens are left out of the text.
    pub skip_special_tokens: bool,
    /// Answers per prompt.
    pub n: u32,
    /// Key of the random generator. Absent: another one each time.
    pub seed: Option<u64>,
    /// Whether the answer comes as a stream.
    pub stream: bool,
    /// Whether the stream ends with a chunk of usage.
    pub include_usage: bool,
    /// Whether each chunk of the stream carries the usage so far.
    pub continuous_usage: bool,
    /// Who is waiting.
    pub priority: Priority,
    /// What in the answer is not content; a bare prompt's answer is content alone.
    pub parse: ParseOptions,
}
