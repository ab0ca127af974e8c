//! SetVirtualAddressMap and ConvertPointer (UEFI 2.11 §8.4.1-8.4.2).
//!
//! Promises to convert the pointers in the UEFI tables and the addresses of
//! registers, flash and the host's device, or to change nothing. Of the map only
//! the descriptors matter that contain this image and these: operating systems pass
//! descriptors of memory that is not the firmware's, merged, retyped, or with
//! addresses that make no sense, and none of them is judged.
//!
//! The new addresses are not used here: they may not be mapped yet. Those who had
//! an event for it are told first, and may convert their pointers meanwhile.

use crate::{state, tables};
use core::ffi::c_void;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use core::{ptr, slice};
use ovmf_lite_services::resident::{Machine, Protocol, Reset, Space, Write};
use ovmf_lite_services::variables::Phase;
use uefi_raw::Status;
use uefi_raw::table::boot::{MemoryAttribute, MemoryDescriptor};

const PAGE: u64 = 4096;

unsafe extern "C" {
    /// The first byte of the image, wherever it is. The linker defines it.
    static __ImageBase: u8;
}

/// Set by the call that succeeds; there is no second one.
static DONE: AtomicBool = AtomicBool::new(false);

/// From where to where the image moves, in the eyes of its callers.
pub struct Move {
    from: usize,
    size: usize,
    to: usize,
}

impl Move {
    /// What `pointer` will be. One that does not point into the image is not
    /// ours: somebody has hooked a service.
    pub fn convert<T>(&self, pointer: *mut T) -> *mut T {
        match pointer.addr().wrapping_sub(self.from) {
            offset if offset < self.size => {
                pointer.wrapping_byte_add(self.to.wrapping_sub(self.from))
            }
            _ => pointer,
        }
    }
}

/// SetVirtualAddressMap.
pub unsafe extern "efiapi" fn set_virtual_address_map(
    map_size: usize,
    descriptor_size: usize,
    descriptor_version: u32,
    map: *const MemoryDescriptor,
) -> Status {
    if state::phase() == Phase::Boot || DONE.load(Ordering::Relaxed) {
        return Status::UNSUPPORTED;
    }
    if descriptor_version != MemoryDescriptor::VERSION
        || descriptor_size < size_of::<MemoryDescriptor>()
        || !map_size.is_multiple_of(descriptor_size)
        || isize::try_from(map_size).is_err()
        || map.is_null()
    {
        return Status::INVALID_PARAMETER;
    }
    // SAFETY: the caller's map has that size.
    let map = unsafe { slice::from_raw_parts(map.cast::<u8>(), map_size) };
    let descriptors = map.chunks_exact(descriptor_size);
    let Some(to) = descriptors.clone().find_map(image_move) else {
        return Status::NO_MAPPING;
    };
    let Machine {
        reset, flash, host, ..
    } = state::machine();
    let device = |address, size| match size {
        0 => Some(address),
        _ => descriptors
            .clone()
            .find_map(|descriptor| new_address(descriptor, address, size)),
    };
    let registers = match host.protocol {
        Protocol::UEFI_VARS => PAGE,
        _ => 0,
    };
    let (Some(flash_at), Some(host_at)) = (
        device(flash.address, flash.size),
        device(host.address, registers),
    ) else {
        return Status::NO_MAPPING;
    };
    DONE.store(true, Ordering::Relaxed);
    tell(&Map {
        bytes: map,
        stride: descriptor_size,
    });
    let Reset { shutdown, reset } = reset;
    let register = |write| moved(write, &mut descriptors.clone());
    let reset = Reset {
        shutdown: register(shutdown),
        reset: register(reset),
    };
    // SAFETY: this is SetVirtualAddressMap.
    unsafe { state::move_devices(reset, flash_at, host_at) };
    tables::relocate(&to);
    Status::SUCCESS
}

/// The caller's map.
struct Map<'m> {
    bytes: &'m [u8],
    stride: usize,
}

