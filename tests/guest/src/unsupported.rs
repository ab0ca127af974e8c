//! The services that the firmware does not offer: all callable, all say
//! `UNSUPPORTED`. `docs/COVERAGE.md` has the same list.

use crate::calls::Guest;
use crate::protocols::UNKNOWN;
use crate::report::{Area, Outcome, status};
use core::mem::zeroed;
use core::ptr;
use r_efi::efi::{self, Boolean, Status, Time};

pub const AREA: Area = Area {
    name: "unsupported",
    checks: &[("boot services", boot), ("runtime services", runtime)],
};

/// A stub's name and a call of it that would be right otherwise.
type Stub = (&'static str, fn(&Guest) -> Status);

const BOOT: [Stub; 12] = [
    ("CreateEvent", |g| {
        g.create_event(
            0,
            efi::TPL_CALLBACK,
            None,
            ptr::null_mut(),
            &mut ptr::null_mut(),
        )
    }),
    ("CreateEventEx", |g| {
        let event = &mut ptr::null_mut();
        g.create_event_ex(0, efi::TPL_CALLBACK, None, ptr::null(), ptr::null(), event)
    }),
    ("SetTimer", |g| g.set_timer(g.handle, efi::TIMER_CANCEL, 0)),
    ("WaitForEvent", |g| {
        g.wait_for_event(1, &mut { g.handle }, &mut 0)
    }),
    ("SignalEvent", |g| g.signal_event(g.handle)),
    ("CloseEvent", |g| g.close_event(g.handle)),
    ("CheckEvent", |g| g.check_event(g.handle)),
    ("RegisterProtocolNotify", |g| {
        g.register_protocol_notify(&UNKNOWN, g.handle, &mut ptr::null_mut())
    }),
    ("GetNextMonotonicCount", |g| {
        g.get_next_monotonic_count(&mut 0)
    }),
    ("SetWatchdogTimer", |g| {
        g.set_watchdog_timer(0, 0, 0, ptr::null_mut())
    }),
    ("ConnectController", |g| {
        g.connect_controller(g.handle, ptr::null_mut(), ptr::null_mut(), Boolean::FALSE)
    }),
    ("DisconnectController", |g| {
        g.disconnect_controller(g.handle, ptr::null_mut(), ptr::null_mut())
    }),
];

const RUNTIME: [Stub; 6] = [
    ("GetWakeupTime", |g| {
        let (mut enabled, mut pending) = (Boolean::FALSE, Boolean::FALSE);
        // SAFETY: integers and booleans, which zero is valid for.
        let mut time: Time = unsafe { zeroed() };
        g.get_wakeup_time(&mut enabled, &mut pending, &mut time)
    }),
    ("SetWakeupTime", |g| {
        g.set_wakeup_time(Boolean::FALSE, ptr::null_mut())
    }),
    ("ConvertPointer", |g| {
        g.convert_pointer(0, &mut { g.handle })
    }),
    ("GetNextHighMonotonicCount", |g| {
        g.get_next_high_mono_count(&mut 0)
    }),
    ("UpdateCapsule", |g| {
        g.update_capsule(&mut ptr::null_mut(), 1, 0)
    }),
    ("QueryCapsuleCapabilities", |g| {
        g.query_capsule_capabilities(&mut ptr::null_mut(), 1, &mut 0, &mut 0)
    }),
];

/// Their bits in RT_PROPERTIES, all of which have to be 0.
pub const RUNTIME_BITS: u32 = efi::RT_SUPPORTED_GET_WAKEUP_TIME
    | efi::RT_SUPPORTED_SET_WAKEUP_TIME
    | efi::RT_SUPPORTED_CONVERT_POINTER
    | efi::RT_SUPPORTED_GET_NEXT_HIGH_MONOTONIC_COUNT
    | efi::RT_SUPPORTED_UPDATE_CAPSULE
    | efi::RT_SUPPORTED_QUERY_CAPSULE_CAPABILITIES;

fn all(guest: &Guest, stubs: &[Stub]) -> Outcome {
    stubs
        .iter()
        .try_for_each(|(name, call)| status(name, call(guest), Status::UNSUPPORTED))
}

fn boot(guest: &Guest) -> Outcome {
    all(guest, &BOOT)
}

/// Checks the stubs among the runtime services; they are the same ever after.
pub fn runtime(guest: &Guest) -> Outcome {
    all(guest, &RUNTIME)
}
