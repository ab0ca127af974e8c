//! The boot services table (UEFI 2.11 §4.4).

use super::{
    drivers, events, images, install, memory, multiple, open, protocols, system, timers, trace,
    with_edge,
};
use crate::catalog::Service;
use crate::{catalog, crc32};
use alloc::boxed::Box;
use core::ptr;
use uefi_raw::table::boot::BootServices;
use uefi_raw::table::{Header, Revision};

/// `EFI_BOOT_SERVICES_SIGNATURE`.
const SIGNATURE: u64 = 0x5652_4553_544f_4f42;

/// `HeaderSize`, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "a few hundred bytes")]
const SIZE: u32 = size_of::<BootServices>() as u32;

/// Points the system table to the boot services.
pub(super) fn publish() {
    let services: *mut _ = Box::leak(sealed());
    // Cannot fail: the edge has just been opened.
    let _ = with_edge(Service::Firmware, |edge| {
        edge.update_table(|table| table.boot_services = services);
        Ok(())
    });
}

/// The table, finished.
fn sealed() -> Box<BootServices> {
    let mut table = Box::new(boot_services());
    // SAFETY: the table is ours alone yet.
    trace::exchange(catalog::BOOT, unsafe { trace::slots(&raw mut *table) });
    let bytes = (&raw const *table).cast::<u8>();
    // SAFETY: the header and the pointers behind it leave no padding.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, size_of::<BootServices>()) };
    table.header.crc = crc32::of_table(bytes);
    table
}

/// The table's header, its CRC still 0.
fn header() -> Header {
    Header {
        signature: SIGNATURE,
        revision: Revision::EFI_2_100,
        size: SIZE,
        crc: 0,
        reserved: 0,
    }
}

/// The boot services table, its CRC still 0.
fn boot_services() -> BootServices {
    BootServices {
        header: header(),
        // §7.1.8: a lower level than the present is a mistake and changes nothing
        raise_tpl: events::raise_tpl,
        // §7.1.9: a higher level, likewise; runs the notifications that are due
        restore_tpl: events::restore_tpl,
        // §7.2.1
        allocate_pages: memory::allocate_pages,
        // §7.2.2: only what was allocated; never the firmware's own
        free_pages: memory::free_pages,
        // §7.2.3: descriptors are 48 bytes apart
        get_memory_map: memory::get_memory_map,
        // §7.2.4
        allocate_pool: memory::allocate_pool,
        // §7.2.5
        free_pool: memory::free_pool,
        // §7.1.1: 1024 events; notifications at `TPL_CALLBACK` and `TPL_NOTIFY`. 16 for
        // SetVirtualAddressMap, whose functions have to lie in runtime services code: others are
        // not called
        create_event: events::create_event,
        // §7.1.7: no interrupts: time is looked at in RestoreTPL, SignalEvent, CheckEvent,
        // WaitForEvent, Stall and where the memory map changes. Missed periods count once; the
        // shortest is 1 ms when asked for 0
        set_timer: timers::set_timer,
        // §7.1.5
        wait_for_event: events::wait_for_event,
        // §7.1.4
        signal_event: events::signal_event,
        // §7.1.3
        close_event: events::close_event,
        // §7.1.6
        check_event: events::check_event,
        // §7.3.2: 2048 interfaces at a time
        install_protocol_interface: install::install_protocol_interface,
        // §7.3.4: drivers are disconnected before and connected after
        reinstall_protocol_interface: install::reinstall_protocol_interface,
        // §7.3.3: drivers are disconnected; `EFI_ACCESS_DENIED` when one stays
        uninstall_protocol_interface: install::uninstall_protocol_interface,
        // §7.3.7: leaves no open record: the firmware has no image handle
        handle_protocol: open::handle_protocol,
        reserved: ptr::null_mut(),
        // §7.3.5: 512 registrations; what was there before is new to a registration, too, as in
        // EDK2
        register_protocol_notify: protocols::register_protocol_notify,
        // §7.3.6
        locate_handle: protocols::locate_handle,
        // §7.3.8
        locate_device_path: protocols::locate_device_path,
        // §7.5.6: 32 tables
        install_configuration_table: system::install_configuration_table_service,
        // §7.4.1: from memory; by device path `EFI_NOT_FOUND`: there are no devices; runtime
        // drivers are `EFI_UNSUPPORTED`
        load_image: images::load_image,
        // §7.4.2
        start_image: images::start_image,
        // §7.4.5: exit data are copied for StartImage's caller
        exit: images::exit,
        // §7.4.3
        unload_image: images::unload_image,
        // §7.4.6
        exit_boot_services: system::exit_boot_services,
        // §7.5.5: the high half is kept in the variable `MTC`, as EDK2's, and written when a count
        // is first asked for; without flash it is gone with all other variables when the machine
        // is reset
        get_next_monotonic_count: system::get_next_monotonic_count,
        // §7.5.2: time stamp counter, whose frequency Xen tells or which is measured against the
        // 8254
        stall: timers::stall,
        // §7.5.1: resets the machine where time is looked at (SetTimer), and not while a program
        // calls none of those; not set when a kernel is started
        set_watchdog_timer: timers::set_watchdog_timer,
        // §7.3.12: named drivers, then by version; the override protocols of platforms, families
        // and buses are not asked
        connect_controller: drivers::connect_controller,
        // §7.3.13: a driver that is not managing the controller is a success, as the section says;
        // EDK2 returns `EFI_NOT_FOUND`
        disconnect_controller: drivers::disconnect_controller,
        // §7.3.9: 1024 open records at a time; a driver is disconnected for an exclusive user
        open_protocol: open::open_protocol,
        // §7.3.10
        close_protocol: open::close_protocol,
        // §7.3.11
        open_protocol_information: open::open_protocol_information,
        // §7.3.14: the GUIDs lie in the list itself and are freed with it
        protocols_per_handle: open::protocols_per_handle,
        // §7.3.15
        locate_handle_buffer: protocols::locate_handle_buffer,
        // §7.3.16
        locate_protocol: protocols::locate_protocol,
        // §7.3.17: 64 protocols a call
        install_multiple_protocol_interfaces: multiple::INSTALL,
        // §7.3.18: 64 protocols a call
        uninstall_multiple_protocol_interfaces: multiple::UNINSTALL,
        // §7.5.7
        calculate_crc32: system::calculate_crc32,
        // §7.5.3
        copy_mem: system::copy_mem,
        // §7.5.4
        set_mem: system::set_mem,
        // §7.1.2: the firmware signals the groups of §7.1.2 but Reset's, and one by the GUID of a
        // configuration table that changes (§7.5.6)
        create_event_ex: events::create_event_ex,
    }
}
