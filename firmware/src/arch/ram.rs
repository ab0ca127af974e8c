//! From physical memory to bytes: pages of the memory map, which are ours alone,
//! and copies of what others left behind.

use super::MAPPED_AT_ENTRY;
use ovmf_lite_services::e820::Region;
use ovmf_lite_services::memory::{self, MemoryMap, PAGE_SIZE, PageCount, PhysAddr, Placement};
use ovmf_lite_services::physical::Physical;
use ovmf_lite_services::pvh::Module;
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

/// Turns the pages of `module`, which are described as boot services data, into
/// pages that were allocated. The module starts inside the first.
pub fn take(memory: &mut MemoryMap, module: &Module) -> Result<&'static mut [u8], memory::Error> {
    let (start, length) = pages(module);
    memory.describe(start, length, MemoryType::CONVENTIONAL)?;
    allocate(
        memory,
        Placement::At(start),
        MemoryType::BOOT_SERVICES_DATA,
        length as usize,
    )
}

/// Keeps everybody away from the pages of `module`, which are free now.
pub fn reserve(memory: &mut MemoryMap, module: &Module) -> Result<(), memory::Error> {
    let (start, length) = pages(module);
    let pages = PageCount(length / PAGE_SIZE);
    memory.allocate(Placement::At(start), MemoryType::BOOT_SERVICES_DATA, pages)?;
    Ok(())
}

/// The pages that `module` lies in: where they start, and their length in bytes.
fn pages(module: &Module) -> (PhysAddr, u64) {
    let start = PhysAddr(module.start).frame();
    let end = PhysAddr(module.start.saturating_add(module.bytes)).frame_up();
    (start.address(), start.pages_until(end).0 * PAGE_SIZE)
}

/// What was in memory before us, below 4 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Found<'r> {
    /// The ranges that may be read; without any, all of them.
    pub regions: Option<&'r [Region]>,
}

impl Physical for Found<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let length = buffer.len() as u64;
        let end = address.checked_add(length)?;
        let mut regions = self.regions.into_iter().flatten();
        let described = regions.any(|region| region.contains(address, length));
        if address == 0 || end > MAPPED_AT_ENTRY || !(described || self.regions.is_none()) {
            return None;
        }
        let source = core::ptr::with_exposed_provenance::<u8>(address as usize);
        // SAFETY: below 4 GiB everything is mapped, and what was there before us
        // is not in anybody's hands: neither is `buffer` there, which is ours.
        unsafe { source.copy_to_nonoverlapping(buffer.as_mut_ptr(), buffer.len()) };
        Some(())
    }
}
