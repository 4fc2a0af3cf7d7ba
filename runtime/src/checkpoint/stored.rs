use super::files::Bytes;
use std::ops::{Deref, Range};

/// The bytes of a tensor where the file has them. Keeps the file mapped.
#[derive(Debug, Clone)]
pub struct Stored {
    shard: Bytes,
    range: Range<usize>,
}

impl Stored {
    pub(super) fn new(shard: &Bytes, range: Range<usize>) -> Self {
        Self { shard: shard.clone(), range }
    }

    /// A part of it.
    ///
    /// # Panics
    /// If it has no such bytes.
    #[must_use]
    pub fn slice(&self, part: Range<usize>) -> Self {
        assert!(part.start <= part.end && part.end <= self.range.len(), "bytes {part:?} of {}", self.range.len());
        let first = self.range.start;
        Self { shard: self.shard.clone(), range: first + part.start..first + part.end }
    }

    /// Asks the system to read a part of it from disk soon.
    pub fn will_need(&self, part: Range<usize>) {
        // Advice: without it the bytes are read when they are touched.
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.shard {
            let _ = map.advise_range(memmap2::Advice::WillNeed, self.range.start + part.start, part.len());
        }
    }
}

impl Deref for Stored {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.shard[self.range.clone()]
    }
}
