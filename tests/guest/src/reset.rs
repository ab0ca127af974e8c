//! ResetSystem on demand: `reset=cold`, `reset=warm` or `reset=shutdown` in the
//! load options, with `late` for after ExitBootServices (UEFI 2.11 §8.5.1); and
//! `watchdog`, which has the watchdog do it (§7.5.1).
//!
//! What became of the machine only its host can see.

use crate::calls::Guest;
use crate::images::has_option;
use crate::map::Map;
use crate::{exit, output, ports};
use core::ptr;
use r_efi::efi::{self, ResetType, Status};

const KINDS: [(&str, ResetType); 3] = [
    ("reset=cold", efi::RESET_COLD),
    ("reset=warm", efi::RESET_WARM),
    ("reset=shutdown", efi::RESET_SHUTDOWN),
];

/// Resets if the load options say so; else returns.
pub fn on_demand(guest: &Guest) {
    if has_option(guest, "watchdog") {
        output::line(format_args!("guest: watchdog"));
        guest.set_watchdog_timer(1, 0x1_0000, 0, ptr::null_mut());
        guest.stall(5_000_000);
        ports::panic_machine();
    }
    let wanted = KINDS.iter().find(|(word, _)| has_option(guest, word));
    let Some((word, kind)) = wanted else {
        return;
    };
    output::line(format_args!("guest: {word}"));
    if has_option(guest, "late") && exit::leave(guest, &mut Map::new()).is_err() {
        ports::panic_machine();
    }
    guest.reset_system(*kind, Status::SUCCESS, 0, ptr::null_mut());
    // It must not return.
    ports::panic_machine()
}
