//! What a model's family has agreed on: how its answers are read, and where they end.

use super::parse::{ParseOptions, ReasoningFormat, Start, ToolFormat};
use super::{ChatTemplate, Tokenizer};
use crate::sampling::ThinkingLimit;
use serde_json::Value;
use std::borrow::Cow;

/// A format that somebody may have chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Chosen<T> {
    /// Nobody has: the model's files decide.
    #[default]
    Detected,
    /// There shall be none.
    None,
    /// This one.
    Format(T),
}

/// How a model's answers are read, and where they end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conventions {
    /// How it calls tools; `None`: it does not.
    pub tools: Option<ToolFormat>,
    /// How it marks its reasoning; `None`: it does not.
    pub reasoning: Option<ReasoningFormat>,
    /// Tokens that end an answer whatever the model's configuration says, ascending.
    pub end_ids: Vec<u32>,
    /// The tokens that begin and end reasoning, where they are single ones.
    reasoning_ids: Option<(u32, u32)>,
    /// The tokens that begin calls, where they are control tokens.
    call_ids: Vec<u32>,
    /// Whether its chat template can be told that it shall not think.
    thinking_switch: bool,
}

/// What in a chat template tells the format of calls. The first one found decides.
const TEMPLATE_SIGNS: [(&str, ToolFormat); 9] = [
    ("<minimax:tool_call>", ToolFormat::MinimaxM2),
    ("<|tool_calls_section_begin|>", ToolFormat::KimiK2),
    ("<｜tool▁calls▁begin｜>", ToolFormat::Deepseek),
    ("[TOOL_CALLS]", ToolFormat::Mistral),
    ("<arg_key>", ToolFormat::Glm4),
    ("<function=", ToolFormat::Qwen3Coder),
    ("<tool_call>", ToolFormat::Hermes),
    ("<|python_tag|>", ToolFormat::Llama3),
    ("ipython", ToolFormat::Llama3),
];

/// Formats whose marker in a vocabulary belongs to them alone.
const VOCABULARY_SIGNS: [ToolFormat; 4] =
    [ToolFormat::MinimaxM2, ToolFormat::KimiK2, ToolFormat::Deepseek, ToolFormat::Mistral];

/// Control tokens that end a turn, in any family.
const TURN_ENDS: [&str; 10] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|user|>",
    "<|observation|>",
    "[e~[",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
];

impl Conventions {
    /// Decides for a model: what was chosen, else what its chat template shows, else what its vocabulary holds.
    pub fn of(
        template: Option<&ChatTemplate>,
        tokenizer: &Tokenizer,
        tools: Chosen<ToolFormat>,
        reasoning: Chosen<ReasoningFormat>,
    ) -> Self {
        let tools = tools.or_else(|| detect_tools(template, tokenizer));
        let reasoning = reasoning.or_else(|| detect_reasoning(template, tokenizer));
        let id = |text| tokenizer.token_to_id(text);
        let special = |id: &u32| tokenizer.is_special(*id);
        let eos = tokenizer.special().eos.as_ref().and_then(|token| token.id);
        let mut end_ids: Vec<u32> = TURN_ENDS.into_iter().filter_map(id).filter(special).chain(eos).collect();
        end_ids.sort_unstable();
        end_ids.dedup();
        let openers = tools.iter().flat_map(|format| format.control_openers());
        Self {
            tools,
            reasoning,
            end_ids,
            reasoning_ids: reasoning.and_then(|format| id(format.begin()).zip(id(format.end()))),
            call_ids: openers.filter_map(|text| id(text)).collect(),
            // The short word may also stand in the text of a prompt.
            thinking_switch: template
                .is_some_and(|template| template.mentions("enable_thinking") || template.reads("thinking")),
        }
    }

    /// The names of the two formats, as presets and reports write them.
    pub fn names(&self) -> (&'static str, &'static str) {
        (self.tools.map_or("none", ToolFormat::name), self.reasoning.map_or("none", ReasoningFormat::name))
    }

    /// Whether the length of its reasoning can be limited: its markers are single tokens.
    pub fn can_limit_thinking(&self) -> bool {
        self.reasoning_ids.is_some()
    }

    /// Whether it can be kept from thinking: it never does, its template can be told, or its reasoning can be ended.
    pub fn can_skip_thinking(&self) -> bool {
        self.reasoning.is_none() || self.thinking_switch || self.can_limit_thinking()
    }

    /// A limit on the reasoning of an answer that is read by `options`; `None` where there cannot be one.
    pub fn thinking_limit(&self, budget: u32, options: &ParseOptions) -> Option<ThinkingLimit> {
        let (begin, end) = self.reasoning_ids?;
        let other_ends = if options.calls.is_some() { self.call_ids.clone() } else { Vec::new() };
        Some(ThinkingLimit { budget, begin, end, other_ends, open: options.start == Start::Inside })
    }

    /// Messages in the form that the family's templates expect. Most read the arguments of earlier calls as objects and
    /// know no missing content; DeepSeek's join them as text, and find calls by the missing content beside them.
    pub fn messages<'a>(&self, messages: &'a [Value]) -> Cow<'a, [Value]> {
        if self.tools != Some(ToolFormat::Deepseek) {
            return Cow::Borrowed(messages);
        }
        let mut messages = messages.to_vec();
        for message in &mut messages {
            let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) else { continue };
            for arguments in calls.iter_mut().filter_map(|call| call.pointer_mut("/function/arguments")) {
                if !arguments.is_string() {
                    *arguments = arguments.to_string().into();
                }
            }
            if message.get("content").and_then(Value::as_str) == Some("") {
                message["content"] = Value::Null;
            }
        }
        Cow::Owned(messages)
    }
}

impl<T> Chosen<T> {
    fn or_else(self, detect: impl FnOnce() -> Option<T>) -> Option<T> {
        match self {
            Self::Detected => detect(),
            Self::None => None,
            Self::Format(format) => Some(format),
        }
    }
}

/// A model calls tools only if its template tells it of them.
fn detect_tools(template: Option<&ChatTemplate>, tokenizer: &Tokenizer) -> Option<ToolFormat> {
    let template = template.filter(|template| template.mentions("tools"))?;
    let shown = TEMPLATE_SIGNS.into_iter().find(|(sign, _)| template.mentions(sign)).map(|(_, format)| format);
    shown.or_else(|| VOCABULARY_SIGNS.into_iter().find(|format| tokenizer.token_to_id(format.opener()).is_some()))
}

fn detect_reasoning(template: Option<&ChatTemplate>, tokenizer: &Tokenizer) -> Option<ReasoningFormat> {
    let shown = |format: &ReasoningFormat| template.is_some_and(|template| template.mentions(format.end()));
    let known = |format: &ReasoningFormat| {
        [format.begin(), format.end()].iter().all(|marker| tokenizer.token_to_id(marker).is_some())
    };
    let all = ReasoningFormat::ALL;
    all.into_iter().find(shown).or_else(|| all.into_iter().find(known))
}
