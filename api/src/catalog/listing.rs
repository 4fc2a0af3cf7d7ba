use crate::builtin;
use crate::config::ModelsConfig;
use lmx_runtime::checkpoint::Source;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A model that was found, whole or not.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The name that [`resolve`](super::resolve()) finds it by.
    pub id: String,
    /// Where it was found.
    pub place: Place,
    /// Its folder; none for the built-in model.
    pub path: Option<PathBuf>,
    /// Where to open it.
    pub source: Source,
}

/// Where models are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Part of the program.
    Builtin,
    /// The folder `models.directory`.
    Directory,
    /// The hub cache.
    Hub,
}

impl Place {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Directory => "directory",
            Self::Hub => "hub",
        }
    }
}

/// How deep a model may lie below `models.directory`: `org/name`.
const MAX_DEPTH: usize = 2;

/// All models, the built-in one first, then by place and name. Folders that are not there or cannot be read hold none.
pub fn list(config: &ModelsConfig) -> Vec<Listed> {
    let builtin = Listed { id: builtin::ID.to_owned(), place: Place::Builtin, path: None, source: builtin::source() };
    let mut found = vec![builtin];
    if let Some(directory) = &config.directory {
        scan(directory, "", MAX_DEPTH, &mut found);
    }
    for path in folders(&config.hub_cache) {
        // An organisation's name holds no `--`; a model's may.
        let Some(repo) = name(&path).strip_prefix("models--").map(|repo| repo.replacen("--", "/", 1)) else { continue };
        if found.iter().any(|other| other.id == repo) {
            continue; // the models folder comes first, also when one is asked for by name
        }
        let source = Source::Hub { cache: config.hub_cache.clone(), repo: repo.clone(), revision: None };
        found.push(Listed { id: repo, place: Place::Hub, path: Some(path), source });
    }
    found
}

impl Listed {
    /// Bytes of all its files, each counted once however many links lead to it; 0 for the built-in model, which takes
    /// no place of its own.
    pub fn size_bytes(&self) -> u64 {
        let mut seen = HashSet::new();
        self.path.as_deref().map_or(0, |path| size(path, &mut seen))
    }
}

fn scan(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<Listed>) {
    for path in folders(folder) {
        let id = format!("{prefix}{}", name(&path));
        if is_model(&path) {
            let source = Source::Folder(path.clone());
            found.push(Listed { id, place: Place::Directory, path: Some(path), source });
        } else if depth > 1 {
            scan(&path, &format!("{id}/"), depth - 1, found);
        }
    }
}

/// Whether a folder is meant to be a model, even an unfinished one.
fn is_model(folder: &Path) -> bool {
    let is_part = |path: &PathBuf| {
        path.extension().is_some_and(|kind| kind == "safetensors")
            || path.file_name().is_some_and(|n| n == "config.json")
    };
    entries(folder).iter().any(is_part)
}

/// Folders inside a folder, sorted; hidden ones are not models.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut paths = entries(folder);
    paths.retain(|path| path.is_dir() && !name(path).starts_with('.'));
    paths.sort();
    paths
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn size(path: &Path, seen: &mut HashSet<PathBuf>) -> u64 {
    let Ok(real) = path.canonicalize() else { return 0 };
    if !seen.insert(real) {
        return 0;
    }
    match path.metadata() {
        Ok(meta) if meta.is_dir() => entries(path).iter().map(|path| size(path, seen)).sum(),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"{}").unwrap();
    }

    #[test]
    fn folders_nested_folders_and_hub_repositories_are_found_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "models/plain/config.json",
            "models/org/nested/config.json",
            "models/begun/model-00002-of-00003.safetensors",
            "models/notes/readme.md",
            "models/.hidden/config.json",
            "hub/models--org--na--me/snapshots/abc/config.json",
            "hub/models--org--nested/snapshots/abc/config.json",
            "hub/datasets--org--data/snapshots/abc/config.json",
        ] {
            write(root.path(), file);
        }
        let config = ModelsConfig {
            directory: Some(root.path().join("models")),
            hub_cache: root.path().join("hub"),
            ..ModelsConfig::default()
        };

        let found: Vec<_> = list(&config).iter().map(|m| format!("{} {}", m.place.word(), m.id)).collect();

        assert_eq!(
            found,
            ["builtin builtin", "directory begun", "directory org/nested", "directory plain", "hub org/na--me"]
        );
    }

    #[test]
    fn places_that_are_not_there_hold_no_models() {
        let config = ModelsConfig { hub_cache: "/nowhere".into(), ..ModelsConfig::default() };
        assert!(list(&config).iter().all(|model| model.place == Place::Builtin));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_links_lead_to_is_counted_once() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "models--a--b/blobs/x");
        write(root.path(), "models--a--b/snapshots/1/other");
        let snapshot = root.path().join("models--a--b/snapshots/1");
        std::os::unix::fs::symlink("../../blobs/x", snapshot.join("config.json")).unwrap();
        let config = ModelsConfig { hub_cache: root.path().into(), ..ModelsConfig::default() };

        assert_eq!(list(&config)[1].size_bytes(), 4);
    }
}
