//! GetTime and SetTime on the CMOS clock (UEFI 2.11 §8.3, MC146818 data sheet),
//! GetTime on the time stamp counter where there is none.
//!
//! Promises a time that was whole at some moment of the call, and to wait for an
//! update of the clock only, at most some seconds where it never ends. Refuses
//! with `DEVICE_ERROR` when the clock does not settle or holds no date, with
//! `UNSUPPORTED` when there is none.
//!
//! The clock has no registers for time zone and daylight saving. What SetTime
//! said about them is kept in memory; until then GetTime reports
//! `EFI_UNSPECIFIED_TIMEZONE`.

use crate::ports;
use crate::state::{self, Zone};
use ovmf_lite_services::clock::{self, Registers};
use ovmf_lite_services::resident::{Clock, Machine};
use ovmf_lite_services::variables::Phase;
use uefi_raw::table::runtime::TimeCapabilities;
use uefi_raw::time::Time;
use uefi_raw::{Boolean, Status};

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// The bit of the index port that is no index but masks NMIs; it is the
/// operating system's.
const NMI_MASK: u8 = 0x80;

const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;

/// Register A: the time registers are about to change.
const UPDATE_IN_PROGRESS: u8 = 0x80;
/// Register B: the clock stands still while it is set.
const SET: u8 = 0x80;

/// An update takes 2.2 ms; a port read takes a machine at least 0.2 µs, and in a
/// virtual machine mostly ten times that. There the update may be as late as the
/// host's busiest thread: Linux waits for a second, too
/// (drivers/rtc/rtc-mc146818-lib.c).
const UPDATE_POLLS: u32 = 1_000_000;
/// Two readings differ only when a second has passed between them.
const READINGS: u32 = 4;

/// 50 parts per million, in units of 1e-6 of them: a usual quartz.
const ACCURACY: u32 = 50_000_000;

/// GetTime (§8.3.1).
pub unsafe extern "efiapi" fn get_time(
    time: *mut Time,
    capabilities: *mut TimeCapabilities,
) -> Status {
    let machine = state::machine();
    let read = match (machine.clock, state::phase()) {
        (Clock::CMOS, _) => now,
        (Clock::TSC, Phase::Boot) => counted,
        _ => return Status::UNSUPPORTED,
    };
    if time.is_null() {
        return Status::INVALID_PARAMETER;
    }
    let now = match read(&machine) {
        Ok(now) => now,
        Err(status) => return status,
    };
    // SAFETY: not NULL, so room for a time.
    unsafe { time.write_unaligned(now) };
    if !capabilities.is_null() {
        let found = TimeCapabilities {
            resolution: 1,
            accuracy: ACCURACY,
            sets_to_zero: Boolean::FALSE,
        };
        // SAFETY: not NULL, so room for capabilities.
        unsafe { capabilities.write_unaligned(found) };
    }
    Status::SUCCESS
}

/// SetTime (§8.3.2).
pub unsafe extern "efiapi" fn set_time(time: *const Time) -> Status {
    if state::machine().clock != Clock::CMOS {
        return Status::UNSUPPORTED;
    }
    if time.is_null() {
        return Status::INVALID_PARAMETER;
    }
    // SAFETY: not NULL, so the caller's time.
    let time = unsafe { time.read_unaligned() };
    set(&time).err().unwrap_or(Status::SUCCESS)
}

/// The time that the time stamp counter has come to.
fn counted(machine: &Machine) -> Result<Time, Status> {
    let moment = machine.moment;
    // SAFETY: RDTSC has no effect.
    let passed = unsafe { core::arch::x86_64::_rdtsc() }.wrapping_sub(moment.tsc);
    let nanoseconds = nanoseconds(passed, moment.tsc_khz.into())
        .and_then(|passed| passed.checked_add(moment.nanoseconds.into()))
        .ok_or(Status::DEVICE_ERROR)?;
    let seconds = moment.seconds.checked_add(nanoseconds / 1_000_000_000);
    seconds
        .zip(u32::try_from(nanoseconds % 1_000_000_000).ok())
        .and_then(|(seconds, nanosecond)| clock::since_1970(seconds, nanosecond))
        .ok_or(Status::DEVICE_ERROR)
}

/// How long `ticks` of a counter take that counts `khz`.
fn nanoseconds(ticks: u64, khz: u64) -> Option<u64> {
    let whole = ticks.checked_div(khz)?.checked_mul(1_000_000)?;
    let rest = ticks.checked_rem(khz)?.checked_mul(1_000_000)?;
    whole.checked_add(rest.checked_div(khz)?)
}

/// The time in the CMOS clock.
fn now(_: &Machine) -> Result<Time, Status> {
    let state = state::lock()?;
    let registers = settled_registers().ok_or(Status::DEVICE_ERROR)?;
    let time = clock::decode(&registers, get(REGISTER_B)).ok_or(Status::DEVICE_ERROR)?;
    Ok(match state.zone {
        Some(Zone {
            time_zone,
            daylight,
        }) => Time {
            time_zone,
            daylight,
            ..time
        },
        None => time,
    })
}

fn set(time: &Time) -> Result<(), Status> {
    let mut state = state::lock()?;
    let mode = get(REGISTER_B) & !SET;
    let registers = clock::encode(time, mode).ok_or(Status::INVALID_PARAMETER)?;
    put(REGISTER_B, mode | SET);
    set_registers(&registers);
    put(REGISTER_B, mode);
    state.zone = Some(Zone::from(time));
    Ok(())
}

/// The registers, once two readings agree: an interrupt may have delayed one
/// reading into the next update.
fn settled_registers() -> Option<Registers> {
    (0..READINGS).find_map(|_| {
        wait_for_update()?;
        let first = registers();
        wait_for_update()?;
        (first == registers()).then_some(first)
    })
}

fn wait_for_update() -> Option<()> {
    (0..UPDATE_POLLS)
        .find(|_| get(REGISTER_A) & UPDATE_IN_PROGRESS == 0)
        .map(|_| ())
}

fn registers() -> Registers {
    let mut values = Registers::NUMBERS;
    for value in &mut values {
        *value = get(*value);
    }
    values.into()
}

fn set_registers(registers: &Registers) {
    for (register, value) in Registers::NUMBERS.iter().zip(&registers.values()) {
        put(*register, *value);
    }
}

fn get(register: u8) -> u8 {
    select(register);
    // SAFETY: the firmware said that this is the clock.
    unsafe { ports::read(DATA) }
}

fn put(register: u8, value: u8) {
    select(register);
    // SAFETY: the firmware said that this is the clock.
    unsafe { ports::write(DATA, value) };
}

fn select(register: u8) {
    // SAFETY: the firmware said that this is the clock.
    let nmi = unsafe { ports::read(INDEX) } & NMI_MASK;
    // SAFETY: the firmware said that this is the clock.
    unsafe { ports::write(INDEX, register | nmi) };
}
