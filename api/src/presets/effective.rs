use super::{Formats, Preset};
use crate::config::{Config, ConfigError, Effective, Loaded, Source};
use crate::openai::request::{Parameters, RequestDefaults};
use lmx_runtime::model::SamplingAdvice;
use serde_json::Value;

/// Sections of the configuration that hold for one model; the others hold for the whole server.
const MODEL_SECTIONS: [&str; 4] = ["actors.", "compute.", "kv.", "scheduler."];

/// What holds for one model: built-in values, then the configuration, then the preset. A request comes last.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectivePreset {
    /// The preset, if one fits.
    pub name: Option<String>,
    /// The configuration with the preset on top.
    pub config: Config,
    /// What requests get where they say nothing.
    pub defaults: RequestDefaults,
    /// Chat template in the place of the model's own.
    pub chat_template: Option<String>,
    /// How answers are read.
    pub formats: Formats,
    /// Each value and where it comes from, by key. Null: the sampler's neutral value, or the model's own.
    pub values: Vec<Effective>,
}

impl EffectivePreset {
    pub(super) fn new(preset: Option<&Preset>, global: &Loaded) -> Result<Self, ConfigError> {
        let loaded = match preset {
            Some(preset) => global.with(preset.overrides())?,
            None => global.clone(),
        };
        let mut values: Vec<_> = loaded.effective();
        values.retain(|value| MODEL_SECTIONS.iter().any(|section| value.key.starts_with(section)));
        let defaults = preset.map(|preset| preset.defaults.clone()).unwrap_or_default();
        let chat_template = preset.and_then(|preset| preset.chat_template.clone());
        let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::String);
        let formats = preset.map(|preset| preset.formats).unwrap_or_default();
        let own = [
            ("tool_parser", Value::Null),
            ("reasoning_parser", Value::Null),
            ("chat_template", text(&chat_template)),
            ("chat_template_kwargs", Value::Object(defaults.chat_template_kwargs.clone())),
            ("system_prompt", text(&defaults.system_prompt)),
        ];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(parameters(&defaults.parameters));
        let given = |key: &str| {
            let below = format!("{key}.");
            preset.filter(|preset| preset.values.values.keys().any(|have| have == key || have.starts_with(&below)))
        };
        values.extend(own.map(|(key, value)| match given(&key) {
            Some(preset) => {
                // As the file writes it: through a float of 32 bits, 0.6 would become 0.6000000238418579.
                let value = preset.values.values.get(&key).map_or(value, |(written, _)| written.clone());
                Effective { key, value, source: Source::Preset(preset.name.clone()) }
            }
            None => Effective { key, value, source: Source::Default },
        }));
        let name = preset.map(|preset| preset.name.clone());
        Ok(Self { name, config: loaded.config, defaults, chat_template, formats, values })
    }

    /// Fills the gaps of `parameters` with what the model's own files advise. A value out of range is left out: it would
    /// refuse every request.
    pub fn advise(&mut self, advice: &SamplingAdvice) {
        let SamplingAdvice { temperature, top_p, top_k, min_p, repetition_penalty } = *advice;
        let advised = [
            Parameters { temperature, ..Parameters::default() },
            Parameters { top_p, ..Parameters::default() },
            Parameters { top_k, ..Parameters::default() },
            Parameters { min_p, ..Parameters::default() },
            Parameters { repetition_penalty, ..Parameters::default() },
        ];
        for parameters in advised {
            let one = RequestDefaults { parameters, ..RequestDefaults::default() };
            if let Err(error) = one.check() {
                tracing::warn!(%error, "advice of `generation_config.json` is left out");
                continue;
            }
            self.take_advice(one.parameters);
        }
    }

    fn take_advice(&mut self, advised: Parameters) {
        let own = &mut self.defaults.parameters;
        let floats = [
            ("temperature", &mut own.temperature, advised.temperature),
            ("top_p", &mut own.top_p, advised.top_p),
            ("min_p", &mut own.min_p, advised.min_p),
            ("repetition_penalty", &mut own.repetition_penalty, advised.repetition_penalty),
        ];
        let mut taken = Vec::new();
        for (name, own, advised) in floats {
            if own.is_none() && advised.is_some() {
                *own = advised;
                // As it would be written: through a float of 64 bits, 0.6 would become 0.6000000238418579.
                let value = advised.and_then(|value| serde_json::from_str(&value.to_string()).ok());
                taken.push((name, value.unwrap_or(Value::Null)));
            }
        }
        if own.top_k.is_none() && advised.top_k.is_some() {
            own.top_k = advised.top_k;
            taken.push(("top_k", advised.top_k.into()));
        }
        for (name, value) in taken {
            let key = format!("parameters.{name}");
            if let Some(entry) = self.values.iter_mut().find(|entry| entry.key == key) {
                *entry = Effective { key, value, source: Source::Model };
            }
        }
    }
}

