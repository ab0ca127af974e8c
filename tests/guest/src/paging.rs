//! Page tables of this application's own, for when it plays operating system
//! (Intel SDM volume 3, §4.5): physical memory at its own addresses in pages of
//! 2 MiB, and single pages wherever they are wanted.
//!
//! Refuses five levels, which no firmware sets up here.

use crate::memory::PAGE;
use crate::report::Failure;
use core::arch::asm;
use core::ptr;

const PRESENT_AND_WRITABLE: u64 = 3;
const LARGE: u64 = 1 << 7;
/// Size of a large page in bytes.
const LARGE_PAGE: u64 = 2 << 20;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Page tables in memory that was allocated for them.
pub struct PageTables {
    root: u64,
    next: u64,
    end: u64,
}

impl PageTables {
    /// Empty tables in `pages` pages at `start`, which are theirs from here on.
    pub const fn new(start: u64, pages: usize) -> Self {
        let end = start + pages as u64 * PAGE;
        Self {
            root: start,
            next: start,
            end,
        }
    }

    /// Maps everything below `end` to itself.
    pub fn map_identity(&mut self, end: u64) -> Result<(), Failure> {
        self.root = self.page()?;
        for address in (0..end).step_by(LARGE_PAGE as usize) {
            let slot = self.slot(address, 2)?;
            put(slot, address | LARGE | PRESENT_AND_WRITABLE);
        }
        Ok(())
    }

    /// Maps one page.
    pub fn map(&mut self, address: u64, physical: u64) -> Result<(), Failure> {
        let slot = self.slot(address, 1)?;
        put(slot, physical | PRESENT_AND_WRITABLE);
        Ok(())
    }

    /// Maps one page no more, not even as a part of a large one.
    pub fn unmap(&mut self, address: u64) -> Result<(), Failure> {
        let slot = self.slot(address, 1)?;
        put(slot, 0);
        Ok(())
    }

    /// Makes the processor use these tables as they are now.
    pub fn load(&self) {
        // SAFETY: the code, the stack and the tables themselves are mapped to
        // where they were.
        unsafe { asm!("mov cr3, {}", in(reg) self.root, options(nostack)) };
    }

    fn page(&mut self) -> Result<u64, Failure> {
        if self.next == self.end {
            return Err(Failure::new(format_args!("no room for page tables")));
        }
        let page = self.next;
        self.next += PAGE;
        // SAFETY: memory of these tables, used by nothing so far.
        unsafe { pointer(page).write_bytes(0, (PAGE / 8) as usize) };
        Ok(page)
    }

    /// The entry for an address in the table of a level, 4 being the root.
    fn slot(&mut self, address: u64, level: u32) -> Result<*mut u64, Failure> {
        let index = |level| (address >> (3 + 9 * level)) as usize & 511;
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let slot = pointer(table).wrapping_add(index(above));
            table = self.below(slot)?;
        }
        Ok(pointer(table).wrapping_add(index(level)))
    }

    /// The table behind an entry: the one that is there, the large page in small
    /// ones, or a new one.
    fn below(&mut self, slot: *mut u64) -> Result<u64, Failure> {
        // SAFETY: an entry of these tables.
        let entry = unsafe { slot.read() };
        if entry != 0 && entry & LARGE == 0 {
            return Ok(entry & ADDRESS);
        }
        let table = self.page()?;
        if entry & LARGE != 0 {
            for i in 0..PAGE / 8 {
                let page = (entry & !LARGE) + i * PAGE;
                put(pointer(table).wrapping_add(i as usize), page);
            }
        }
        put(slot, table | PRESENT_AND_WRITABLE);
        Ok(table)
    }
}

fn pointer(address: u64) -> *mut u64 {
    ptr::with_exposed_provenance_mut(address as usize)
}

fn put(slot: *mut u64, entry: u64) {
    // SAFETY: an entry of these tables, which nobody holds a reference to.
    unsafe { slot.write_volatile(entry) };
}
