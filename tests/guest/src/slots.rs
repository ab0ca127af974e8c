//! Every slot of the two service tables, called blindly (UEFI 2.11 §4.4, §4.5).
//!
//! A service that says `UNSUPPORTED` to nothing but zeros is a stub, and a stub
//! looks at no argument: with garbage for pointers it has to say the same. What
//! is a stub is told by the slots themselves; no list of them can go stale.

use crate::calls::Guest;
use crate::configuration;
use crate::report::{Area, Failure, Outcome, equal, holds};
use core::mem::{offset_of, size_of};
use r_efi::efi::{self, BootServices, RuntimeServices, Status, TableHeader};

pub const AREA: Area = Area {
    name: "4.4 all slots",
    checks: &[
        ("a boot service takes zeros", boot_zeros),
        ("a stub among the boot services takes garbage", boot_garbage),
        ("a runtime service takes zeros", runtime_zeros),
        ("a stub among the runtime services takes garbage", runtime),
    ],
};

/// What depends on how much of UEFI there is.
pub const OURS: Area = Area {
    name: "4.6.2 EFI_RT_PROPERTIES_TABLE",
    checks: &[
        ("it is there", rt_properties_there),
        ("no stub is promised", no_stub),
    ],
};

/// As many arguments as any service has.
type Service = unsafe extern "efiapi" fn(usize, usize, usize, usize, usize, usize) -> Status;

/// The services that return no status (§7.1.8, §7.1.9, §7.5.3, §7.5.4): there is
/// nothing to expect of them.
const BOOT_WITHOUT_STATUS: [usize; 4] = [
    offset_of!(BootServices, raise_tpl),
    offset_of!(BootServices, restore_tpl),
    offset_of!(BootServices, copy_mem),
    offset_of!(BootServices, set_mem),
];

/// ResetSystem (§8.5.1) does not come back.
const RUNTIME_WITHOUT_STATUS: [usize; 1] = [offset_of!(RuntimeServices, reset_system)];

/// Neither do these two when the firmware has moved: they are for before, and
/// their slots need not be right any more (§8.4).
pub const PHYSICAL_ONLY: [usize; 3] = [
    offset_of!(RuntimeServices, reset_system),
    offset_of!(RuntimeServices, set_virtual_address_map),
    offset_of!(RuntimeServices, convert_pointer),
];

const ZEROS: [usize; 6] = [0; 6];
/// Unmapped, misaligned, not canonical, and all ones.
const GARBAGE: [[usize; 6]; 3] = [
    [0x1234_5678_9abd; 6],
    [0xdead_beef_dead_beef; 6],
    [usize::MAX; 6],
];

/// The slots of a table that return a status: offset and function.
fn slots<T>(table: *const T, without: &[usize]) -> impl Iterator<Item = (usize, Service)> {
    let offsets = (size_of::<TableHeader>()..size_of::<T>()).step_by(size_of::<usize>());
    offsets
        .filter(|offset| !without.contains(offset))
        .filter_map(move |offset| {
            let slot = table.wrapping_byte_add(offset).cast::<Option<Service>>();
            // SAFETY: inside the table; every word behind its header is a
            // function with at most six arguments, or null.
            unsafe { slot.read() }.map(|service| (offset, service))
        })
}

fn call(service: Service, [a, b, c, d, e, f]: [usize; 6]) -> Status {
    // SAFETY: more arguments than it takes do not hurt; whether it survives
    // these is what is tested.
    unsafe { service(a, b, c, d, e, f) }
}

fn is_stub(service: Service) -> bool {
    call(service, ZEROS) == Status::UNSUPPORTED
}

/// Calls the slots with zeros: any status is right, an exception is not.
fn zeros<T>(table: *const T, without: &[usize], least: usize) -> Outcome {
    let called = slots(table, without).map(|(_, service)| call(service, ZEROS));
    holds("as many services as the table has", called.count() >= least)
}

fn garbage<T>(table: *const T, without: &[usize]) -> Outcome {
    for (offset, service) in slots(table, without).filter(|slot| is_stub(slot.1)) {
        for arguments in GARBAGE {
            let found = call(service, arguments);
            if !matches!(found, Status::UNSUPPORTED | Status::INVALID_PARAMETER) {
                return Err(Failure::new(format_args!(
                    "slot {offset:#x}: expected UNSUPPORTED, found {found}"
                )));
            }
        }
    }
    Ok(())
}

