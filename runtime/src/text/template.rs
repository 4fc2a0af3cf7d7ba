//! Chat templates: messages to the text that the model was trained on.

use super::jinja::{self, Refused};
use super::special::SpecialTokens;
use chrono::NaiveDateTime;
use minijinja::Environment;
use minijinja::value::{Serde, Value as Context};
use serde_json::{Map, Value};

/// Why messages could not be turned into a prompt.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file of the model is damaged: fetch it again.
    #[error("invalid `{file}`: {reason}")]
    Invalid {
        /// `tokenizer_config.json` or `chat_template.json`.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The template is not valid: use another one.
    #[error("invalid chat template `{name}`: {reason}")]
    Syntax {
        /// `default`, `tool_use` or what the model calls it.
        name: String,
        /// What and where.
        reason: String,
    },
    /// The model has only templates with names of its own: choose one of them.
    #[error("no default chat template among {}", .names.join(", "))]
    NoDefault {
        /// What there is.
        names: Vec<String>,
    },
    /// The template itself refuses these messages, in its own words: fix the request.
    #[error("{0}")]
    Refused(String),
    /// The last message cannot be continued: fix the request.
    #[error("the final message cannot be continued: {0}")]
    Continue(&'static str),
    /// The template does not work with these messages.
    #[error("the chat template failed: {0}")]
    Failed(String),
}

/// The files of a model that may hold chat templates.
#[derive(Debug, Clone, Copy, Default)]
pub struct TemplateFiles<'a> {
    /// `tokenizer_config.json`: special tokens, and templates as a string or a list of `{name, template}`.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `chat_template.jinja`: takes the place of both others. A preset's own template comes in here too.
    pub jinja: Option<&'a str>,
    /// `chat_template.json`: takes the place of those in `tokenizer_config.json`.
    pub json: Option<&'a [u8]>,
    /// `additional_chat_templates/{name}.jinja`: name, template.
    pub additional: &'a [(String, String)],
}

/// What a prompt is made of.
#[derive(Debug, Clone, Copy)]
pub struct RenderInput<'a> {
    /// The conversation in OpenAI's form.
    pub messages: &'a [Value],
    /// Functions that the model may call. `Some` chooses the template `tool_use` where there is one.
    pub tools: Option<&'a [Value]>,
    /// Texts to answer from, for the few templates that know them.
    pub documents: Option<&'a [Value]>,
    /// Whether the prompt ends with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends inside the last message, so that the answer continues it.
    pub continue_final_message: bool,
    /// Further variables of the template, such as `enable_thinking`.
    pub kwargs: &'a Map<String, Value>,
    /// What `strftime_now` says.
    pub now: NaiveDateTime,
}

/// The chat templates of one model, ready to use.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    names: Vec<String>,
    /// `bos_token` and the like.
    variables: Map<String, Value>,
}

/// Stands at the end of the message to continue, to be found again in the prompt. The space tells whether the
/// template keeps the end of a message as it is.
const CONTINUE_TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

impl ChatTemplate {
    /// Reads the templates of a model; none if it has none.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] for a damaged file, [`TemplateError::Syntax`] for a template that does not compile.
    pub fn from_files(files: &TemplateFiles<'_>) -> Result<Option<Self>, TemplateError> {
        let config = object("tokenizer_config.json", files.tokenizer_config)?;
        let json = object("chat_template.json", files.json)?;
        let mut sources = match (files.jinja, json.get("chat_template"), config.get("chat_template")) {
            (Some(source), _, _) => vec![("default".to_owned(), source.to_owned())],
            (None, Some(value), _) => named("chat_template.json", value)?,
            (None, None, Some(value)) => named("tokenizer_config.json", value)?,
            (None, None, None) => Vec::new(),
        };
        sources.extend_from_slice(files.additional);
        if sources.is_empty() {
            return Ok(None);
        }
        let syntax = |name: &str, error: minijinja::Error| TemplateError::Syntax {
            name: name.to_owned(),
            reason: error.to_string(),
        };
        let mut env = jinja::environment().map_err(|error| syntax("default", error))?;
        for (name, source) in &sources {
            let source = jinja::without_generation_tags(source).into_owned();
            env.add_template_owned(name.clone(), source).map_err(|error| syntax(name, error))?;
        }
        let names = sources.into_iter().map(|(name, _)| name).collect();
        let variables = SpecialTokens::from_config(&config, |_| None).variables;
        Ok(Some(Self { env, names, variables }))
    }

    /// The names of the templates, `default` for the only one of most models.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether one of the templates holds this text.
    pub fn mentions(&self, text: &str) -> bool {
        self.names.iter().any(|name| self.env.get_template(name).is_ok_and(|found| found.source().contains(text)))
    }

    /// Whether one of the templates reads this variable before it sets it.
    pub fn reads(&self, variable: &str) -> bool {
        let reads = |name: &String| {
            self.env.get_template(name).is_ok_and(|found| found.undeclared_variables(false).contains(variable))
        };
        self.names.iter().any(reads)
    }

