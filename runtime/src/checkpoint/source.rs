use super::error::{LoadError, MissingFile};
use super::files::{Files, io_error};
use super::shards::expected_shards;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that are part of the program: name and content.
pub type EmbeddedFiles = &'static [(&'static str, &'static [u8])];

/// Where a checkpoint comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A local folder.
    Folder(PathBuf),
    /// A repository in a hub cache, laid out as `models--org--name/{refs,snapshots,blobs}`.
    Hub {
        /// The cache's root: the folder that holds `models--…`.
        cache: PathBuf,
        /// The repository, `org/name`.
        repo: String,
        /// A branch, tag or commit; `None` means `main`.
        revision: Option<String>,
    },
    /// Files inside the program.
    Embedded {
        /// What the model is called.
        id: String,
        /// Its files.
        files: EmbeddedFiles,
    },
}

impl Source {
    /// The model's id as people write it: the repository, the folder's path or the given name.
    pub fn id(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Hub { repo, .. } => repo.clone(),
            Self::Embedded { id, .. } => id.clone(),
        }
    }

    /// What to do about missing files.
    pub(super) fn how_to_complete(&self) -> String {
        match self {
            Self::Hub { repo, .. } => fetch_again(repo),
            Self::Folder(_) => "copy or download these files again".to_owned(),
            Self::Embedded { .. } => "the program was built without them".to_owned(),
        }
    }

    /// Finds the files.
    ///
    /// # Errors
    /// [`LoadError::ModelNotFound`] if there is no such folder or repository, [`LoadError::ModelIncomplete`] if a
    /// repository is there without any complete snapshot.
    pub(super) fn resolve(&self) -> Result<Files, LoadError> {
        match self {
            Self::Embedded { files, .. } => Ok(Files::Embedded(files)),
            Self::Folder(path) if path.is_dir() => Ok(Files::Folder(path.clone())),
            Self::Folder(path) => Err(LoadError::ModelNotFound { model: self.id(), looked_in: vec![path.clone()] }),
            Self::Hub { cache, repo, revision } => hub_snapshot(cache, repo, revision.as_deref()).map(Files::Folder),
        }
    }
}

/// Chooses the snapshot of `repo`: the one its revision points to if that is complete, else the newest complete one.
///
/// Files that are there are used, whatever snapshot they belong to: an unfinished update must not take a working model
/// away.
fn hub_snapshot(cache: &Path, repo: &str, revision: Option<&str>) -> Result<PathBuf, LoadError> {
    let folder = cache.join(format!("models--{}", repo.replace('/', "--")));
    let not_found = || LoadError::ModelNotFound { model: repo.to_owned(), looked_in: vec![folder.clone()] };
    let snapshots = folder.join("snapshots");
    if !snapshots.is_dir() {
        return Err(not_found());
    }

    let wanted = revision.unwrap_or("main");
    let pointed = match std::fs::read_to_string(folder.join("refs").join(wanted)) {
        Ok(commit) => Some(snapshots.join(commit.trim())),
        // A commit can be given itself; its snapshot carries its name.
        Err(_) => Some(snapshots.join(wanted)),
    }
    .filter(|path| path.is_dir());
    if let Some(path) = &pointed
        && missing_files(&Files::Folder(path.clone()))?.is_empty()
    {
        return Ok(path.clone());
    }
    // A revision that was asked for by name is not silently replaced by another.
    if revision.is_some() && pointed.is_none() {
        return Err(not_found());
    }

    let mut newest_first = list_snapshots(&snapshots)?;
    newest_first.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    for (_, path) in &newest_first {
        if missing_files(&Files::Folder(path.clone()))?.is_empty() {
            return Ok(path.clone());
        }
    }
    let best = pointed.or_else(|| newest_first.first().map(|(_, path)| path.clone())).ok_or_else(not_found)?;
    Err(LoadError::ModelIncomplete {
        model: repo.to_owned(),
        missing: missing_files(&Files::Folder(best))?,
        hint: fetch_again(repo),
    })
}

/// What to do about a repository with missing files.
fn fetch_again(repo: &str) -> String {
    format!("`hf download {repo}` fetches what is missing")
}

fn list_snapshots(snapshots: &Path) -> Result<Vec<(SystemTime, PathBuf)>, LoadError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(snapshots).map_err(|source| io_error(snapshots, source))? {
        let entry = entry.map_err(|source| io_error(snapshots, source))?;
        if entry.path().is_dir() {
            let modified = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((modified, entry.path()));
        }
    }
    Ok(found)
}

/// Files that a snapshot needs and does not have; looks at names only.
fn missing_files(files: &Files) -> Result<Vec<MissingFile>, LoadError> {
    let mut missing = Vec::new();
    if !files.has("config.json") {
        missing.push(MissingFile::absent("config.json"));
    }
    let expected = expected_shards(files)?;
    missing.extend(expected.names.iter().filter(|name| !files.has(name)).map(MissingFile::absent));
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn snapshot(cache: &Path, commit: &str, files: &[&str]) {
        let folder = cache.join("models--org--name/snapshots").join(commit);
        fs::create_dir_all(&folder).unwrap();
        for file in files {
            fs::write(folder.join(file), b"{}").unwrap();
        }
    }

    fn point(cache: &Path, revision: &str, commit: &str) {
        let refs = cache.join("models--org--name/refs");
        fs::create_dir_all(&refs).unwrap();
        fs::write(refs.join(revision), commit).unwrap();
    }

    #[test]
    fn a_hub_repository_resolves_to_the_snapshot_its_revision_points_to() {
        let cache = tempfile::tempdir().unwrap();
        snapshot(cache.path(), "aaa", &["config.json", "model.safetensors"]);
        snapshot(cache.path(), "bbb", &["config.json", "model.safetensors"]);
        point(cache.path(), "main", "aaa\n");

        assert!(hub_snapshot(cache.path(), "org/name", None).unwrap().ends_with("aaa"));
        assert!(hub_snapshot(cache.path(), "org/name", Some("bbb")).unwrap().ends_with("bbb"));
    }

    #[test]
    fn without_a_reference_the_newest_complete_snapshot_is_used() {
        let cache = tempfile::tempdir().unwrap();
        snapshot(cache.path(), "done", &["config.json", "model.safetensors"]);
        snapshot(cache.path(), "begun", &["config.json"]);

        assert!(hub_snapshot(cache.path(), "org/name", None).unwrap().ends_with("done"));
    }

    #[test]
    fn an_unfinished_update_does_not_take_the_old_snapshot_away() {
        let cache = tempfile::tempdir().unwrap();
        snapshot(cache.path(), "old", &["config.json", "model.safetensors"]);
        snapshot(cache.path(), "new", &["config.json"]);
        point(cache.path(), "main", "new");

        assert!(hub_snapshot(cache.path(), "org/name", None).unwrap().ends_with("old"));
    }

    #[test]
    fn a_repository_without_a_complete_snapshot_says_what_is_missing() {
        let cache = tempfile::tempdir().unwrap();
        snapshot(cache.path(), "begun", &["config.json"]);

        let error = hub_snapshot(cache.path(), "org/name", None).unwrap_err();

        assert_eq!(error.outcome(), "model_incomplete");
        assert!(error.to_string().contains("model.safetensors is missing"), "{error}");
        assert!(error.to_string().contains("hf download org/name"), "{error}");
    }

    #[test]
    fn an_unknown_repository_is_not_found() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(hub_snapshot(cache.path(), "org/other", None).unwrap_err().outcome(), "model_not_found");
    }
}
