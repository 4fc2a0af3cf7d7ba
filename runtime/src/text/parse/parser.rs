//! Reads an answer as it comes: reasoning, calls of tools, and what is left is content.

use super::event::{Parsed, Sink};
use super::feed::Feed;
use super::format::{CallFormat, Progress};
use super::options::{CallOptions, CallPolicy, IdStyle, ParseOptions, Start};
use super::watch::{Role, Watch};

/// Reads one answer.
///
/// The pieces that come out, joined by kind, do not depend on how the text was cut. Markers do not come out, except
/// that reasoning may mention those of calls that are ordinary text. White space around reasoning and calls belongs to
/// them and is left out; that inside of content stays as it is.
#[derive(Debug)]
pub struct Parser {
    feed: Feed,
    sink: Sink,
    watch: Watch,
    /// Everything is content.
    transparent: bool,
    calls: Option<Calls>,
    mode: Mode,
    /// In the rest of a malformed call, which is content.
    broken: bool,
    content: Content,
    thought: Thought,
    /// Nothing more is taken.
    over: bool,
}

#[derive(Debug)]
struct Calls {
    format: Box<dyn CallFormat>,
    policy: CallPolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Answer,
    Reasoning,
    Call,
}

/// White space in content that is not out yet.
#[derive(Debug, Default)]
struct Content {
    held: String,
    /// Content has come out since the last call.
    visible: bool,
    /// Content has come out.
    ever: bool,
    /// White space that comes next belongs to what stood before.
    trims: bool,
}

/// White space in reasoning that is not out yet.
#[derive(Debug, Default)]
struct Thought {
    held: String,
    /// Text of this block has come out.
    visible: bool,
    /// Text of any block has.
    ever: bool,
}

impl Parser {
    /// A parser at the start of an answer.
    pub fn new(options: &ParseOptions) -> Self {
        let calls = options.calls.as_ref();
        let (ids, key) = calls.map_or((IdStyle::OpenAi, 0), |calls| (calls.format.ids(), calls.id_key));
        let start = options.start;
        let mode = match start {
            Start::Inside if options.reasoning.is_some() => Mode::Reasoning,
            Start::Inside | Start::Fresh | Start::After => Mode::Answer,
        };
        Self {
            feed: Feed::default(),
            sink: Sink::new(ids, key),
            watch: Watch::new(options.reasoning, calls.map(|calls| calls.format.markers())),
            transparent: options.reasoning.is_none() && calls.is_none(),
            calls: calls.map(Calls::new),
            mode,
            broken: false,
            content: Content { trims: start == Start::After, ..Content::default() },
            thought: Thought::default(),
            over: false,
        }
    }

    /// Takes the next piece of text and returns what it completes.
    pub fn push(&mut self, text: &str) -> Vec<Parsed> {
        if self.over || text.is_empty() {
            return Vec::new();
        }
        if self.transparent {
            return vec![Parsed::Content(text.to_owned())];
        }
        self.feed.push(text);
        self.run();
        self.sink.take()
    }

    /// The answer has ended: returns what was held back.
    pub fn finish(&mut self) -> Vec<Parsed> {
        if !self.over {
            self.feed.end();
            self.run();
            while self.end_call() {
                self.run();
            }
            if !self.content.trims {
                let held = std::mem::take(&mut self.content.held);
                self.sink.content(&held);
            }
        }
        self.sink.take()
    }

    /// Whether the text so far ends inside of reasoning.
    pub fn in_reasoning(&self) -> bool {
        self.mode == Mode::Reasoning
    }

    /// Whether the answer is complete although more text may come.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Calls that have begun.
    pub fn calls(&self) -> usize {
        self.sink.calls()
    }

    fn run(&mut self) {
        while !self.over {
            let goes_on = match self.mode {
                Mode::Answer => self.answer(),
                Mode::Reasoning => self.think(),
                Mode::Call => self.call(),
            };
            if !goes_on {
                break;
            }
        }
    }

    fn answer(&mut self) -> bool {
        if let Some(goes_on) = self.bare_call() {
            return goes_on;
        }
        let watched = if self.broken { &self.watch.broken } else { &self.watch.answer };
        let (text, role) = watched.read(&mut self.feed);
        self.say(&text);
        let Some(role) = role else { return false };
        match role {
            Role::BeginReasoning => {
                if !self.content.ever {
                    self.content.held.clear();
                }
                self.thought.visible = false;
                self.mode = Mode::Reasoning;
            }
            Role::Open(opener) => self.open(opener),
            Role::Resume => {
                // Where no call is wanted, the next one of the section is none either.
                if let Some(calls) = self.calls.as_mut().filter(|calls| calls.policy != CallPolicy::None) {
                    calls.format.resume();
                    self.broken = false;
                    self.mode = Mode::Call;
                }
            }
            Role::Heal => self.broken = false,
            Role::EndReasoning | Role::Stray => {}
        }
        true
    }

