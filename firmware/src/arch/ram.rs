//! From pages of the memory map to bytes.

use ovmf_lite_services::memory::{self, MemoryMap, PAGE_SIZE, PageCount, Placement};
use uefi_raw::table::boot::MemoryType;

/// Allocates memory for `bytes` bytes, whatever is in it. The slice covers whole
/// pages; it is the caller's alone.
pub fn allocate(
    memory: &mut MemoryMap,
    place: Placement,
    ty: MemoryType,
    bytes: usize,
) -> Result<&'static mut [u8], memory::Error> {
    allocate_aligned(memory, place, ty, bytes, PAGE_SIZE)
}

/// As [`allocate`], at a multiple of `alignment` bytes, a power of two.
pub fn allocate_aligned(
    memory: &mut MemoryMap,
    place: Placement,
    ty: MemoryType,
    bytes: usize,
    alignment: u64,
) -> Result<&'static mut [u8], memory::Error> {
    let pages = PageCount::covering(bytes);
    let start = memory.allocate_aligned(place, ty, pages, alignment)?;
    let length = (pages.0 * PAGE_SIZE) as usize;
    let pointer = core::ptr::with_exposed_provenance_mut::<u8>(start.0 as usize);
    // SAFETY: the map gives out RAM that nobody else has, mapped one to one.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, length) })
}
