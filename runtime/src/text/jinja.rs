//! The template language as transformers sets it up: Jinja2's semantics with a few functions of its own.
//!
//! Source: transformers 5, `utils/chat_template_utils.py`, `_cached_compile_jinja_template`.

use super::py_json;
use chrono::NaiveDateTime;
use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;
use std::borrow::Cow;
use std::fmt::Write;

/// What `raise_exception` was called with: the template refuses these messages.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// An environment without templates.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    env.set_syntax(syntax.build()?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(method);
    env.add_filter("tojson", py_json::tojson);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_function("raise_exception", raise_exception);
    // Where this engine's tests differ from Jinja2's.
    env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    env.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    Ok(env)
}

/// The function `strftime_now(format)` for the time `now`.
pub(super) fn strftime_now(now: NaiveDateTime) -> Value {
    Value::from_function(move |format: &str| -> Result<String, Error> {
        let invalid = || Error::new(ErrorKind::InvalidOperation, format!("`{format}` is not a time format"));
        let items: Vec<Item<'_>> = StrftimeItems::new(format).parse().map_err(|_| invalid())?;
        let mut out = String::new();
        // Formats that need a time zone fail here.
        write!(out, "{}", now.format_with_items(items.iter())).map_err(|_| invalid())?;
        Ok(out)
    })
}

fn raise_exception(message: Value) -> Result<Value, Error> {
    let message = message.to_string();
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refused(message)))
}

/// Python's methods: those of `pycompat` and a few that templates use beyond them.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return pycompat::unknown_method_callback(state, value, name, args) };
    match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.split_once(separator).unwrap_or((text, ""));
            Ok(triple(before, if text.contains(separator) { separator } else { "" }, after))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.rsplit_once(separator).unwrap_or(("", text));
            Ok(triple(before, if text.contains(separator) { separator } else { "" }, after))
        }
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let place =
                text.find(part).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            Ok(Value::from(text[..place].chars().count()))
        }
        "split" => {
            let (separator, limit) = split_options(args)?;
            let limit = limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1);
            let args = [separator.map_or(Value::from(()), Value::from), Value::from(limit)];
            let args = if limit < 0 { &args[..1] } else { &args[..] };
            pycompat::unknown_method_callback(state, value, name, args)
        }
        "rsplit" => {
            let (separator, limit) = split_options(args)?;
            let mut parts: Vec<&str> = match (separator.as_deref(), limit) {
                (Some(separator), Some(limit)) => text.rsplitn(limit.saturating_add(1), separator).collect(),
                (Some(separator), None) => text.rsplit(separator).collect(),
                (None, _) => text.split_whitespace().rev().collect(),
            };
            parts.reverse();
            Ok(parts.into_iter().map(Value::from).collect())
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// The options of `split`, by position or by name: a separator (none: any whitespace) and how often to split.
fn split_options(args: &[Value]) -> Result<(Option<String>, Option<usize>), Error> {
    let (separator, limit, kwargs): (Option<String>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(kwargs.get("sep")?);
    let limit = limit.or(kwargs.get("maxsplit")?);
    kwargs.assert_all_used()?;
    // Python takes any negative number for "as often as possible".
    Ok((separator, limit.and_then(|limit| usize::try_from(limit).ok())))
}

/// The filters `length` and `count`: what is undefined has no length here and the length 0 in Jinja2.
fn length(value: &Value) -> Result<usize, Error> {
    let reason = || format!("a value of type {} has no length", value.kind());
    let len = if value.is_undefined() { Some(0) } else { value.len() };
    len.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, reason()))
}

fn triple(a: &str, b: &str, c: &str) -> Value {
    Value::from(Tuple::from([Value::from(a), Value::from(b), Value::from(c)]))
}

