//! Configuration tables, the end of boot services, and small services (UEFI
//! 2.11 §7.4.6, §7.5).

use super::{Alleged, EDGE, Edge, events, status, with, with_edge};
use crate::boot::Boot;
use crate::catalog::Service;
use crate::configuration;
use crate::crc32::{self, crc32};
use crate::events::group;
use crate::memory::PhysAddr;
use crate::resident::Listener;
use crate::sorted::gathered;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::ffi::c_void;
use core::{ptr, slice};
use uefi_raw::table::boot::MemoryType;
use uefi_raw::table::configuration::ConfigurationTable;
use uefi_raw::table::runtime::{ResetType, RuntimeServices, VariableAttributes};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Handle, Status};

impl Edge {
    /// Changes the system table in the runtime image and renews its CRC.
    pub(super) fn update_table<R>(&mut self, change: impl FnOnce(&mut SystemTable) -> R) -> R {
        // SAFETY: `start` was promised a placed image whose table only this
        // edge writes; `&mut self` makes this the only reference.
        let table = unsafe { &mut *self.resident.0.system_table };
        let result = change(table);
        let start = ptr::from_ref(table).cast::<u8>();
        // SAFETY: the runtime image fills the table field by field over zeroed
        // memory, so that its padding is defined, too.
        let bytes = unsafe { slice::from_raw_parts(start, size_of::<SystemTable>()) };
        let crc = crc32::of_table(bytes);
        table.header.crc = crc;
        result
    }

    fn install_configuration_tables(&mut self, new: &[ConfigurationTable]) -> Result<(), Status> {
        let array = self.resident.0.configuration_tables;
        let capacity = self.resident.0.configuration_table_capacity;
        // SAFETY: the array lies in the runtime image, apart from the table.
        let tables = unsafe { slice::from_raw_parts_mut(array, capacity) };
        self.update_table(|system| {
            let count = &mut system.number_of_configuration_table_entries;
            new.iter()
                .try_for_each(|new| {
                    configuration::install(tables, count, new.vendor_guid, new.vendor_table)
                })
                .map_err(status::from)
        })
    }

    /// Clears everything in the system table that is gone now (§7.4.6).
    fn clear_boot_pointers(&mut self) {
        self.update_table(|table| {
            table.stdin_handle = ptr::null_mut();
            table.stdin = ptr::null_mut();
            table.stdout_handle = ptr::null_mut();
            table.stdout = ptr::null_mut();
            table.stderr_handle = ptr::null_mut();
            table.stderr = ptr::null_mut();
            table.boot_services = ptr::null_mut();
        });
    }
}

/// InstallConfigurationTable for several tables, whose CRC is renewed once.
pub fn install_configuration_tables(tables: &[ConfigurationTable]) -> Result<(), Status> {
    with_edge(Service::InstallConfigurationTable, |edge| {
        edge.install_configuration_tables(tables)
    })
}

pub(super) unsafe extern "efiapi" fn install_configuration_table_service(
    guid: *const Guid,
    table: *const c_void,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let guid = unsafe { Alleged::new(guid) };
    status::of(guid.read().and_then(|guid| {
        install_configuration_tables(&[ConfigurationTable {
            vendor_guid: guid,
            vendor_table: table.cast_mut(),
        }])?;
        events::signal_group(guid);
        Ok(())
    }))
}

/// Ends boot services when `map_key` is the key of the memory map as it stands;
/// otherwise everything goes on and the caller fetches the map again.
pub(super) unsafe extern "efiapi" fn exit_boot_services(
    _image_handle: Handle,
    map_key: usize,
) -> Status {
    let left = check_key(map_key).and_then(|()| leave());
    if left.is_ok() {
        // Not dropped: its memory is the kernel's from here on.
        core::mem::forget(EDGE.lock().take());
    }
    status::of(left)
}

/// Gives everyone the last chance to use boot services, once, and looks whether
/// the caller knows the memory map as it is then. If so, it is final, and those
/// who want to know are told.
fn check_key(map_key: usize) -> Result<(), Status> {
    let first = with(Service::ExitBootServices, |boot| {
        Ok(!core::mem::replace(&mut boot.leaving, true))
    })?;
    if first {
        events::signal_group(group::BEFORE_EXIT);
    }
    with(Service::ExitBootServices, |boot| {
        if map_key != boot.memory.key() {
            return Err(Status::INVALID_PARAMETER);
        }
        boot.events.cancel_timers();
        boot.watchdog = None;
        Ok(())
    })?;
    events::signal_group(group::EXIT_BOOT_SERVICES);
    Ok(())
}

