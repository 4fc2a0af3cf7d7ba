use super::error::LoadError;
use super::source::EmbeddedFiles;
use memmap2::Mmap;
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of one model, wherever they are.
#[derive(Debug, Clone)]
pub(super) enum Files {
    /// In a folder.
    Folder(PathBuf),
    /// Inside the program.
    Embedded(EmbeddedFiles),
}

/// The bytes of a shard: mapped from a file, or part of the program.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

impl Files {
    /// Whether there is a file of this name. A dangling link (an unfinished download of the hub cache) is none.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Embedded(files) => files.iter().any(|(file, _)| *file == name),
        }
    }

    /// Names of the files beside `config.json`, sorted, without those in sub-folders.
    pub(super) fn names(&self) -> Result<Vec<String>, LoadError> {
        self.names_in("")
    }

    /// Names of the files in a sub-folder, sorted, without those deeper in; none if there is no such sub-folder.
    pub(super) fn names_in(&self, sub: &str) -> Result<Vec<String>, LoadError> {
        let mut names: Vec<String> = match self {
            Self::Embedded(files) => {
                let inside = |name: &'static str| match sub {
                    "" => Some(name),
                    _ => name.strip_prefix(sub)?.strip_prefix('/'),
                };
                let names = files.iter().filter_map(|(name, _)| inside(name));
                names.filter(|name| !name.contains('/')).map(str::to_owned).collect()
            }
            Self::Folder(folder) => {
                let folder = folder.join(sub);
                let entries = match std::fs::read_dir(&folder) {
                    Err(error) if !sub.is_empty() && error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                    entries => entries.map_err(|source| io_error(&folder, source))?,
                };
                let mut names = Vec::new();
                for entry in entries {
                    let entry = entry.map_err(|source| io_error(&folder, source))?;
                    if let Ok(name) = entry.file_name().into_string()
                        && entry.path().is_file()
                    {
                        names.push(name);
                    }
                }
                names
            }
        };
        names.sort();
        Ok(names)
    }

    /// Reads a small file; `None` if it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        match self {
            Self::Embedded(files) => {
                Ok(files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(io_error(&path, source)),
                }
            }
        }
    }

    /// Maps a large file into memory; `None` if it is not there.
    pub(super) fn map(&self, name: &str) -> Result<Option<Bytes>, LoadError> {
        match self {
            Self::Embedded(files) => {
                Ok(files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| Bytes::Static(bytes)))
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                let file = match File::open(&path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(source) => return Err(io_error(&path, source)),
                };
                // An empty file cannot be mapped; it is an unfinished one, which the header check reports.
                if file.metadata().map_err(|source| io_error(&path, source))?.len() == 0 {
                    return Ok(Some(Bytes::Static(&[])));
                }
                // SAFETY: the map is only read. Weights are written once, by a download that renames a finished file
                // into place; somebody who truncates a file in use breaks every program that maps it.
                let map = unsafe { Mmap::map(&file) }.map_err(|source| io_error(&path, source))?;
                Ok(Some(Bytes::Mapped(Arc::new(map))))
            }
        }
    }

    /// The folder, if there is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Embedded(_) => None,
        }
    }
}

/// An error of the operating system about `path`.
pub(super) fn io_error(path: &Path, source: io::Error) -> LoadError {
    LoadError::Io { path: path.to_owned(), source }
}
