//! Small services: task priority, memory, checksums, time (UEFI 2.11 §7.1.8,
//! §7.5, §8.3).

use crate::calls::Guest;
use crate::configuration;
use crate::crc32::crc32;
use crate::images::has_option;
use crate::output;
use crate::pool;
use crate::report::{Area, Failure, Outcome, equal, gives, holds, invalid, status, success, works};
use core::mem::zeroed;
use core::ptr;
use r_efi::efi::{self, Status, Time};

pub const LEVELS: Area = Area {
    name: "7.1.8 RaiseTPL and RestoreTPL",
    checks: &[
        ("an application runs at TPL_APPLICATION", |g| {
            at_level(g, efi::TPL_APPLICATION)
        }),
        ("RaiseTPL returns the level before", |g| {
            let before = g.raise_tpl(efi::TPL_NOTIFY);
            let raised = g.raise_tpl(efi::TPL_HIGH_LEVEL);
            g.restore_tpl(before);
            equal(
                "levels",
                (before, raised),
                (efi::TPL_APPLICATION, efi::TPL_NOTIFY),
            )
        }),
        ("RaiseTPL to the level as it is", |g| {
            let before = g.raise_tpl(efi::TPL_APPLICATION);
            equal("level", before, efi::TPL_APPLICATION)?;
            at_level(g, efi::TPL_APPLICATION)
        }),
        ("RestoreTPL past a level in between", |g| {
            let first = g.raise_tpl(efi::TPL_CALLBACK);
            g.raise_tpl(efi::TPL_NOTIFY);
            g.restore_tpl(first);
            at_level(g, efi::TPL_APPLICATION)
        }),
        ("RestoreTPL to a level in between", |g| {
            let first = g.raise_tpl(efi::TPL_CALLBACK);
            let second = g.raise_tpl(efi::TPL_NOTIFY);
            g.restore_tpl(second);
            let found = at_level(g, efi::TPL_CALLBACK);
            g.restore_tpl(first);
            found
        }),
        ("memory services work at TPL_NOTIFY", |g| {
            let before = g.raise_tpl(efi::TPL_NOTIFY);
            let buffer = pool::allocate(g, 100);
            let freed = buffer.and_then(|buffer| pool::free(g, buffer));
            g.restore_tpl(before);
            freed
        }),
    ],
};

/// A watchdog that bites within [`STALL`] ends the run.
pub const WATCHDOG: Area = Area {
    name: "7.5.1 SetWatchdogTimer",
    checks: &[
        ("a second", |g| works(watchdog(g, 1))),
        ("a longer time takes the place of the first", |g| {
            works(watchdog(g, 300))
        }),
    ],
};

/// After [`STALL`].
pub const NO_WATCHDOG: Area = Area {
    name: "7.5.1 SetWatchdogTimer",
    checks: &[("a time of 0 ends it", |g| works(watchdog(g, 0)))],
};

pub const STALL: Area = Area {
    name: "7.5.2 Stall",
    checks: &[
        ("no time", |g| works(g.stall(0))),
        ("a millisecond", |g| works(g.stall(1000))),
        ("takes no less than it has to", clock),
    ],
};

pub const MEMORY: Area = Area {
    name: "7.5.3 CopyMem and SetMem",
    checks: &[
        ("CopyMem upwards with overlap", |g| {
            copied(g, 2, 0, 6, b"0101234589")
        }),
        ("CopyMem downwards with overlap", |g| {
            copied(g, 0, 2, 6, b"2345676789")
        }),
        ("CopyMem upwards by one", |g| {
            copied(g, 1, 0, 9, b"0012345678")
        }),
        ("CopyMem downwards by one", |g| {
            copied(g, 0, 1, 9, b"1234567899")
        }),
        ("CopyMem to where it is", |g| {
            copied(g, 3, 3, 5, b"0123456789")
        }),
        ("CopyMem without overlap", |g| {
            copied(g, 0, 5, 5, b"5678956789")
        }),
        ("CopyMem of no bytes", |g| copied(g, 0, 5, 0, b"0123456789")),
        ("CopyMem of no bytes from and to NULL", |g| {
            g.copy_mem(ptr::null_mut(), ptr::null(), 0);
            Ok(())
        }),
        ("CopyMem of two megabytes with overlap", copy_much),
        ("SetMem", |g| set(g, 3, 4, b"012xxxx789")),
        ("SetMem of one byte", |g| set(g, 9, 1, b"012345678x")),
        ("SetMem of no bytes", |g| set(g, 3, 0, b"0123456789")),
    ],
};

