//! What the formats of tool calls have in common.

use super::event::Sink;
use super::feed::Feed;
use super::options::{CallOptions, ToolFormat};
use super::section::{Naming, Section};
use super::{glm, hermes, llama, mistral, section, tagged};
use std::fmt::Debug;

/// The markers of a format.
#[derive(Debug)]
pub(super) struct Markers {
    /// Begin a call or a section of calls.
    pub(super) openers: &'static [&'static str],
    /// End a call inside of a section.
    pub(super) breaks: &'static [&'static str],
    /// End a call, or the section.
    pub(super) closers: &'static [&'static str],
    /// All others.
    pub(super) inner: &'static [&'static str],
    /// Breaks and inner ones that are left out of an answer even where no call has begun.
    pub(super) strays: &'static [&'static str],
    /// Whether openers, closers and strays are control tokens: such text is never anything else, and ends reasoning.
    pub(super) control: bool,
}

impl Markers {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static str> {
        [self.openers, self.breaks, self.closers, self.inner].into_iter().flatten().copied()
    }
}

/// What a step of reading a call came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More text is needed.
    Wait,
    /// Something was read: go on.
    Again,
    /// The call or section has ended: what follows is content again.
    Done,
    /// This is no call, or not another one, and nothing is wrong with that: what was read of it is content.
    Plain,
    /// The call is malformed; why.
    Broken(String),
}

/// Reads the calls of one format, from behind their opener.
///
/// Each step depends on nothing but the text, never on how it was cut: what later text could change is waited for.
pub(super) trait CallFormat: Debug + Send {
    /// An opener has been read; which one.
    fn open(&mut self, opener: usize);

    /// Reads on.
    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress;

    /// A malformed call inside of a section has ended: goes on with the section.
    fn resume(&mut self) {}

    /// Whether no call is under way, so that the answer may end here.
    fn is_between(&self) -> bool;

    /// Calls may begin with this character instead of a marker, where no content stands before them.
    fn bare_opener(&self) -> Option<char> {
        None
    }

    /// The bare opener comes next.
    fn open_bare(&mut self) {}

    /// Whether what is being read may be plain text, as after a bare opener.
    fn may_be_plain(&self) -> bool {
        false
    }
}

impl ToolFormat {
    pub(super) fn markers(self) -> &'static Markers {
        match self {
            Self::Hermes => &hermes::MARKERS,
            Self::Qwen3Coder => &tagged::QWEN3_CODER,
            Self::MinimaxM2 => &tagged::MINIMAX_M2,
            Self::Glm4 => &glm::MARKERS,
            Self::KimiK2 => &section::KIMI_K2,
            Self::Mistral => &mistral::MARKERS,
            Self::Llama3 => &llama::MARKERS,
            Self::Deepseek => &section::DEEPSEEK,
        }
    }
}

impl CallOptions {
    pub(super) fn reader(&self) -> Box<dyn CallFormat> {
        let tools = self.tools.clone();
        match self.format {
            ToolFormat::Hermes => Box::new(hermes::Hermes::default()),
            ToolFormat::Qwen3Coder => Box::new(tagged::Tagged::new(&tagged::QWEN3_CODER_TAGS, tools)),
            ToolFormat::MinimaxM2 => Box::new(tagged::Tagged::new(&tagged::MINIMAX_M2_TAGS, tools)),
            ToolFormat::Glm4 => Box::new(glm::Glm::new(tools)),
            ToolFormat::KimiK2 => Box::new(Section::new(&section::KIMI_K2, Naming::Counted)),
            ToolFormat::Mistral => Box::new(mistral::Mistral::default()),
            ToolFormat::Llama3 => Box::new(llama::Llama::new(tools)),
            ToolFormat::Deepseek => Box::new(Section::new(&section::DEEPSEEK, Naming::Typed)),
        }
    }
}
