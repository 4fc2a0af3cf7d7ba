//! From all sources to one configuration.

use super::fit::Fit;
use super::layer::{Layer, Source};
use super::{Config, ConfigError, Effective, Problem, Surroundings, environment, schema};
use serde_json::Value;
use std::path::PathBuf;

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadOptions {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Settings that override all others: path of the key, value as YAML. The last one wins.
    pub settings: Vec<(String, String)>,
}

/// A configuration in force, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that was read, if there is one.
    pub file: Option<PathBuf>,
    /// Weakest first: defaults, file, environment, flags and, for a model, its preset.
    layers: Vec<Layer>,
    around: Surroundings,
}

/// Loads the configuration: defaults, then the file, then the environment, then the flags.
///
/// # Errors
/// [`ConfigError::Unreadable`] if the file is there and cannot be read or was asked for and is not there;
/// [`ConfigError::Problems`] with everything that is wrong, at once.
pub fn load(options: &LoadOptions, around: &Surroundings) -> Result<Loaded, ConfigError> {
    let (mut layers, mut problems) = (vec![defaults(around)], Vec::new());
    let file = around.config_file(options.file.as_deref());
    if let Some(path) = &file {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
        match Layer::from_yaml(&text, path) {
            Ok(layer) => layers.push(layer),
            Err(problem) => problems.push(problem),
        }
    }
    match environment::layer(around.vars.iter()) {
        Ok(layer) => layers.push(layer),
        Err(found) => problems.extend(found),
    }
    let mut flags = Layer::default();
    for (key, value) in &options.settings {
        problems.extend(flags.insert_yaml(key, value, Source::Flag).err());
    }
    layers.push(flags);
    resolve(layers, file, around.clone(), problems)
}

impl Loaded {
    /// The built-in configuration alone.
    pub fn built_in(around: &Surroundings) -> Self {
        resolve(vec![defaults(around)], None, around.clone(), Vec::new()).expect("the defaults have no problems")
    }

    /// The same configuration with one more layer on top, such as a preset's.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with everything that is wrong with it.
    pub fn with(&self, layer: Layer) -> Result<Self, ConfigError> {
        let layers = self.layers.iter().cloned().chain([layer]).collect();
        resolve(layers, self.file.clone(), self.around.clone(), Vec::new())
    }

    /// Each value in force and where it comes from, by key.
    pub fn effective(&self) -> Vec<Effective> {
        let mut all = Layer::default();
        for (key, (value, source)) in self.layers.iter().flat_map(|layer| &layer.values) {
            // An alias takes the place of the empty map that the defaults hold.
            all.values.retain(|above, (value, _)| {
                !(value.as_object().is_some_and(serde_json::Map::is_empty) && key.starts_with(&format!("{above}.")))
            });
            all.values.insert(key.clone(), (value.clone(), source.clone()));
        }
        all.values.into_iter().map(|(key, (value, source))| Effective { key, value, source }).collect()
    }
}

fn defaults(around: &Surroundings) -> Layer {
    let mut layer = Layer::default();
    layer.insert("", to_tree(&Config::default()), Source::Default);
    let (cache, source) = around.hub_cache();
    layer.insert("models.hub_cache", cache.to_string_lossy().into_owned().into(), source);
    layer
}

fn to_tree(config: &Config) -> Value {
    serde_json::to_value(config).expect("a configuration is plain data")
}

fn resolve(
    mut layers: Vec<Layer>,
    file: Option<PathBuf>,
    around: Surroundings,
    mut problems: Vec<Problem>,
) -> Result<Loaded, ConfigError> {
    let mut fit = Fit::<Config>::new(schema(), to_tree(&Config::default()));
    for layer in &mut layers {
        for (key, (value, _)) in &mut layer.values {
            expand_home(key, value, &around);
        }
        problems.extend(fit.apply(layer));
    }
    let loaded = Loaded { config: fit.finish(), file, layers, around };
    problems.extend(loaded.config.problems().into_iter().map(|problem| loaded.locate(problem)));
    if problems.is_empty() { Ok(loaded) } else { Err(ConfigError::Problems(problems)) }
}

/// Keys of `models` are paths, or ids that may be paths.
fn expand_home(key: &str, value: &mut Value, around: &Surroundings) {
    let expand = |value: &mut Value| {
        if let Value::String(text) = value {
            *text = around.expand(text).to_string_lossy().into_owned();
        }
    };
    if key.starts_with("models.") {
        match value {
            Value::Array(list) => list.iter_mut().for_each(expand),
            one => expand(one),
        }
    }
}