pub const CRC: Area = Area {
    name: "7.5.7 CalculateCrc32",
    checks: &[
        // The check value of this CRC in every catalogue.
        ("the check value", |g| crc(g, b"123456789", 0xcbf4_3926)),
        ("one byte", |g| crc(g, b"\0", 0xd202_ef8d)),
        ("the same as ours of a page", crc_of_page),
        ("Data of NULL", |g| {
            invalid(g.calculate_crc32(ptr::null(), 9, &mut 0))
        }),
        ("no bytes", |g| {
            invalid(g.calculate_crc32(b"1".as_ptr().cast(), 0, &mut 0))
        }),
        ("Crc32 of NULL", |g| {
            invalid(g.calculate_crc32(b"1".as_ptr().cast(), 1, ptr::null_mut()))
        }),
    ],
};

pub const TIME: Area = Area {
    name: "8.3.1 GetTime",
    checks: &[
        ("a time that can be", get_time),
        ("Time of NULL", no_time),
        ("Capabilities are those of a clock", capabilities),
    ],
};

pub const SET_TIME: Area = Area {
    name: "8.3.2 SetTime",
    checks: &[
        ("what GetTime returned", set_same),
        ("Time of NULL", |g| refused(g, g.set_time(ptr::null_mut()))),
        ("month 0", |g| wrong(g, |time| time.month = 0)),
        ("month 13", |g| wrong(g, |time| time.month = 13)),
        ("day 0", |g| wrong(g, |time| time.day = 0)),
        ("day 32", |g| wrong(g, |time| time.day = 32)),
        ("April 31", |g| {
            wrong(g, |time| (time.month, time.day) = (4, 31))
        }),
        ("February 29 of no leap year", |g| {
            wrong(g, |time| (time.year, time.month, time.day) = (2027, 2, 29))
        }),
        ("year 1899", |g| wrong(g, |time| time.year = 1899)),
        ("year 10000", |g| wrong(g, |time| time.year = 10000)),
        ("hour 24", |g| wrong(g, |time| time.hour = 24)),
        ("minute 60", |g| wrong(g, |time| time.minute = 60)),
        ("second 60", |g| wrong(g, |time| time.second = 60)),
        ("a billion nanoseconds", |g| {
            wrong(g, |time| time.nanosecond = 1_000_000_000)
        }),
        ("a time zone of 1441 minutes", |g| {
            wrong(g, |time| time.timezone = 1441)
        }),
        ("a time zone of -1441 minutes", |g| {
            wrong(g, |time| time.timezone = -1441)
        }),
        ("daylight of an unknown bit", |g| {
            wrong(g, |time| time.daylight = 4)
        }),
    ],
};

fn watchdog(guest: &Guest, seconds: usize) -> Status {
    const CODE: u64 = 0x1_0000;
    guest.set_watchdog_timer(seconds, CODE, 0, ptr::null_mut())
}

/// Checks the level by raising it as far as it goes.
fn at_level(guest: &Guest, level: efi::Tpl) -> Outcome {
    let before = guest.raise_tpl(efi::TPL_HIGH_LEVEL);
    guest.restore_tpl(before);
    equal("level", before, level)
}

fn copied(guest: &Guest, to: usize, from: usize, size: usize, expected: &[u8; 10]) -> Outcome {
    let mut bytes = *b"0123456789";
    let start = bytes.as_mut_ptr();
    guest.copy_mem(
        start.wrapping_add(to).cast(),
        start.wrapping_add(from).cast(),
        size,
    );
    equal("bytes", &bytes, expected)
}

