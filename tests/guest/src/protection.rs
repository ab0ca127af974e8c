//! What may be done with memory (UEFI 2.11 §37.7). With `violate=write`,
//! `violate=read` or `violate=execute` in the load options it does what it may
//! not, which has to end in a page fault.

use crate::calls::Guest;
use crate::images::has_option;
use crate::report::{Area, Failure, Outcome, equal, status, success};
use crate::{output, ports, tables};
use core::mem::transmute;
use core::ptr;
use r_efi::efi::protocols::memory_attribute::{self, Protocol};
use r_efi::efi::{self, MEMORY_RO, MEMORY_RP, MEMORY_XP, Status};

pub const AREA: Area = Area {
    name: "37.7 EFI_MEMORY_ATTRIBUTE_PROTOCOL",
    checks: &[
        ("37.7.1 everything may be done at first", at_first),
        ("37.7.2 what is set is got, and of no neighbour", set),
        ("37.7.3 what is cleared is gone", cleared),
        ("37.7.1 pages that differ have no attributes", differ),
        ("37.7 wrong parameters", wrong_parameters),
        ("37.7 large ranges are split where they have to be", large),
        ("7.2.2 freed pages are as they were", freed),
    ],
};

const PAGE: u64 = 4096;

/// The protocol, and some pages in a row to try it on.
struct Pages {
    protocol: *mut Protocol,
    start: u64,
    count: usize,
}

impl Pages {
    /// None where the firmware is another one's, which may do without.
    fn new(guest: &Guest, count: usize) -> Result<Option<Self>, Failure> {
        let mut interface = ptr::null_mut();
        let guid = &memory_attribute::PROTOCOL_GUID;
        match guest.locate_protocol(guid, ptr::null_mut(), &mut interface) {
            Status::NOT_FOUND if !tables::is_ours(guest) => return Ok(None),
            found => success("LocateProtocol", found)?,
        }
        let mut start = 0;
        let (any, ty) = (efi::ALLOCATE_ANY_PAGES, efi::LOADER_DATA);
        success(
            "AllocatePages",
            guest.allocate_pages(any, ty, count, &mut start),
        )?;
        let protocol = interface.cast();
        Ok(Some(Self {
            protocol,
            start,
            count,
        }))
    }

    /// Does `check` with pages where the protocol is there.
    fn with(guest: &Guest, count: usize, check: fn(&Self) -> Outcome) -> Outcome {
        let Some(pages) = Self::new(guest, count)? else {
            return Ok(());
        };
        let outcome = check(&pages);
        let _ = pages.clear(
            pages.start,
            count as u64 * PAGE,
            MEMORY_RO | MEMORY_RP | MEMORY_XP,
        );
        success("FreePages", guest.free_pages(pages.start, pages.count))?;
        outcome
    }

    fn get(&self, start: u64, bytes: u64) -> (Status, u64) {
        let mut attributes = u64::MAX;
        // SAFETY: the firmware's protocol.
        let get = unsafe { (*self.protocol).get_memory_attributes };
        // SAFETY: room for attributes.
        let found = unsafe { get(self.protocol, start, bytes, &mut attributes) };
        (found, attributes)
    }

    fn set(&self, start: u64, bytes: u64, attributes: u64) -> Status {
        // SAFETY: the firmware's protocol.
        let set = unsafe { (*self.protocol).set_memory_attributes };
        // SAFETY: the pages are this application's.
        unsafe { set(self.protocol, start, bytes, attributes) }
    }

    fn clear(&self, start: u64, bytes: u64, attributes: u64) -> Status {
        // SAFETY: the firmware's protocol.
        let clear = unsafe { (*self.protocol).clear_memory_attributes };
        // SAFETY: the pages are this application's.
        unsafe { clear(self.protocol, start, bytes, attributes) }
    }
}

/// What [`Pages::get`] is to find.
const fn found(attributes: u64) -> (Status, u64) {
    (Status::SUCCESS, attributes)
}

fn at_first(guest: &Guest) -> Outcome {
    Pages::with(guest, 2, |pages| {
        // Another firmware's policy may be that data are not executed.
        let (status, attributes) = pages.get(pages.start, 2 * PAGE);
        success("GetMemoryAttributes", status)?;
        equal("read and write", attributes & !MEMORY_XP, 0)
    })
}

fn set(guest: &Guest) -> Outcome {
    Pages::with(guest, 3, |pages| {
        let middle = pages.start + PAGE;
        let (_, before) = pages.get(pages.start, 3 * PAGE);
        let both = MEMORY_RO | MEMORY_XP;
        success("SetMemoryAttributes", pages.set(middle, PAGE, both))?;
        equal("attributes", pages.get(middle, PAGE), found(both))?;
        equal("before it", pages.get(pages.start, PAGE), found(before))?;
        equal("behind it", pages.get(middle + PAGE, PAGE), found(before))?;
        success("SetMemoryAttributes", pages.set(middle, PAGE, MEMORY_RP))?;
        equal("all", pages.get(middle, PAGE), found(both | MEMORY_RP))
    })
}

