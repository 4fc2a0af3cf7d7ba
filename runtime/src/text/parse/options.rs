//! How the text of an answer is to be read.

use super::head::is_name;
use super::tools::Tools;
use crate::text::Tokenizer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a family writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen2.5, Qwen3.
    Hermes,
    /// `<tool_call><function=NAME><parameter=KEY>…</parameter></function></tool_call>`: Qwen3-Coder.
    Qwen3Coder,
    /// `<minimax:tool_call><invoke name="NAME"><parameter name="KEY">…</parameter></invoke></minimax:tool_call>`.
    MinimaxM2,
    /// `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>…</arg_value></tool_call>`, with or without line feeds: GLM 4.5
    /// and later.
    #[serde(alias = "glm47")]
    Glm4,
    /// `<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>{…}<|tool_call_end|>` in a section.
    KimiK2,
    /// `[TOOL_CALLS][{"name": …, "arguments": {…}}]` and `[TOOL_CALLS]NAME[ARGS]{…}`.
    Mistral,
    /// The turn is `{"name": …, "parameters": {…}}`, maybe after `<|python_tag|>`: Llama 3.1 and later.
    Llama3,
    /// `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{…}<｜tool▁call▁end｜>` in a section, and the form of DeepSeek V3 and R1.
    Deepseek,
}

/// How a family marks its reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningFormat {
    /// `<think>…</think>`.
    Think,
    /// `[THINK]…[/THINK]`.
    Mistral,
}

impl ToolFormat {
    /// All formats.
    pub const ALL: [Self; 8] = [
        Self::Hermes,
        Self::Qwen3Coder,
        Self::MinimaxM2,
        Self::Glm4,
        Self::KimiK2,
        Self::Mistral,
        Self::Llama3,
        Self::Deepseek,
    ];

    /// The name in presets and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hermes => "hermes",
            Self::Qwen3Coder => "qwen3_coder",
            Self::MinimaxM2 => "minimax_m2",
            Self::Glm4 => "glm4",
            Self::KimiK2 => "kimi_k2",
            Self::Mistral => "mistral",
            Self::Llama3 => "llama3",
            Self::Deepseek => "deepseek",
        }
    }

    /// The markers that begin a call, where they are control tokens.
    pub(in crate::text) fn control_openers(self) -> &'static [&'static str] {
        let markers = self.markers();
        if markers.control { markers.openers } else { &[] }
    }

    /// What must be in a vocabulary for a model to write calls like this.
    pub(in crate::text) fn opener(self) -> &'static str {
        self.markers().openers[0]
    }

    fn kept(self, tokenizer: &Tokenizer) -> impl Iterator<Item = u32> {
        special(tokenizer, self.markers().all())
    }

    /// How calls that the model does not name itself are named.
    pub(super) fn ids(self) -> IdStyle {
        match self {
            Self::KimiK2 => IdStyle::Kimi,
            Self::Mistral => IdStyle::Mistral,
            Self::Hermes | Self::Qwen3Coder | Self::MinimaxM2 | Self::Glm4 | Self::Llama3 | Self::Deepseek => {
                IdStyle::OpenAi
            }
        }
    }
}

impl ReasoningFormat {
    /// All formats.
    pub const ALL: [Self; 2] = [Self::Think, Self::Mistral];

    /// The name in presets and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Think => "think",
            Self::Mistral => "mistral",
        }
    }

    /// What begins reasoning.
    pub fn begin(self) -> &'static str {
        match self {
            Self::Think => "<think>",
            Self::Mistral => "[THINK]",
        }
    }

    /// What ends it.
    pub fn end(self) -> &'static str {
        match self {
            Self::Think => "</think>",
            Self::Mistral => "[/THINK]",
        }
    }
}

impl ReasoningFormat {
    fn kept(self, tokenizer: &Tokenizer) -> impl Iterator<Item = u32> {
        special(tokenizer, [self.begin(), self.end()].into_iter())
    }
}

/// Those of `texts` that are special tokens.
fn special(tokenizer: &Tokenizer, texts: impl Iterator<Item = &'static str>) -> impl Iterator<Item = u32> {
    texts.filter_map(|text| tokenizer.token_to_id(text)).filter(|&id| tokenizer.is_special(id))
}

/// Where an answer begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// Before everything.
    #[default]
    Fresh,
    /// Inside of reasoning: the prompt has opened it.
    Inside,
    /// Behind reasoning: the prompt has closed it.
    After,
}

impl Start {
    /// Where the answer to `prompt` begins. Only markers at its very end count: those before it belong to the conversation.
    pub fn of_prompt(prompt: &str, format: ReasoningFormat) -> Self {
        let prompt = prompt.trim_end();
        if prompt.ends_with(format.begin()) {
            Self::Inside
        } else if prompt.ends_with(format.end()) {
            Self::After
        } else {
            Self::Fresh
        }
    }

    /// Where the continuation of a message begins.
    pub fn of_message(text: &str, format: ReasoningFormat) -> Self {
        match (text.rfind(format.begin()), text.rfind(format.end())) {
            (Some(begin), end) if end.is_none_or(|end| end < begin) => Self::Inside,
            _ => Self::Fresh,
        }
    }
}

/// What to look for in an answer. The default takes everything for content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// How reasoning is marked; `None`: there is none.
    pub reasoning: Option<ReasoningFormat>,
    /// Where the answer begins.
    pub start: Start,
    /// How tools are called; `None`: text that looks like a call is text.
    pub calls: Option<CallOptions>,
}

