//! Answers of each family, cut everywhere: `data/parse/{format}.json` holds what models write and what it means.

use lmx_runtime::text::{
    CallOptions, CallPolicy, Detokenizer, ParseOptions, Parsed, Parser, ReasoningFormat, Start, Tokenizer, ToolFormat,
    Tools,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// One answer and what it means.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    text: String,
    #[serde(default)]
    start: String,
    #[serde(default)]
    policy: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    reasoning: String,
    #[serde(default)]
    calls: Vec<ExpectedCall>,
    #[serde(default)]
    warnings: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedCall {
    name: String,
    /// An object: the arguments are whole. A string: they are this incomplete text.
    arguments: Value,
    id: Option<String>,
}

/// What came out of a parser, joined by kind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Answer {
    content: String,
    reasoning: String,
    calls: Vec<Call>,
    warnings: Vec<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Call {
    id: String,
    name: String,
    arguments: String,
    ended: bool,
}

impl Answer {
    fn take(&mut self, parsed: Vec<Parsed>) {
        for piece in parsed {
            match piece {
                Parsed::Content(text) => self.content.push_str(&text),
                Parsed::Reasoning(text) => self.reasoning.push_str(&text),
                Parsed::CallBegin { index, id, name } => {
                    assert_eq!(index, self.calls.len(), "calls are counted");
                    self.calls.push(Call { id, name, ..Call::default() });
                }
                Parsed::CallArguments { index, text } => {
                    assert!(
                        index + 1 == self.calls.len() && !self.calls[index].ended,
                        "arguments are of the last call"
                    );
                    self.calls[index].arguments.push_str(&text);
                }
                Parsed::CallEnd { index } => {
                    assert!(!std::mem::replace(&mut self.calls[index].ended, true), "a call ends once");
                }
                Parsed::Malformed(reason) => self.warnings.push(reason),
            }
        }
    }
}

/// The markers of a format that no reader may see.
fn markers(format: ToolFormat) -> &'static [&'static str] {
    match format {
        ToolFormat::Hermes => &["<tool_call>", "</tool_call>"],
        ToolFormat::Qwen3Coder => &["<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter="],
        ToolFormat::MinimaxM2 => &["<minimax:tool_call>", "</minimax:tool_call>", "<invoke", "</invoke>", "<parameter"],
        ToolFormat::Glm4 => &["<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
        ToolFormat::KimiK2 => &["<|tool_call"],
        ToolFormat::Mistral => &["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"],
        ToolFormat::Llama3 => &["<|python_tag|>"],
        ToolFormat::Deepseek => &["<｜tool▁"],
    }
}

fn tools() -> Arc<Tools> {
    let tool = |name: &str, properties: Value| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}});
    Arc::new(Tools::from_request(&[
        tool(
            "get_weather",
            json!({"city": {"type": "string"}, "days": {"type": "integer"}, "detail": {"type": "object"}}),
        ),
        tool("write_file", json!({"path": {"type": "string"}, "text": {"type": "string"}})),
        tool("now", json!({})),
        tool(
            "mixed",
            json!({
                "flag": {"type": "boolean"}, "ratio": {"type": "number"}, "list": {"type": "array"}, "any": {},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            }),
        ),
    ]))
}

fn reasoning(format: ToolFormat) -> ReasoningFormat {
    if format == ToolFormat::Mistral { ReasoningFormat::Mistral } else { ReasoningFormat::Think }
}

fn options(format: ToolFormat, case: &Case) -> ParseOptions {
    let policy = match case.policy.as_str() {
        "" => CallPolicy::Any,
        "one" => CallPolicy::One,
        "none" => CallPolicy::None,
        other => panic!("{other}"),
    };
    let start = match case.start.as_str() {
        "" => Start::Fresh,
        "inside" => Start::Inside,
        "after" => Start::After,
        other => panic!("{other}"),
    };
    let calls = CallOptions { format, tools: tools(), policy, id_key: 7 };
    ParseOptions { reasoning: Some(reasoning(format)), start, calls: Some(calls) }
}

fn cases(format: ToolFormat) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/parse/{}.json", format.name()));
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(cases.len() >= 12, "{} answers of {}", cases.len(), format.name());
    cases
}

fn parse<'a>(options: &ParseOptions, pieces: impl IntoIterator<Item = &'a str>) -> Answer {
    let (mut parser, mut answer) = (Parser::new(options), Answer::default());
    for piece in pieces {
        answer.take(parser.push(piece));
    }
    answer.take(parser.finish());
    assert_eq!(parser.calls(), answer.calls.len());
    answer
}

