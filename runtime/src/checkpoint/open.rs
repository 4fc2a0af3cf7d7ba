use super::error::{LoadError, MissingFile};
use super::files::Files;
use super::fingerprint::fingerprint;
use super::shard::{Entry, Shard, ShardError};
use super::shards::{INDEX_FILE, expected_shards};
use super::source::Source;
use super::stored::Stored;
use super::tensor::TensorView;
use safetensors::Dtype;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// A checkpoint whose files are all there and agree with each other. Weights are mapped, not read.
#[derive(Debug)]
pub struct Checkpoint {
    id: String,
    files: Files,
    config: Value,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor is.
#[derive(Debug)]
struct Place {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Checkpoint {
    /// Opens a checkpoint and checks all of it but the values: nothing is allocated for weights.
    ///
    /// # Errors
    /// [`LoadError::ModelNotFound`], [`LoadError::ModelIncomplete`] with every missing or short file at once,
    /// [`LoadError::InvalidCheckpoint`] with the tensor or file, [`LoadError::Io`].
    pub fn open(source: &Source) -> Result<Self, LoadError> {
        let id = source.id();
        let files = source.resolve()?;
        let expected = expected_shards(&files)?;

        let mut missing = Vec::new();
        let config = files.read("config.json")?;
        if config.is_none() {
            missing.push(MissingFile::absent("config.json"));
        }
        let mut shards = Vec::new();
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for name in expected.names {
            let Some(bytes) = files.map(&name)? else {
                missing.push(MissingFile::absent(name));
                continue;
            };
            let shard = Shard { name, bytes };
            match shard.entries() {
                Ok(found) => entries.extend(found.into_iter().map(|entry| (shards.len(), entry))),
                Err(ShardError::Short(file)) => missing.push(file),
                Err(ShardError::Invalid(error)) => return Err(error),
            }
            shards.push(shard);
        }
        let (Some(config), []) = (config, &*missing) else {
            return Err(LoadError::ModelIncomplete { model: id, missing, hint: source.how_to_complete() });
        };
        let config = serde_json::from_slice::<Value>(&config)
            .map_err(|error| LoadError::invalid("config.json", error.to_string()))?;
        if !config.is_object() {
            return Err(LoadError::invalid("config.json", "it holds no JSON object"));
        }

        let mut tensors = BTreeMap::new();
        for (shard, entry) in entries {
            // A tensor that two shards hold is read from the one that the index names.
            if expected.placement.get(&entry.name).is_some_and(|place| *place != shards[shard].name) {
                continue;
            }
            let place = Place { shard, dtype: entry.dtype, shape: entry.shape, bytes: entry.bytes };
            if let Some(other) = tensors.insert(entry.name.clone(), place) {
                let both = format!("both {} and {} hold it", shards[other.shard].name, shards[shard].name);
                return Err(LoadError::invalid(entry.name, both));
            }
        }
        if let Some((name, shard)) = expected.placement.iter().find(|(name, _)| !tensors.contains_key(*name)) {
            let reason = format!("{INDEX_FILE} places it in {shard}, which does not hold it");
            return Err(LoadError::invalid(name, reason));
        }
        Ok(Self { id, files, config, shards, tensors })
    }

    /// Another file of weights of the same model, which belongs to no index: `2_Dense/model.safetensors`, for example;
    /// `None` if it is not there.
    ///
    /// # Errors
    /// [`LoadError::ModelIncomplete`] if it is short, [`LoadError::InvalidCheckpoint`], [`LoadError::Io`].
    pub fn beside(&self, name: &str) -> Result<Option<Self>, LoadError> {
        let Some(bytes) = self.files.map(name)? else { return Ok(None) };
        let shard = Shard { name: name.to_owned(), bytes };
        let entries = shard.entries().map_err(|error| match error {
            ShardError::Short(file) => {
                let hint = "copy or download it again".to_owned();
                LoadError::ModelIncomplete { model: self.id.clone(), missing: vec![file], hint }
            }
            ShardError::Invalid(error) => error,
        })?;
        let place =
            |entry: Entry| (entry.name, Place { shard: 0, dtype: entry.dtype, shape: entry.shape, bytes: entry.bytes });
        let tensors = entries.into_iter().map(place).collect();
        let (id, files, config) = (self.id.clone(), self.files.clone(), self.config.clone());
        Ok(Some(Self { id, files, config, shards: vec![shard], tensors }))
    }

    /// The model's id: repository, folder or built-in name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder that was opened, unless the model is part of the program.
    pub fn path(&self) -> Option<&Path> {
        self.files.folder()
    }

    /// `config.json`, an object.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// All tensor keys, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor, if there is one of this key.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, place) = self.tensors.get_key_value(name)?;
        let data = &self.shards[place.shard].bytes[place.bytes.clone()];
        Some(TensorView { name, dtype: place.dtype, shape: &place.shape, data })
    }

    /// A tensor that has to be there.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if it is not.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, LoadError> {
        self.get(name).ok_or_else(|| no_tensor(name))
    }

    /// The bytes of a tensor that has to be there, to be kept beyond the checkpoint.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if it is not.
    pub fn stored(&self, name: &str) -> Result<Stored, LoadError> {
        let place = self.tensors.get(name).ok_or_else(|| no_tensor(name))?;
        Ok(Stored::new(&self.shards[place.shard].bytes, place.bytes.clone()))
    }

    /// Another file of the model, such as `tokenizer.json`; `None` if it is not there.
    ///
    /// # Errors
    /// [`LoadError::Io`] if it is there and cannot be read.
    pub fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        self.files.read(name)
    }

    /// Whether the model has a file of this name.
    pub fn has_file(&self, name: &str) -> bool {
        self.files.has(name)
    }

    /// Names of the other files in a sub-folder of the model, sorted; none if there is no such sub-folder.
    ///
    /// # Errors
    /// [`LoadError::Io`] if it is there and cannot be read.
    pub fn files_in(&self, folder: &str) -> Result<Vec<String>, LoadError> {
        self.files.names_in(folder)
    }

    /// Bytes of all tensors as they are stored.
    pub fn weights_bytes(&self) -> u64 {
        self.tensors.values().map(|place| place.bytes.len() as u64).sum()
    }

    /// A number that is the same for the same weights everywhere and differs for others; keys the prefix index.
    pub fn fingerprint(&self) -> u64 {
        fingerprint(self)
    }
}

fn no_tensor(name: &str) -> LoadError {
    LoadError::invalid(name, "the checkpoint has no tensor of this name")
}