    /// Makes a prompt.
    ///
    /// The text already holds the special tokens: encode it without adding them again.
    ///
    /// # Errors
    /// [`TemplateError::Refused`] with the template's own words, [`TemplateError::Continue`] for an impossible
    /// `continue_final_message`, [`TemplateError::NoDefault`], and [`TemplateError::Failed`] for the rest.
    pub fn render(&self, input: &RenderInput<'_>) -> Result<String, TemplateError> {
        let template = self.env.get_template(self.choose(input.tools.is_some())?).map_err(failed)?;
        if !input.continue_final_message {
            return template.render(self.context(input, Context::from(Serde(input.messages)))).map_err(failed);
        }
        if input.add_generation_prompt {
            return Err(TemplateError::Continue("it excludes a generation prompt"));
        }
        let tagged = with_tag(input.messages)?;
        let prompt = template.render(self.context(input, Context::from(Serde(tagged)))).map_err(failed)?;
        let end = prompt
            .rfind(CONTINUE_TAG.trim_end())
            .ok_or(TemplateError::Continue("the chat template does not print its text"))?;
        let kept = &prompt[..end];
        // A template that trims messages has taken the space of the tag, so it would take those of the message.
        Ok(if prompt[end..].starts_with(CONTINUE_TAG) { kept } else { kept.trim_end() }.to_owned())
    }

    fn choose(&self, with_tools: bool) -> Result<&str, TemplateError> {
        let named = |wanted: &str| self.names.iter().find(|name| *name == wanted).map(String::as_str);
        let tool_use = if with_tools { named("tool_use") } else { None };
        tool_use.or_else(|| named("default")).ok_or_else(|| TemplateError::NoDefault { names: self.names.clone() })
    }

    fn context(&self, input: &RenderInput<'_>, messages: Context) -> Context {
        let json = |(name, value): (&String, &Value)| (name.clone(), Context::from(Serde(value)));
        let list = |list: Option<&[Value]>| list.map_or(Context::from(()), |list| Context::from(Serde(list)));
        // Later entries win: a request may set a special token, but not what the prompt is made of.
        let own = [
            ("messages", messages),
            ("tools", list(input.tools)),
            ("documents", list(input.documents)),
            ("add_generation_prompt", Context::from(input.add_generation_prompt)),
            ("strftime_now", jinja::strftime_now(input.now)),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        Context::from_pairs(self.variables.iter().map(json).chain(input.kwargs.iter().map(json)).chain(own))
    }
}

fn object(file: &'static str, json: Option<&[u8]>) -> Result<Map<String, Value>, TemplateError> {
    let invalid = |error: serde_json::Error| TemplateError::Invalid { file, reason: error.to_string() };
    json.map_or(Ok(Map::new()), |json| serde_json::from_slice(json).map_err(invalid))
}

/// The templates of a `chat_template` entry: a string, or a list of `{name, template}`.
fn named(file: &'static str, value: &Value) -> Result<Vec<(String, String)>, TemplateError> {
    let invalid = || TemplateError::Invalid {
        file,
        reason: "`chat_template` is neither a string nor a list of `name` and `template`".into(),
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(source) => Ok(vec![("default".into(), source.clone())]),
        Value::Array(list) => {
            let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            list.iter().map(|entry| text(entry, "name").zip(text(entry, "template")).ok_or_else(invalid)).collect()
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(invalid()),
    }
}

/// The messages with the tag behind the text of the last one: its content, or the last text part of it.
fn with_tag(messages: &[Value]) -> Result<Vec<Value>, TemplateError> {
    let mut messages = messages.to_vec();
    let content = messages.last_mut().and_then(|message| message.get_mut("content"));
    let text = match content {
        Some(Value::Array(parts)) => parts.iter_mut().rev().find_map(|part| part.get_mut("text")),
        other => other,
    };
    match text {
        Some(Value::String(text)) => text.push_str(CONTINUE_TAG),
        _ => return Err(TemplateError::Continue("it has no text")),
    }
    Ok(messages)
}

fn failed(error: minijinja::Error) -> TemplateError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(Refused(message)) = cause.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        source = cause.source();
    }
    TemplateError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;
    use serde_json::json;

    fn template(source: &str) -> ChatTemplate {
        let files = TemplateFiles { jinja: Some(source), ..TemplateFiles::default() };
        ChatTemplate::from_files(&files).unwrap().unwrap()
    }

    fn input<'a>(messages: &'a [Value], kwargs: &'a Map<String, Value>) -> RenderInput<'a> {
        let now = NaiveDate::from_ymd_opt(2026, 3, 7).unwrap().and_hms_opt(12, 0, 0).unwrap();
        RenderInput {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt: false,
            continue_final_message: false,
            kwargs,
            now,
        }
    }

