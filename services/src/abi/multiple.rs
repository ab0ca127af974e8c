//! The two services with a variable number of arguments (UEFI 2.11
//! §7.3.17-7.3.18): pairs of a protocol's GUID and its interface, then a null.
//!
//! Stable Rust has no variadic functions in the EFI calling convention. So a
//! few instructions per service turn the arguments into a list in memory and
//! call an ordinary function with its address.

use super::{Alleged, install, protocols, status, with};
use crate::catalog::Service;
use crate::guids::same;
use crate::handles::{HandleId, Interface, Protocol, Search};
use alloc::vec::Vec;
use core::arch::naked_asm;
use core::mem::transmute;
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::{Guid, Handle, Status};

/// Most pairs in one call; a list that is longer has lost its null.
const MAX_PAIRS: usize = 64;

/// The slots as uefi-raw declares them, `C` because stable Rust cannot say
/// `efiapi` there. Programs call them in the EFI convention.
type InstallSlot = unsafe extern "C" fn(*mut Handle, ...) -> Status;
type UninstallSlot = unsafe extern "C" fn(Handle, ...) -> Status;

/// InstallMultipleProtocolInterfaces, for the table.
// SAFETY: only the type changes; nobody here calls it by that type.
pub(super) const INSTALL: InstallSlot =
    unsafe { transmute::<unsafe extern "efiapi" fn(), InstallSlot>(install_arguments) };

/// UninstallMultipleProtocolInterfaces, for the table.
// SAFETY: as above.
pub(super) const UNINSTALL: UninstallSlot =
    unsafe { transmute::<unsafe extern "efiapi" fn(), UninstallSlot>(uninstall_arguments) };

/// Defines a function that is called with a first argument and any others, and
/// calls `$target` with the first one and the address of the list of the others.
///
/// The caller left 32 bytes above the return address for the four arguments in
/// registers (UEFI 2.11 §2.3.4.2); behind them lie the rest. With the registers
/// stored there, all are in a row. `$target` gets such 32 bytes of its own: its
/// are not the caller's, since it may write to them.
macro_rules! variadic {
    ($name:ident => $target:ident) => {
        #[unsafe(naked)]
        unsafe extern "efiapi" fn $name() {
            naked_asm!(
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], r8",
                "mov [rsp + 32], r9",
                "lea rdx, [rsp + 16]",
                "sub rsp, 40", // 32 bytes, and 8 that align the stack
                "call {target}",
                "add rsp, 40",
                "ret",
                target = sym $target,
            )
        }
    };
}

variadic!(install_arguments => install_multiple);
variadic!(uninstall_arguments => uninstall_multiple);

#[cold]
unsafe extern "efiapi" fn install_multiple(handle: *mut Handle, pairs: *const usize) -> Status {
    // SAFETY: IN OUT, the caller's promise.
    let handle = unsafe { Alleged::new(handle) };
    // SAFETY: the arguments as they lie on the caller's stack.
    let pairs = unsafe { Alleged::new(pairs) };
    status::of(handle.read().and_then(|_| {
        let protocols = read_pairs(pairs)?;
        if protocols.is_empty() {
            return Ok(());
        }
        refuse_known_paths(&protocols)?;
        install::install(
            Service::InstallMultipleProtocolInterfaces,
            handle,
            &protocols,
        )
    }))
}

#[cold]
unsafe extern "efiapi" fn uninstall_multiple(handle: Handle, pairs: *const usize) -> Status {
    // SAFETY: the arguments as they lie on the caller's stack.
    let pairs = unsafe { Alleged::new(pairs) };
    let handle = HandleId::from_raw(handle);
    status::of(read_pairs(pairs).and_then(|protocols| {
        install::without_drivers(handle, &protocols, &mut || {
            with(Service::UninstallMultipleProtocolInterfaces, |boot| {
                // The one error this service has.
                let removed = boot.handles.uninstall_all(handle, &protocols);
                removed.map_err(|_| Status::INVALID_PARAMETER)
            })
        })
    }))
}

/// The pairs up to the null that ends them.
#[cold]
fn read_pairs(arguments: Alleged<usize>) -> Result<Vec<Protocol>, Status> {
    let mut protocols = Vec::new();
    loop {
        let index = protocols.len().saturating_mul(2);
        let protocol: *const Guid =
            core::ptr::with_exposed_provenance(arguments.at(index)?.read()?);
        if protocol.is_null() {
            return Ok(protocols);
        }
        if protocols.len() >= MAX_PAIRS {
            return Err(Status::OUT_OF_RESOURCES);
        }
        // SAFETY: IN, the caller's promise.
        let protocol = unsafe { Alleged::new(protocol) }.read()?;
        let interface = arguments.at(index.saturating_add(1))?.read()?;
        protocols.push((protocol, Interface(interface)));
    }
}

/// A device path names one handle only (§7.3.17).
fn refuse_known_paths(protocols: &[Protocol]) -> Result<(), Status> {
    let guid = DevicePathProtocol::GUID;
    with(Service::InstallMultipleProtocolInterfaces, |boot| {
        let handles = boot.handles.locate(Search::ByProtocol(guid));
        for (protocol, path) in protocols {
            let known = |handle: &HandleId| {
                let other = boot.handles.interface(*handle, guid);
                other.is_ok_and(|other| same_path(*path, other))
            };
            if same(protocol, &guid) && handles.iter().any(known) {
                return Err(Status::ALREADY_STARTED);
            }
        }
        Ok(())
    })
}

/// Whether two device paths are the same; what is no device path is like none.
fn same_path(one: Interface, other: Interface) -> bool {
    let one = protocols::installed_path(one);
    one.is_ok() && one == protocols::installed_path(other)
}
