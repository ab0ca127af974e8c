//! Installing and uninstalling protocols (UEFI 2.11 §7.3.2-7.3.4).
//!
//! Drivers that manage an interface are told to let go of it before it goes; when
//! somebody does not, all are connected again.

use super::{Alleged, drivers, events, status, with};
use crate::boot::Boot;
use crate::catalog::Service;
use crate::handles::{HandleId, Interface, Protocol};
use core::ffi::c_void;
use uefi_raw::table::boot::InterfaceType;
use uefi_raw::{Guid, Handle, Status};

/// The interface a program hands over. It is never looked behind here.
pub(super) fn interface(pointer: *const c_void) -> Interface {
    Interface(pointer.expose_provenance())
}

/// Installs protocols on the handle at `handle`, or on a new one, which is
/// stored there.
#[cold]
pub(super) fn install(
    service: Service,
    handle: Alleged<Handle>,
    protocols: &[Protocol],
) -> Result<(), Status> {
    let given = HandleId::optional(handle.read()?);
    let got = with(service, |boot| {
        let handles = &mut boot.handles;
        let got = handles
            .install_all(given, protocols)
            .map_err(status::from)?;
        for (protocol, _) in protocols {
            tell(boot, *protocol);
        }
        Ok(got)
    })?;
    handle.write(got.to_raw())?;
    events::dispatch();
    Ok(())
}

/// Signals the events of those who want to know of new interfaces of `protocol`.
#[cold]
fn tell(boot: &mut Boot, protocol: Guid) {
    for event in boot.handles.registered(protocol) {
        // It is there: CloseEvent ends its registrations.
        let _ = boot.events.signal(event);
    }
}

#[cold]
pub(super) unsafe extern "efiapi" fn install_protocol_interface(
    handle: *mut Handle,
    protocol: *const Guid,
    interface_type: InterfaceType,
    interface_pointer: *const c_void,
) -> Status {
    // SAFETY: IN OUT, the caller's promise.
    let handle = unsafe { Alleged::new(handle) };
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    if interface_type != InterfaceType::NATIVE_INTERFACE {
        return Status::INVALID_PARAMETER;
    }
    status::of(protocol.read().and_then(|protocol| {
        let protocols = [(protocol, interface(interface_pointer))];
        install(Service::InstallProtocolInterface, handle, &protocols)
    }))
}

#[cold]
pub(super) unsafe extern "efiapi" fn uninstall_protocol_interface(
    handle: Handle,
    protocol: *const Guid,
    interface_pointer: *const c_void,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    status::of(protocol.read().and_then(|protocol| {
        let (handle, interface) = (HandleId::from_raw(handle), interface(interface_pointer));
        without_drivers(handle, &[(protocol, interface)], &mut || {
            with(Service::UninstallProtocolInterface, |boot| {
                let removed = boot.handles.uninstall(handle, protocol, interface);
                removed.map_err(status::from)
            })
        })
    }))
}

/// Does what takes interfaces away, with their drivers gone before.
#[cold]
pub(super) fn without_drivers(
    handle: HandleId,
    protocols: &[Protocol],
    remove: &mut dyn FnMut() -> Result<(), Status>,
) -> Result<(), Status> {
    let mut told = false;
    for (protocol, interface) in protocols {
        let there = with(Service::DisconnectController, |boot| {
            Ok(boot.handles.interface(handle, *protocol) == Ok(*interface))
        })?;
        told |= there && drivers::let_go(handle, *protocol);
    }
    let removed = remove();
    if told && removed.is_err() {
        drivers::connect_all(handle);
    }
    removed
}

#[cold]
pub(super) unsafe extern "efiapi" fn reinstall_protocol_interface(
    handle: Handle,
    protocol: *const Guid,
    old_interface: *const c_void,
    new_interface: *const c_void,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let protocol = unsafe { Alleged::new(protocol) };
    status::of(protocol.read().and_then(|protocol| {
        let handle = HandleId::from_raw(handle);
        let (old, new) = (interface(old_interface), interface(new_interface));
        without_drivers(handle, &[(protocol, old)], &mut || {
            with(Service::ReinstallProtocolInterface, |boot| {
                let replaced = boot.handles.reinstall(handle, protocol, old, new);
                replaced.map_err(status::from)?;
                tell(boot, protocol);
                Ok(())
            })
        })?;
        drivers::connect_all(handle);
        events::dispatch();
        Ok(())
    }))
}
