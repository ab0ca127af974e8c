//! Time: timers, waiting and the watchdog (UEFI 2.11 §7.1.7, §7.5.1-7.5.2).
//!
//! Nothing interrupts a program: time is looked at where `events.rs` says. The
//! same holds for the watchdog, which resets the machine at the first such place
//! after its time, and not at all when a program never comes to one.

use super::{events, machine, status, system, with, with_edge};
use crate::catalog::Service;
use crate::events::{EventId, Timer};
use uefi_raw::table::boot::TimerDelay;
use uefi_raw::table::runtime::ResetType;
use uefi_raw::{Event, Status};

/// Units of 100 ns in a second.
const SECOND: u64 = 10_000_000;
/// How long Stall goes on without a look at timers, in microseconds.
const SLICE: u64 = 1000;

/// Signals the events whose timers have ended. Looks at no clock, which may have
/// to be measured first, while nobody waits for one.
pub(super) fn poll() {
    let bitten = with_edge(Service::Firmware, |edge| {
        let boot = &mut edge.boot;
        if !boot.events.has_timers() && boot.watchdog.is_none() {
            return Ok(false);
        }
        let now = (edge.machine.now)();
        boot.events.expire(now);
        Ok(boot.watchdog.take_if(|due| *due <= now).is_some())
    });
    if bitten == Ok(true) {
        log::error!("the watchdog's time is over: expected the program to stop or renew it");
        let _ = system::reset(ResetType::COLD);
    }
}

#[cold]
pub(super) unsafe extern "efiapi" fn set_timer(
    event: Event,
    delay: TimerDelay,
    time: u64,
) -> Status {
    let timer = match delay {
        TimerDelay::CANCEL => Timer::Cancel,
        TimerDelay::PERIODIC => Timer::Periodic(time),
        TimerDelay::RELATIVE => Timer::Relative(time),
        _ => return Status::INVALID_PARAMETER,
    };
    let event = EventId::from_raw(event);
    status::of(with_edge(Service::SetTimer, |edge| {
        let now = match timer {
            Timer::Cancel => 0,
            _ => (edge.machine.now)(),
        };
        let set = edge.boot.events.set_timer(event, timer, now);
        set.map_err(status::from)
    }))
}

#[cold]
pub(super) unsafe extern "efiapi" fn stall(microseconds: usize) -> Status {
    status::of(wait(u64::try_from(microseconds).unwrap_or(u64::MAX)))
}

fn wait(mut microseconds: u64) -> Result<(), Status> {
    loop {
        let timers = with(Service::Stall, |boot| Ok(boot.events.has_timers()))?;
        let slice = if timers { SLICE } else { microseconds };
        (machine(Service::Stall)?.stall)(slice.min(microseconds));
        microseconds = microseconds.saturating_sub(slice);
        events::dispatch();
        if microseconds == 0 {
            return Ok(());
        }
    }
}

#[cold]
pub(super) unsafe extern "efiapi" fn set_watchdog_timer(
    timeout: usize,
    _code: u64,
    _data_size: usize,
    _data: *const u16,
) -> Status {
    status::of(with_edge(Service::SetWatchdogTimer, |edge| {
        let timeout = u64::try_from(timeout).unwrap_or(u64::MAX);
        edge.boot.watchdog = (timeout != 0).then(|| {
            let now = (edge.machine.now)();
            now.saturating_add(timeout.saturating_mul(SECOND))
        });
        Ok(())
    }))
}
