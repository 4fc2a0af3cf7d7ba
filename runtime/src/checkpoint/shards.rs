use super::error::LoadError;
use super::files::Files;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The name of the file that says which tensor is in which shard.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The shards a checkpoint consists of.
#[derive(Debug, Default)]
pub(super) struct ExpectedShards {
    /// File names, sorted. Never empty: a folder without weights expects `model.safetensors`.
    pub(super) names: Vec<String>,
    /// Tensor to shard, if there is an index.
    pub(super) placement: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Which shards there should be: those of the index, else those that the names of the present ones imply.
pub(super) fn expected_shards(files: &Files) -> Result<ExpectedShards, LoadError> {
    if let Some(bytes) = files.read(INDEX_FILE)? {
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|error| LoadError::invalid(INDEX_FILE, error.to_string()))?;
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
            return Err(LoadError::invalid(INDEX_FILE, format!("the shard `{name}` lies outside the model's folder")));
        }
        return Ok(ExpectedShards { names: names.into_iter().cloned().collect(), placement: index.weight_map });
    }

    let mut names = BTreeSet::new();
    for name in files.names()? {
        if !name.starts_with("model") || !name.ends_with(".safetensors") {
            continue;
        }
        // Without the index, `model-00002-of-00005.safetensors` still says that there are four more.
        if let Some((stem, digits, count)) = numbered(&name) {
            names.extend((1..=count).map(|i| format!("{stem}-{i:0digits$}-of-{count:0digits$}.safetensors")));
        } else {
            names.insert(name);
        }
    }
    if names.is_empty() {
        names.insert("model.safetensors".to_owned());
    }
    Ok(ExpectedShards { names: names.into_iter().collect(), placement: BTreeMap::new() })
}

/// Splits `stem-00002-of-00005.safetensors` into stem, digits and count.
fn numbered(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = number.len();
    number.parse::<usize>().ok()?;
    let count = count.parse::<usize>().ok()?;
    // A name can claim anything; a checkpoint of more shards than this has never been seen.
    (count <= 10_000).then_some((stem, digits, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_shards_imply_their_siblings() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model-00002-of-00003.safetensors"), b"").unwrap();

        let expected = expected_shards(&Files::Folder(folder.path().to_owned())).unwrap();

        assert_eq!(
            expected.names,
            [
                "model-00001-of-00003.safetensors",
                "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors"
            ]
        );
    }

    #[test]
    fn an_index_that_points_out_of_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(INDEX_FILE), br#"{"weight_map": {"a": "../x.safetensors"}}"#).unwrap();

        let error = expected_shards(&Files::Folder(folder.path().to_owned())).unwrap_err();

        assert!(error.to_string().contains("outside the model's folder"), "{error}");
    }
}
