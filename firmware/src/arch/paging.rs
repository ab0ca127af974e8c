//! The identity map: every byte of RAM at its own address, readable, writable
//! and executable.
//!
//! The entry code maps the first 4 GiB. Kernels are handed memory above it as
//! well (Linux picks a random place for itself anywhere in conventional
//! memory), so the rest of RAM is added here. The tables stay in use until the
//! kernel loads its own, after ExitBootServices.

use super::{MAPPED_AT_ENTRY, ram};
use ovmf_lite_services::memory::{self, MemoryMap, Placement};
use uefi_raw::table::boot::MemoryType;
use x86_64::PhysAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags};

const GIB: u64 = 1 << 30;
const MIB2: u64 = 2 << 20;
/// Four-level paging reaches this far with one address space half.
const LIMIT: u64 = 1 << 47;
/// CPUID 0x80000001 EDX: 1 GiB pages.
const CPUID_1GIB_PAGES: u32 = 1 << 26;

const TABLE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);
const LEAF: PageTableFlags = TABLE.union(PageTableFlags::HUGE_PAGE);

/// Maps RAM above 4 GiB, up to the end of the last RAM range in `memory`.
pub fn map_ram(memory: &mut MemoryMap) -> Result<(), memory::Error> {
    let ram_end = memory.ram().map(|range| range.end.0).max();
    let end = ram_end.unwrap_or_default().min(LIMIT);
    let large = has_1gib_pages();
    for address in (MAPPED_AT_ENTRY..end).step_by(GIB as usize) {
        map_gib(memory, address, large)?;
    }
    tlb::flush_all();
    Ok(())
}

fn has_1gib_pages() -> bool {
    let extended = core::arch::x86_64::__cpuid(0x8000_0000).eax;
    extended >= 0x8000_0001 && core::arch::x86_64::__cpuid(0x8000_0001).edx & CPUID_1GIB_PAGES != 0
}

/// Maps one GiB at `address`, a multiple of its size.
fn map_gib(memory: &mut MemoryMap, address: u64, large: bool) -> Result<(), memory::Error> {
    let root = Cr3::read().0.start_address().as_u64() as usize;
    // SAFETY: the live PML4, mapped one to one; nothing else refers to it.
    let pml4 = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<PageTable>(root) };
    let pdpt = next_table(memory, &mut pml4[(address >> 39) as usize & 511])?;
    let entry = &mut pdpt[(address >> 30) as usize & 511];
    if large {
        entry.set_addr(PhysAddr::new(address), LEAF);
        return Ok(());
    }
    let directory = next_table(memory, entry)?;
    for (page, entry) in (address..).step_by(MIB2 as usize).zip(directory.iter_mut()) {
        entry.set_addr(PhysAddr::new(page), LEAF);
    }
    Ok(())
}

/// The table an entry points to, made empty first when there is none.
fn next_table<'a>(
    memory: &mut MemoryMap,
    entry: &'a mut PageTableEntry,
) -> Result<&'a mut PageTable, memory::Error> {
    if entry.is_unused() {
        let table = ram::allocate(
            memory,
            Placement::Any,
            MemoryType::BOOT_SERVICES_DATA,
            size_of::<PageTable>(),
        )?;
        table.fill(0);
        entry.set_addr(PhysAddr::new(table.as_ptr().addr() as u64), TABLE);
    }
    let address = entry.addr().as_u64() as usize;
    // SAFETY: tables are mapped one to one, and each is reached through the one
    // entry that is mutably borrowed here.
    Ok(unsafe { &mut *core::ptr::with_exposed_provenance_mut::<PageTable>(address) })
}
