use crate::builtin;
use crate::config::ModelsConfig;
use lmx_runtime::checkpoint::{LoadError, Source};
use std::path::{Component, Path};

/// Finds a model by name: the built-in one, else a folder, else a name below `models.directory`, else a repository in
/// the hub cache.
///
/// Whether its files are all there is found by opening it.
///
/// # Errors
/// [`LoadError::ModelNotFound`] with every place that was looked at.
pub fn resolve(name: &str, config: &ModelsConfig) -> Result<Source, LoadError> {
    if name == builtin::ID {
        return Ok(builtin::source());
    }
    let mut looked_in = Vec::new();
    if is_path(name) {
        looked_in.push(name.into());
    }
    if Path::new(name).is_dir() {
        return Ok(Source::Folder(name.into()));
    }
    // A name is never a way out of the folder that it is looked up in.
    let plain = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(directory) = config.directory.as_ref().filter(|_| plain) {
        let folder = directory.join(name);
        if folder.is_dir() {
            return Ok(Source::Folder(folder));
        }
    }
    if plain && config.hub_cache.join(format!("models--{}", name.replace('/', "--"))).is_dir() {
        return Ok(Source::Hub { cache: config.hub_cache.clone(), repo: name.to_owned(), revision: None });
    }
    looked_in.extend(config.directory.clone());
    looked_in.push(config.hub_cache.clone());
    Err(LoadError::ModelNotFound { model: name.to_owned(), looked_in })
}

/// Whether a name can only have been meant as a path.
fn is_path(name: &str) -> bool {
    name.starts_with(['.', '/', '~']) || name.contains('\\') || Path::new(name).is_absolute()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::create_dir_all;

    #[test]
    fn a_name_is_looked_up_as_a_path_then_in_the_models_folder_then_in_the_hub_cache() {
        let root = tempfile::tempdir().unwrap();
        let config = ModelsConfig {
            directory: Some(root.path().join("models")),
            hub_cache: root.path().join("hub"),
            ..ModelsConfig::default()
        };
        for folder in ["models/org/both", "hub/models--org--both", "hub/models--org--cached"] {
            create_dir_all(root.path().join(folder)).unwrap();
        }
        let path = root.path().join("hub/models--org--cached").to_string_lossy().into_owned();

        assert!(matches!(resolve(&path, &config), Ok(Source::Folder(found)) if found == Path::new(&path)));
        assert!(
            matches!(resolve("org/both", &config), Ok(Source::Folder(found)) if found.ends_with("models/org/both"))
        );
        assert!(matches!(resolve("org/cached", &config), Ok(Source::Hub { repo, .. }) if repo == "org/cached"));
    }

    #[test]
    fn a_model_that_is_nowhere_names_every_place() {
        let config =
            ModelsConfig { directory: Some("/models".into()), hub_cache: "/hub".into(), ..ModelsConfig::default() };
        let said = |name| resolve(name, &config).unwrap_err().to_string();

        assert_eq!(said("org/none"), "there is no model `org/none` in /models, /hub");
        assert_eq!(said("./none"), "there is no model `./none` in ./none, /models, /hub");
    }

    #[test]
    fn a_name_does_not_lead_out_of_the_models_folder() {
        let root = tempfile::tempdir().unwrap();
        create_dir_all(root.path().join("secret")).unwrap();
        create_dir_all(root.path().join("models/org")).unwrap();
        let config = ModelsConfig {
            directory: Some(root.path().join("models/org")),
            hub_cache: root.path().into(),
            ..ModelsConfig::default()
        };

        assert_eq!(resolve("../../secret", &config).unwrap_err().outcome(), "model_not_found");
    }
}
