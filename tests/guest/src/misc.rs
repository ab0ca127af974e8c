//! Small services: memory, checksums, task priority, time (UEFI 2.11 §7.1,
//! §7.5, §8.3).

use crate::calls::Guest;
use crate::configuration;
use crate::images::has_option;
use crate::output;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use core::mem::{size_of_val, zeroed};
use core::ptr;
use r_efi::efi::{self, Status, Time};

pub const AREA: Area = Area {
    name: "misc",
    checks: &[
        ("CalculateCrc32", crc32),
        ("CopyMem with overlap", copy_mem),
        ("SetMem", set_mem),
        ("RaiseTPL and RestoreTPL", tpl),
        ("Stall", stall),
        ("GetTime", get_time),
        ("a second of Stall is a second of GetTime", clock),
        ("SetTime of what is no time", set_time),
    ],
};

fn crc32(guest: &Guest) -> Outcome {
    // The check value of this CRC in every catalogue.
    let data = *b"123456789";
    let start = data.as_ptr().cast();
    let mut crc = 0;
    success(
        "CalculateCrc32",
        guest.calculate_crc32(start, data.len(), &mut crc),
    )?;
    equal("CRC-32", crc, 0xcbf4_3926)?;
    let refused = Status::INVALID_PARAMETER;
    status(
        "no data",
        guest.calculate_crc32(ptr::null(), 9, &mut crc),
        refused,
    )?;
    status(
        "no bytes",
        guest.calculate_crc32(start, 0, &mut crc),
        refused,
    )?;
    status(
        "no result",
        guest.calculate_crc32(start, 9, ptr::null_mut()),
        refused,
    )
}

fn copy_mem(guest: &Guest) -> Outcome {
    let mut bytes = *b"0123456789";
    let start = bytes.as_mut_ptr();
    guest.copy_mem(start.wrapping_add(2).cast(), start.cast(), 6);
    equal("upwards", &bytes, b"0101234589")?;
    let start = bytes.as_mut_ptr();
    guest.copy_mem(start.cast(), start.wrapping_add(2).cast(), 6);
    equal("downwards", &bytes, b"0123454589")?;
    guest.copy_mem(ptr::null_mut(), ptr::null(), 0);
    Ok(())
}

fn set_mem(guest: &Guest) -> Outcome {
    let mut bytes = *b"0123456789";
    let start = bytes.as_mut_ptr();
    guest.set_mem(start.wrapping_add(3).cast(), 4, b'x');
    equal("bytes", &bytes, b"012xxxx789")
}

fn tpl(guest: &Guest) -> Outcome {
    let before = guest.raise_tpl(efi::TPL_NOTIFY);
    equal("level of an application", before, efi::TPL_APPLICATION)?;
    equal(
        "level after raising",
        guest.raise_tpl(efi::TPL_HIGH_LEVEL),
        efi::TPL_NOTIFY,
    )?;
    guest.restore_tpl(before);
    let found = guest.raise_tpl(efi::TPL_APPLICATION);
    equal("level after restoring", found, efi::TPL_APPLICATION)
}

fn stall(guest: &Guest) -> Outcome {
    success("Stall", guest.stall(0))?;
    success("Stall", guest.stall(1000))
}

/// The time; `None` on a machine without a clock, when the firmware says so. With
/// the word `boot-time` in the load options there is one that is promised for the
/// time of boot services only.
pub fn now(guest: &Guest) -> Result<Option<Time>, Failure> {
    // SAFETY: integers and booleans, which zero is valid for.
    let mut time: Time = unsafe { zeroed() };
    let found = guest.get_time(&mut time, ptr::null_mut());
    let promised = configuration::runtime_services(guest)? & efi::RT_SUPPORTED_GET_TIME != 0;
    let boot = !guest.system().boot_services.is_null();
    let for_boot = boot && has_option(guest, "boot-time");
    if for_boot {
        holds("no clock at run time", !promised)?;
    }
    if !(promised || for_boot) {
        status("GetTime", found, Status::UNSUPPORTED)?;
        return Ok(None);
    }
    success("GetTime", found)?;
    Ok(Some(time))
}

/// Checks that there is a time and that it can be one.
pub fn get_time(guest: &Guest) -> Outcome {
    let Some(time) = now(guest)? else {
        return Ok(());
    };
    // For whoever runs this to compare with a clock of theirs.
    output::line(format_args!(
        "guest: time {:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year, time.month, time.day, time.hour, time.minute, time.second
    ));
    // The earliest year that a test gives the machine, to what CMOS clocks keep.
    holds(
        "a year from 1999 to 2099",
        (1999..2100).contains(&time.year),
    )?;
    holds("a month", (1..=12).contains(&time.month))?;
    holds("a day", (1..=31).contains(&time.day))?;
    holds(
        "a time of day",
        time.hour < 24 && time.minute < 60 && time.second < 60,
    )?;
    let zone = time.timezone;
    holds(
        "a time zone",
        zone == efi::UNSPECIFIED_TIMEZONE || zone.abs() <= 1440,
    )?;
    let found = guest.get_time(ptr::null_mut(), ptr::null_mut());
    status("no time wanted", found, Status::INVALID_PARAMETER)
}

/// Waits for the clock's next second, at most two of them.
fn next_second(guest: &Guest, from: u8) -> Result<u8, Failure> {
    for _ in 0..2000 {
        guest.stall(1000);
        match now(guest)? {
            Some(time) if time.second != from => return Ok(time.second),
            _ => {}
        }
    }
    Err(Failure::new(format_args!(
        "expected a clock that goes, found one that stands"
    )))
}

fn clock(guest: &Guest) -> Outcome {
    let Some(time) = now(guest)? else {
        return Ok(());
    };
    let start = next_second(guest, time.second)?;
    success("Stall", guest.stall(1_100_000))?;
    let end = now(guest)?.map_or(start, |time| time.second);
    let passed = (60 + end - start) % 60;
    // A busy host adds to any wait, but nothing makes one shorter.
    holds("1 to 9 seconds passed", (1..10).contains(&passed))
}

fn set_time(guest: &Guest) -> Outcome {
    let Some(mut time) = now(guest)? else {
        return Ok(());
    };
    time.month = 13;
    let found = guest.set_time(&mut time);
    let settable = configuration::runtime_services(guest)? & efi::RT_SUPPORTED_SET_TIME != 0;
    let expected = match settable {
        true => Status::INVALID_PARAMETER,
        false => Status::UNSUPPORTED,
    };
    status("SetTime", found, expected)?;
    equal("size of a time", size_of_val(&time), 16)
}
