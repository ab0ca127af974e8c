//! Variables while there are boot services (UEFI 2.11 §8.2).

use crate::calls::Guest;
use crate::images::has_option;
use crate::report::{
    Area, Failure, Outcome, equal, gives, holds, invalid, one_of, status, success, works,
};
use crate::text::utf16;
use core::mem::size_of_val;
use core::ptr;
use r_efi::efi::{self, Guid, Status};

pub const GET: Area = Area {
    name: "8.2.1 GetVariable",
    checks: &[
        ("a size of 0 and no buffer is a question", |g| asked(g, 0)),
        ("a size of a byte too few is a question", |g| asked(g, 4)),
        ("a buffer that is too small stays as it is", untouched),
        ("a buffer of just the size", |g| {
            with_value(g, |g| read_into(g, 5))
        }),
        ("a buffer that is larger", |g| {
            with_value(g, |g| read_into(g, 16))
        }),
        ("Attributes may be NULL", |g| {
            with_value(g, |g| works(get_raw(g, 16, ptr::null_mut())))
        }),
        ("a variable that is not there", |g| absent(g, &NAME)),
        ("a variable of another GUID", |g| {
            with_value(g, |g| gives(Status::NOT_FOUND, foreign(g)))
        }),
        ("a variable of another name", |g| {
            with_value(g, |g| absent(g, &OTHER))
        }),
        ("a name that is longer", |g| {
            with_value(g, |g| absent(g, &utf16::<7>("Guests")))
        }),
        ("a name that is shorter", |g| {
            with_value(g, |g| absent(g, &utf16::<5>("Gues")))
        }),
        ("a name in other letters", |g| {
            with_value(g, |g| absent(g, &utf16::<6>("guest")))
        }),
        ("VariableName of NULL", |g| {
            let null = ptr::null_mut();
            invalid(g.get_variable(ptr::null(), &VENDOR, null, &mut 0, null.cast()))
        }),
        ("VendorGuid of NULL", |g| {
            let null = ptr::null_mut();
            invalid(g.get_variable(NAME.as_ptr(), ptr::null(), null, &mut 0, null.cast()))
        }),
        ("DataSize of NULL", |g| {
            let null = ptr::null_mut();
            invalid(g.get_variable(NAME.as_ptr(), &VENDOR, null, null.cast(), null.cast()))
        }),
        ("Data of NULL with a size that is enough", |g| {
            with_value(g, |g| {
                let null = ptr::null_mut();
                invalid(g.get_variable(NAME.as_ptr(), &VENDOR, null, &mut 5, null.cast()))
            })
        }),
    ],
};

pub const NEXT: Area = Area {
    name: "8.2.2 GetNextVariableName",
    checks: &[
        ("lists each once", list),
        ("a name that is not there", |g| {
            with_value(g, |g| invalid(next(g, &mut OTHER.clone(), 12)))
        }),
        ("a name without a NUL", |g| {
            with_value(g, |g| invalid(next(g, &mut [b'G'.into()], 2)))
        }),
        ("a buffer that is too small", |g| with_value(g, too_small)),
        ("a size of 0, with no room for a NUL", |g| {
            invalid(next(g, &mut [0], 0))
        }),
        ("a size of 1, with no room for a NUL", |g| {
            invalid(next(g, &mut [0], 1))
        }),
        ("VariableNameSize of NULL", |g| {
            let mut name = [0_u16; 4];
            let mut vendor = VENDOR;
            invalid(g.get_next_variable_name(ptr::null_mut(), name.as_mut_ptr(), &mut vendor))
        }),
        ("VariableName of NULL", |g| {
            let mut vendor = VENDOR;
            invalid(g.get_next_variable_name(&mut 8, ptr::null_mut(), &mut vendor))
        }),
        ("VendorGuid of NULL", |g| {
            let mut name = [0_u16; 4];
            invalid(g.get_next_variable_name(&mut 8, name.as_mut_ptr(), ptr::null_mut()))
        }),
    ],
};

