//! ExitBootServices and what is left after it (UEFI 2.11 §7.4.6, §8): in this
//! order, each step on top of the one before.

use crate::calls::Guest;
use crate::map::Map;
use crate::report::{Area, Check, Failure, Outcome, Report, equal, holds, status, success};
use crate::variables::{self, BOOT, BOOT_NAME, RUNTIME, RUNTIME_NAME, VENDOR};
use crate::{acpi, configuration, events, misc, output, ports, tables, text, unsupported};
use r_efi::efi::{self, Status};

/// What is checked after ExitBootServices, before and after
/// SetVirtualAddressMap alike.
const AFTER: [Check; 11] = [
    ("system table header", tables::system),
    ("runtime services header", tables::runtime),
    ("the boot services are gone", boot_services_gone),
    ("configuration tables", configuration_tables),
    ("variables of boot time are gone", boot_variables_gone),
    ("variables can be read", variables_stay),
    ("variables can be written", variables_change),
    ("the firmware's own variables", variables::own),
    ("QueryVariableInfo", variables::query),
    ("GetTime", misc::get_time),
    ("unsupported services", unsupported::runtime),
];

/// Ends boot services and goes on; from here on lines go to COM1.
pub fn run(guest: &Guest, report: &mut Report) {
    let mut map = Map::new();
    report.note(
        "exit",
        "ExitBootServices with a wrong key",
        wrong_key(guest, &mut map),
    );
    let listens = events::listen_to_the_end(guest);
    report.note("exit", "7.4.6 events of the end are created", listens);
    let left = leave(guest, &mut map);
    if left.is_ok() {
        output::use_serial();
    }
    let gone = left.is_ok();
    report.note("exit", "ExitBootServices", left);
    if gone {
        report.note("exit", "7.4.6 the end is told", events::end_was_told());
        report.note("exit", "interrupts are off", interrupts_off());
        after(guest, report, "runtime");
        report.note(
            "exit",
            "SetVirtualAddressMap with wrong parameters",
            bad_map(guest, &mut map),
        );
        report.note("exit", "SetVirtualAddressMap", go_virtual(guest, &mut map));
        after(guest, report, "virtual");
    }
}

fn after(guest: &Guest, report: &mut Report, name: &'static str) {
    let checks = &AFTER;
    report.run(guest, &Area { name, checks });
}

fn wrong_key(guest: &Guest, map: &mut Map) -> Outcome {
    map.fetch(guest)?;
    let found = guest.exit_boot_services(guest.handle, map.key.wrapping_add(1));
    status("ExitBootServices", found, Status::INVALID_PARAMETER)?;
    // Linux fetches the map again, into the same buffer, and tries again.
    map.fetch(guest)
}

/// Ends boot services.
pub fn leave(guest: &Guest, map: &mut Map) -> Outcome {
    map.fetch(guest)?;
    let found = guest.exit_boot_services(guest.handle, map.key);
    success("ExitBootServices", found)
}

/// Linux loads its own interrupt table only later.
fn interrupts_off() -> Outcome {
    holds("interrupts disabled", !ports::interrupts_enabled())
}

fn boot_services_gone(guest: &Guest) -> Outcome {
    let table = guest.system();
    holds("no boot services", table.boot_services.is_null())?;
    let consoles = (
        table.con_in.is_null(),
        table.con_out.is_null(),
        table.std_err.is_null(),
    );
    equal("consoles gone", consoles, (true, true, true))?;
    let handles = [
        table.console_in_handle,
        table.console_out_handle,
        table.standard_error_handle,
    ];
    holds(
        "no console handles",
        handles.into_iter().all(|handle| handle.is_null()),
    )
}

fn configuration_tables(guest: &Guest) -> Outcome {
    acpi::rsdp(guest)?;
    configuration::runtime_services(guest).map(drop)
}

fn boot_variables_gone(guest: &Guest) -> Outcome {
    variables::absent(guest, &BOOT_NAME)?;
    equal(
        "entries in the list",
        variables::count(guest, &BOOT_NAME)?,
        0,
    )?;
    let found = variables::set(guest, &text::utf16::<4>("New"), BOOT, b"value");
    status("a new one", found, Status::INVALID_PARAMETER)
}

fn variables_stay(guest: &Guest) -> Outcome {
    variables::value(guest, &RUNTIME_NAME, RUNTIME, b"runtime")?;
    equal(
        "entries in the list",
        variables::count(guest, &RUNTIME_NAME)?,
        1,
    )
}

fn variables_change(guest: &Guest) -> Outcome {
    const NAME: [u16; 6] = text::utf16("Later");
    success(
        "SetVariable",
        variables::set(guest, &NAME, RUNTIME, b"first"),
    )?;
    let appending = RUNTIME | efi::VARIABLE_APPEND_WRITE;
    success(
        "append",
        variables::set(guest, &NAME, appending, b", second"),
    )?;
    variables::value(guest, &NAME, RUNTIME, b"first, second")?;
    variables::delete(guest, &NAME, RUNTIME)?;
    equal("entries in the list", variables::count(guest, &NAME)?, 0)?;
    let found = guest.set_variable(NAME.as_ptr(), &VENDOR, RUNTIME, 0, core::ptr::null());
    status("Linux's DUMMY deletion", found, Status::NOT_FOUND)
}

fn bad_map(guest: &Guest, map: &mut Map) -> Outcome {
    let (size, stride, start) = (map.size, map.stride, map.as_mut_ptr());
    let no_version = map.version.wrapping_add(7);
    let found = guest.set_virtual_address_map(size, stride, no_version, start);
    status("an unknown version", found, Status::INVALID_PARAMETER)?;
    let found = guest.set_virtual_address_map(size, 8, map.version, start);
    status("a stride of 8", found, Status::INVALID_PARAMETER)
}

/// Every runtime region at the address that it has: Linux maps them so, too,
/// for as long as it runs.
fn go_virtual(guest: &Guest, map: &mut Map) -> Outcome {
    map.keep_runtime_identity();
    if map.size == 0 {
        return Err(Failure::new(format_args!(
            "expected runtime regions, found none"
        )));
    }
    let before = guest.system().runtime_services;
    let (size, stride, version) = (map.size, map.stride, map.version);
    let found = guest.set_virtual_address_map(size, stride, version, map.as_mut_ptr());
    success("SetVirtualAddressMap", found)?;
    equal("RuntimeServices", guest.system().runtime_services, before)?;
    let found = guest.set_virtual_address_map(size, stride, version, map.as_mut_ptr());
    status("a second time", found, Status::UNSUPPORTED)
}
