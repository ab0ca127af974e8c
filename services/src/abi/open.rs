//! Opening and closing protocols, and who has them open (UEFI 2.11 §7.3.7,
//! §7.3.9-7.3.11, §7.3.14).

use super::{Alleged, drivers, memory, protocols, status, with};
use crate::catalog::Service;
use crate::handles::{Error, HandleId, Mode, Opener, Record};
use crate::sorted::gathered;
use core::ffi::c_void;
use core::ptr;
use uefi_raw::table::boot::{MemoryType, OpenProtocolInformationEntry};
use uefi_raw::{Guid, Handle, Status};

/// HandleProtocol is OpenProtocol in this mode (§7.3.7), by the firmware. That
/// is no image and has no handle, so no record of it is kept.
const BY_FIRMWARE: Opener = Opener {
    agent: None,
    controller: None,
    mode: Mode::BY_HANDLE_PROTOCOL,
};

pub(super) unsafe extern "efiapi" fn handle_protocol(
    handle: Handle,
    protocol: *const Guid,
    interface: *mut *mut c_void,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    // SAFETY: OUT, the caller's promise.
    let interface = unsafe { Alleged::new(interface) };
    let handle = HandleId::from_raw(handle);
    status::of(open(
        Service::HandleProtocol,
        handle,
        protocol,
        interface,
        BY_FIRMWARE,
    ))
}

#[cold]
pub(super) unsafe extern "efiapi" fn open_protocol(
    handle: Handle,
    protocol: *const Guid,
    interface: *mut *mut c_void,
    agent_handle: Handle,
    controller_handle: Handle,
    attributes: u32,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    // SAFETY: OUT, the caller's promise.
    let interface = unsafe { Alleged::new(interface) };
    let Some(mode) = Mode::from_attributes(attributes) else {
        return Status::INVALID_PARAMETER;
    };
    let opener = Opener {
        agent: HandleId::optional(agent_handle),
        controller: HandleId::optional(controller_handle),
        mode,
    };
    let handle = HandleId::from_raw(handle);
    status::of(open(
        Service::OpenProtocol,
        handle,
        protocol,
        interface,
        opener,
    ))
}

fn open(
    service: Service,
    handle: HandleId,
    protocol: Alleged<Guid>,
    interface: Alleged<*mut c_void>,
    opener: Opener,
) -> Result<(), Status> {
    let protocol = protocol.read()?;
    let wanted = opener.mode != Mode::TEST_PROTOCOL;
    if wanted && interface.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    let open = || {
        with(service, |boot| {
            let opened = boot.handles.open(handle, protocol, opener);
            Ok((opened, boot.handles.interface(handle, protocol)))
        })
    };
    let (mut opened, mut found) = open()?;
    if opened == Err(Error::InUse) && opener.mode.exclusive() && only_drivers(handle, protocol)? {
        drivers::let_go(handle, protocol);
        (opened, found) = open()?;
    }
    if wanted {
        match (opened, found) {
            // A driver that is there already gets the interface as well.
            (Ok(()) | Err(Error::AlreadyStarted), Ok(found)) => {
                interface.write(protocols::pointer(found))?;
            }
            (Err(Error::NotFound), _) => interface.write(ptr::null_mut())?,
            _ => {}
        }
    }
    opened.map_err(|error| match error {
        Error::NotFound => Status::UNSUPPORTED,
        other => status::from(other),
    })
}

/// Whether nobody has a protocol open exclusively, so that the drivers that manage
/// it may be told to go (§7.3.9).
fn only_drivers(handle: HandleId, protocol: Guid) -> Result<bool, Status> {
    with(Service::OpenProtocol, |boot| {
        let mut all = boot.handles.opened_on(handle, Some(protocol));
        Ok(!all.any(|opener| opener.mode.exclusive()))
    })
}