pub const SET: Area = Area {
    name: "8.2.3 SetVariable",
    checks: &[
        ("create, read, replace and delete BS", |g| life(g, BOOT)),
        ("create, read, replace and delete BS | RT", |g| {
            life(g, BOOT | efi::VARIABLE_RUNTIME_ACCESS)
        }),
        ("create, read, replace and delete NV | BS", |g| {
            life(g, BOOT | efi::VARIABLE_NON_VOLATILE)
        }),
        ("create, read, replace and delete NV | BS | RT", |g| {
            life(g, RUNTIME)
        }),
        ("APPEND_WRITE creates, appends, and appends nothing", append),
        (
            "APPEND_WRITE of nothing to what is not there",
            append_nothing,
        ),
        ("the same name under two GUIDs", by_guid),
        // Linux does this at every boot.
        ("deletion of what is not there", |g| {
            gives(Status::NOT_FOUND, set(g, &NAME, RUNTIME, &[]))
        }),
        ("deletion without attributes", |g| deleted(g, 0)),
        ("deletion with the attributes", |g| deleted(g, RUNTIME)),
        ("attributes of 0 with data delete, too", deleted_with_data),
        ("other attributes are refused", other_attributes),
        ("RT without BS", |g| {
            refused(g, efi::VARIABLE_RUNTIME_ACCESS)
        }),
        ("NV | RT without BS", |g| {
            refused(g, efi::VARIABLE_RUNTIME_ACCESS | efi::VARIABLE_NON_VOLATILE)
        }),
        ("an unknown attribute", |g| refused(g, BOOT | 0x8000_0000)),
        ("an empty name", |g| invalid(set(g, &[0], BOOT, b"value"))),
        ("VariableName of NULL", |g| {
            invalid(g.set_variable(ptr::null(), &VENDOR, BOOT, 5, b"value".as_ptr().cast()))
        }),
        ("VendorGuid of NULL", |g| {
            let data = b"value".as_ptr().cast();
            invalid(g.set_variable(NAME.as_ptr(), ptr::null(), BOOT, 5, data))
        }),
        ("Data of NULL with a size", |g| {
            invalid(g.set_variable(NAME.as_ptr(), &VENDOR, BOOT, 5, ptr::null()))
        }),
        ("more than fits", too_large),
        ("a value of 1024 bytes", large),
    ],
};

pub const INFO: Area = Area {
    name: "8.2.4 QueryVariableInfo",
    checks: &[
        ("a store with room", query),
        ("volatile variables", |g| works(info(g, BOOT))),
        ("no attributes", |g| invalid(info(g, 0))),
        ("RT without BS", |g| {
            invalid(info(g, efi::VARIABLE_RUNTIME_ACCESS))
        }),
        ("NV alone", |g| invalid(info(g, efi::VARIABLE_NON_VOLATILE))),
        ("MaximumVariableStorageSize of NULL", |g| {
            invalid(g.query_variable_info(RUNTIME, ptr::null_mut(), &mut 0, &mut 0))
        }),
        ("RemainingVariableStorageSize of NULL", |g| {
            invalid(g.query_variable_info(RUNTIME, &mut 0, ptr::null_mut(), &mut 0))
        }),
        ("MaximumVariableSize of NULL", |g| {
            invalid(g.query_variable_info(RUNTIME, &mut 0, &mut 0, ptr::null_mut()))
        }),
        ("a variable takes of what remains", remaining_shrinks),
        // The last of all: for after ExitBootServices.
        ("(variables for run time)", leave_some),
    ],
};

/// The namespace of all variables here.
pub const VENDOR: Guid = Guid::from_fields(
    0x1d3b_7c52,
    0x8e0f,
    0x4a96,
    0xb1,
    0x27,
    &[0x65, 0xfa, 0x30, 0x9c, 0xe8, 0x4b],
);

/// Access before ExitBootServices only.
pub const BOOT: u32 = efi::VARIABLE_BOOTSERVICE_ACCESS;
/// Access always, kept over a reset.
pub const RUNTIME: u32 = BOOT | efi::VARIABLE_RUNTIME_ACCESS | efi::VARIABLE_NON_VOLATILE;

