//! The buffers of AllocatePool and FreePool (UEFI 2.11 §7.2.4-7.2.5).
//!
//! Promises: buffers are 16-byte aligned, twice what the specification asks
//! for. Pages are taken in chunks, one memory type each, so that a buffer adds
//! few descriptors to the memory map: Linux 6.6 and older have room for eight
//! more between two calls of GetMemoryMap. The last buffer of a chunk to go
//! returns its pages.
//!
//! Refuses: to free anything but the exact address of a live buffer.

use alloc::vec::Vec;
use core::ops::Range;

use uefi_raw::table::boot::MemoryType;

use super::{Error, MemoryMap, PAGE_SHIFT, PAGE_SIZE, PageCount, PhysAddr, Placement};

/// Most buffers at any one time: 16 bytes each of the firmware's heap.
const BUFFER_LIMIT: usize = 4096;

/// Start and size of every buffer are multiples of this many bytes.
const GRANULE: usize = 16;
/// [`PAGE_SIZE`] among sizes of buffers, which are `UINTN`.
const PAGE: usize = 1 << PAGE_SHIFT;

/// Pages taken at once for types that the operating system gets back.
const CHUNK_PAGES: PageCount = PageCount(4);

/// The buffers in use, and the pages they are in.
#[derive(Debug, Default)]
pub struct Pool {
    chunks: Vec<Chunk>,
}

/// Pages of one type, divided into buffers.
#[derive(Debug)]
struct Chunk {
    ty: MemoryType,
    bytes: Range<u64>,
    /// Sorted, apart from each other, inside `bytes`; never empty in a pool.
    buffers: Vec<Range<u64>>,
}

impl Chunk {
    /// Takes the lowest gap of at least `size` bytes.
    fn allocate(&mut self, size: usize) -> Option<PhysAddr> {
        let mut start = self.bytes.start;
        let mut index = 0_usize;
        let end = loop {
            let end = start.checked_add(size as u64)?;
            match self.buffers.get(index) {
                Some(next) if next.start < end => start = next.end,
                None if self.bytes.end < end => return None,
                _ => break end,
            }
            index = index.saturating_add(1);
        };
        self.buffers.try_reserve(1).ok()?;
        self.buffers.insert(index, start..end);
        Some(PhysAddr(start))
    }

    fn index_of(&self, start: PhysAddr) -> Option<usize> {
        self.buffers
            .binary_search_by_key(&start.0, |b| b.start)
            .ok()
    }

    /// Gives all pages back.
    fn release(&self, map: &mut MemoryMap) -> Result<(), Error> {
        let start = PhysAddr(self.bytes.start);
        let end = PhysAddr(self.bytes.end).frame();
        map.free(start, start.frame().pages_until(end))
    }
}

/// Pages to take at once. Types that are lost to the operating system, or that
/// only the guest knows, come one by one.
const fn chunk_pages(ty: MemoryType) -> PageCount {
    match ty {
        MemoryType::LOADER_CODE
        | MemoryType::LOADER_DATA
        | MemoryType::BOOT_SERVICES_CODE
        | MemoryType::BOOT_SERVICES_DATA => CHUNK_PAGES,
        _ => PageCount(1),
    }
}

/// What a request for `bytes` takes up. A request for nothing still gets an
/// address of its own, like in EDK2. One larger than a chunk fills its pages
/// wholly: a small buffer that outlives it must not keep them all.
fn buffer_size(ty: MemoryType, bytes: usize) -> Option<usize> {
    if PageCount::covering(bytes) > chunk_pages(ty) {
        return bytes.checked_next_multiple_of(PAGE);
    }
    bytes.max(1).checked_next_multiple_of(GRANULE)
}

impl Pool {
    /// A pool without buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// AllocatePool: a buffer of at least `bytes` bytes, 16-byte aligned.
    ///
    /// # Errors
    /// [`Error::Type`], [`Error::TooLarge`], [`Error::NoSpace`];
    /// [`Error::Bookkeeping`] when there are too many buffers or regions.
    pub fn allocate(
        &mut self,
        map: &mut MemoryMap,
        ty: MemoryType,
        bytes: usize,
    ) -> Result<PhysAddr, Error> {
        let size = buffer_size(ty, bytes).ok_or(Error::TooLarge(bytes))?;
        if self.buffer_count() >= BUFFER_LIMIT {
            return Err(Error::Bookkeeping);
        }
        let mut same_type = self.chunks.iter_mut().filter(|c| c.ty == ty);
        match same_type.find_map(|c| c.allocate(size)) {
            Some(start) => Ok(start),
            None => self.grow(map, ty, size),
        }
    }

    /// FreePool: forgets the buffer at `start`, and its chunk with the last one.
    ///
    /// # Errors
    /// [`Error::NotInPool`]; what [`MemoryMap::free`] says when the chunk's
    /// pages have been freed behind the pool's back.
    pub fn free(&mut self, map: &mut MemoryMap, start: PhysAddr) -> Result<(), Error> {
        let (index, chunk, buffer) = self
            .chunks
            .iter_mut()
            .enumerate()
            .find_map(|(index, c)| c.index_of(start).map(|buffer| (index, c, buffer)))
            .ok_or(Error::NotInPool(start))?;
        if chunk.buffers.len() > 1 {
            chunk.buffers.remove(buffer);
            return Ok(());
        }
        chunk.release(map)?;
        self.chunks.swap_remove(index);
        Ok(())
    }

    fn buffer_count(&self) -> usize {
        self.chunks.iter().map(|c| c.buffers.len()).sum()
    }

    /// Takes a new chunk and from it a buffer of `size` bytes.
    fn grow(
        &mut self,
        map: &mut MemoryMap,
        ty: MemoryType,
        size: usize,
    ) -> Result<PhysAddr, Error> {
        let full = |_| Error::Bookkeeping;
        let mut buffers = Vec::new();
        buffers.try_reserve(1).map_err(full)?;
        self.chunks.try_reserve(1).map_err(full)?;

        let pages = PageCount::covering(size).max(chunk_pages(ty));
        let start = map.allocate(Placement::Any, ty, pages)?;
        let buffer_end = start.0.saturating_add(size as u64);
        buffers.push(start.0..buffer_end);
        let bytes = start.0..start.0.saturating_add(pages.0.saturating_mul(PAGE_SIZE));
        self.chunks.push(Chunk { ty, bytes, buffers });
        Ok(start)
    }
}

#[cfg(test)]
mod tests;
