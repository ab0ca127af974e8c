//! A host that keeps variables and answers nonsense: with `broken=reads` in the
//! load options where something is read, with `broken=all` everywhere. Its answers
//! are wrong from the first SetVariable on.
//!
//! Each service says `DEVICE_ERROR` then, before and after ExitBootServices, and
//! the machine can be shut down. Nothing else is checked.

use crate::calls::Guest;
use crate::images::has_option;
use crate::map::Map;
use crate::report::{Area, Check, Outcome, Report, equal, status};
use crate::variables::{RUNTIME, VENDOR, get, set};
use crate::{exit, output, text};
use core::mem::size_of_val;
use r_efi::efi::Status;

const READS: [Check; 4] = [
    ("SetVariable", set_works),
    ("GetVariable", get_fails),
    ("GetNextVariableName", next_fails),
    ("QueryVariableInfo", crate::variables::query),
];

const ALL: [Check; 4] = [
    ("SetVariable", set_fails),
    ("GetVariable", get_fails),
    ("GetNextVariableName", next_fails),
    ("QueryVariableInfo", query_fails),
];

const NAME: [u16; 6] = text::utf16("Guest");

/// Checks it if the load options say so, and whether they do.
pub fn on_demand(guest: &Guest, report: &mut Report) -> bool {
    let words = [("broken=reads", &READS), ("broken=all", &ALL)];
    let wanted = words.iter().find(|(word, _)| has_option(guest, word));
    let Some((_, checks)) = wanted else {
        return false;
    };
    let mut run = |name| {
        report.run(
            guest,
            &Area {
                name,
                checks: *checks,
            },
        )
    };
    run("broken");
    let left = exit::leave(guest, &mut Map::new());
    if left.is_ok() {
        output::use_serial();
        run("broken at run time");
    }
    report.note("broken", "ExitBootServices", left);
    true
}

fn set_works(guest: &Guest) -> Outcome {
    status(
        "SetVariable",
        set(guest, &NAME, RUNTIME, b"value"),
        Status::SUCCESS,
    )
}

fn set_fails(guest: &Guest) -> Outcome {
    let found = set(guest, &NAME, RUNTIME, b"value");
    status("SetVariable", found, Status::DEVICE_ERROR)
}

fn get_fails(guest: &Guest) -> Outcome {
    equal("GetVariable", get(guest, &NAME), Err(Status::DEVICE_ERROR))
}

fn next_fails(guest: &Guest) -> Outcome {
    let (mut name, mut vendor) = ([0_u16; 16], VENDOR);
    let mut size = size_of_val(&name);
    let found = guest.get_next_variable_name(&mut size, name.as_mut_ptr(), &mut vendor);
    status("GetNextVariableName", found, Status::DEVICE_ERROR)
}

fn query_fails(guest: &Guest) -> Outcome {
    let (mut maximum, mut remaining, mut largest) = (0, 0, 0);
    let found = guest.query_variable_info(RUNTIME, &mut maximum, &mut remaining, &mut largest);
    status("QueryVariableInfo", found, Status::DEVICE_ERROR)
}
