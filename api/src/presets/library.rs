use super::{EffectivePreset, Preset};
use crate::config::{ConfigError, Loaded, Surroundings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The presets that are shipped: file name and text.
const SHIPPED: [(&str, &str); 22] = [
    ("builtin.yaml", include_str!("../../../presets/builtin.yaml")),
    ("code-assistant.yaml", include_str!("../../../presets/code-assistant.yaml")),
    ("devstral.yaml", include_str!("../../../presets/devstral.yaml")),
    ("embedding-bge-large.yaml", include_str!("../../../presets/embedding-bge-large.yaml")),
    ("embedding-gemma.yaml", include_str!("../../../presets/embedding-gemma.yaml")),
    ("embedding-minilm.yaml", include_str!("../../../presets/embedding-minilm.yaml")),
    ("embedding-qwen3.yaml", include_str!("../../../presets/embedding-qwen3.yaml")),
    ("glm-4-flash.yaml", include_str!("../../../presets/glm-4-flash.yaml")),
    ("glm-4.yaml", include_str!("../../../presets/glm-4.yaml")),
    ("glm-5.yaml", include_str!("../../../presets/glm-5.yaml")),
    ("kimi-k2.yaml", include_str!("../../../presets/kimi-k2.yaml")),
    ("llama-3.yaml", include_str!("../../../presets/llama-3.yaml")),
    ("minimax-m2.yaml", include_str!("../../../presets/minimax-m2.yaml")),
    ("mistral.yaml", include_str!("../../../presets/mistral.yaml")),
    ("qwen2.5.yaml", include_str!("../../../presets/qwen2.5.yaml")),
    ("qwen3-coder-next.yaml", include_str!("../../../presets/qwen3-coder-next.yaml")),
    ("qwen3-instruct.yaml", include_str!("../../../presets/qwen3-instruct.yaml")),
    ("qwen3.yaml", include_str!("../../../presets/qwen3.yaml")),
    ("reasoning.yaml", include_str!("../../../presets/reasoning.yaml")),
    ("rerank-bge.yaml", include_str!("../../../presets/rerank-bge.yaml")),
    ("rerank-jina-v3.yaml", include_str!("../../../presets/rerank-jina-v3.yaml")),
    ("rerank-qwen3.yaml", include_str!("../../../presets/rerank-qwen3.yaml")),
];

/// All presets by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Presets {
    presets: BTreeMap<String, Preset>,
}

/// No preset has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset `{name}`, there are {known}")]
pub struct UnknownPreset {
    /// The name that was given.
    pub name: String,
    /// The names that there are.
    pub known: String,
}

impl Presets {
    /// The presets of the binary alone.
    pub fn shipped() -> Self {
        let read = |(file, text): (&str, &str)| {
            let preset = Preset::from_yaml(text, Path::new(file)).expect("a test reads each shipped preset");
            (preset.name.clone(), preset)
        };
        Self { presets: SHIPPED.into_iter().map(read).collect() }
    }

    /// The shipped presets and those of the user's folder, which replace shipped ones of the same name.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] for a file that cannot be read, [`ConfigError::Problems`] with everything that is
    /// wrong in all files.
    pub fn load(around: &Surroundings) -> Result<Self, ConfigError> {
        let mut all = Self::shipped();
        let mut problems = Vec::new();
        for path in yaml_files(around.presets_folder().as_deref())? {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
            match Preset::from_yaml(&text, &path) {
                Ok(preset) => {
                    all.presets.insert(preset.name.clone(), preset);
                }
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(all) } else { Err(ConfigError::Problems(problems)) }
    }

    /// All presets, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Preset> {
        self.presets.values()
    }