fn boot_zeros(guest: &Guest) -> Outcome {
    zeros(guest.boot(), &BOOT_WITHOUT_STATUS, 39)
}

fn boot_garbage(guest: &Guest) -> Outcome {
    garbage(guest.boot(), &BOOT_WITHOUT_STATUS)
}

fn runtime_zeros(guest: &Guest) -> Outcome {
    zeros(guest.runtime(), &RUNTIME_WITHOUT_STATUS, 13)
}

/// The stubs among the runtime services are the same ever after.
pub fn runtime(guest: &Guest) -> Outcome {
    let without = match guest.is_virtual() {
        false => RUNTIME_WITHOUT_STATUS.as_slice(),
        true => &PHYSICAL_ONLY,
    };
    garbage(guest.runtime(), without)
}

fn rt_properties_there(guest: &Guest) -> Outcome {
    let table = configuration::find(guest, &efi::RT_PROPERTIES_TABLE_GUID);
    holds("the table", table.is_some())
}

/// The services' bits, by slot.
const BITS: [(usize, u32); 11] = [
    (
        offset_of!(RuntimeServices, get_time),
        efi::RT_SUPPORTED_GET_TIME,
    ),
    (
        offset_of!(RuntimeServices, set_time),
        efi::RT_SUPPORTED_SET_TIME,
    ),
    (
        offset_of!(RuntimeServices, get_wakeup_time),
        efi::RT_SUPPORTED_GET_WAKEUP_TIME,
    ),
    (
        offset_of!(RuntimeServices, set_wakeup_time),
        efi::RT_SUPPORTED_SET_WAKEUP_TIME,
    ),
    (
        offset_of!(RuntimeServices, get_variable),
        efi::RT_SUPPORTED_GET_VARIABLE,
    ),
    (
        offset_of!(RuntimeServices, get_next_variable_name),
        efi::RT_SUPPORTED_GET_NEXT_VARIABLE_NAME,
    ),
    (
        offset_of!(RuntimeServices, set_variable),
        efi::RT_SUPPORTED_SET_VARIABLE,
    ),
    (
        offset_of!(RuntimeServices, get_next_high_mono_count),
        efi::RT_SUPPORTED_GET_NEXT_HIGH_MONOTONIC_COUNT,
    ),
    (
        offset_of!(RuntimeServices, update_capsule),
        efi::RT_SUPPORTED_UPDATE_CAPSULE,
    ),
    (
        offset_of!(RuntimeServices, query_capsule_capabilities),
        efi::RT_SUPPORTED_QUERY_CAPSULE_CAPABILITIES,
    ),
    (
        offset_of!(RuntimeServices, query_variable_info),
        efi::RT_SUPPORTED_QUERY_VARIABLE_INFO,
    ),
];

/// The services of address translation are `UNSUPPORTED` most of the time, and
/// ResetSystem is not to be called: they all have to be there.
const ALWAYS: u32 = efi::RT_SUPPORTED_SET_VIRTUAL_ADDRESS_MAP
    | efi::RT_SUPPORTED_CONVERT_POINTER
    | efi::RT_SUPPORTED_RESET_SYSTEM;

/// The bits of the stubs.
fn stubs(guest: &Guest) -> u32 {
    let stubs = slots(guest.runtime(), &RUNTIME_WITHOUT_STATUS).filter(|slot| is_stub(slot.1));
    let bit = |offset| {
        BITS.iter()
            .find(|bit| bit.0 == offset)
            .map_or(0, |bit| bit.1)
    };
    stubs.fold(0, |bits, (offset, _)| bits | bit(offset))
}

fn no_stub(guest: &Guest) -> Outcome {
    let promised = configuration::runtime_services(guest)?;
    equal("bits of stubs", promised & stubs(guest), 0)
}

/// After ExitBootServices all that is no stub is promised, and nothing else.
pub fn promises(guest: &Guest) -> Outcome {
    let all = BITS.iter().fold(ALWAYS, |bits, bit| bits | bit.1);
    equal(
        "bits",
        configuration::runtime_services(guest)?,
        all & !stubs(guest),
    )
}