/// Turns the firmware into what is left of it after ExitBootServices.
fn leave() -> Result<(), Status> {
    with_edge(Service::ExitBootServices, |edge| {
        edge.end_trace();
        (edge.machine.quiesce)();
        if let Some(leave) = edge.resident.0.exit_boot_services {
            let listeners = listeners(&edge.boot);
            // SAFETY: the runtime image's own function, called this once.
            unsafe { leave(listeners.as_ptr(), listeners.len()) };
        }
        edge.clear_boot_pointers();
        Ok(())
    })
}

/// Who wants to know of SetVirtualAddressMap and is still there then.
fn listeners(boot: &Boot) -> Vec<Listener> {
    let all = boot.events.of_group(group::VIRTUAL_ADDRESS_CHANGE);
    let stays = all.filter(|(_, notify)| {
        let function = u64::try_from(notify.function as usize).unwrap_or_default();
        let code = MemoryType::RUNTIME_SERVICES_CODE;
        boot.memory.is_of_type(PhysAddr(function), code)
    });
    let listener = stays.map(|(event, notify)| Listener {
        function: Some(notify.function),
        event: event.to_raw().addr(),
        context: notify.context,
    });
    gathered(listener)
}

#[cold]
pub(super) unsafe extern "efiapi" fn get_next_monotonic_count(count: *mut u64) -> Status {
    let next = with_edge(Service::GetNextMonotonicCount, |edge| {
        edge.resident
            .0
            .next_monotonic_count
            .ok_or(Status::UNSUPPORTED)
    });
    match next {
        // SAFETY: the runtime image's own function; its argument is the caller's promise.
        Ok(next) => unsafe { next(count) },
        Err(status) => status,
    }
}

/// The runtime image's table as it is now.
fn runtime_services(service: Service) -> Result<RuntimeServices, Status> {
    let table = super::system_table(service)?;
    // SAFETY: the table lies in the runtime image, which is always there.
    let runtime = unsafe { (*table).runtime_services };
    // SAFETY: so does this one; it is copied.
    Ok(unsafe { runtime.read() })
}

/// Sets a variable that lasts until reset and can be read at run time, by
/// SetVariable of the runtime image. `name` and `value` are UTF-16 with a final NUL.
///
/// # Errors
/// What SetVariable returns; `UNSUPPORTED` when boot services have ended.
pub fn set_volatile(name: &[u16], vendor: &Guid, value: &[u16]) -> Result<(), Status> {
    let set = runtime_services(Service::SetVariable)?.set_variable;
    let attributes = VariableAttributes::BOOTSERVICE_ACCESS | VariableAttributes::RUNTIME_ACCESS;
    let (size, data) = (size_of_val(value), value.as_ptr().cast());
    // SAFETY: the name ends in a NUL, and the value has this size.
    match unsafe { set(name.as_ptr().cast(), vendor, attributes, size, data) } {
        Status::SUCCESS => Ok(()),
        refused => Err(refused),
    }
}

/// Powers the machine off, by ResetSystem of the runtime image.
///
/// # Errors
/// `UNSUPPORTED` when boot services have ended: the machine is not ours then.
pub fn power_off() -> Result<Infallible, Status> {
    reset(ResetType::SHUTDOWN)
}

/// Ends the machine's run, by ResetSystem of the runtime image.
#[cold]
pub(super) fn reset(kind: ResetType) -> Result<Infallible, Status> {
    let reset = runtime_services(Service::ResetSystem)?.reset_system;
    // SAFETY: the service needs no data for this.
    unsafe { reset(kind, Status::SUCCESS, 0, ptr::null()) }
}

#[cold]
pub(super) unsafe extern "efiapi" fn calculate_crc32(
    data: *const c_void,
    data_size: usize,
    result: *mut u32,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let data = unsafe { Alleged::<u8>::new(data.cast()) };
    // SAFETY: OUT, the caller's promise.
    let result = unsafe { Alleged::new(result) };
    if data.is_null() || result.is_null() || data_size == 0 {
        return Status::INVALID_PARAMETER;
    }
    status::of(
        data.bytes(data_size)
            .and_then(|bytes| result.write(crc32(bytes))),
    )
}

pub(super) unsafe extern "efiapi" fn copy_mem(
    destination: *mut u8,
    source: *const u8,
    length: usize,
) {
    if length != 0 {
        // SAFETY: the caller's promise; overlap is allowed (UEFI 2.11 §7.5.3).
        unsafe { ptr::copy(source, destination, length) };
    }
}

pub(super) unsafe extern "efiapi" fn set_mem(buffer: *mut u8, size: usize, value: u8) {
    if size != 0 {
        // SAFETY: OUT, the caller's promise.
        unsafe { ptr::write_bytes(buffer, value, size) };
    }
}
