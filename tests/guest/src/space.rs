//! What a store without room does: `stamp` in the load options says where the time
//! stamp counter was at the entry, by which the host compares stores, and `full`
//! checks that room is refused, and found again (UEFI 2.11 §8.2.3).
//!
//! The host has filled the store with variables `F0000`, `F0001` and so on, of one
//! byte each (`tests/src/variable_space.rs`).

use crate::calls::Guest;
use crate::images::has_option;
use crate::output;
use crate::report::{Area, Outcome, Report, holds, status, success};
use crate::text::utf16;
use crate::variables::{RUNTIME, absent, delete, set, value};
use r_efi::efi::Status;

const FULL: Area = Area {
    name: "full",
    checks: &[
        ("a new variable is refused", refused),
        ("a larger value is refused", larger),
        ("the same value is not", same),
        ("what is deleted gives room", room),
    ],
};

const FIRST: [u16; 6] = utf16("F0000");
const SECOND: [u16; 6] = utf16("F0001");
const NEW: [u16; 6] = utf16("Empty");

/// Whether the load options ask for this instead of the other checks.
pub fn on_demand(guest: &Guest, entered: u64, report: &mut Report) -> bool {
    let asked = has_option(guest, "stamp");
    if asked {
        output::line(format_args!("guest: entered at {entered}."));
    }
    if has_option(guest, "full") {
        report.run(guest, &FULL);
    }
    asked
}

fn refused(guest: &Guest) -> Outcome {
    let found = set(guest, &NEW, RUNTIME, b"x");
    status("SetVariable", found, Status::OUT_OF_RESOURCES)?;
    absent(guest, &NEW)?;
    // It is another store.
    let volatile = RUNTIME & !r_efi::efi::VARIABLE_NON_VOLATILE;
    success("a volatile one", set(guest, &NEW, volatile, b"x"))?;
    delete(guest, &NEW, volatile)
}

fn larger(guest: &Guest) -> Outcome {
    for _ in 0..2 {
        let found = set(guest, &FIRST, RUNTIME, &[7; 200]);
        status("SetVariable", found, Status::OUT_OF_RESOURCES)?;
        value(guest, &FIRST, RUNTIME, b"f")?;
    }
    Ok(())
}

fn same(guest: &Guest) -> Outcome {
    success("SetVariable", set(guest, &FIRST, RUNTIME, b"f"))?;
    success("another", set(guest, &FIRST, RUNTIME, b"g"))?;
    value(guest, &FIRST, RUNTIME, b"g")?;
    success("the first again", set(guest, &FIRST, RUNTIME, b"f"))
}

fn room(guest: &Guest) -> Outcome {
    delete(guest, &SECOND, RUNTIME)?;
    success("SetVariable", set(guest, &NEW, RUNTIME, b"x"))?;
    value(guest, &NEW, RUNTIME, b"x")?;
    let found = set(guest, &SECOND, RUNTIME, b"f");
    holds("no room", found == Status::OUT_OF_RESOURCES)?;
    delete(guest, &NEW, RUNTIME)?;
    success("as before", set(guest, &SECOND, RUNTIME, b"f"))
}