/// A variable that checks make and delete.
pub const NAME: [u16; 6] = utf16("Guest");
const OTHER: [u16; 6] = utf16("Other");
/// Left behind for [`crate::exit`]: not visible there.
pub const BOOT_NAME: [u16; 5] = utf16("Boot");
/// Left behind for [`crate::exit`]: visible there.
pub const RUNTIME_NAME: [u16; 8] = utf16("Runtime");

/// SetVariable in the namespace of these checks.
pub fn set(guest: &Guest, name: &[u16], attributes: u32, data: &[u8]) -> Status {
    let bytes = data.as_ptr().cast();
    guest.set_variable(name.as_ptr(), &VENDOR, attributes, data.len(), bytes)
}

/// A variable's value, at most as long as the buffer, and its attributes.
pub fn get(guest: &Guest, name: &[u16]) -> Result<([u8; 16], usize, u32), Status> {
    let (mut data, mut attributes) = ([0_u8; 16], 0);
    let mut size = data.len();
    let buffer = data.as_mut_ptr().cast();
    match guest.get_variable(name.as_ptr(), &VENDOR, &mut attributes, &mut size, buffer) {
        Status::SUCCESS => Ok((data, size, attributes)),
        status => Err(status),
    }
}

/// Checks what a variable holds.
pub fn value(guest: &Guest, name: &[u16], attributes: u32, expected: &[u8]) -> Outcome {
    let (data, size, found) =
        get(guest, name).map_err(|status| Failure::new(format_args!("GetVariable: {status}")))?;
    equal("value", data.get(..size).unwrap_or(&[]), expected)?;
    equal("attributes", found, attributes)
}

/// Checks that there is no such variable.
pub fn absent(guest: &Guest, name: &[u16]) -> Outcome {
    equal("GetVariable", get(guest, name), Err(Status::NOT_FOUND))
}

/// Deletes a variable that must be there.
pub fn delete(guest: &Guest, name: &[u16], attributes: u32) -> Outcome {
    success("deletion", set(guest, name, attributes, &[]))?;
    absent(guest, name)
}

fn life(guest: &Guest, attributes: u32) -> Outcome {
    absent(guest, &NAME)?;
    for data in [b"value".as_slice(), b"longer value", b"v"] {
        success("SetVariable", set(guest, &NAME, attributes, data))?;
        value(guest, &NAME, attributes, data)?;
    }
    delete(guest, &NAME, attributes)
}

/// Does `act` while there is a variable with a value of five bytes.
fn with_value(guest: &Guest, act: impl FnOnce(&Guest) -> Outcome) -> Outcome {
    success("SetVariable", set(guest, &NAME, RUNTIME, b"value"))?;
    let outcome = act(guest);
    delete(guest, &NAME, RUNTIME)?;
    outcome
}

/// Linux probes so.
fn asked(guest: &Guest, room: usize) -> Outcome {
    with_value(guest, |guest| {
        let (mut size, mut attributes) = (room, 0);
        let null = ptr::null_mut();
        let found = guest.get_variable(NAME.as_ptr(), &VENDOR, &mut attributes, &mut size, null);
        gives(Status::BUFFER_TOO_SMALL, found)?;
        equal("size and attributes", (size, attributes), (5, RUNTIME))
    })
}

fn untouched(guest: &Guest) -> Outcome {
    with_value(guest, |guest| {
        let mut data = [0xa5_u8; 8];
        let buffer = data.as_mut_ptr().cast();
        let null = ptr::null_mut();
        let found = guest.get_variable(NAME.as_ptr(), &VENDOR, null, &mut 4, buffer);
        gives(Status::BUFFER_TOO_SMALL, found)?;
        equal("buffer", data, [0xa5; 8])
    })
}

/// Reads with room for more, at most 16 bytes.
fn get_raw(guest: &Guest, room: usize, attributes: *mut u32) -> Status {
    let mut data = [0_u8; 16];
    let buffer = data.as_mut_ptr().cast();
    guest.get_variable(NAME.as_ptr(), &VENDOR, attributes, &mut { room }, buffer)
}

