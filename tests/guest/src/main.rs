//! An EFI application that tests the firmware from the inside.
//!
//! Promises: one line per check, `ok NAME` or `FAIL NAME: what was expected and
//! found`, and `guest: N passed, M failed` at the end. When all checks pass it
//! shuts the machine down; otherwise it ends in a way that makes QEMU exit with
//! failure: by Exit(`EFI_ABORTED`) while there are boot services, and through
//! the pvpanic device after. With the word `reference` in its load options it runs
//! on another firmware: leaves out what only ours promises, goes on to the end
//! and shuts down in any case.
//!
//! It sees the firmware through `r-efi` only, which shares no definition with
//! the firmware's own `uefi-raw`: a mistake in one binding cannot hide in both.
//!
//! With the word `fault` in its load options it makes one instead; `reset=`,
//! `broken=`, `clock`, `violate=`, `keys`, `stamp` and `store=` are explained in
//! `reset.rs`, `broken.rs`, `time.rs`, `protection.rs`, `input.rs`, `space.rs` and
//! `store.rs`. `hosted` says that a host keeps the variables, which has its own,
//! `varstored` that it is that one, and `traced` that the firmware traces calls.
//!
//! Refuses: to go on to ExitBootServices when a boot service is broken.
#![no_std]
#![no_main]

mod acpi;
mod attributes;
mod broken;
mod calls;
mod close;
mod configuration;
mod console;
mod convert;
mod crc32;
mod drivers;
mod events;
mod exit;
mod images;
mod initrd;
mod input;
mod install;
mod map;
mod memory;
mod misc;
mod notify;
mod open;
mod output;
mod own_variables;
mod paging;
mod pool;
mod ports;
mod programs;
mod protection;
mod protocols;
mod random;
mod report;
mod reset;
mod signals;
mod slots;
mod smbios;
mod space;
mod start;
mod started;
mod store;
mod tables;
mod text;
mod time;
mod variables;
mod virtual_map;

use calls::Guest;
use core::panic::PanicInfo;
use core::ptr;
use r_efi::efi;
use report::{Area, Report};

/// What is checked while there are boot services, in this order.
const AREAS: [Area; 55] = [
    tables::AREA,
    console::AREA,
    console::INPUT,
    attributes::AREA,
    memory::ALLOCATE,
    memory::TYPES,
    memory::FREE,
    pool::ALLOCATE,
    pool::FREE,
    map::AREA,
    install::INSTALL,
    install::UNINSTALL,
    install::REINSTALL,
    protocols::LOCATE_HANDLE,
    protocols::HANDLE_PROTOCOL,
    open::OPEN,
    close::CLOSE,
    close::INFORMATION,
    close::PER_HANDLE,
    protocols::LOCATE_BUFFER,
    protocols::LOCATE_PROTOCOL,
    install::MULTIPLE,
    images::IMAGE,
    images::LOAD,
    start::START,
    start::UNLOAD,
    start::EXIT,
    initrd::AREA,
    configuration::AREA,
    acpi::AREA,
    smbios::AREA,
    misc::LEVELS,
    misc::WATCHDOG,
    misc::STALL,
    misc::NO_WATCHDOG,
    misc::MEMORY,
    misc::CRC,
    variables::GET,
    variables::NEXT,
    variables::SET,
    variables::INFO,
    misc::TIME,
    misc::SET_TIME,
    signals::CREATE,
    signals::CREATE_EX,
    signals::SIGNALS,
    signals::TIMERS,
    events::AREA,
    notify::AREA,
    drivers::AREA,
    input::AREA,
    started::AREA,
    random::AREA,
    protection::AREA,
    slots::AREA,
];

/// What only this firmware promises.
const OURS: [Area; 3] = [slots::OURS, memory::OURS, signals::OURS];

#[unsafe(no_mangle)]
extern "efiapi" fn efi_main(
    handle: efi::Handle,
    system_table: *mut efi::SystemTable,
) -> efi::Status {
    let entered = ports::time_stamp();
    let guest = Guest::new(handle, system_table);
    output::use_console(system_table);
    if images::has_option(&guest, "fault") {
        ports::fault();
    }
    reset::on_demand(&guest);
    protection::violate(&guest);
    input::on_demand(&guest);
    // Another firmware's failures are for the host to judge: go on to the end.
    let reference = images::has_option(&guest, "reference");
    if reference {
        output::use_serial();
    }
    let mut report = Report::new(!reference, images::has_option(&guest, "hosted"));
    let on_demand = space::on_demand(&guest, entered, &mut report)
        || broken::on_demand(&guest, &mut report)
        || store::on_demand(&guest, &mut report);
    let last = if on_demand {
        guest
    } else {
        run(guest, &mut report)
    };
    report.summarize();
    if report.all_passed() || reference {
        shut_down(&last);
    }
    fail(&last)
}

/// All checks but those that are made on demand. Returns how the services are to be
/// called from then on.
fn run(guest: Guest, report: &mut Report) -> Guest {
    for area in AREAS {
        report.run(&guest, &area);
    }
    if report.ours {
        OURS.iter().for_each(|area| report.run(&guest, area));
    }
    if report.own_variables {
        report.run(&guest, &own_variables::OURS);
    }
    if images::has_option(&guest, "clock") {
        report.run(&guest, &time::AREA);
    }
    if report.all_passed() || !report.ours {
        return exit::run(&guest, report).unwrap_or(guest);
    }
    guest
}

fn shut_down(guest: &Guest) {
    let null = ptr::null_mut();
    guest.reset_system(efi::RESET_SHUTDOWN, efi::Status::SUCCESS, 0, null);
}

/// Ends the machine's run as a failure.
fn fail(guest: &Guest) -> ! {
    if output::has_console() {
        guest.exit(guest.handle, efi::Status::ABORTED, 0, ptr::null_mut());
    }
    ports::panic_machine()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    output::line(format_args!("FAIL {info}"));
    // The image handle is not known here; pvpanic needs none.
    ports::panic_machine()
}