/// Whether ids of this form are what the family writes.
fn fits(format: ToolFormat, id: &str) -> bool {
    let letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match format {
        ToolFormat::KimiK2 => {
            id.strip_prefix("functions.").and_then(|rest| rest.split_once(':')).is_some_and(|(name, index)| {
                !name.is_empty() && !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())
            })
        }
        ToolFormat::Mistral => id.len() == 9 && letters(id),
        ToolFormat::Hermes
        | ToolFormat::Qwen3Coder
        | ToolFormat::MinimaxM2
        | ToolFormat::Glm4
        | ToolFormat::Llama3
        | ToolFormat::Deepseek => id.strip_prefix("call_").is_some_and(|rest| !rest.is_empty() && letters(rest)),
    }
}

fn check(format: ToolFormat, case: &Case, answer: &Answer, at: &str) {
    assert_eq!(answer.content, case.content, "content of {at}: {answer:?}");
    assert_eq!(answer.reasoning, case.reasoning, "reasoning of {at}: {answer:?}");
    assert_eq!(answer.warnings.len(), case.warnings, "warnings of {at}: {answer:?}");
    assert_eq!(answer.calls.len(), case.calls.len(), "calls of {at}: {answer:?}");
    let ids: HashSet<&str> = answer.calls.iter().map(|call| call.id.as_str()).collect();
    assert!(ids.len() == answer.calls.len() && ids.iter().all(|id| fits(format, id)), "ids of {at}: {ids:?}");
    for (call, expected) in answer.calls.iter().zip(&case.calls) {
        assert_eq!(call.name, expected.name, "{at}");
        if let Some(id) = &expected.id {
            assert_eq!(&call.id, id, "{at}");
        }
        match &expected.arguments {
            Value::String(text) => {
                assert_eq!((&call.arguments, call.ended), (text, false), "{at}");
            }
            whole => {
                let found: Value = serde_json::from_str(&call.arguments)
                    .unwrap_or_else(|error| panic!("{at}: {} is no JSON: {error}", call.arguments));
                assert_eq!((&found, call.ended), (whole, true), "{at}");
            }
        }
    }
}

fn cut(text: &str, places: &[usize]) -> Vec<String> {
    let mut places: Vec<usize> = places.iter().copied().filter(|&place| text.is_char_boundary(place)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|span| text[span[0]..span[1]].to_owned()).collect()
}

#[test]
fn every_answer_means_what_it_should_and_the_same_however_it_is_cut() {
    for format in ToolFormat::ALL {
        for case in cases(format) {
            let (at, options) = (format!("{}, {}", format.name(), case.name), options(format, &case));
            let whole = parse(&options, [case.text.as_str()]);
            check(format, &case, &whole, &at);
            for place in (0..case.text.len()).filter(|&place| case.text.is_char_boundary(place)) {
                let (first, second) = case.text.split_at(place);
                assert_eq!(parse(&options, [first, second]), whole, "{at}, cut at {place}: {first:?}");
            }
            let characters: Vec<String> = case.text.chars().map(String::from).collect();
            assert_eq!(parse(&options, characters.iter().map(String::as_str)), whole, "{at}, one by one");
        }
    }
}

#[test]
fn no_marker_is_ever_shown() {
    for format in ToolFormat::ALL {
        let marks = reasoning(format);
        for case in cases(format).iter().filter(|case| !case.name.contains("that mentions")) {
            let answer = parse(&options(format, case), [case.text.as_str()]);
            for marker in markers(format).iter().copied().chain([marks.begin(), marks.end()]) {
                let shown = answer.content.contains(marker) || answer.reasoning.contains(marker);
                assert!(!shown, "{}, {}: {marker} in {answer:?}", format.name(), case.name);
            }
        }
    }
}

#[test]
fn without_formats_everything_is_content() {
    for case in cases(ToolFormat::Hermes) {
        let answer = parse(&ParseOptions::default(), cut(&case.text, &[3, 8]).iter().map(String::as_str));
        assert_eq!(answer, Answer { content: case.text, ..Answer::default() });
    }
}