fn read_into(guest: &Guest, room: usize) -> Outcome {
    let mut data = [0xa5_u8; 16];
    let mut size = room;
    let buffer = data.as_mut_ptr().cast();
    let null = ptr::null_mut();
    works(guest.get_variable(NAME.as_ptr(), &VENDOR, null, &mut size, buffer))?;
    equal("size", size, 5)?;
    equal("value, and what is behind it", &data[..6], b"value\xa5")
}

fn foreign(guest: &Guest) -> Status {
    let other = crate::protocols::UNKNOWN;
    let null = ptr::null_mut();
    guest.get_variable(NAME.as_ptr(), &other, null, &mut 0, null.cast())
}

fn append(guest: &Guest) -> Outcome {
    let appending = BOOT | efi::VARIABLE_APPEND_WRITE;
    success("append to nothing", set(guest, &NAME, appending, b"one"))?;
    value(guest, &NAME, BOOT, b"one")?;
    success("append", set(guest, &NAME, appending, b" two"))?;
    success("append of nothing", set(guest, &NAME, appending, b""))?;
    value(guest, &NAME, BOOT, b"one two")?;
    delete(guest, &NAME, BOOT)
}

fn append_nothing(guest: &Guest) -> Outcome {
    let found = set(guest, &NAME, BOOT | efi::VARIABLE_APPEND_WRITE, b"");
    let right = [Status::SUCCESS, Status::NOT_FOUND];
    one_of(right, found)?;
    absent(guest, &NAME)
}

fn by_guid(guest: &Guest) -> Outcome {
    with_value(guest, |guest| {
        let other = crate::protocols::UNKNOWN;
        let set =
            |size| guest.set_variable(NAME.as_ptr(), &other, BOOT, size, b"other".as_ptr().cast());
        success("SetVariable", set(5))?;
        value(guest, &NAME, RUNTIME, b"value")?;
        success("deletion", set(0))?;
        gives(Status::NOT_FOUND, foreign(guest))
    })
}

fn deleted(guest: &Guest, attributes: u32) -> Outcome {
    success("SetVariable", set(guest, &NAME, RUNTIME, b"value"))?;
    delete(guest, &NAME, attributes)
}

fn deleted_with_data(guest: &Guest) -> Outcome {
    success("SetVariable", set(guest, &NAME, RUNTIME, b"value"))?;
    success("deletion", set(guest, &NAME, 0, b"other"))?;
    absent(guest, &NAME)
}

fn refused(guest: &Guest, attributes: u32) -> Outcome {
    invalid(set(guest, &NAME, attributes, b"value"))?;
    absent(guest, &NAME)
}

fn other_attributes(guest: &Guest) -> Outcome {
    success("SetVariable", set(guest, &NAME, BOOT, b"value"))?;
    // varstored deletes whatever the attributes, and the variables are its own.
    if !has_option(guest, "varstored") {
        let found = set(guest, &NAME, RUNTIME, &[]);
        status("deletion", found, Status::INVALID_PARAMETER)?;
    }
    let found = set(guest, &NAME, RUNTIME, b"other");
    status("SetVariable", found, Status::INVALID_PARAMETER)?;
    value(guest, &NAME, BOOT, b"value")?;
    delete(guest, &NAME, BOOT)
}

/// How often GetNextVariableName lists a variable of these checks.
pub fn count(guest: &Guest, wanted: &[u16]) -> Result<usize, Failure> {
    let mut name = [0_u16; 256];
    let mut vendor = VENDOR;
    let mut count = 0;
    // More variables than any machine has: the list must end before.
    for _ in 0..1000 {
        let mut size = size_of_val(&name);
        match guest.get_next_variable_name(&mut size, name.as_mut_ptr(), &mut vendor) {
            Status::SUCCESS => {}
            found => return status("end of the list", found, Status::NOT_FOUND).map(|()| count),
        }
        let length = name.iter().position(|&unit| unit == 0).unwrap_or(0);
        equal("size of the name", size, (length + 1) * 2)?;
        if vendor == VENDOR && name.starts_with(wanted) {
            count += 1;
        }
    }
    Err(Failure::new(format_args!(
        "expected a list with an end, found none"
    )))
}

