//! Memory services (UEFI 2.11 §7.2).

use super::{Alleged, events, protection, status, with};
use crate::boot::Boot;
use crate::catalog::Service;
use crate::events::group;
use crate::memory::{PageCount, PhysAddr, Placement};
use crate::sorted::gathered;
use alloc::vec::Vec;
use uefi_raw::table::boot::{AllocateType, MemoryDescriptor, MemoryType};
use uefi_raw::{PhysicalAddress, Status};

/// Runs `call`, which may change the memory map, and tells those who want to know
/// that it has.
pub(super) fn change<R>(
    service: Service,
    call: impl FnOnce(&mut Boot) -> Result<R, Status>,
) -> Result<R, Status> {
    let result = with(service, |boot| {
        let key = boot.memory.key();
        let result = call(boot);
        if boot.memory.key() != key {
            boot.events.signal_group(group::MEMORY_MAP_CHANGE);
        }
        result
    });
    events::dispatch();
    result
}

/// Distance between descriptors in bytes. Larger than `MemoryDescriptor`, as
/// in EDK2, so that programs which assume `sizeof` fail here and not elsewhere.
const DESCRIPTOR_SIZE: usize = 48;
const _: () = assert!(DESCRIPTOR_SIZE > size_of::<MemoryDescriptor>());

pub(super) unsafe extern "efiapi" fn allocate_pages(
    allocate_type: AllocateType,
    memory_type: MemoryType,
    pages: usize,
    memory: *mut PhysicalAddress,
) -> Status {
    // SAFETY: IN OUT, the caller's promise.
    let memory = unsafe { Alleged::new(memory) };
    status::of(memory.read().and_then(|wanted| {
        let place = match allocate_type {
            AllocateType::ANY_PAGES => Placement::Any,
            AllocateType::MAX_ADDRESS => Placement::Below(PhysAddr(wanted)),
            AllocateType::ADDRESS => Placement::At(PhysAddr(wanted)),
            _ => return Err(Status::INVALID_PARAMETER),
        };
        let count = PageCount(u64::try_from(pages).map_err(|_| Status::INVALID_PARAMETER)?);
        let got = change(Service::AllocatePages, |boot| {
            boot.memory
                .allocate(place, memory_type, count)
                .map_err(status::from)
        })?;
        memory.write(got.0)
    }))
}

pub(super) unsafe extern "efiapi" fn free_pages(memory: PhysicalAddress, pages: usize) -> Status {
    let (start, count) = (PhysAddr(memory), u64::try_from(pages).map(PageCount));
    status::of(
        change(Service::FreePages, |boot| {
            let count = count.map_err(|_| Status::INVALID_PARAMETER)?;
            boot.memory.free(start, count).map_err(status::from)?;
            Ok(count)
        })
        .map(|count| protection::forget(start, count)),
    )
}

pub(super) unsafe extern "efiapi" fn get_memory_map(
    map_size: *mut usize,
    map: *mut MemoryDescriptor,
    map_key: *mut usize,
    descriptor_size: *mut usize,
    descriptor_version: *mut u32,
) -> Status {
    // SAFETY: IN OUT, the caller's promise.
    let map_size = unsafe { Alleged::new(map_size) };
    // SAFETY: OUT, the caller's promise.
    let map = unsafe { Alleged::new(map) };
    // SAFETY: OUT, the caller's promise.
    let map_key = unsafe { Alleged::new(map_key) };
    // SAFETY: OUT, the caller's promise.
    let descriptor_size = unsafe { Alleged::new(descriptor_size) };
    // SAFETY: OUT, the caller's promise.
    let descriptor_version = unsafe { Alleged::new(descriptor_version) };
    // Written first and on every path: Linux up to 6.1 divides by the
    // descriptor size it gets back from the failing first call.
    descriptor_size.write_optional(DESCRIPTOR_SIZE);
    descriptor_version.write_optional(MemoryDescriptor::VERSION);
    status::of(map_size.read().and_then(|room| {
        with(Service::GetMemoryMap, |boot| {
            let needed = boot
                .memory
                .descriptor_count()
                .saturating_mul(DESCRIPTOR_SIZE);
            map_size.write(needed)?;
            if room < needed {
                return Err(Status::BUFFER_TOO_SMALL);
            }
            write_map(map, boot.memory.descriptors())?;
            map_key.write_optional(boot.memory.key());
            Ok(())
        })
    }))
}

/// Writes descriptors [`DESCRIPTOR_SIZE`] bytes apart.
fn write_map(
    map: Alleged<MemoryDescriptor>,
    descriptors: impl Iterator<Item = MemoryDescriptor>,
) -> Result<(), Status> {
    for (index, descriptor) in descriptors.enumerate() {
        let offset = index.saturating_mul(DESCRIPTOR_SIZE);
        map.cast::<u8>().at(offset)?.cast().write(descriptor)?;
    }
    Ok(())
}

pub(super) unsafe extern "efiapi" fn allocate_pool(
    pool_type: MemoryType,
    size: usize,
    buffer: *mut *mut u8,
) -> Status {
    // SAFETY: OUT, the caller's promise.
    let buffer = unsafe { Alleged::new(buffer) };
    if buffer.is_null() {
        return Status::INVALID_PARAMETER;
    }
    status::of(allocate(Service::AllocatePool, pool_type, size).and_then(|got| buffer.write(got)))
}

/// Pool memory for a service that returns a buffer its caller frees.
pub(super) fn allocate(
    service: Service,
    pool_type: MemoryType,
    size: usize,
) -> Result<*mut u8, Status> {
    let got = change(service, |boot| {
        boot.pool
            .allocate(&mut boot.memory, pool_type, size)
            .map_err(status::from)
    })?;
    let address = usize::try_from(got.0).map_err(|_| Status::OUT_OF_RESOURCES)?;
    Ok(core::ptr::with_exposed_provenance_mut(address))
}

pub(super) unsafe extern "efiapi" fn free_pool(buffer: *mut u8) -> Status {
    status::of(change(Service::FreePool, |boot| {
        let address = u64::try_from(buffer.addr()).map_err(|_| Status::INVALID_PARAMETER)?;
        boot.pool
            .free(&mut boot.memory, PhysAddr(address))
            .map_err(status::from)
    }))
}

/// Frees pages that the firmware allocated before boot services were opened.
pub fn give_back(pages: &'static mut [u8]) -> Result<(), Status> {
    let start = u64::try_from(pages.as_ptr().addr()).map_err(|_| Status::INVALID_PARAMETER)?;
    free(PhysAddr(start), PageCount::covering(pages.len()))
}

/// Frees pages that the firmware allocated for itself.
pub(super) fn free(start: PhysAddr, pages: PageCount) -> Result<(), Status> {
    with(Service::FreePages, |boot| {
        boot.memory.free(start, pages).map_err(status::from)
    })
}

/// The memory map as GetMemoryMap would report it.
pub fn map() -> Result<Vec<MemoryDescriptor>, Status> {
    with(Service::GetMemoryMap, |boot| {
        Ok(gathered(boot.memory.descriptors()))
    })
}