    const PLAIN: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}";
    const TRIMMED: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}</>{% endfor %}";

    #[test]
    fn the_jinja_file_takes_the_place_of_the_others() {
        let config = json!({"chat_template": "config {{ bos_token }}", "bos_token": {"content": "<s>"}}).to_string();
        let json = json!({"chat_template": "json {{ bos_token }}"}).to_string();
        let mut files = TemplateFiles { tokenizer_config: Some(config.as_bytes()), ..TemplateFiles::default() };
        let kwargs = Map::new();
        let render = |files: &TemplateFiles<'_>| {
            ChatTemplate::from_files(files).unwrap().unwrap().render(&input(&[], &kwargs)).unwrap()
        };

        assert_eq!(render(&files), "config <s>");
        assert!(ChatTemplate::from_files(&files).unwrap().unwrap().mentions("{ bos"));
        assert!(!ChatTemplate::from_files(&files).unwrap().unwrap().mentions("<s>"));
        assert!(ChatTemplate::from_files(&files).unwrap().unwrap().reads("bos_token"));
        assert!(!ChatTemplate::from_files(&files).unwrap().unwrap().reads("config"));
        files.json = Some(json.as_bytes());
        assert_eq!(render(&files), "json <s>");
        files.jinja = Some("file {{ bos_token }}");
        assert_eq!(render(&files), "file <s>");
        assert!(ChatTemplate::from_files(&TemplateFiles::default()).unwrap().is_none());
    }

    #[test]
    fn tools_choose_the_template_made_for_them() {
        let list = json!({"chat_template": [
            {"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools|length }} tools"}]});
        let config = list.to_string();
        let files = TemplateFiles { tokenizer_config: Some(config.as_bytes()), ..TemplateFiles::default() };
        let template = ChatTemplate::from_files(&files).unwrap().unwrap();
        let (kwargs, tools) = (Map::new(), [json!({})]);

        assert_eq!(template.render(&input(&[], &kwargs)).unwrap(), "plain");
        assert_eq!(template.render(&RenderInput { tools: Some(&tools), ..input(&[], &kwargs) }).unwrap(), "1 tools");
    }

    #[test]
    fn a_model_without_a_default_template_says_which_it_has() {
        let additional = [("rag".to_owned(), String::new()), ("code".to_owned(), String::new())];
        let files = TemplateFiles { additional: &additional, ..TemplateFiles::default() };
        let error = ChatTemplate::from_files(&files).unwrap().unwrap().render(&input(&[], &Map::new())).unwrap_err();
        assert_eq!(error.to_string(), "no default chat template among rag, code");
    }

    #[test]
    fn a_refusal_comes_out_in_the_words_of_the_template() {
        let source = "{% macro m() %}{{ raise_exception('roles must ' ~ 'alternate') }}{% endmacro %}{{ m() }}";
        let error = template(source).render(&input(&[], &Map::new())).unwrap_err();
        assert!(matches!(&error, TemplateError::Refused(_)), "{error:?}");
        assert_eq!(error.to_string(), "roles must alternate");
    }

    #[test]
    fn a_template_that_does_not_compile_is_named() {
        let files = TemplateFiles { jinja: Some("{% if %}"), ..TemplateFiles::default() };
        let error = ChatTemplate::from_files(&files).unwrap_err();
        assert!(matches!(&error, TemplateError::Syntax { name, .. } if name == "default"), "{error:?}");
    }

    #[test]
    fn the_final_message_is_continued_where_it_ends() {
        let messages = [json!({"role": "user", "content": "hi"}), json!({"role": "assistant", "content": "Well, "})];
        let kwargs = Map::new();
        let input = RenderInput { continue_final_message: true, ..input(&messages, &kwargs) };

        assert_eq!(template(PLAIN).render(&input).unwrap(), "<user>hi</><assistant>Well, ");
        assert_eq!(template(TRIMMED).render(&input).unwrap(), "<user>hi</><assistant>Well,");
        let both = RenderInput { add_generation_prompt: true, ..input };
        assert!(matches!(template(PLAIN).render(&both), Err(TemplateError::Continue(_))));
        assert!(matches!(template("nothing").render(&input), Err(TemplateError::Continue(_))));
        assert!(matches!(
            template(PLAIN).render(&RenderInput { messages: &[], ..input }),
            Err(TemplateError::Continue(_))
        ));
    }

    #[test]
    fn variables_of_the_request_reach_the_template_but_not_its_own() {
        let kwargs = json!({"enable_thinking": false, "messages": "no", "bos_token": "<x>"});
        let messages = [json!({"role": "user", "content": null, "name": "x"})];
        let source = "{{ enable_thinking }} {{ bos_token }} {{ messages[0].content is none }} {{ tools is none }}";
        let text = template(source).render(&input(&messages, kwargs.as_object().unwrap())).unwrap();
        assert_eq!(text, "False <x> True True");
    }
}
