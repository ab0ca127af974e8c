//! What programs may do with memory: read, write, execute (UEFI 2.11 §37.7).
//!
//! Everything may be done with all memory until a program says otherwise. What it
//! took away comes back when the pages are freed, for whoever gets them next.
//!
//! Coverage, protocols:
//!
//! | EFI_MEMORY_ATTRIBUTE_PROTOCOL | 37.7 | a handle of its own | pages of the identity map, whose large ones are split; 256 page tables at most; not the firmware's own memory: `EFI_ACCESS_DENIED`. All memory is readable, writable and executable until asked otherwise, and again when pages are freed |

use super::{Alleged, machine, memory, protocols, status, trace, with_edge};
use crate::boot::ProtectError;
use crate::catalog::{self, Service};
use crate::handles::Interface;
use crate::memory::{PAGE_SIZE, PageCount, PhysAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use uefi_raw::protocol::memory_protection::MemoryAttributeProtocol;
use uefi_raw::table::boot::MemoryAttribute;
use uefi_raw::{PhysicalAddress, Status};

static PROTECTION: MemoryAttributeProtocol = MemoryAttributeProtocol {
    get_memory_attributes,
    set_memory_attributes,
    clear_memory_attributes,
};

/// Whether anything was ever taken away.
static USED: AtomicBool = AtomicBool::new(false);

/// What can be taken away.
const ALL: MemoryAttribute = MemoryAttribute::READ_PROTECT
    .union(MemoryAttribute::READ_ONLY)
    .union(MemoryAttribute::EXECUTE_PROTECT);

/// Puts the protocol into the handle database.
pub fn publish() -> Result<(), Status> {
    let protection = trace::published(&raw const PROTECTION, catalog::MEMORY_ATTRIBUTE, 3);
    let protection = Interface(protection.expose_provenance());
    protocols::publish(&[(MemoryAttributeProtocol::GUID, protection)]).map(drop)
}

/// Everything may be done again with pages that were freed.
pub(super) fn forget(start: PhysAddr, pages: PageCount) {
    if USED.load(Ordering::Relaxed) {
        let bytes = pages.0.saturating_mul(PAGE_SIZE);
        let _ = change(start.0, bytes, ALL, MemoryAttribute::empty());
    }
}

/// Whole pages, at least one.
fn check(start: PhysicalAddress, bytes: u64) -> Result<(), Status> {
    match bytes {
        0 => Err(Status::INVALID_PARAMETER),
        _ if !(start | bytes).is_multiple_of(PAGE_SIZE) => Err(Status::UNSUPPORTED),
        _ => Ok(()),
    }
}

fn change(
    start: PhysicalAddress,
    bytes: u64,
    clear: MemoryAttribute,
    set: MemoryAttribute,
) -> Result<(), Status> {
    check(start, bytes)?;
    let all = clear | set;
    if all.is_empty() || !ALL.contains(all) {
        return Err(Status::INVALID_PARAMETER);
    }
    USED.store(true, Ordering::Relaxed);
    let protect = machine(Service::Firmware)?.protect;
    memory::change(Service::Firmware, |boot| {
        protect(&mut boot.memory, start, bytes, clear, set).map_err(|error| match error {
            ProtectError::Unmapped => Status::UNSUPPORTED,
            ProtectError::Firmware => Status::ACCESS_DENIED,
            ProtectError::Full => Status::OUT_OF_RESOURCES,
        })
    })
}

#[cold]
unsafe extern "efiapi" fn get_memory_attributes(
    _this: *const MemoryAttributeProtocol,
    start: PhysicalAddress,
    bytes: u64,
    attributes: *mut MemoryAttribute,
) -> Status {
    // SAFETY: OUT, the caller's promise.
    let attributes = unsafe { Alleged::new(attributes) };
    if attributes.is_null() {
        return Status::INVALID_PARAMETER;
    }
    status::of(check(start, bytes).and_then(|()| {
        let found = with_edge(Service::Firmware, |edge| {
            (edge.machine.protection)(start, bytes).ok_or(Status::NO_MAPPING)
        })?;
        attributes.write(found)
    }))
}

unsafe extern "efiapi" fn set_memory_attributes(
    _this: *const MemoryAttributeProtocol,
    start: PhysicalAddress,
    bytes: u64,
    attributes: MemoryAttribute,
) -> Status {
    status::of(change(start, bytes, MemoryAttribute::empty(), attributes))
}

unsafe extern "efiapi" fn clear_memory_attributes(
    _this: *const MemoryAttributeProtocol,
    start: PhysicalAddress,
    bytes: u64,
    attributes: MemoryAttribute,
) -> Status {
    status::of(change(start, bytes, attributes, MemoryAttribute::empty()))
}
