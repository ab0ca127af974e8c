//! The services that the firmware does not offer: all callable, all say
//! `UNSUPPORTED`. `docs/COVERAGE.md` has the same list.

use crate::calls::Guest;
use crate::report::{Area, Outcome, status};
use core::mem::zeroed;
use core::ptr;
use r_efi::efi::{self, Boolean, Status, Time};

pub const AREA: Area = Area {
    name: "unsupported",
    checks: &[("runtime services", runtime)],
};

/// A stub's name and a call of it that would be right otherwise.
type Stub = (&'static str, fn(&Guest) -> Status);

const RUNTIME: [Stub; 5] = [
    ("GetWakeupTime", |g| {
        let (mut enabled, mut pending) = (Boolean::FALSE, Boolean::FALSE);
        // SAFETY: integers and booleans, which zero is valid for.
        let mut time: Time = unsafe { zeroed() };
        g.get_wakeup_time(&mut enabled, &mut pending, &mut time)
    }),
    ("SetWakeupTime", |g| {
        g.set_wakeup_time(Boolean::FALSE, ptr::null_mut())
    }),
    // Offered to who is told of SetVirtualAddressMap, and to nobody else.
    ("ConvertPointer", |g| {
        g.convert_pointer(0, &mut { g.handle })
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
    | efi::RT_SUPPORTED_UPDATE_CAPSULE
    | efi::RT_SUPPORTED_QUERY_CAPSULE_CAPABILITIES;

fn all(guest: &Guest, stubs: &[Stub]) -> Outcome {
    stubs
        .iter()
        .try_for_each(|(name, call)| status(name, call(guest), Status::UNSUPPORTED))
}

/// Checks the stubs among the runtime services; they are the same ever after.
pub fn runtime(guest: &Guest) -> Outcome {
    all(guest, &RUNTIME)
}
