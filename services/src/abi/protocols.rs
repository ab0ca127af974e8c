//! Finding handles and protocols (UEFI 2.11 §7.3.5-7.3.6, §7.3.8, §7.3.15-7.3.16).

use super::{Alleged, memory, status, with};
use crate::catalog::Service;
use crate::device_path::{HEADER, Header, MAX_LENGTH, match_prefix};
use crate::events::EventId;
use crate::handles::{Error, HandleId, Handles, Interface, Registration, Search};
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr;
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::table::boot::MemoryType;
use uefi_raw::{Event, Guid, Handle, Status};

/// `EFI_LOCATE_SEARCH_TYPE` values.
const ALL_HANDLES: i32 = 0;
const BY_REGISTER_NOTIFY: i32 = 1;
const BY_PROTOCOL: i32 = 2;

/// The pointer a program gets for an interface.
pub(super) fn pointer(interface: Interface) -> *mut c_void {
    ptr::with_exposed_provenance_mut(interface.0)
}

/// Puts protocols of our own on a new handle.
pub(super) fn publish(protocols: &[(Guid, Interface)]) -> Result<HandleId, Status> {
    with(Service::Firmware, |boot| {
        let handle = boot.handles.install_all(None, protocols);
        handle.map_err(status::from)
    })
}

/// A list in pool memory, for a service whose caller frees it.
pub(super) fn list<T>(service: Service, values: &[T]) -> Result<*mut T, Status> {
    let bytes = size_of_val(values);
    let buffer = memory::allocate(service, MemoryType::BOOT_SERVICES_DATA, bytes)?.cast::<T>();
    // SAFETY: pool memory of this size, allocated on the line above.
    unsafe { Alleged::new(buffer) }.write_all(values)?;
    Ok(buffer)
}

/// The search a caller asks for.
fn search(search_type: i32, protocol: Alleged<Guid>, key: *const c_void) -> Result<Search, Status> {
    match search_type {
        ALL_HANDLES => Ok(Search::AllHandles),
        BY_REGISTER_NOTIFY if !key.is_null() => {
            Ok(Search::ByRegistration(Registration::from_raw(key)))
        }
        BY_PROTOCOL => Ok(Search::ByProtocol(protocol.read()?)),
        _ => Err(Status::INVALID_PARAMETER),
    }
}

/// The handles a caller searches for; never an empty list.
fn locate(service: Service, search: Search) -> Result<Vec<HandleId>, Status> {
    let found = with(service, |boot| Ok(boot.handles.locate(search)))?;
    if found.is_empty() {
        return Err(Status::NOT_FOUND);
    }
    Ok(found)
}

/// The caller has got the handles: they are not new to its registration any more.
#[cold]
fn delivered(service: Service, search: Search, found: &[HandleId]) {
    if let (Search::ByRegistration(registration), [handle]) = (search, found) {
        let _ = with(service, |boot| {
            boot.handles.found_by(registration, *handle);
            Ok(())
        });
    }
}

#[cold]
pub(super) unsafe extern "efiapi" fn register_protocol_notify(
    protocol: *const Guid,
    event: Event,
    registration: *mut *mut c_void,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    // SAFETY: OUT, the caller's promise.
    let registration = unsafe { Alleged::new(registration) };
    if registration.is_null() {
        return Status::INVALID_PARAMETER;
    }
    let event = EventId::from_raw(event);
    status::of(protocol.read().and_then(|protocol| {
        let made = with(Service::RegisterProtocolNotify, |boot| {
            boot.events.known(event).map_err(status::from)?;
            boot.handles.register(protocol, event).map_err(status::from)
        })?;
        registration.write(made.to_raw())
    }))
}

pub(super) unsafe extern "efiapi" fn locate_handle(
    search_type: i32,
    protocol: *const Guid,
    search_key: *const c_void,
    buffer_size: *mut usize,
    buffer: *mut Handle,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    // SAFETY: IN OUT, the caller's promise.
    let buffer_size = unsafe { Alleged::new(buffer_size) };
    // SAFETY: OUT, the caller's promise. An identifier is such a handle.
    let buffer = unsafe { Alleged::new(buffer.cast::<HandleId>()) };
    status::of(buffer_size.read().and_then(|room| {
        let search = search(search_type, protocol, search_key)?;
        let found = locate(Service::LocateHandle, search)?;
        let needed = size_of_val(found.as_slice());
        buffer_size.write(needed)?;
        if room < needed {
            return Err(Status::BUFFER_TOO_SMALL);
        }
        buffer.write_all(&found)?;
        delivered(Service::LocateHandle, search, &found);
        Ok(())
    }))
}

