//! The PC's real-time clock, without its ports: register contents ↔ `EFI_TIME`;
//! and the time of hosts that count seconds since 1970.
//!
//! Promises both directions for every mode of the MC146818 (BCD or binary, 12
//! or 24 hours) and the checks UEFI 2.11 §8.3 asks SetTime for. Refuses register
//! contents that are no date. The clock keeps neither time zone nor daylight
//! saving: [`decode`] reports `EFI_UNSPECIFIED_TIMEZONE` and no daylight flags.

use uefi_raw::time::{Daylight, Time};

/// Register B: values are binary, not BCD (MC146818 data sheet, "DM").
const BINARY: u8 = 0x04;
/// Register B: hours count from 0 to 23, not from 1 to 12 twice.
const HOURS_24: u8 = 0x02;
/// Hours register in 12-hour mode: afternoon.
const PM: u8 = 0x80;
/// The century of a machine whose clock does not count centuries.
const CENTURY: u8 = 20;

const SECONDS_A_DAY: u64 = 86_400;

/// The time registers of the clock, in its own format.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Register 0x00.
    pub second: u8,
    /// Register 0x02.
    pub minute: u8,
    /// Register 0x04.
    pub hour: u8,
    /// Register 0x07.
    pub day: u8,
    /// Register 0x08.
    pub month: u8,
    /// Register 0x09: the year within the century.
    pub year: u8,
    /// Register 0x32, which most PCs have; anything but 19 to 99 is taken as
    /// "not there".
    pub century: u8,
}

impl Registers {
    /// Their numbers, in the order of the fields.
    pub const NUMBERS: [u8; 7] = [0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x32];

    /// What they hold, in the order of their numbers.
    #[must_use]
    pub const fn values(self) -> [u8; 7] {
        let Self {
            second,
            minute,
            hour,
            day,
            month,
            year,
            century,
        } = self;
        [second, minute, hour, day, month, year, century]
    }
}

impl From<[u8; 7]> for Registers {
    fn from(values: [u8; 7]) -> Self {
        let [second, minute, hour, day, month, year, century] = values;
        Self {
            second,
            minute,
            hour,
            day,
            month,
            year,
            century,
        }
    }
}

/// The time in `registers`, read in the format that register B, `mode`, tells; none
/// if they hold no date.
#[must_use]
pub fn decode(registers: &Registers, mode: u8) -> Option<Time> {
    number_fields(registers, mode).filter(date_exists)
}

/// `time` in the format that register B, `mode`, asks for; none if a field of it is
/// out of range.
///
/// Nanoseconds, time zone and daylight flags must be valid, and are dropped.
#[must_use]
pub fn encode(time: &Time, mode: u8) -> Option<Registers> {
    if !(date_exists(time) && zone_exists(time)) {
        return None;
    }
    register_fields(time, mode)
}

/// The time in UTC, so many seconds after 1970 began; none after the year 9999,
/// the last that `EFI_TIME` has.
#[must_use]
pub fn since_1970(seconds: u64, nanosecond: u32) -> Option<Time> {
    let (year, month, day) = date(seconds / SECONDS_A_DAY)?;
    let of_day = u32::try_from(seconds % SECONDS_A_DAY).ok()?;
    let unit = |length: u32, count: u32| {
        let passed = of_day.checked_div(length)?.checked_rem(count)?;
        u8::try_from(passed).ok()
    };
    Some(Time {
        year,
        month,
        day,
        hour: unit(3600, 24)?,
        minute: unit(60, 60)?,
        second: unit(1, 60)?,
        nanosecond,
        time_zone: 0,
        ..Time::default()
    })
}

/// Year, month and day, so many days after 1970 began.
fn date(mut rest: u64) -> Option<(u16, u8, u8)> {
    for year in 1970..=9999 {
        for month in 1..=12 {
            let length = u64::from(days(year, month));
            if rest < length {
                return Some((year, month, u8::try_from(rest).ok()?.checked_add(1)?));
            }
            rest = rest.checked_sub(length)?;
        }
    }
    None
}