#[test]
fn arguments_and_reasoning_go_out_before_they_are_whole() {
    let long = "All work and no play makes Jack a dull boy. ".repeat(20);
    let begin = |format| match format {
        ToolFormat::Hermes => r#"<tool_call>{"name": "write_file", "arguments": {"text": ""#,
        ToolFormat::Qwen3Coder => "<tool_call>\n<function=write_file>\n<parameter=text>\n",
        ToolFormat::MinimaxM2 => "<minimax:tool_call>\n<invoke name=\"write_file\">\n<parameter name=\"text\">",
        ToolFormat::Glm4 => "<tool_call>write_file<arg_key>text</arg_key><arg_value>",
        ToolFormat::KimiK2 => {
            r#"<|tool_calls_section_begin|><|tool_call_begin|>functions.write_file:0<|tool_call_argument_begin|>{"text": ""#
        }
        ToolFormat::Mistral => r#"[TOOL_CALLS]write_file[ARGS]{"text": ""#,
        ToolFormat::Llama3 => r#"{"name": "write_file", "parameters": {"text": ""#,
        ToolFormat::Deepseek => r#"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>write_file<｜tool▁sep｜>{"text": ""#,
    };
    for format in ToolFormat::ALL {
        let options = options(format, &cases(format)[0]);
        let mut parser = Parser::new(&options);
        let mut answer = Answer::default();
        answer.take(parser.push(reasoning(format).begin()));
        answer.take(parser.push(&long));
        assert!(parser.in_reasoning() && answer.reasoning.len() + 2 > long.len(), "{format:?}: {answer:?}");
        answer.take(parser.push(reasoning(format).end()));
        answer.take(parser.push(begin(format)));
        answer.take(parser.push(&long));
        assert!(answer.calls[0].arguments.len() > long.len(), "{format:?}: {answer:?}");
        assert!(!parser.in_reasoning() && !answer.calls[0].ended);
    }
}

/// The family whose tokenizer reads the format.
fn family(format: ToolFormat) -> &'static str {
    match format {
        ToolFormat::Hermes => "qwen3",
        ToolFormat::Qwen3Coder => "qwen3_moe",
        ToolFormat::MinimaxM2 => "minimax_m2",
        ToolFormat::Glm4 => "glm4_moe",
        ToolFormat::KimiK2 => "kimi_k2",
        ToolFormat::Mistral => "mistral",
        ToolFormat::Llama3 => "llama",
        // Its markers are added to a vocabulary that has none of them.
        ToolFormat::Deepseek => "qwen3",
    }
}

fn tokenizer(format: ToolFormat) -> Arc<Tokenizer> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/text").join(family(format));
    let read = |file: &str| std::fs::read(dir.join(file)).unwrap();
    let mut json: Value = serde_json::from_slice(&read("tokenizer.json")).unwrap();
    let added = json["added_tokens"].as_array_mut().unwrap();
    let first = added.iter().filter_map(|token| token["id"].as_u64()).max().unwrap() + 1;
    let markers: &[&str] = match format {
        ToolFormat::Deepseek => &[
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁sep｜>",
        ],
        ToolFormat::Hermes
        | ToolFormat::Qwen3Coder
        | ToolFormat::MinimaxM2
        | ToolFormat::Glm4
        | ToolFormat::KimiK2
        | ToolFormat::Mistral
        | ToolFormat::Llama3 => &[],
    };
    added.extend((first..).zip(markers).map(|(id, marker)| {
        json!({"id": id, "content": marker, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    }));
    let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes(), Some(&read("tokenizer_config.json"))).unwrap();
    assert!(markers.iter().all(|marker| tokenizer.token_to_id(marker).is_some_and(|id| tokenizer.is_special(id))));
    Arc::new(tokenizer)
}

#[test]
fn tokens_mean_what_the_text_means() {
    for format in ToolFormat::ALL {
        let tokenizer = tokenizer(format);
        for case in cases(format) {
            let options = options(format, &case);
            let mut detokenizer = Detokenizer::new(tokenizer.clone(), true, &[]).keeping(options.kept(&tokenizer));
            let (mut parser, mut answer) = (Parser::new(&options), Answer::default());
            for id in tokenizer.encode(&case.text, false).unwrap() {
                answer.take(parser.push(&detokenizer.push(&[id]).unwrap()));
            }
            answer.take(parser.push(&detokenizer.finish().unwrap()));
            answer.take(parser.finish());
            check(format, &case, &answer, &format!("tokens of {}, {}", format.name(), case.name));
        }
    }
}