impl ParseOptions {
    /// The options for one of several answers to a prompt: their calls get different ids.
    pub fn of_choice(&self, choice: usize) -> Self {
        let mut own = self.clone();
        if let Some(calls) = &mut own.calls {
            calls.id_key ^= (choice as u64).wrapping_mul(0xa24b_aed4_963e_e407);
        }
        own
    }

    /// The special tokens of this vocabulary whose text must be kept for the parser to see it.
    pub fn kept(&self, tokenizer: &Tokenizer) -> Arc<[u32]> {
        let calls = self.calls.iter().flat_map(|calls| calls.format.kept(tokenizer));
        self.reasoning.iter().flat_map(|reasoning| reasoning.kept(tokenizer)).chain(calls).collect()
    }
}

/// What to do with calls of tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOptions {
    /// How they are written.
    pub format: ToolFormat,
    /// The tools of the request.
    pub tools: Arc<Tools>,
    /// Whether the request takes calls.
    pub policy: CallPolicy,
    /// Key of the random ids of calls.
    pub id_key: u64,
}

/// How many calls a request takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallPolicy {
    /// Any number.
    #[default]
    Any,
    /// The answer ends with the first one.
    One,
    /// None: a call is malformed, whatever it looks like.
    None,
}

/// What ids of calls look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdStyle {
    /// `call_` and 24 letters and digits.
    OpenAi,
    /// Nine letters and digits.
    Mistral,
    /// `functions.NAME:INDEX`.
    Kimi,
}

impl IdStyle {
    /// Whether an id that the model wrote has this form.
    pub(super) fn fits(self, id: &str) -> bool {
        const LONGEST: usize = 64;
        match self {
            Self::OpenAi => id.len() <= LONGEST && id.strip_prefix("call_").is_some_and(is_alphanumeric),
            Self::Mistral => id.len() == 9 && is_alphanumeric(id),
            Self::Kimi => {
                let parts = id.strip_prefix("functions.").and_then(|rest| rest.rsplit_once(':'));
                let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                parts.is_some_and(|(name, index)| is_name(name) && is_number(index))
            }
        }
    }

    pub(super) fn id(self, key: u64, index: usize, name: &str) -> String {
        match self {
            Self::OpenAi => format!("call_{}", letters(key, index, 24)),
            Self::Mistral => letters(key, index, 9),
            Self::Kimi => format!("functions.{name}:{index}"),
        }
    }
}

fn is_alphanumeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Letters and digits that scatter with the key and the index.
fn letters(key: u64, index: usize, len: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // SplitMix64. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
    let mut state = key ^ (index as u64).wrapping_mul(0xd134_2543_de82_ef95);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len).map(|_| char::from(ALPHABET[(next() % 62) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_preset_is_the_name_in_a_report() {
        for format in ToolFormat::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        }
        for format in ReasoningFormat::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        }
        assert_eq!(serde_json::from_str::<ToolFormat>("\"glm47\"").unwrap(), ToolFormat::Glm4);
    }

    #[test]
    fn only_the_end_of_a_prompt_decides_where_the_answer_begins() {
        let of = |prompt| Start::of_prompt(prompt, ReasoningFormat::Think);
        assert_eq!(of("<|assistant|><think>"), Start::Inside);
        assert_eq!(of("]~b]ai\n<think>\n"), Start::Inside);
        assert_eq!(of("<think>\n\n</think>\n\n"), Start::After);
        assert_eq!(of("what is <think>?<|im_end|>\n<|im_start|>assistant\n"), Start::Fresh);
        let continued = |text| Start::of_message(text, ReasoningFormat::Think);
        assert_eq!(continued("<think>\nWell"), Start::Inside);
        assert_eq!(continued("<think>\nWell</think> So"), Start::Fresh);
    }

    #[test]
    fn ids_have_the_form_of_the_family_and_differ() {
        let id = |style: IdStyle, key, index| style.id(key, index, "f");
        assert_eq!(id(IdStyle::Kimi, 1, 2), "functions.f:2");
        let mistral = id(IdStyle::Mistral, 1, 0);
        assert!(mistral.len() == 9 && IdStyle::Mistral.fits(&mistral), "{mistral}");
        let all = [(1, 0), (1, 1), (2, 0), (2, 1)].map(|(key, index)| id(IdStyle::OpenAi, key, index));
        assert!(all.iter().all(|id| id.len() == 29 && id.starts_with("call_")), "{all:?}");
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 4);
        assert!(all.iter().all(|id| IdStyle::OpenAi.fits(id)) && IdStyle::Kimi.fits(&id(IdStyle::Kimi, 1, 2)));
    }

    #[test]
    fn an_id_of_another_form_does_not_fit() {
        let long = format!("call_{}", "7".repeat(60));
        for id in ["", "7", "call_", "call_a b", "call_\"", "tool_7", &long] {
            assert!(!IdStyle::OpenAi.fits(id), "{id}");
        }
        for id in ["", "abcdefgh", "abcdefghij", "abcd-fghi", "äbcdefgh"] {
            assert!(!IdStyle::Mistral.fits(id), "{id}");
        }
        for id in ["now:0", "functions.now", "functions.:0", "functions.now:", "functions.now:x", "functions.a b:0"] {
            assert!(!IdStyle::Kimi.fits(id), "{id}");
        }
        assert!(IdStyle::Kimi.fits("functions.a.b:c:12") && IdStyle::OpenAi.fits("call_7"));
    }
}