    fn think(&mut self) -> bool {
        let (text, role) = self.watch.thought.read(&mut self.feed);
        self.thought.say(&text, &mut self.sink);
        let Some(role) = role else { return false };
        match role {
            Role::EndReasoning => self.end_reasoning(),
            Role::Open(opener) => {
                self.end_reasoning();
                self.open(opener);
            }
            Role::BeginReasoning | Role::Resume | Role::Heal | Role::Stray => {}
        }
        true
    }

    fn end_reasoning(&mut self) {
        self.thought.held.clear();
        self.content.trims |= !self.content.visible;
        self.mode = Mode::Answer;
    }

    fn open(&mut self, opener: usize) {
        self.mode = Mode::Answer;
        let Some(calls) = &mut self.calls else { return };
        if calls.policy == CallPolicy::None {
            // A section and each call in it open: one warning is enough.
            if !self.broken {
                self.sink.malformed("a tool was called although `tool_choice` is `none`".to_owned());
            }
            self.broken = true;
            return;
        }
        self.broken = false;
        calls.format.open(opener);
        self.mode = Mode::Call;
    }

    /// Begins a call that no marker announces; whether to go on, if that decides it.
    fn bare_call(&mut self) -> Option<bool> {
        let calls = self.calls.as_ref().filter(|calls| calls.policy != CallPolicy::None)?;
        let opener = calls.format.bare_opener().filter(|_| !self.content.visible && !self.broken)?;
        let next = self.feed.skip_space();
        let space = self.feed.unsettled().to_owned();
        self.feed.settle();
        self.say(&space);
        match next {
            Some(next) if next == opener => {
                self.calls.as_mut()?.format.open_bare();
                self.mode = Mode::Call;
                Some(true)
            }
            None if !self.feed.has_ended() => Some(false),
            Some(_) | None => None,
        }
    }

    fn call(&mut self) -> bool {
        let Some(calls) = &mut self.calls else {
            self.mode = Mode::Answer;
            return true;
        };
        let before = self.sink.reported();
        let progress = calls.format.step(&mut self.feed, &mut self.sink);
        if self.sink.reported() != before {
            self.feed.settle();
            self.content.visible = false;
            self.content.trims = true;
        }
        let one = calls.policy == CallPolicy::One;
        match progress {
            Progress::Wait => return false,
            Progress::Again => {}
            Progress::Done => {
                self.feed.settle();
                self.mode = Mode::Answer;
            }
            Progress::Plain => {
                let text = self.feed.unsettled().to_owned();
                self.feed.settle();
                self.mode = Mode::Answer;
                self.say(&text);
            }
            Progress::Broken(reason) => self.break_call(reason),
        }
        self.over = one && self.sink.calls() > 0 && !self.sink.in_call();
        true
    }

    /// Gives the text of a malformed call back: it is read again, and everything but its markers is content.
    fn break_call(&mut self, reason: String) {
        self.sink.give_up();
        self.sink.malformed(reason);
        self.feed.rewind();
        self.mode = Mode::Answer;
        self.broken = true;
    }

    /// The answer has ended inside of a call; whether there is text to read again.
    fn end_call(&mut self) -> bool {
        let Some(calls) = self.calls.as_ref().filter(|_| self.mode == Mode::Call) else { return false };
        self.mode = Mode::Answer;
        if let Some(name) = self.sink.give_up() {
            // Completing the arguments would be a guess, and a dangerous one.
            self.sink.malformed(format!("the answer ends inside of the call of `{name}`"));
            return false;
        }
        self.feed.advance(self.feed.rest().len());
        let text = self.feed.unsettled().to_owned();
        if calls.format.is_between() || text.trim().is_empty() {
            return false;
        }
        if calls.format.may_be_plain() {
            self.say(&text);
            return false;
        }
        self.break_call("the answer ends inside of a call".to_owned());
        true
    }

    /// Content, as far as it is known not to be the white space around something else.
    fn say(&mut self, text: &str) {
        let content = &mut self.content;
        let text = if content.trims { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        content.trims = false;
        // White space before a call belongs to the call, and before all text maybe to reasoning.
        let holds = self.calls.is_some() || !content.visible;
        let shown = if holds { text.trim_end() } else { text };
        if !shown.is_empty() {
            (content.visible, content.ever) = (true, true);
            self.sink.content(&std::mem::take(&mut content.held));
            self.sink.content(shown);
        }
        content.held.push_str(&text[shown.len()..]);
    }
}

impl Calls {
    fn new(options: &CallOptions) -> Self {
        Self { format: options.reader(), policy: options.policy }
    }
}

impl Thought {
    fn say(&mut self, text: &str, sink: &mut Sink) {
        let text = if self.visible { text } else { text.trim_start() };
        if text.is_empty() {
            return;
        }
        if !self.visible && self.ever {
            sink.reasoning("\n");
        }
        (self.visible, self.ever) = (true, true);
        let shown = text.trim_end();
        if !shown.is_empty() {
            sink.reasoning(&std::mem::take(&mut self.held));
            sink.reasoning(shown);
        }
        self.held.push_str(&text[shown.len()..]);
    }
}