fn number_fields(registers: &Registers, mode: u8) -> Option<Time> {
    let century = number(registers.century, mode).filter(|century| (19..=99).contains(century));
    let year = number(registers.year, mode).filter(|year| *year <= 99)?;
    Some(Time {
        year: u16::from(century.unwrap_or(CENTURY))
            .checked_mul(100)?
            .checked_add(u16::from(year))?,
        month: number(registers.month, mode)?,
        day: number(registers.day, mode)?,
        hour: hour_of_day(registers.hour, mode)?,
        minute: number(registers.minute, mode)?,
        second: number(registers.second, mode)?,
        time_zone: Time::UNSPECIFIED_TIMEZONE,
        ..Time::default()
    })
}

fn register_fields(time: &Time, mode: u8) -> Option<Registers> {
    Some(Registers {
        second: register(time.second, mode),
        minute: register(time.minute, mode),
        hour: hour_register(time.hour, mode),
        day: register(time.day, mode),
        month: register(time.month, mode),
        year: register(u8::try_from(time.year % 100).ok()?, mode),
        century: register(u8::try_from(time.year / 100).ok()?, mode),
    })
}

fn hour_of_day(register: u8, mode: u8) -> Option<u8> {
    if mode & HOURS_24 != 0 {
        return number(register, mode);
    }
    let hour = number(register & !PM, mode).filter(|hour| (1..=12).contains(hour))?;
    let noon = if register & PM != 0 { 12 } else { 0 };
    (hour % 12).checked_add(noon)
}

fn hour_register(hour: u8, mode: u8) -> u8 {
    if mode & HOURS_24 != 0 {
        return register(hour, mode);
    }
    let half_day = if hour >= 12 { PM } else { 0 };
    let on_the_dial = match hour % 12 {
        0 => 12,
        hour => hour,
    };
    register(on_the_dial, mode) | half_day
}

fn number(register: u8, mode: u8) -> Option<u8> {
    if mode & BINARY != 0 {
        return Some(register);
    }
    let (tens, ones) = (register >> 4, register & 0xf);
    (tens <= 9 && ones <= 9).then_some(tens.wrapping_mul(10).wrapping_add(ones))
}

/// `number` is below 100.
#[inline(never)]
fn register(number: u8, mode: u8) -> u8 {
    if mode & BINARY != 0 {
        number
    } else {
        ((number / 10) << 4) | (number % 10)
    }
}

fn date_exists(time: &Time) -> bool {
    time.is_valid() && time.day <= days(time.year, time.month)
}

fn zone_exists(time: &Time) -> bool {
    time.daylight.bits() & !Daylight::all().bits() == 0
}