fn parameters(parameters: &Parameters) -> Vec<(String, Value)> {
    let tree = serde_json::to_value(parameters).expect("parameters are plain data");
    let Value::Object(map) = tree else { return Vec::new() };
    map.into_iter().map(|(key, value)| (format!("parameters.{key}"), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layer, Surroundings};
    use serde_json::json;
    use std::path::Path;

    fn global() -> Loaded {
        let mut file = Layer::default();
        file.insert("scheduler.max_queue", json!(7), Source::Flag);
        file.insert("scheduler.max_sequences", json!(32), Source::Flag);
        Loaded::built_in(&Surroundings::default()).with(file).unwrap()
    }

    #[test]
    fn a_preset_wins_over_the_configuration_and_each_value_knows_its_source() {
        let text = "parameters: {temperature: 0.6}\nperformance: {max_concurrent: 4}\nchat_template_kwargs: {a: 1}\n";
        let preset = Preset::from_yaml(text, Path::new("mine.yaml")).unwrap();

        let effective = EffectivePreset::new(Some(&preset), &global()).unwrap();

        let of = |key: &str| {
            let value = effective.values.iter().find(|value| value.key == key).unwrap();
            format!("{} {}", value.value, value.source)
        };
        assert_eq!(effective.config.scheduler.max_sequences.get(), 4);
        assert_eq!(of("scheduler.max_sequences"), "4 preset mine");
        assert_eq!(of("scheduler.max_queue"), "7 flag");
        assert_eq!(of("kv.block_tokens"), "16 default");
        assert_eq!(of("parameters.temperature"), "0.6 preset mine");
        assert_eq!(of("parameters.top_p"), "null default");
        assert_eq!(of("chat_template_kwargs"), r#"{"a":1} preset mine"#);
        assert!(effective.values.iter().all(|value| !value.key.starts_with("server.")));
    }

    #[test]
    fn the_models_own_advice_fills_what_the_preset_leaves_open() {
        let preset = Preset::from_yaml("parameters: {temperature: 0.3}", Path::new("mine.yaml")).unwrap();
        let mut effective = EffectivePreset::new(Some(&preset), &global()).unwrap();

        effective.advise(&SamplingAdvice {
            temperature: Some(0.6),
            top_p: Some(0.95),
            top_k: Some(20),
            min_p: Some(7.0),
            ..SamplingAdvice::default()
        });

        let parameters = &effective.defaults.parameters;
        assert_eq!((parameters.temperature, parameters.top_p, parameters.top_k), (Some(0.3), Some(0.95), Some(20)));
        assert_eq!(parameters.min_p, None, "7 is no share");
        let of = |key: &str| {
            let value = effective.values.iter().find(|value| value.key == key).unwrap();
            format!("{} {}", value.value, value.source)
        };
        assert_eq!(of("parameters.temperature"), "0.3 preset mine");
        assert_eq!(of("parameters.top_p"), "0.95 model");
        assert_eq!(of("parameters.top_k"), "20 model");
        assert_eq!(of("parameters.min_p"), "null default");
    }

    #[test]
    fn bits_of_keys_and_values_come_from_the_preset_then_the_configuration_then_the_default() {
        let mut file = Layer::default();
        file.insert("kv.bits", json!(8), Source::Flag);
        file.insert("kv.group_size", json!(128), Source::Flag);
        let global = global().with(file).unwrap();
        let preset = Preset::from_yaml("performance: {kv_bits: 4}", Path::new("mine.yaml")).unwrap();

        let effective = EffectivePreset::new(Some(&preset), &global).unwrap();

        let shown = effective.values.iter().filter(|value| value.key.starts_with("kv."));
        let shown: Vec<_> = shown.map(|value| format!("{} {} {}", value.key, value.value, value.source)).collect();
        for line in ["kv.bits 4 preset mine", "kv.group_size 128 flag", "kv.quantized_start 0 default"] {
            assert!(shown.iter().any(|shown| shown == line), "{line}: {shown:?}");
        }
        assert_eq!((effective.config.kv.bits, effective.config.kv.group_size), (4, 128));
        let odd = Preset::from_yaml("performance: {kv_bits: 5}", Path::new("mine.yaml")).unwrap();
        let error = EffectivePreset::new(Some(&odd), &global).unwrap_err();
        assert!(error.to_string().contains("5 is none of 4, 8, 16"), "{error}");
    }

    #[test]
    fn without_a_preset_the_configuration_holds() {
        let effective = EffectivePreset::new(None, &global()).unwrap();

        assert_eq!((effective.name, effective.config.scheduler.max_queue), (None, 7));
        assert_eq!(effective.defaults, RequestDefaults::default());
    }

    #[test]
    fn a_preset_that_does_not_go_with_the_configuration_is_refused() {
        let preset = Preset::from_yaml("performance: {max_concurrent: 9999}", Path::new("mine.yaml")).unwrap();

        let error = EffectivePreset::new(Some(&preset), &global()).unwrap_err();

        assert!(error.to_string().contains("9999 sequences"), "{error}");
    }
}