/// The map while those who want to know of it are told; null otherwise.
static MAP: AtomicPtr<Map<'static>> = AtomicPtr::new(ptr::null_mut());

fn tell(map: &Map<'_>) {
    let map = ptr::from_ref(map).cast_mut().cast();
    MAP.store(map, Ordering::Relaxed);
    for listener in state::listeners() {
        let event = ptr::without_provenance_mut(listener.event);
        let context = ptr::with_exposed_provenance_mut(listener.context);
        if let Some(function) = listener.function {
            // SAFETY: the event's function, in runtime services code, which the
            // caller of SetVirtualAddressMap has still mapped at its old address.
            unsafe { function(event, context) };
        }
    }
    MAP.store(ptr::null_mut(), Ordering::Relaxed);
}

/// `EFI_OPTIONAL_PTR`: a null pointer is right and stays one.
const OPTIONAL: usize = 1;

/// ConvertPointer: works only while those are told who had an event for it.
pub unsafe extern "efiapi" fn convert_pointer(
    disposition: usize,
    address: *mut *mut c_void,
) -> Status {
    let map = MAP.load(Ordering::Relaxed);
    // SAFETY: null, or what `tell` has on its stack and has not returned with.
    let Some(map) = (unsafe { map.as_ref() }) else {
        return Status::UNSUPPORTED;
    };
    if address.is_null() {
        return Status::INVALID_PARAMETER;
    }
    // SAFETY: not NULL, so the caller's pointer.
    let pointer = unsafe { address.read_unaligned() };
    if pointer.is_null() {
        return match disposition & OPTIONAL {
            0 => Status::INVALID_PARAMETER,
            _ => Status::SUCCESS,
        };
    }
    let mut descriptors = map.bytes.chunks_exact(map.stride.max(1));
    let from = pointer.addr() as u64;
    let to = descriptors.find_map(|descriptor| new_address(descriptor, from, 1));
    let Some(to) = to.and_then(|to| usize::try_from(to).ok()) else {
        return Status::NOT_FOUND;
    };
    // SAFETY: not NULL, so the caller's pointer.
    unsafe { address.write_unaligned(pointer.with_addr(to)) };
    Status::SUCCESS
}

/// The move of this image that `descriptor` says, if it is about this image.
fn image_move(descriptor: &[u8]) -> Option<Move> {
    let from = (&raw const __ImageBase).addr();
    let size = state::image_size();
    let to = new_address(descriptor, from as u64, size)?;
    Some(Move {
        from,
        size: usize::try_from(size).ok()?,
        to: usize::try_from(to).ok()?,
    })
}

/// `write` after the move. A register in memory that the operating system does
/// not map cannot be written any more: what is left is what every PC has.
fn moved<'d>(write: Write, descriptors: &mut impl Iterator<Item = &'d [u8]>) -> Write {
    if write.space != Space::MEMORY {
        return write;
    }
    let address = descriptors.find_map(|descriptor| new_address(descriptor, write.address, 1));
    address.map_or_else(Write::default, |address| Write { address, ..write })
}

/// Where `size` bytes at `from` will be, when they are what `descriptor`
/// describes to the runtime services.
fn new_address(descriptor: &[u8], from: u64, size: u64) -> Option<u64> {
    let start = field(descriptor, offset_of!(MemoryDescriptor, phys_start))?;
    let length = field(descriptor, offset_of!(MemoryDescriptor, page_count))?.checked_mul(PAGE)?;
    let attributes = field(descriptor, offset_of!(MemoryDescriptor, att))?;
    let runtime = attributes & MemoryAttribute::RUNTIME.bits() != 0;
    let offset = from.checked_sub(start)?;
    if !runtime || offset.checked_add(size)? > length {
        return None;
    }
    field(descriptor, offset_of!(MemoryDescriptor, virt_start))?.checked_add(offset)
}

fn field(descriptor: &[u8], offset: usize) -> Option<u64> {
    descriptor
        .get(offset..)?
        .first_chunk()
        .map(|bytes| u64::from_le_bytes(*bytes))
}
