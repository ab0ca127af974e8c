//! ExitBootServices and what is left after it (UEFI 2.11 §7.4.6, §8): in this
//! order, each step on top of the one before.

use crate::calls::Guest;
use crate::convert::Listener;
use crate::map::Map;
use crate::report::{Area, Check, Outcome, Report, equal, gives, holds, status, success};
use crate::variables::{self, BOOT, BOOT_NAME, RUNTIME, RUNTIME_NAME, VENDOR};
use crate::virtual_map::{self, Os};
use crate::{acpi, events, memory, misc, output, own_variables, ports, slots, tables, text};
use r_efi::efi::{self, Status};

/// What is checked after ExitBootServices, before and after
/// SetVirtualAddressMap alike.
const AFTER: [Check; 9] = [
    ("4.3 the system table's header", tables::system),
    ("4.5 the runtime services' header", tables::runtime),
    ("4.3 the boot services are gone", boot_services_gone),
    ("8.2.1 variables of boot time are gone", boot_variables_gone),
    ("8.2.1 variables can be read", variables_stay),
    ("8.2.3 variables can be written", variables_change),
    ("8.2.4 QueryVariableInfo", variables::query),
    ("8.3.1 GetTime", misc::get_time),
    ("4.5 stubs", slots::runtime),
];

/// What is checked so of this firmware only.
const OURS: [Check; 1] = [("3.3 the firmware's own variables", own_variables::own)];

/// What is checked in between: tables of the firmware's are out of reach later.
const PHYSICAL: [Check; 2] = [
    ("4.6 ACPI tables", acpi::rsdp),
    ("4.6.2 EFI_RT_PROPERTIES_TABLE", slots::promises),
];

/// Ends boot services and goes on; from here on lines go to COM1. At the end
/// the firmware may be somewhere else.
pub fn run(guest: &Guest, report: &mut Report) -> Option<Guest> {
    const NAME: &str = "7.4.6 ExitBootServices";
    let mut map = Map::new();
    report.note(NAME, "a key that never was", wrong_key(guest, &mut map));
    report.note(NAME, "a key that was", stale_key(guest, &mut map));
    let tables = memory::allocate(guest, virtual_map::TABLES).ok()?;
    let pointers = Listener::new(guest).ok()?;
    let listens = events::listen_to_the_end(guest);
    report.note(NAME, "(events of the end)", listens);
    let left = leave(guest, &mut map);
    let gone = left.is_ok();
    if gone {
        output::use_serial();
    }
    report.note(NAME, "the key of the map as it is", left);
    if !gone {
        return None;
    }
    report.note(NAME, "its events are signalled", events::end_was_told());
    if report.ours {
        report.note(NAME, "interrupts are off", interrupts_off());
        report.run(guest, &area("8 at run time", &PHYSICAL[1..]));
    }
    report.run(guest, &area("8 at run time", &PHYSICAL[..1]));
    report.run(guest, &area("8 at run time", &AFTER));
    if report.own_variables {
        report.run(guest, &area("8 at run time", &OURS));
    }
    let moved = Os::new(&mut map, tables).run(guest, &pointers, report)?;
    report.run(&moved, &area("8 at virtual addresses", &AFTER));
    if report.own_variables {
        report.run(&moved, &area("8 at virtual addresses", &OURS));
    }
    Some(moved)
}

const fn area(name: &'static str, checks: &'static [Check]) -> Area {
    Area { name, checks }
}

fn wrong_key(guest: &Guest, map: &mut Map) -> Outcome {
    map.fetch(guest)?;
    let found = guest.exit_boot_services(guest.handle, map.key.wrapping_add(1));
    gives(Status::INVALID_PARAMETER, found)
}

/// Linux fetches the map again, into the same buffer, and tries again.
fn stale_key(guest: &Guest, map: &mut Map) -> Outcome {
    map.fetch(guest)?;
    memory::allocate(guest, 1)?;
    let found = guest.exit_boot_services(guest.handle, map.key);
    gives(Status::INVALID_PARAMETER, found)?;
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