/// Makes `{% generation %}` blocks, which mark what was trained on, blocks of the language that print what they hold
/// and keep their variables to themselves.
pub(super) fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let (mut out, mut rest) = (String::with_capacity(source.len()), source);
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        // `{%- word -%}`: the signs and spaces stay as they are.
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        let word = inner.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let after = &inner[word.len()..];
        let closes = after.trim_start().trim_start_matches(['-', '+']).starts_with("%}");
        let replacement = match word {
            "generation" if closes => "with",
            "endgeneration" if closes => "endwith",
            _ => word,
        };
        out.push_str(&tag[..tag.len() - inner.len()]);
        out.push_str(replacement);
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    fn render(source: &str) -> String {
        environment().unwrap().render_str(&without_generation_tags(source), ()).unwrap()
    }

    #[test]
    fn generation_blocks_print_what_they_hold() {
        let source = "a {%- generation -%} b {% endgeneration %}\nc{# generation #} {{ '{% generation' }}";
        assert_eq!(
            without_generation_tags(source),
            "a {%- with -%} b {% endwith %}\nc{# generation #} {{ '{% generation' }}"
        );
        assert_eq!(render("{% set x = 1 %}[{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}]"), "[21]");
    }

    #[test]
    fn blocks_on_their_own_lines_leave_no_trace() {
        assert_eq!(render("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
    }

    #[test]
    fn values_print_as_python_prints_them() {
        assert_eq!(
            render("{{ true }} {{ none }} {{ 1.0 }} {{ [1, 'a', none] }} {{ {'k': \"it's\"} }}"),
            "True None 1.0 [1, 'a', None] {'k': \"it's\"}"
        );
        assert_eq!(render("{{ missing }}|{{ 'a' ~ 1 ~ true }}|{{ none|string }}"), "|a1True|None");
    }

    #[test]
    fn python_methods_and_slices_work() {
        assert_eq!(render("{{ 'a,b,c'.split(',')[-1] }}{{ [1,2,3][::-1] }}{{ 'abc'[1:] }}"), "c[3, 2, 1]bc");
        assert_eq!(render("{{ 'a.b.c'.rsplit('.', 1) }}{{ 'k=v'.partition('=')[2] }}"), "['a.b', 'c']v");
        assert_eq!(render("{{ 'a-b-c'.split('-', maxsplit=1) }}{{ ' a  b '.split() }}"), "['a', 'b-c']['a', 'b']");
        assert_eq!(render("{{ 'a.b.c'.rsplit('.', maxsplit=1)[0] }}{{ 'héllo'.index('l') }}"), "a.b2");
        assert_eq!(render("{{ missing|length }}{{ 'é'|length }}{{ {'a': 1}.items()|length }}"), "011");
        assert_eq!(render("{{ 'k=v=w'.rpartition('=')[0] }}{{ 'kv'.rpartition('=')[2] }}"), "k=vkv");
        assert_eq!(render("{{ 'xaby'.removeprefix('x').removesuffix('y').startswith('ab') }}"), "True");
        assert_eq!(render("{{ {'items': 1}.items()|list }} {{ {'a': 1}.get('b', 2) }}"), "[('items', 1)] 2");
        assert_eq!(render("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"), "1");
    }

    #[test]
    fn tests_agree_with_jinja2() {
        let kinds = "{% for v in ['s', [1], {'a': 1}, 1, none] %}{{ v is X }} {% endfor %}";
        let of = |test: &str| render(&kinds.replace('X', test));
        assert_eq!(of("iterable"), "True True True False False ");
        assert_eq!(of("sequence"), "True True True False False ");
        assert_eq!(of("mapping"), "False False True False False ");
        assert_eq!(of("string"), "True False False False False ");
    }

    #[test]
    fn the_time_is_the_given_one() {
        let now = NaiveDate::from_ymd_opt(2026, 3, 7).unwrap().and_hms_opt(14, 5, 9).unwrap();
        let context = || Value::from_pairs([("strftime_now", strftime_now(now))]);
        let env = environment().unwrap();
        let text =
            "{% macro m() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}{{ m() }} {{ strftime_now('%-d, %H:%M') }}";
        assert_eq!(env.render_str(text, context()).unwrap(), "07 Mar 2026 7, 14:05");
        assert!(env.render_str("{{ strftime_now('%Q') }}", context()).is_err());
        assert!(env.render_str("{{ strftime_now('%z') }}", context()).is_err());
    }
}