fn list(guest: &Guest) -> Outcome {
    success("SetVariable", set(guest, &NAME, BOOT, b"value"))?;
    success("SetVariable", set(guest, &OTHER, RUNTIME, b"value"))?;
    equal("entries of the first", count(guest, &NAME)?, 1)?;
    equal("entries of the second", count(guest, &OTHER)?, 1)?;
    delete(guest, &NAME, BOOT)?;
    equal("entries of the deleted", count(guest, &NAME)?, 0)?;
    delete(guest, &OTHER, RUNTIME)
}

/// GetNextVariableName after `name`, with a buffer of `size` bytes.
fn next(guest: &Guest, name: &mut [u16], size: usize) -> Status {
    guest.get_next_variable_name(&mut { size }, name.as_mut_ptr(), &mut { VENDOR })
}

fn too_small(guest: &Guest) -> Outcome {
    let (mut name, mut size) = ([0_u16; 1], 2);
    let found = guest.get_next_variable_name(&mut size, name.as_mut_ptr(), &mut { VENDOR });
    gives(Status::BUFFER_TOO_SMALL, found)?;
    holds("the size that is needed", size > 2)?;
    equal("name", name, [0])
}

fn info(guest: &Guest, attributes: u32) -> Status {
    guest.query_variable_info(attributes, &mut 0, &mut 0, &mut 0)
}

fn remaining_shrinks(guest: &Guest) -> Outcome {
    let remaining = || {
        let mut remaining = 0;
        let found = guest.query_variable_info(RUNTIME, &mut 0, &mut remaining, &mut 0);
        success("QueryVariableInfo", found).map(|()| remaining)
    };
    let before = remaining()?;
    with_value(guest, |_| holds("less", remaining()? < before))
}

fn large(guest: &Guest) -> Outcome {
    let data: [u8; 1024] = core::array::from_fn(|i| i as u8);
    success("SetVariable", set(guest, &NAME, BOOT, &data))?;
    let mut found = [0_u8; 1024];
    let (buffer, null) = (found.as_mut_ptr().cast(), ptr::null_mut());
    let read = guest.get_variable(NAME.as_ptr(), &VENDOR, null, &mut { 1024 }, buffer);
    delete(guest, &NAME, BOOT)?;
    works(read)?;
    holds("the same bytes", found == data)
}

/// Checks QueryVariableInfo: Linux wants to keep 5 KiB free at all times.
pub fn query(guest: &Guest) -> Outcome {
    let (mut maximum, mut remaining, mut largest) = (0, 0, 0);
    let found = guest.query_variable_info(RUNTIME, &mut maximum, &mut remaining, &mut largest);
    success("QueryVariableInfo", found)?;
    holds("a store of 8 KiB or more", maximum >= 8 << 10)?;
    holds(
        "5 KiB left or more",
        (5 << 10..=maximum).contains(&remaining),
    )?;
    holds(
        "a largest variable that fits",
        (1..=maximum).contains(&largest),
    )
}

/// Linux does this on purpose, to have the firmware clean up.
fn too_large(guest: &Guest) -> Outcome {
    let (mut maximum, mut remaining, mut largest) = (0, 0, 0);
    let found = guest.query_variable_info(RUNTIME, &mut maximum, &mut remaining, &mut largest);
    success("QueryVariableInfo", found)?;
    let size = remaining as usize + 1024;
    let data = crate::pool::allocate(guest, size)?;
    let found = guest.set_variable(NAME.as_ptr(), &VENDOR, RUNTIME, size, data.cast());
    crate::pool::free(guest, data)?;
    one_of([Status::OUT_OF_RESOURCES, Status::INVALID_PARAMETER], found)?;
    absent(guest, &NAME)
}

fn leave_some(guest: &Guest) -> Outcome {
    success("SetVariable", set(guest, &BOOT_NAME, BOOT, b"boot"))?;
    success(
        "SetVariable",
        set(guest, &RUNTIME_NAME, RUNTIME, b"runtime"),
    )
}