fn days(year: u16, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

const fn leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const MODES: [u8; 4] = [0, BINARY, HOURS_24, BINARY | HOURS_24];

    fn time(year: u16, month: u8, day: u8, hour: u8) -> Time {
        let time_zone = Time::UNSPECIFIED_TIMEZONE;
        Time {
            year,
            month,
            day,
            hour,
            minute: 59,
            second: 7,
            time_zone,
            ..Time::default()
        }
    }

    #[test]
    fn seconds_since_1970_are_dates() {
        let date = |seconds| {
            let time = since_1970(seconds, 5).unwrap();
            assert!(date_exists(&time) && time.nanosecond == 5 && time.time_zone == 0);
            let day = (time.year, time.month, time.day);
            (day, (time.hour, time.minute, time.second))
        };
        assert_eq!(date(0), ((1970, 1, 1), (0, 0, 0)));
        assert_eq!(date(951_868_799), ((2000, 2, 29), (23, 59, 59)));
        assert_eq!(date(951_868_800), ((2000, 3, 1), (0, 0, 0)));
        assert_eq!(date(1_764_099_296), ((2025, 11, 25), (19, 34, 56)));
        assert_eq!(date(253_402_300_799), ((9999, 12, 31), (23, 59, 59)));
        assert_eq!(since_1970(253_402_300_800, 0), None);
        assert_eq!(since_1970(u64::MAX, 0), None);
    }

    #[test]
    fn every_hour_survives_every_mode() {
        for (mode, hour) in MODES
            .iter()
            .flat_map(|mode| (0..24).map(move |hour| (*mode, hour)))
        {
            for year in [1900, 1999, 2024, 9999] {
                let time = time(year, 2, 28, hour);
                assert_eq!(
                    decode(&encode(&time, mode).unwrap(), mode),
                    Some(time),
                    "mode {mode:#x}"
                );
            }
        }
    }

    #[test]
    fn bcd_with_twelve_hours_as_the_data_sheet_shows() {
        let midnight = Registers {
            second: 0x07,
            minute: 0x59,
            hour: 0x12,
            day: 0x28,
            month: 0x12,
            year: 0x24,
            century: 0x20,
        };
        assert_eq!(encode(&time(2024, 12, 28, 0), 0), Some(midnight));
        assert_eq!(
            encode(&time(2024, 12, 28, 12), 0),
            Some(Registers {
                hour: 0x92,
                ..midnight
            })
        );
        assert_eq!(
            encode(&time(2024, 12, 28, 23), 0),
            Some(Registers {
                hour: 0x91,
                ..midnight
            })
        );
        assert_eq!(
            encode(&time(2024, 12, 28, 23), HOURS_24),
            Some(Registers {
                hour: 0x23,
                ..midnight
            })
        );
        let binary = Registers {
            second: 7,
            minute: 59,
            hour: 0x8b,
            day: 28,
            month: 12,
            year: 24,
            century: 20,
        };
        assert_eq!(encode(&time(2024, 12, 28, 23), BINARY), Some(binary));
    }

    #[test]
    fn a_clock_without_centuries_is_in_this_one() {
        for century in [0x00, 0x18, 0xff, 0x1f] {
            let registers = Registers {
                century,
                ..encode(&time(2031, 1, 1, 1), HOURS_24).unwrap()
            };
            assert_eq!(decode(&registers, HOURS_24).unwrap().year, 2031);
        }
    }

    #[test]
    fn registers_that_are_no_date_are_refused() {
        let good = encode(&time(2024, 2, 29, 13), HOURS_24).unwrap();
        for bad in [
            Registers {
                second: 0x60,
                ..good
            },
            Registers {
                minute: 0x0a,
                ..good
            },
            Registers { hour: 0x24, ..good },
            Registers { day: 0, ..good },
            Registers { day: 0x30, ..good },
            Registers {
                month: 0x13,
                ..good
            },
            Registers { year: 0xff, ..good },
            Registers { year: 0x23, ..good },
        ] {
            assert_eq!(decode(&bad, HOURS_24), None);
        }
        assert!(
            decode(&Registers { hour: 0x13, ..good }, 0).is_none(),
            "13 on a 12-hour dial"
        );
        assert!(
            decode(&Registers { hour: 0x00, ..good }, 0).is_none(),
            "0 on a 12-hour dial"
        );
    }

    #[test]
    fn times_set_time_must_refuse() {
        let good = time(2024, 2, 29, 13);
        for bad in [
            Time { year: 1899, ..good },
            Time {
                year: 10000,
                ..good
            },
            Time { year: 2100, ..good },
            Time { year: 2023, ..good },
            Time { month: 0, ..good },
            Time { month: 13, ..good },
            Time { day: 30, ..good },
            Time {
                month: 4,
                day: 31,
                ..good
            },
            Time { hour: 24, ..good },
            Time { minute: 60, ..good },
            Time { second: 60, ..good },
            Time {
                nanosecond: 1_000_000_000,
                ..good
            },
            Time {
                time_zone: 1441,
                ..good
            },
            Time {
                time_zone: -1441,
                ..good
            },
            Time {
                daylight: Daylight::from_bits_retain(4),
                ..good
            },
        ] {
            assert_eq!(encode(&bad, 0), None);
        }
        assert!(
            encode(
                &Time {
                    year: 2000,
                    time_zone: -1440,
                    ..good
                },
                0
            )
            .is_some()
        );
    }
}