#[cold]
pub(super) unsafe extern "efiapi" fn close_protocol(
    handle: Handle,
    protocol: *const Guid,
    agent_handle: Handle,
    controller_handle: Handle,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    let (handle, agent) = (HandleId::from_raw(handle), HandleId::from_raw(agent_handle));
    let controller = HandleId::optional(controller_handle);
    status::of(protocol.read().and_then(|protocol| {
        with(Service::CloseProtocol, |boot| {
            let closed = boot.handles.close(handle, protocol, agent, controller);
            closed.map_err(status::from)
        })
    }))
}

#[cold]
pub(super) unsafe extern "efiapi" fn open_protocol_information(
    handle: Handle,
    protocol: *const Guid,
    entry_buffer: *mut *mut OpenProtocolInformationEntry,
    entry_count: *mut usize,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    // SAFETY: OUT, the caller's promise.
    let entry_buffer = unsafe { Alleged::new(entry_buffer) };
    // SAFETY: OUT, the caller's promise.
    let entry_count = unsafe { Alleged::new(entry_count) };
    if entry_buffer.is_null() || entry_count.is_null() {
        return Status::INVALID_PARAMETER;
    }
    entry_count.write_optional(0);
    entry_buffer.write_optional(ptr::null_mut());
    let handle = HandleId::from_raw(handle);
    status::of(protocol.read().and_then(|protocol| {
        let entries = with(Service::OpenProtocolInformation, |boot| {
            let records = boot.handles.opened(handle, protocol);
            // An unknown handle does not support the protocol either.
            let records = records.map_err(|_| Status::NOT_FOUND)?;
            Ok(gathered(records.map(entry)))
        })?;
        let list = protocols::list(Service::OpenProtocolInformation, &entries)?;
        entry_count.write(entries.len())?;
        entry_buffer.write(list)
    }))
}

/// A record of the open list as programs see it.
fn entry(record: &Record) -> OpenProtocolInformationEntry {
    let raw = |handle: Option<HandleId>| handle.map_or(ptr::null_mut(), HandleId::to_raw);
    OpenProtocolInformationEntry {
        agent_handle: raw(record.opener.agent),
        controller_handle: raw(record.opener.controller),
        attributes: record.opener.mode.attributes(),
        open_count: record.count,
    }
}

/// What ProtocolsPerHandle returns: pointers to GUIDs, which lie behind the
/// pointers. So they last as long as their caller needs them, whatever becomes
/// of the handle.
#[cold]
pub(super) unsafe extern "efiapi" fn protocols_per_handle(
    handle: Handle,
    protocol_buffer: *mut *mut *const Guid,
    protocol_buffer_count: *mut usize,
) -> Status {
    // SAFETY: OUT, the caller's promise.
    let protocol_buffer = unsafe { Alleged::new(protocol_buffer) };
    // SAFETY: OUT, the caller's promise.
    let count = unsafe { Alleged::new(protocol_buffer_count) };
    if protocol_buffer.is_null() || count.is_null() {
        return Status::INVALID_PARAMETER;
    }
    count.write_optional(0);
    let handle = HandleId::from_raw(handle);
    let found = with(Service::ProtocolsPerHandle, |boot| {
        boot.handles.protocols(handle).map_err(status::from)
    });
    status::of(found.and_then(|found| {
        let pointers = found.len().saturating_mul(size_of::<*const Guid>());
        let bytes = pointers.saturating_add(size_of_val(found.as_slice()));
        let buffer = memory::allocate(
            Service::ProtocolsPerHandle,
            MemoryType::BOOT_SERVICES_DATA,
            bytes,
        )?;
        let guids = buffer.wrapping_add(pointers).cast::<Guid>();
        let addresses = (0..found.len()).map(|index| guids.wrapping_add(index).cast_const());
        // SAFETY: pool memory of this size, allocated above.
        let list = unsafe { Alleged::new(buffer.cast()) };
        for (index, address) in addresses.enumerate() {
            list.at(index)?.write(address)?;
        }
        count.write(found.len())?;
        // SAFETY: as above: behind the pointers.
        unsafe { Alleged::new(guids) }.write_all(&found)?;
        protocol_buffer.write(buffer.cast())
    }))
}
