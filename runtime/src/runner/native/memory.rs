use crate::config::HugePages;
use memmap2::{MmapMut, MmapOptions};
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Large memory of zeros, on huge pages where the system has them: with small ones reading it is a fifth slower.
#[derive(Debug)]
pub(super) struct HugeBytes {
    /// `None`: no bytes, which cannot be mapped.
    map: Option<MmapMut>,
}

impl HugeBytes {
    /// # Errors
    /// The system's, if it has no such memory, or no huge pages where they must be.
    pub(super) fn new(len: usize, huge_pages: HugePages) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { map: None });
        }
        let map = MmapOptions::new().len(len).map_anon()?;
        match huge_pages {
            HugePages::Off => {}
            // Advice: a system without huge pages refuses it, and the memory is as good.
            HugePages::Auto => drop(ask_for_huge_pages(&map)),
            HugePages::On => ask_for_huge_pages(&map)
                .map_err(|error| io::Error::new(error.kind(), format!("`compute.huge_pages` is on: {error}")))?,
        }
        Ok(Self { map: Some(map) })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or_default()
    }
}

impl HugeBytes {
    /// The same memory as floats.
    pub(super) fn as_mut_floats(&mut self) -> &mut [f32] {
        // SAFETY: any bytes are floats.
        let (unaligned, floats, rest) = unsafe { self.as_mut_slice().align_to_mut() };
        assert!(unaligned.is_empty() && rest.is_empty(), "memory of whole floats, which begins with a page");
        floats
    }
}

/// Asks for huge pages.
///
/// # Errors
/// If the system gives none.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(map: &MmapMut) -> io::Result<()> {
    map.advise(memmap2::Advice::HugePage)?;
    // A system that is set to give none takes the advice all the same.
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")?;
    if setting.contains("[never]") {
        let message = "/sys/kernel/mm/transparent_hugepage/enabled says never";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: &MmapMut) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system gives none"))
}

/// Elements that the threads of a team read and write in turns.
///
/// Between two meetings an element is either written by one thread, or read by any number of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<T> {
    first: *mut T,
    len: usize,
}

// SAFETY: whoever takes a part vouches that nobody else uses it in another way meanwhile.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The elements must outlive every part that is taken.
    pub(super) fn new(elements: &mut [T]) -> Self {
        Self { first: elements.as_mut_ptr(), len: elements.len() }
    }

    /// Room for elements, which are written before they are read.
    pub(super) fn room(elements: &mut [MaybeUninit<T>]) -> Self {
        Self { first: elements.as_mut_ptr().cast(), len: elements.len() }
    }

    pub(super) fn pointer(&self) -> *mut T {
        self.first
    }

    /// Some of them.
    pub(super) fn some(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        Self { first: self.first.wrapping_add(range.start), len: range.len() }
    }

    /// Where element `at` stands, which begins `len` elements.
    pub(super) fn at(&self, at: usize, len: usize) -> *mut T {
        assert!(at + len <= self.len, "{len} elements from {at} of {}", self.len);
        self.first.wrapping_add(at)
    }

    /// # Safety
    /// Nobody writes these elements until the next meeting.
    pub(super) unsafe fn seen(&self, range: Range<usize>) -> &[T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: inside of the elements; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.first.add(range.start), range.len()) }
    }

    /// # Safety
    /// Nobody else uses these elements until the next meeting.
    #[expect(clippy::mut_from_ref, reason = "the threads of a team divide the elements among themselves")]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: inside of the elements; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}