fn cleared(guest: &Guest) -> Outcome {
    Pages::with(guest, 1, |pages| {
        let all = MEMORY_RO | MEMORY_XP | MEMORY_RP;
        let cell = ptr::with_exposed_provenance_mut::<u64>(pages.start as usize);
        // SAFETY: a page of this application's.
        unsafe { cell.write_volatile(0x5a5a) };
        success("SetMemoryAttributes", pages.set(pages.start, PAGE, all))?;
        let one = pages.clear(pages.start, PAGE, MEMORY_RP);
        success("ClearMemoryAttributes(RP)", one)?;
        let rest = found(MEMORY_RO | MEMORY_XP);
        equal("attributes", pages.get(pages.start, PAGE), rest)?;
        // SAFETY: as above; it can be read again.
        equal("what is there", unsafe { cell.read_volatile() }, 0x5a5a)?;
        let more = pages.clear(pages.start, PAGE, MEMORY_RO);
        success("ClearMemoryAttributes(RO)", more)?;
        // SAFETY: as above; it can be written again.
        unsafe { cell.write_volatile(1) };
        equal("attributes", pages.get(pages.start, PAGE), found(MEMORY_XP))
    })
}

fn differ(guest: &Guest) -> Outcome {
    Pages::with(guest, 2, |pages| {
        success(
            "SetMemoryAttributes",
            pages.set(pages.start, PAGE, MEMORY_RO),
        )?;
        let (found, _) = pages.get(pages.start, 2 * PAGE);
        status("GetMemoryAttributes", found, Status::NO_MAPPING)
    })
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    Pages::with(guest, 1, |pages| {
        let refused = Status::INVALID_PARAMETER;
        status("no bytes", pages.set(pages.start, 0, MEMORY_RO), refused)?;
        status("no bytes", pages.clear(pages.start, 0, MEMORY_RO), refused)?;
        status("no bytes", pages.get(pages.start, 0).0, refused)?;
        let cached = pages.set(pages.start, PAGE, efi::MEMORY_WB);
        status("another attribute", cached, refused)?;
        // SAFETY: the firmware's protocol.
        let get = unsafe { (*pages.protocol).get_memory_attributes };
        // SAFETY: null is what is to be refused.
        let none = unsafe { get(pages.protocol, pages.start, PAGE, ptr::null_mut()) };
        status("no room", none, refused)?;
        let odd = pages.set(pages.start + 8, PAGE, MEMORY_RO);
        status("no whole pages", odd, Status::UNSUPPORTED)
    })
}

fn large(guest: &Guest) -> Outcome {
    const COUNT: usize = 1025;
    Pages::with(guest, COUNT, |pages| {
        let inner = (pages.start + PAGE, (COUNT as u64 - 2) * PAGE);
        let (_, before) = pages.get(pages.start, PAGE);
        success(
            "SetMemoryAttributes",
            pages.set(inner.0, inner.1, MEMORY_RO),
        )?;
        let inside = pages.get(inner.0, inner.1);
        equal("attributes", inside, found(before | MEMORY_RO))?;
        let last = pages.start + (COUNT as u64 - 1) * PAGE;
        for neighbour in [pages.start, last] {
            equal("a neighbour", pages.get(neighbour, PAGE), found(before))?;
        }
        Ok(())
    })
}

fn freed(guest: &Guest) -> Outcome {
    let Some(pages) = Pages::new(guest, 1)? else {
        return Ok(());
    };
    let attributes = MEMORY_RO | MEMORY_XP;
    success(
        "SetMemoryAttributes",
        pages.set(pages.start, PAGE, attributes),
    )?;
    success("FreePages", guest.free_pages(pages.start, 1))?;
    let (found, after) = pages.get(pages.start, PAGE);
    success("GetMemoryAttributes", found)?;
    equal("writable", after & MEMORY_RO, 0)
}

/// Does what the load options say may not be done; returns if they say nothing.
pub fn violate(guest: &Guest) {
    let kinds = [
        ("violate=write", MEMORY_RO),
        ("violate=read", MEMORY_RP),
        ("violate=execute", MEMORY_XP),
    ];
    let wanted = kinds.iter().find(|(word, _)| has_option(guest, word));
    let Some((_, attribute)) = wanted else {
        return;
    };
    if let Ok(Some(pages)) = Pages::new(guest, 1) {
        let cell = ptr::with_exposed_provenance_mut::<u8>(pages.start as usize);
        const RETURN: u8 = 0xc3;
        // SAFETY: a page of this application's.
        unsafe { cell.write_volatile(RETURN) };
        // SAFETY: one instruction, which returns.
        let function = unsafe { transmute::<*mut u8, extern "efiapi" fn()>(cell) };
        function();
        let found = pages.set(pages.start, PAGE, *attribute);
        output::line(format_args!("guest: page {:x}, {found}", pages.start));
        match *attribute {
            // SAFETY: meant to fault; the firmware's handler does not come back.
            MEMORY_RO => unsafe { cell.write_volatile(0) },
            // SAFETY: as above.
            MEMORY_RP => drop(unsafe { cell.read_volatile() }),
            _ => function(),
        }
    }
    ports::panic_machine()
}
