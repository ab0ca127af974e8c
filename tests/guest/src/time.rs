//! The clock in each of its modes (UEFI 2.11 §8.3; MC146818 data sheet).
//!
//! Register B says whether the CMOS clock counts in BCD or binary and in 24 or
//! 12 hours. The firmware has to follow whatever is set. Run last, on demand:
//! with the word `clock` in the load options, and `year=1999` and the like to
//! tell what the host has set.

use crate::calls::Guest;
use crate::images::has_option;
use crate::misc::now;
use crate::ports;
use crate::report::{Area, Failure, Outcome, equal, holds, success};
use core::ptr;
use r_efi::efi::{Time, UNSPECIFIED_TIMEZONE};

pub const AREA: Area = Area {
    name: "8.3 clock",
    checks: &[
        ("the host's year", year),
        ("GetTime in every mode", read_modes),
        ("SetTime in every mode", set_modes),
        ("a century passes", century),
    ],
};

/// Register B's mode bits: binary, 24 hours.
const MODES: [u8; 4] = [0x02, 0x06, 0x00, 0x04];
const MODE_BITS: u8 = 0x06;
const REGISTER_B: u8 = 0x0b;

/// Times of day where 12-hour clocks are easily wrong.
const HOURS: [u8; 5] = [0, 1, 11, 12, 23];

fn time(guest: &Guest) -> Result<Time, Failure> {
    now(guest)?.ok_or_else(|| Failure::new(format_args!("expected a clock, found none")))
}

/// The years that runs of this application ask for.
fn year(guest: &Guest) -> Outcome {
    let expected = [
        ("year=1999", 1999),
        ("year=2031", 2031),
        ("year=2000", 2000),
    ];
    let found = time(guest)?.year;
    for (option, year) in expected {
        if has_option(guest, option) {
            return equal("year", found, year);
        }
    }
    Ok(())
}

/// Runs `check` in every mode, and puts the first mode back.
fn in_every_mode(check: impl Fn(u8) -> Outcome) -> Outcome {
    let before = ports::cmos(REGISTER_B);
    let mut outcome = Ok(());
    for mode in MODES {
        ports::set_cmos(REGISTER_B, before & !MODE_BITS | mode);
        outcome = outcome.and_then(|()| check(mode));
    }
    ports::set_cmos(REGISTER_B, before);
    outcome
}

/// Seconds since midnight.
fn seconds(time: &Time) -> u32 {
    u32::from(time.hour) * 3600 + u32::from(time.minute) * 60 + u32::from(time.second)
}

/// `later` is the same day and at most ten seconds after `earlier`.
fn soon_after(mode: u8, earlier: &Time, later: &Time) -> Outcome {
    let day = |time: &Time| (time.year, time.month, time.day);
    equal("day", day(later), day(earlier))?;
    let passed = seconds(later).wrapping_sub(seconds(earlier));
    if passed <= 10 {
        return Ok(());
    }
    Err(Failure::new(format_args!(
        "mode {mode:#x}: expected {:02}:{:02}:{:02} or a little later, found {:02}:{:02}:{:02}",
        earlier.hour, earlier.minute, earlier.second, later.hour, later.minute, later.second
    )))
}

fn read_modes(guest: &Guest) -> Outcome {
    set(guest, 2044, 13)?;
    let start = time(guest)?;
    in_every_mode(|mode| soon_after(mode, &start, &time(guest)?))
}

fn set_modes(guest: &Guest) -> Outcome {
    in_every_mode(|mode| {
        for hour in HOURS {
            let wanted = set(guest, 2028, hour)?;
            soon_after(mode, &wanted, &time(guest)?)?;
        }
        Ok(())
    })
}

/// The last second of a century; the one after it is the first of the next.
fn century(guest: &Guest) -> Outcome {
    let mut last = date(1999, 23);
    (last.month, last.day, last.minute, last.second) = (12, 31, 59, 59);
    success("SetTime", guest.set_time(&mut last))?;
    for _ in 0..3000 {
        guest.stall(1000);
        let found = time(guest)?;
        if found.year != 1999 {
            let date = (found.year, found.month, found.day, found.hour);
            return equal("the first hour", date, (2000, 1, 1, 0));
        }
    }
    holds("a second that passes", false)
}

/// Leap day, ten seconds to the half hour.
fn date(year: u16, hour: u8) -> Time {
    Time {
        year,
        month: 2,
        day: 29,
        hour,
        minute: 29,
        second: 50,
        pad1: 0,
        nanosecond: 0,
        timezone: UNSPECIFIED_TIMEZONE,
        daylight: 0,
        pad2: 0,
    }
}

fn set(guest: &Guest, year: u16, hour: u8) -> Result<Time, Failure> {
    let mut wanted = date(year, hour);
    success("SetTime", guest.set_time(ptr::from_mut(&mut wanted)))?;
    Ok(wanted)
}
