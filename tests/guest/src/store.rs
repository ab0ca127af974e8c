//! Variables from one start to the next, where the firmware can write them until
//! ExitBootServices only: on a Xen disk.
//!
//! With `store=write` in the load options some are written; `store=check` expects
//! them, before ExitBootServices and after it. Both end like the other checks.
//! `store=loop` writes without end, and says what has been written:
//! `found=1. written=2. written=3.`

use crate::calls::Guest;
use crate::exit;
use crate::images::has_option;
use crate::map::Map;
use crate::output;
use crate::report::{Area, Failure, Outcome, Report, equal, status, success};
use crate::text::utf16;
use crate::variables::{BOOT, RUNTIME, absent, count, delete, get, set, value};
use r_efi::efi::{self, Status};

const KEPT: [u16; 5] = utf16("Kept");
const NEW: [u16; 4] = utf16("New");
const GONE: [u16; 5] = utf16("Gone");
const HIDDEN: [u16; 7] = utf16("Hidden");
const COUNT: [u16; 6] = utf16("Count");
const LARGE: [u16; 6] = utf16("Large");

/// Kept over a reset, and visible before ExitBootServices only.
const BEFORE: u32 = BOOT | efi::VARIABLE_NON_VOLATILE;

/// So large that the store has to be rewritten now and then, and less than may
/// be visible at run time.
static BALLAST: [u8; 40_000] = [0x5a; 40_000];

const WRITE: Area = Area {
    name: "store",
    checks: &[("variables are written", write)],
};
const BOOT_TIME: Area = Area {
    name: "store",
    checks: &[("variables are kept", kept)],
};
const RUN_TIME: Area = Area {
    name: "store",
    checks: &[
        ("variables can be read", visible),
        ("SetVariable is unsupported", unwritable),
    ],
};

/// Does what the load options say about the store. Whether they say something.
pub fn on_demand(guest: &Guest, report: &mut Report) -> bool {
    if has_option(guest, "store=loop") {
        let result = count_up(guest);
        report.note("store", "written without end", result);
        return true;
    }
    if has_option(guest, "store=write") {
        report.run(guest, &WRITE);
        return true;
    }
    if !has_option(guest, "store=check") {
        return false;
    }
    report.run(guest, &BOOT_TIME);
    let left = exit::leave(guest, &mut Map::new());
    if left.is_ok() {
        output::use_serial();
        report.run(guest, &RUN_TIME);
    }
    report.note("exit", "ExitBootServices", left);
    true
}

fn write(guest: &Guest) -> Outcome {
    let appending = RUNTIME | efi::VARIABLE_APPEND_WRITE;
    let calls: [(&[u16], u32, &[u8]); 7] = [
        (&KEPT, RUNTIME, b"one"),
        (&KEPT, appending, b"two"),
        (&NEW, RUNTIME, b"old"),
        (&NEW, RUNTIME, b"new"),
        (&GONE, RUNTIME, b"gone"),
        (&HIDDEN, BEFORE, b"hidden"),
        (&LARGE, RUNTIME, &BALLAST),
    ];
    for (name, attributes, data) in calls {
        success("SetVariable", set(guest, name, attributes, data))?;
    }
    // There is not as much memory for a second one.
    let found = set(guest, &COUNT, RUNTIME, &BALLAST);
    status("as much again", found, Status::OUT_OF_RESOURCES)?;
    absent(guest, &COUNT)?;
    success("not to be kept", set(guest, &COUNT, BEFORE, &BALLAST))?;
    delete(guest, &COUNT, BEFORE)?;
    delete(guest, &GONE, RUNTIME)
}

fn kept(guest: &Guest) -> Outcome {
    visible_at_all_times(guest)?;
    value(guest, &HIDDEN, BEFORE, b"hidden")?;
    equal("entries in the list", count(guest, &HIDDEN)?, 1)
}

fn visible_at_all_times(guest: &Guest) -> Outcome {
    value(guest, &KEPT, RUNTIME, b"onetwo")?;
    value(guest, &NEW, RUNTIME, b"new")?;
    absent(guest, &GONE)?;
    equal("entries in the list", count(guest, &KEPT)?, 1)
}

fn visible(guest: &Guest) -> Outcome {
    visible_at_all_times(guest)?;
    absent(guest, &HIDDEN)?;
    equal("entries in the list", count(guest, &HIDDEN)?, 0)
}

fn unwritable(guest: &Guest) -> Outcome {
    let calls: [(&[u16], &[u8]); 3] = [(&KEPT, b"other"), (&KEPT, b""), (&GONE, b"back")];
    for (name, data) in calls {
        let found = set(guest, name, RUNTIME, data);
        status("SetVariable", found, Status::UNSUPPORTED)?;
    }
    visible(guest)
}

/// Writes a number and the next one, and one that fills the store, over and over.
fn count_up(guest: &Guest) -> Outcome {
    let mut number = match get(guest, &COUNT) {
        Ok((data, 4, RUNTIME)) => u32::from_le_bytes([data[0], data[1], data[2], data[3]]),
        Err(Status::NOT_FOUND) => 0,
        found => {
            return Err(Failure::new(format_args!("{found:?}")));
        }
    };
    output::line(format_args!("found={number}."));
    loop {
        number += 1;
        success("count", set(guest, &COUNT, RUNTIME, &number.to_le_bytes()))?;
        output::line(format_args!("written={number}."));
        let ballast = &BALLAST[..3000 + number as usize % 1000];
        success("ballast", set(guest, &LARGE, RUNTIME, ballast))?;
    }
}