#[test]
fn white_space_costs_no_more_than_its_length() {
    // A reader that looks at all of the run again with each piece would take minutes.
    const PIECES: usize = 20_000;
    let space = " ".repeat(32);
    for format in ToolFormat::ALL {
        let marks = reasoning(format);
        let openers = markers(format).iter().flat_map(|marker| [(*marker).to_owned(), format!("x{marker}")]);
        let heads = ["", "x", marks.begin(), "{", "{\"name\": \"now\", \"parameters\": {}}"].map(str::to_owned);
        let calls = cases(format).into_iter().filter(|case| case.name == "one call").map(|case| case.text);
        for head in heads.into_iter().chain(openers).chain(calls) {
            let whole = parse(&options(format, &cases(format)[0]), [head.as_str(), space.as_str()]);
            let run = std::iter::once(head.as_str()).chain(std::iter::repeat_n(space.as_str(), PIECES));
            let answer = parse(&options(format, &cases(format)[0]), run);
            assert_eq!(answer.calls.len(), whole.calls.len(), "{format:?}, {head}");
            assert_eq!(answer.reasoning, whole.reasoning, "{format:?}, {head}");
            assert!(answer.content.trim_end() == whole.content.trim_end(), "{format:?}, {head}");
        }
    }
}

proptest! {
    #[test]
    fn any_cutting_gives_the_result_of_the_whole(
        format in prop::sample::select(&ToolFormat::ALL),
        which in 0_usize..100,
        places in prop::collection::vec(0_usize..400, 0..12),
    ) {
        let cases = cases(format);
        let case = &cases[which % cases.len()];
        let options = options(format, case);
        let pieces = cut(&case.text, &places);
        let joined = parse(&options, pieces.iter().map(String::as_str));
        prop_assert_eq!(joined, parse(&options, [case.text.as_str()]));
    }

    /// Whatever a model writes, markers in any order included: nothing panics and no cut matters.
    #[test]
    fn nonsense_is_survived_and_means_the_same_in_pieces(
        format in prop::sample::select(&ToolFormat::ALL),
        policy in prop::sample::select(&["", "one", "none"]),
        start in prop::sample::select(&["", "inside", "after"]),
        words in prop::collection::vec(0_usize..40, 0..14),
        places in prop::collection::vec(0_usize..300, 0..8),
    ) {
        let common = ["{", "}", "[", "]", "\"", ":", ", ", "name", "now", "\n", " ", "x", "\"name\": \"now\"", "{}", "é",
            "\"arguments\": ", "\"parameters\": ", "null", "function", "```json\n", "\">", ">", ":0", "<think>", "</think>"];
        let inner = ["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<|tool_call_begin|>", "<|tool_call_end|>",
            "<|tool_call_argument_begin|>", "<|tool_calls_section_end|>", "<invoke name=\"", "</invoke>", "</parameter>",
            "<parameter=", "<parameter name=\"", "<｜tool▁sep｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"];
        let openers = ["<tool_call>", "</tool_call>", "<minimax:tool_call>", "</minimax:tool_call>", "<function=",
            "<|tool_calls_section_begin|>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "[TOOL_CALLS]", "[ARGS]",
            "[CALL_ID]", "<|python_tag|>", "</function>"];
        let all: Vec<&str> = common.into_iter().chain(inner).chain(openers).collect();
        let text: String = words.iter().enumerate().map(|(i, word)| all[(word * 7 + i * 13) % all.len()]).collect();
        let case = Case { policy: policy.to_owned(), start: start.to_owned(), ..Case::default() };
        let options = options(format, &case);
        let whole = parse(&options, [text.as_str()]);
        let pieces = cut(&text, &places);
        prop_assert_eq!(parse(&options, pieces.iter().map(String::as_str)), whole);
    }

    /// Parts of a family's answers, one behind the other: no cut matters.
    #[test]
    fn broken_answers_mean_the_same_in_pieces(
        format in prop::sample::select(&ToolFormat::ALL),
        policy in prop::sample::select(&["", "one", "none"]),
        start in prop::sample::select(&["", "inside", "after"]),
        parts in prop::collection::vec((0_usize..100, 0_usize..400, 0_usize..400), 1..4),
        places in prop::collection::vec(0_usize..600, 0..8),
    ) {
        let cases = cases(format);
        let part = |&(which, from, to): &(usize, usize, usize)| {
            let text: Vec<char> = cases[which % cases.len()].text.chars().collect();
            let (from, to) = (from % (text.len() + 1), to % (text.len() + 1));
            text[from.min(to)..from.max(to)].iter().collect::<String>()
        };
        let text: String = parts.iter().map(part).collect();
        let case = Case { policy: policy.to_owned(), start: start.to_owned(), ..Case::default() };
        let options = options(format, &case);
        let whole = parse(&options, [text.as_str()]);
        let pieces = cut(&text, &places);
        prop_assert_eq!(parse(&options, pieces.iter().map(String::as_str)), whole.clone(), "{}", text);
        let characters: Vec<String> = text.chars().map(String::from).collect();
        prop_assert_eq!(parse(&options, characters.iter().map(String::as_str)), whole, "{}", text);
    }
}
