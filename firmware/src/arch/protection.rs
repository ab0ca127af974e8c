//! What may not be done with memory: flags in the identity map's leaves, whose
//! large pages are split where only a part of one is meant.

use super::ram;
use crate::entry;
use core::sync::atomic::{AtomicUsize, Ordering};
use ovmf_lite_services::boot::ProtectError;
use ovmf_lite_services::memory::{MemoryMap, PAGE_SIZE, Placement};
use uefi_raw::table::boot::{MemoryAttribute, MemoryType};
use x86_64::PhysAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::Cr3;
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags};

/// Most page tables that are made: 1 MiB of them.
const MAX_TABLES: usize = 256;
/// CPUID 0x80000001 EDX: pages that cannot be executed.
const CPUID_NX: u32 = 1 << 20;

static TABLES: AtomicUsize = AtomicUsize::new(0);

/// A leaf of the map, and what it maps, in bytes.
struct Leaf {
    entry: &'static mut PageTableEntry,
    size: u64,
}

impl Leaf {
    /// The leaf that maps `address`, if there is one.
    fn of(address: u64) -> Option<Self> {
        let mut table = Cr3::read().0.start_address();
        let mut size = 1 << 39;
        loop {
            let pointer =
                core::ptr::with_exposed_provenance_mut::<PageTable>(table.as_u64() as usize);
            // SAFETY: the live tables, mapped one to one; the one reference to them
            // is this leaf's, of which there is one at a time.
            let table_ref = unsafe { &mut *pointer };
            let entry = &mut table_ref[(address / size) as usize % 512];
            let large = entry.flags().contains(PageTableFlags::HUGE_PAGE);
            if entry.is_unused() {
                return None;
            }
            if size == PAGE_SIZE || large {
                return Some(Self { entry, size });
            }
            table = entry.addr();
            size /= 512;
        }
    }

    /// What may not be done with it.
    fn attributes(&self) -> MemoryAttribute {
        let flags = self.entry.flags();
        let mut attributes = MemoryAttribute::empty();
        let present = flags.contains(PageTableFlags::PRESENT);
        attributes.set(MemoryAttribute::READ_PROTECT, !present);
        let writable = flags.contains(PageTableFlags::WRITABLE);
        attributes.set(MemoryAttribute::READ_ONLY, !writable);
        let never = flags.contains(PageTableFlags::NO_EXECUTE);
        attributes.set(MemoryAttribute::EXECUTE_PROTECT, never);
        attributes
    }

    fn set(self, attributes: MemoryAttribute) {
        let mut flags = self.entry.flags();
        let forbidden = |attribute| attributes.contains(attribute);
        flags.set(
            PageTableFlags::PRESENT,
            !forbidden(MemoryAttribute::READ_PROTECT),
        );
        flags.set(
            PageTableFlags::WRITABLE,
            !forbidden(MemoryAttribute::READ_ONLY),
        );
        flags.set(
            PageTableFlags::NO_EXECUTE,
            forbidden(MemoryAttribute::EXECUTE_PROTECT),
        );
        self.entry.set_flags(flags);
    }

    /// Replaces the leaf by a table of 512 smaller ones.
    fn split(self, memory: &mut MemoryMap) -> Option<()> {
        if TABLES.load(Ordering::Relaxed) >= MAX_TABLES {
            return None;
        }
        let ty = MemoryType::BOOT_SERVICES_DATA;
        let bytes = ram::allocate(memory, Placement::Any, ty, size_of::<PageTable>()).ok()?;
        TABLES.fetch_add(1, Ordering::Relaxed);
        let size = self.size / 512;
        let mut flags = self.entry.flags();
        flags.set(PageTableFlags::HUGE_PAGE, size > PAGE_SIZE);
        let first = self.entry.addr().as_u64();
        let table = bytes.as_mut_ptr();
        // SAFETY: a page of its own, whole and aligned, and any bytes are a table.
        let entries = unsafe { &mut *table.cast::<PageTable>() };
        for (address, entry) in (first..).step_by(size as usize).zip(entries.iter_mut()) {
            entry.set_addr(PhysAddr::new(address), flags);
        }
        let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        self.entry
            .set_addr(PhysAddr::new(table.addr() as u64), flags);
        Some(())
    }
}

/// Calls `each` with every leaf of a range, until it says no.
fn leaves(start: u64, bytes: u64, mut each: impl FnMut(Leaf) -> bool) -> Option<()> {
    let end = start.checked_add(bytes).filter(|end| *end <= 1 << 47)?;
    let mut address = start;
    while address < end {
        let leaf = Leaf::of(address)?;
        address = (address / leaf.size + 1) * leaf.size;
        if !each(leaf) {
            return None;
        }
    }
    Some(())
}

/// What may not be done with a range; none when that differs, or where there is
/// nothing. See [`ovmf_lite_services::boot::Machine::protection`].
pub fn of(start: u64, bytes: u64) -> Option<MemoryAttribute> {
    let first = Leaf::of(start)?.attributes();
    leaves(start, bytes, |leaf| leaf.attributes() == first)?;
    Some(first)
}

/// See [`ovmf_lite_services::boot::Machine::protect`].
pub fn change(
    memory: &mut MemoryMap,
    start: u64,
    bytes: u64,
    clear: MemoryAttribute,
    set: MemoryAttribute,
) -> Result<(), ProtectError> {
    leaves(start, bytes, |_| true).ok_or(ProtectError::Unmapped)?;
    let end = start + bytes;
    let (own, length) = entry::occupied();
    if start < own + length && own < end {
        return Err(ProtectError::Firmware);
    }
    if set.contains(MemoryAttribute::EXECUTE_PROTECT) {
        allow_no_execute().ok_or(ProtectError::Unmapped)?;
    }
    for boundary in [start, end] {
        while let Some(leaf) = Leaf::of(boundary).filter(|leaf| boundary % leaf.size != 0) {
            leaf.split(memory).ok_or(ProtectError::Full)?;
        }
    }
    leaves(start, bytes, |leaf| {
        let attributes = leaf.attributes().difference(clear).union(set);
        leaf.set(attributes);
        true
    });
    tlb::flush_all();
    Ok(())
}

/// Gives the flag for pages that cannot be executed its meaning.
fn allow_no_execute() -> Option<()> {
    if core::arch::x86_64::__cpuid(0x8000_0001).edx & CPUID_NX == 0 {
        return None;
    }
    // SAFETY: the processor has the flag, and no page table uses its bit yet.
    unsafe { Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE)) };
    Some(())
}
