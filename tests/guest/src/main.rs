//! An EFI application that tests the firmware from the inside.
//!
//! Promises: one line per check, `ok NAME` or `FAIL NAME: what was expected and
//! found`, and `guest: N passed, M failed` at the end. When all checks pass it
//! shuts the machine down; otherwise it ends in a way that makes QEMU exit with
//! failure: by Exit(`EFI_ABORTED`) while there are boot services, and through
//! the pvpanic device after.
//!
//! It sees the firmware through `r-efi` only, which shares no definition with
//! the firmware's own `uefi-raw`: a mistake in one binding cannot hide in both.
//!
//! With the word `fault` in its load options it makes one instead; `reset=`,
//! `broken=`, `clock`, `violate=`, `keys`, `stamp` and `store=` are explained in
//! `reset.rs`, `broken.rs`, `time.rs`, `protection.rs`, `input.rs`, `space.rs` and
//! `store.rs`.
//!
//! Refuses: to go on to ExitBootServices when a boot service is broken.
#![no_std]
#![no_main]

mod acpi;
mod broken;
mod calls;
mod configuration;
mod console;
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
mod pool;
mod ports;
mod protection;
mod protocols;
mod random;
mod report;
mod reset;
mod smbios;
mod space;
mod started;
mod store;
mod tables;
mod text;
mod time;
mod unsupported;
mod variables;

use calls::Guest;
use core::panic::PanicInfo;
use core::ptr;
use r_efi::efi;
use report::{Area, Report};

/// What is checked while there are boot services, in this order.
const AREAS: [Area; 23] = [
    tables::AREA,
    console::AREA,
    memory::AREA,
    pool::AREA,
    map::AREA,
    protocols::AREA,
    install::AREA,
    open::AREA,
    images::AREA,
    initrd::AREA,
    configuration::AREA,
    acpi::AREA,
    smbios::AREA,
    variables::AREA,
    misc::AREA,
    events::AREA,
    notify::AREA,
    drivers::AREA,
    input::AREA,
    started::AREA,
    random::AREA,
    protection::AREA,
    unsupported::AREA,
];

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
    let mut report = Report::default();
    let on_demand = space::on_demand(&guest, entered, &mut report)
        || broken::on_demand(&guest, &mut report)
        || store::on_demand(&guest, &mut report);
    if !on_demand {
        run(&guest, &mut report);
    }
    finish(&guest, &report)
}

/// Ends the machine's run, as a success if all checks passed.
fn finish(guest: &Guest, report: &Report) -> ! {
    report.summarize();
    if report.all_passed() {
        guest.reset_system(
            efi::RESET_SHUTDOWN,
            efi::Status::SUCCESS,
            0,
            ptr::null_mut(),
        );
    }
    fail(guest)
}

/// All checks but those that are made on demand.
fn run(guest: &Guest, report: &mut Report) {
    for area in AREAS {
        report.run(guest, &area);
    }
    if images::has_option(guest, "clock") {
        report.run(guest, &time::AREA);
    }
    if report.all_passed() {
        exit::run(guest, report);
    }
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
