use super::error::{LoadError, MissingFile};
use super::files::Bytes;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};
use std::ops::Range;

/// A safetensors file: a header length (8 bytes, little endian), a JSON header, and the data it describes.
///
/// Source: the format's description in the `safetensors` repository.
#[derive(Debug)]
pub(super) struct Shard {
    /// Its file name.
    pub(super) name: String,
    /// The whole file.
    pub(super) bytes: Bytes,
}

/// What a shard's header says of one tensor, checked.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub(super) bytes: Range<usize>,
}

/// Why a shard cannot be used.
#[derive(Debug)]
pub(super) enum ShardError {
    /// The file is shorter than its header says: a download that stopped.
    Short(MissingFile),
    /// The file is wrong.
    Invalid(LoadError),
}

/// No real header is longer; a random file could claim anything.
const MAX_HEADER_BYTES: usize = 100_000_000;

impl Shard {
    /// Reads the header and checks every tensor: type, shape, byte length, and that the tensors fill the file without
    /// gap or overlap.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, ShardError> {
        let present = self.bytes.len() as u64;
        let short = |expected: u64| {
            ShardError::Short(MissingFile { name: self.name.clone(), short: Some((present, expected)) })
        };
        let invalid = |reason: String| ShardError::Invalid(LoadError::invalid(&self.name, reason));

        let Some(length) = self.bytes.first_chunk::<8>() else {
            return Err(short(8));
        };
        let header_bytes = usize::try_from(u64::from_le_bytes(*length))
            .ok()
            .filter(|&n| n <= MAX_HEADER_BYTES)
            .ok_or_else(|| invalid(format!("the header claims {} bytes", u64::from_le_bytes(*length))))?;
        let data_start = 8 + header_bytes;
        let Some(header) = self.bytes.get(8..data_start) else {
            return Err(short(data_start as u64));
        };
        let header: Map<String, Value> =
            serde_json::from_slice(header).map_err(|error| invalid(format!("bad header: {error}")))?;

        let mut entries = Vec::with_capacity(header.len());
        for (name, value) in header {
            if name != "__metadata__" {
                entries.push(self.entry(name, value, data_start).map_err(ShardError::Invalid)?);
            }
        }
        entries.sort_by_key(|entry| (entry.bytes.start, entry.bytes.end));
        let mut end = data_start;
        for entry in &entries {
            if entry.bytes.start != end {
                let at = entry.bytes.start - data_start;
                let reason =
                    format!("its data starts at {at} in {}, where {} was expected", self.name, end - data_start);
                return Err(ShardError::Invalid(LoadError::invalid(&entry.name, reason)));
            }
            end = entry.bytes.end;
        }
        match self.bytes.len() {
            present if present < end => Err(short(end as u64)),
            present if present > end => Err(invalid(format!("{} bytes follow the last tensor", present - end))),
            _ => Ok(entries),
        }
    }

    /// Checks one line of the header by itself.
    fn entry(&self, name: String, value: Value, data_start: usize) -> Result<Entry, LoadError> {
        let info: TensorInfo = serde_json::from_value(value)
            .map_err(|error| LoadError::invalid(&name, format!("bad header in {}: {error}", self.name)))?;
        let (start, end) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, &n| bits.checked_mul(n));
        let (Some(bits), Some(length), Some(file_start), Some(file_end)) =
            (bits, end.checked_sub(start), data_start.checked_add(start), data_start.checked_add(end))
        else {
            return Err(LoadError::invalid(name, format!("impossible offsets {start}..{end} in {}", self.name)));
        };
        if length.checked_mul(8) != Some(bits) {
            let reason =
                format!("{:?} {:?} takes {} bytes, {} has {length}", info.dtype, info.shape, bits / 8, self.name);
            return Err(LoadError::invalid(name, reason));
        }
        Ok(Entry { name, dtype: info.dtype, shape: info.shape, bytes: file_start..file_end })
    }
}