    /// The preset of this name.
    ///
    /// # Errors
    /// [`UnknownPreset`] with the names that there are.
    pub fn get(&self, name: &str) -> Result<&Preset, UnknownPreset> {
        self.presets.get(name).ok_or_else(|| UnknownPreset {
            name: name.to_owned(),
            known: self.presets.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// The preset for a model: the one that is named, else the one that fits best; of equals the first by name.
    ///
    /// # Errors
    /// [`UnknownPreset`] if one is named and does not exist.
    pub fn choose(&self, model: &str, named: Option<&str>) -> Result<Option<&Preset>, UnknownPreset> {
        if let Some(name) = named {
            return self.get(name).map(Some);
        }
        let fitting = self.presets.values().rev().filter_map(|preset| Some((preset.fitness(model)?, preset)));
        Ok(fitting.max_by_key(|(fitness, _)| *fitness).map(|(_, preset)| preset))
    }

    /// What holds for a model: the configuration with its preset on top, and each value's source.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] if the preset and the configuration do not go together.
    pub fn resolve(&self, model: &str, named: Option<&str>, global: &Loaded) -> Result<EffectivePreset, ResolveError> {
        let preset = self.choose(model, named)?;
        Ok(EffectivePreset::new(preset, global)?)
    }
}

/// Why there are no values for a model.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Correct the name.
    #[error(transparent)]
    Unknown(#[from] UnknownPreset),
    /// Correct the preset or the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The YAML files of a folder, by name. A folder that does not exist has none.
fn yaml_files(folder: Option<&Path>) -> Result<Vec<PathBuf>, ConfigError> {
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else { return Ok(Vec::new()) };
    let unreadable = |error| ConfigError::Unreadable { path: folder.to_owned(), error };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
    let mut files: Vec<_> = paths.into_iter().filter(is_yaml).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shipped_preset_can_be_read_and_holds_with_the_defaults() {
        for (file, text) in SHIPPED {
            let preset = Preset::from_yaml(text, Path::new(file)).unwrap_or_else(|problems| panic!("{problems:?}"));
            assert_eq!(format!("{}.yaml", preset.name), file);
            assert!(preset.description.is_some());
        }
        let (presets, global) = (Presets::shipped(), Loaded::built_in(&Surroundings::default()));
        for preset in presets.iter() {
            presets.resolve("any", Some(&preset.name), &global).unwrap();
        }
    }

    #[test]
    fn every_preset_of_the_folder_is_shipped() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../presets");

        let files: Vec<_> = yaml_files(Some(&folder)).unwrap();

        let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, SHIPPED.map(|(file, _)| file));
    }

    #[test]
    fn a_named_preset_wins_over_the_one_that_fits() {
        let presets = Presets::shipped();
        let choose = |model, named| presets.choose(model, named).unwrap().map(|preset| preset.name.as_str());

        assert_eq!(choose("Qwen/Qwen3-4B-MLX-4bit", None), Some("qwen3"));
        assert_eq!(choose("Qwen/Qwen3-4B-Instruct-2507", None), Some("qwen3-instruct"));
        assert_eq!(choose("mlx-community/Devstral-Small-4bit", None), Some("devstral"));
        assert_eq!(choose("Qwen/Qwen3-4B", Some("code-assistant")), Some("code-assistant"));
        assert_eq!(choose("mlx-community/MiniMax-M2.1-4bit", None), Some("minimax-m2"));
        assert_eq!(choose("zai-org/GLM-4.6", None), Some("glm-4"));
        assert_eq!(choose("mlx-community/GLM-4.7-Flash-4bit", None), Some("glm-4-flash"));
        assert_eq!(choose("zai-org/GLM-5", None), Some("glm-5"));
        assert_eq!(choose("moonshotai/Kimi-K2.5", None), Some("kimi-k2"));
        assert_eq!(choose("Qwen/Qwen3-Coder-30B-A3B-Instruct", None), Some("qwen3-coder-next"));
        assert_eq!(choose("Qwen/Qwen3-Coder-Next", None), Some("qwen3-coder-next"));
        assert_eq!(choose("org/unknown", None), None);
        assert!(presets.choose("m", Some("qwen")).unwrap_err().to_string().starts_with("there is no preset `qwen`"));
    }

    #[test]
    fn models_that_embed_or_rerank_get_no_preset_for_chats_and_chat_models_none_of_theirs() {
        let presets = Presets::shipped();
        let choose = |model| presets.choose(model, None).unwrap().map(|preset| preset.name.as_str());

        for (model, preset) in [
            ("sentence-transformers/all-MiniLM-L6-v2", "embedding-minilm"),
            ("mlx-community/all-MiniLM-L6-v2-4bit", "embedding-minilm"),
            ("BAAI/bge-large-en-v1.5", "embedding-bge-large"),
            ("google/embeddinggemma-300m", "embedding-gemma"),
            ("Qwen/Qwen3-Embedding-0.6B", "embedding-qwen3"),
            ("mlx-community/Qwen3-Embedding-8B-4bit-DWQ", "embedding-qwen3"),
            ("jinaai/jina-reranker-v3-mlx", "rerank-jina-v3"),
            ("BAAI/bge-reranker-v2-m3", "rerank-bge"),
            ("BAAI/bge-reranker-large", "rerank-bge"),
            ("/models/Qwen3-Reranker-0.6B/", "rerank-qwen3"),
            ("Qwen/Qwen3-8B", "qwen3"),
            ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-instruct"),
        ] {
            assert_eq!(choose(model), Some(preset), "{model}");
        }
        assert_eq!(choose("cross-encoder/ms-marco-MiniLM-L6-v2"), None);
        assert_eq!(choose("google/gemma-3-4b-it"), None);
    }

    #[test]
    fn a_preset_of_the_users_folder_replaces_the_shipped_one() {
        let folder = tempfile::tempdir().unwrap();
        let presets = folder.path().join("lmx/presets");
        std::fs::create_dir_all(&presets).unwrap();
        std::fs::write(presets.join("mine.yaml"), "name: qwen3\nparameters: {temperature: 0.1}\n").unwrap();
        std::fs::write(presets.join("notes.txt"), "no preset").unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        let mut around =
            Surroundings { vars: [("XDG_CONFIG_HOME".to_owned(), home)].into(), ..Surroundings::default() };

        let all = Presets::load(&around).unwrap();

        assert_eq!(all.get("qwen3").unwrap().defaults.parameters.temperature, Some(0.1));
        assert_eq!(all.iter().count(), SHIPPED.len());
        around.vars.clear();
        assert_eq!(Presets::load(&around).unwrap(), Presets::shipped());
    }
}