impl Loaded {
    /// Says where the value comes from that a check of the whole has found wrong.
    fn locate(&self, problem: Problem) -> Problem {
        let key = problem.key.split('[').next().unwrap_or_default();
        let source = self.layers.iter().rev().find_map(|layer| layer.values.get(key)).map(|(_, source)| source.clone());
        match source {
            Some(source) => problem.at(source),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    struct Fixture {
        folder: tempfile::TempDir,
        around: Surroundings,
        options: LoadOptions,
    }

    fn file(yaml: &str) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lmx.yaml"), yaml).unwrap();
        let around = Surroundings {
            working_dir: folder.path().to_owned(),
            home: Some(PathBuf::from("/home/u")),
            ..Surroundings::default()
        };
        Fixture { folder, around, options: LoadOptions::default() }
    }

    impl Fixture {
        fn env(mut self, name: &str, value: &str) -> Self {
            self.around.vars.insert(name.into(), value.into());
            self
        }

        fn flag(mut self, key: &str, value: &str) -> Self {
            self.options.settings.push((key.into(), value.into()));
            self
        }

        fn load(&self) -> Result<Loaded, ConfigError> {
            load(&self.options, &self.around)
        }

        /// The problems, without the folder's random name.
        fn problems(&self) -> String {
            let folder = format!("{}/", self.folder.path().display());
            self.load().unwrap_err().to_string().replace(&folder, "")
        }
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
        let config = file("server: {host: a, port: 1, keepalive_sec: 1}\n")
            .env("LMX_SERVER__PORT", "2")
            .env("LMX_SERVER__KEEPALIVE_SEC", "2")
            .flag("server.keepalive_sec", "3")
            .load()
            .unwrap()
            .config;

        assert_eq!((config.server.host.as_str(), config.server.port), ("a", 2));
        assert_eq!((config.server.keepalive_sec.get(), config.server.shutdown_grace_sec), (3, 30));
    }

    #[test]
    fn each_value_knows_where_it_comes_from() {
        let loaded = file("server:\n  port: 80\nrouting:\n  aliases:\n    qwen2.5: [m]\n")
            .env("LMX_KV__PREFIX_CACHE", "false")
            .env("HF_HOME", "/hf")
            .flag("scheduler.max_queue", "7")
            .load()
            .unwrap();

        let of = |key: &str| {
            let effective = loaded.effective().into_iter().find(|e| e.key == key).unwrap();
            let source = effective.source.to_string();
            format!("{} {}", effective.value, source.rsplit('/').next().unwrap())
        };
        assert_eq!(of("server.port"), "80 lmx.yaml:2:3");
        assert_eq!(of("server.host"), r#""127.0.0.1" default"#);
        assert_eq!(of("kv.prefix_cache"), "false env LMX_KV__PREFIX_CACHE");
        assert_eq!(of("scheduler.max_queue"), "7 flag");
        assert_eq!(of("routing.aliases.qwen2.5"), r#"["m"] lmx.yaml:5:5"#);
        assert_eq!(of("models.hub_cache"), r#""/hf/hub" env HF_HOME"#);
        assert!(!loaded.effective().iter().any(|e| e.key == "routing.aliases"));
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once_with_its_place() {
        let fixture =
            file("sever:\n  port: 1\nkv:\n  block_tokens: 0\n  memory_fraction: 2\nscheduler:\n  max_queue: many\n")
                .env("LMX_TELEMETRY__LOG__LEVEL", "loud")
                .env("LMX_UNKNOWN", "1")
                .flag("actors.mailbox.engine", "1");

        insta::assert_snapshot!(fixture.problems(), @r#"
        lmx.yaml:4:3: `kv.block_tokens`: invalid value: integer `0`, expected a nonzero usize
        lmx.yaml:7:3: `scheduler.max_queue`: invalid type: string "many", expected usize
        lmx.yaml:2:3: `sever.port`: unknown key, did you mean `server.port`?
        env LMX_TELEMETRY__LOG__LEVEL: `telemetry.log.level`: unknown variant `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`
        env LMX_UNKNOWN: `unknown`: unknown key, known here are server, models, scheduler, compute, kv, memory, routing, telemetry, actors
        lmx.yaml:5:3: `kv.memory_fraction`: 2 lies outside of (0, 0.9]
        flag: `actors.mailbox.engine`: 1 is too few, 2 plans are under way at a time
        "#);
    }

    #[test]
    fn an_empty_section_says_nothing_and_an_empty_value_is_refused() {
        assert_eq!(file("server:\nkv: {}\n").load().unwrap().config, file("").load().unwrap().config);
        assert!(file("server:\n  port:\n").problems().starts_with("lmx.yaml:2:3: `server.port`: invalid type: null"));
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist() {
        let mut fixture = file("");
        fixture.options.file = Some(PathBuf::from("/nowhere/lmx.yaml"));

        assert!(
            matches!(fixture.load(), Err(ConfigError::Unreadable { path, .. }) if path == Path::new("/nowhere/lmx.yaml"))
        );
    }

    #[test]
    fn paths_below_the_home_folder_are_expanded() {
        let models = file("models: {directory: ~/m, auto_load: [~/m/a, org/b]}\n").load().unwrap().config.models;

        assert_eq!(models.directory.as_deref(), Some(Path::new("/home/u/m")));
        assert_eq!(models.auto_load, ["/home/u/m/a", "org/b"]);
        assert_eq!(models.hub_cache, Path::new("/home/u/.cache/huggingface/hub"));
    }

    #[test]
    fn the_schema_of_the_defaults_has_every_key_of_the_defaults() {
        let loaded = Loaded::built_in(&Surroundings::default());

        assert!(loaded.effective().iter().all(|e| e.source == Source::Default));
        assert_eq!(loaded.config.kv, Config::default().kv);
    }
}