pub(super) unsafe extern "efiapi" fn locate_handle_buffer(
    search_type: i32,
    protocol: *const Guid,
    search_key: *const c_void,
    handle_count: *mut usize,
    buffer: *mut *mut Handle,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    // SAFETY: OUT, the caller's promise.
    let handle_count = unsafe { Alleged::new(handle_count) };
    // SAFETY: OUT, the caller's promise.
    let buffer = unsafe { Alleged::new(buffer) };
    if handle_count.is_null() || buffer.is_null() {
        return Status::INVALID_PARAMETER;
    }
    handle_count.write_optional(0);
    buffer.write_optional(ptr::null_mut());
    status::of(
        search(search_type, protocol, search_key).and_then(|search| {
            let found = locate(Service::LocateHandleBuffer, search)?;
            let list = list(Service::LocateHandleBuffer, &found)?;
            handle_count.write(found.len())?;
            buffer.write(list.cast())?;
            delivered(Service::LocateHandleBuffer, search, &found);
            Ok(())
        }),
    )
}

pub(super) unsafe extern "efiapi" fn locate_protocol(
    protocol: *const Guid,
    registration: *const c_void,
    interface: *mut *mut c_void,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    // SAFETY: OUT, the caller's promise.
    let interface = unsafe { Alleged::new(interface) };
    if interface.is_null() {
        return Status::INVALID_PARAMETER;
    }
    status::of(protocol.read().and_then(|protocol| {
        let found = with(Service::LocateProtocol, |boot| {
            first(&mut boot.handles, protocol, registration).map_err(status::from)
        });
        interface.write(found.map_or(ptr::null_mut(), pointer))?;
        found.map(drop)
    }))
}

/// The first interface of `protocol`, or the first that is new to a registration,
/// which then has found it.
fn first(
    handles: &mut Handles,
    protocol: Guid,
    registration: *const c_void,
) -> Result<Interface, Error> {
    if registration.is_null() {
        return handles.locate_interface(protocol);
    }
    let registration = Registration::from_raw(registration);
    let new = handles.locate(Search::ByRegistration(registration));
    let handle = *new.first().ok_or(Error::NotFound)?;
    let interface = handles.interface(handle, protocol)?;
    handles.found_by(registration, handle);
    Ok(interface)
}

pub(super) unsafe extern "efiapi" fn locate_device_path(
    protocol: *const Guid,
    device_path: *mut *const DevicePathProtocol,
    device: *mut Handle,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    // SAFETY: IN OUT, the caller's promise.
    let device_path = unsafe { Alleged::new(device_path) };
    // SAFETY: OUT, the caller's promise.
    let device = unsafe { Alleged::new(device) };
    status::of(protocol.read().and_then(|protocol| {
        let start = device_path.read()?;
        // SAFETY: IN, the caller's promise.
        let path = path_bytes(unsafe { Alleged::new(start.cast()) })?;
        let (handle, matched) = best_match(protocol, path)?;
        if device.is_null() {
            return Err(Status::INVALID_PARAMETER);
        }
        device.write(handle.to_raw())?;
        device_path.write(start.wrapping_byte_add(matched))
    }))
}

/// The handle with `protocol` whose device path covers most of `path`, and how
/// many bytes it covers.
fn best_match(protocol: Guid, path: &[u8]) -> Result<(HandleId, usize), Status> {
    with(Service::LocateDevicePath, |boot| {
        let mut best: Option<(HandleId, usize)> = None;
        for handle in boot.handles.locate(Search::ByProtocol(protocol)) {
            let installed = boot.handles.interface(handle, DevicePathProtocol::GUID);
            // What is no device path matches nothing, and hides no other.
            let installed = installed.ok().and_then(|at| installed_path(at).ok());
            let matched = installed.and_then(|theirs| match_prefix(theirs, path));
            if matched > best.map(|(_, length)| length) {
                best = matched.map(|length| (handle, length));
            }
        }
        best.ok_or(Status::NOT_FOUND)
    })
}

/// The bytes of an installed device path.
pub(super) fn installed_path<'a>(interface: Interface) -> Result<&'a [u8], Status> {
    // SAFETY: whoever installed the protocol promised a device path there.
    path_bytes(unsafe { Alleged::new(pointer(interface).cast()) })
}

/// The bytes of a device path up to and with its End node.
pub(super) fn path_bytes<'a>(path: Alleged<u8>) -> Result<&'a [u8], Status> {
    let mut length: usize = 0;
    loop {
        let node = path.at(length)?.cast::<[u8; HEADER]>().read()?;
        let header = Header::parse(node).ok_or(Status::INVALID_PARAMETER)?;
        length = length.saturating_add(header.length);
        if header.ends_path() {
            return path.bytes(length);
        }
        if length > MAX_LENGTH {
            return Err(Status::INVALID_PARAMETER);
        }
    }
}