fn copy_much(guest: &Guest) -> Outcome {
    const SIZE: usize = 2 << 20;
    let buffer = pool::allocate(guest, SIZE + 8)?;
    let words = buffer.cast::<u64>();
    for (i, word) in [(0, 1_u64), (SIZE / 16, 2), (SIZE / 8 - 1, 3)] {
        // SAFETY: inside the buffer.
        unsafe { words.wrapping_add(i).write(word) };
    }
    guest.copy_mem(buffer.wrapping_add(8).cast(), buffer.cast(), SIZE);
    let found = [1, SIZE / 16 + 1, SIZE / 8].map(|i| {
        // SAFETY: as above.
        unsafe { words.wrapping_add(i).read() }
    });
    pool::free(guest, buffer)?;
    equal("words", found, [1, 2, 3])
}

fn set(guest: &Guest, at: usize, size: usize, expected: &[u8; 10]) -> Outcome {
    let mut bytes = *b"0123456789";
    guest.set_mem(bytes.as_mut_ptr().wrapping_add(at).cast(), size, b'x');
    equal("bytes", &bytes, expected)
}

fn crc(guest: &Guest, data: &[u8], expected: u32) -> Outcome {
    let mut crc = 0;
    works(guest.calculate_crc32(data.as_ptr().cast(), data.len(), &mut crc))?;
    equal("CRC-32", crc, expected)
}

fn crc_of_page(guest: &Guest) -> Outcome {
    let page: [u8; 4096] = core::array::from_fn(|i| ((i * 7) >> 3) as u8);
    crc(guest, &page, crc32(page.iter().copied()))
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
    )
}

/// Whether there is a clock at this time.
fn has_clock(guest: &Guest) -> Result<bool, Failure> {
    Ok(now(guest)?.is_some())
}

fn no_time(guest: &Guest) -> Outcome {
    if !has_clock(guest)? {
        return Ok(());
    }
    invalid(guest.get_time(ptr::null_mut(), ptr::null_mut()))
}

fn capabilities(guest: &Guest) -> Outcome {
    if !has_clock(guest)? {
        return Ok(());
    }
    // SAFETY: integers and booleans, which zero is valid for.
    let (mut time, mut found): (Time, efi::TimeCapabilities) = unsafe { zeroed() };
    works(guest.get_time(&mut time, &mut found))?;
    holds("a reading a second or more", found.resolution >= 1)
}

/// Counts stalls of 10 ms to the clock's next second, at most three of them.
fn next_second(guest: &Guest, from: u8) -> Result<(u8, u32), Failure> {
    for count in 0..300 {
        match now(guest)? {
            Some(time) if time.second != from => return Ok((time.second, count)),
            _ => works(guest.stall(10_000))?,
        }
    }
    Err(Failure::new(format_args!(
        "expected a clock that goes, found one that stands"
    )))
}

/// A busy host makes any wait longer, but nothing makes one shorter: no more of
/// them fit into a second than its length allows.
fn clock(guest: &Guest) -> Outcome {
    let Some(time) = now(guest)? else {
        return Ok(());
    };
    let (start, _) = next_second(guest, time.second)?;
    let (_, count) = next_second(guest, start)?;
    holds("at most 102 times 10 ms in a second", count <= 102)
}

/// Whether the clock can be set now and ever after.
fn settable(guest: &Guest) -> Result<bool, Failure> {
    Ok(configuration::runtime_services(guest)? & efi::RT_SUPPORTED_SET_TIME != 0)
}

fn set_same(guest: &Guest) -> Outcome {
    let Some(mut time) = now(guest)? else {
        return Ok(());
    };
    match settable(guest)? {
        true => works(guest.set_time(&mut time)),
        false => gives(Status::UNSUPPORTED, guest.set_time(&mut time)),
    }
}

fn refused(guest: &Guest, found: Status) -> Outcome {
    match has_clock(guest)? && settable(guest)? {
        true => invalid(found),
        false => gives(Status::UNSUPPORTED, found),
    }
}

/// Sets a time that is none.
fn wrong(guest: &Guest, spoil: fn(&mut Time)) -> Outcome {
    // A Friday in a year like any other.
    let mut time = Time {
        year: 2026,
        month: 5,
        day: 29,
        hour: 12,
        minute: 30,
        second: 30,
        pad1: 0,
        nanosecond: 0,
        timezone: efi::UNSPECIFIED_TIMEZONE,
        daylight: 0,
        pad2: 0,
    };
    spoil(&mut time);
    refused(guest, guest.set_time(&mut time))
}
