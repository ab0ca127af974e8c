//! The boot services table (UEFI 2.11 §4.4).

use super::{
    drivers, events, images, install, memory, multiple, open, protocols, system, timers, trace,
    with_edge,
};
use crate::{catalog, crc32};
use core::ptr;
use spin::Once;
use uefi_raw::table::boot::BootServices;
use uefi_raw::table::{Header, Revision};

/// `EFI_BOOT_SERVICES_SIGNATURE`.
const SIGNATURE: u64 = 0x5652_4553_544f_4f42;

/// `HeaderSize`, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "a few hundred bytes")]
const SIZE: u32 = size_of::<BootServices>() as u32;

/// The table at its fixed address.
struct Table(BootServices);

// SAFETY: written once, before any program can see it.
unsafe impl Sync for Table {}
// SAFETY: it holds function pointers and a null.
unsafe impl Send for Table {}

static TABLE: Once<Table> = Once::new();

/// Points the system table to the boot services.
pub(super) fn publish() {
    let table = TABLE.call_once(|| Table(sealed()));
    let services = (&raw const table.0).cast_mut();
    // Cannot fail: the edge has just been opened.
    let _ = with_edge("boot services", |edge| {
        edge.update_table(|table| table.boot_services = services);
        Ok(())
    });
}

fn sealed() -> BootServices {
    let mut table = boot_services();
    // SAFETY: the table is ours alone yet.
    trace::exchange(catalog::BOOT, unsafe { trace::slots(&raw mut table) });
    let bytes = (&raw const table).cast::<u8>();
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
        raise_tpl: events::raise_tpl,
        restore_tpl: events::restore_tpl,
        allocate_pages: memory::allocate_pages,
        free_pages: memory::free_pages,
        get_memory_map: memory::get_memory_map,
        allocate_pool: memory::allocate_pool,
        free_pool: memory::free_pool,
        create_event: events::create_event,
        set_timer: timers::set_timer,
        wait_for_event: events::wait_for_event,
        signal_event: events::signal_event,
        close_event: events::close_event,
        check_event: events::check_event,
        install_protocol_interface: install::install_protocol_interface,
        reinstall_protocol_interface: install::reinstall_protocol_interface,
        uninstall_protocol_interface: install::uninstall_protocol_interface,
        handle_protocol: open::handle_protocol,
        reserved: ptr::null_mut(),
        register_protocol_notify: protocols::register_protocol_notify,
        locate_handle: protocols::locate_handle,
        locate_device_path: protocols::locate_device_path,
        install_configuration_table: system::install_configuration_table_service,
        load_image: images::load_image,
        start_image: images::start_image,
        exit: images::exit,
        unload_image: images::unload_image,
        exit_boot_services: system::exit_boot_services,
        get_next_monotonic_count: system::get_next_monotonic_count,
        stall: timers::stall,
        set_watchdog_timer: timers::set_watchdog_timer,
        connect_controller: drivers::connect_controller,
        disconnect_controller: drivers::disconnect_controller,
        open_protocol: open::open_protocol,
        close_protocol: open::close_protocol,
        open_protocol_information: open::open_protocol_information,
        protocols_per_handle: open::protocols_per_handle,
        locate_handle_buffer: protocols::locate_handle_buffer,
        locate_protocol: protocols::locate_protocol,
        install_multiple_protocol_interfaces: multiple::INSTALL,
        uninstall_multiple_protocol_interfaces: multiple::UNINSTALL,
        calculate_crc32: system::calculate_crc32,
        copy_mem: system::copy_mem,
        set_mem: system::set_mem,
        create_event_ex: events::create_event_ex,
    }
}
