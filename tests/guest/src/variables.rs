//! Variables while there are boot services (UEFI 2.11 §8.2).

use crate::calls::Guest;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use crate::text::utf16;
use core::mem::size_of_val;
use core::ptr;
use r_efi::efi::{self, Guid, Status};

pub const AREA: Area = Area {
    name: "variables",
    checks: &[
        ("create, read, replace and delete", life),
        ("size query", size_query),
        ("append", append),
        ("the GUID is part of the name", by_guid),
        ("deleting what is not there", delete_unknown),
        ("wrong attributes", wrong_attributes),
        ("signed writes and error records", signed),
        ("attributes do not change", other_attributes),
        ("the firmware's own", own),
        ("keys need a signature", keys),
        ("wrong parameters", wrong_parameters),
        ("GetNextVariableName lists each once", list),
        ("GetNextVariableName with wrong parameters", wrong_names),
        ("QueryVariableInfo", query),
        ("more than fits", too_large),
        ("variables for the runtime checks", leave_some),
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

const NAME: [u16; 6] = utf16("Guest");
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

fn life(guest: &Guest) -> Outcome {
    for attributes in [BOOT, BOOT | efi::VARIABLE_RUNTIME_ACCESS, RUNTIME] {
        absent(guest, &NAME)?;
        success("SetVariable", set(guest, &NAME, attributes, b"value"))?;
        value(guest, &NAME, attributes, b"value")?;
        success(
            "SetVariable",
            set(guest, &NAME, attributes, b"longer value"),
        )?;
        value(guest, &NAME, attributes, b"longer value")?;
        success("SetVariable", set(guest, &NAME, attributes, b"v"))?;
        value(guest, &NAME, attributes, b"v")?;
        delete(guest, &NAME, attributes)?;
    }
    Ok(())
}

/// Linux probes with a size of 0 and no buffer.
fn size_query(guest: &Guest) -> Outcome {
    let probe = |size: &mut usize, attributes: *mut u32| {
        guest.get_variable(NAME.as_ptr(), &VENDOR, attributes, size, ptr::null_mut())
    };
    let (mut size, mut attributes) = (0, 0);
    status(
        "no such variable",
        probe(&mut size, &mut attributes),
        Status::NOT_FOUND,
    )?;
    success("SetVariable", set(guest, &NAME, RUNTIME, b"value"))?;
    status(
        "GetVariable",
        probe(&mut size, &mut attributes),
        Status::BUFFER_TOO_SMALL,
    )?;
    equal("size and attributes", (size, attributes), (5, RUNTIME))?;
    let found = probe(&mut 0, ptr::null_mut());
    status("no attributes wanted", found, Status::BUFFER_TOO_SMALL)?;
    status(
        "no buffer",
        probe(&mut 5, &mut attributes),
        Status::INVALID_PARAMETER,
    )?;
    delete(guest, &NAME, RUNTIME)
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

fn by_guid(guest: &Guest) -> Outcome {
    success("SetVariable", set(guest, &NAME, BOOT, b"value"))?;
    let foreign = crate::protocols::UNKNOWN;
    let (mut size, null) = (0, ptr::null_mut());
    let found = guest.get_variable(NAME.as_ptr(), &foreign, ptr::null_mut(), &mut size, null);
    status("GetVariable of another GUID", found, Status::NOT_FOUND)?;
    absent(guest, &OTHER)?;
    delete(guest, &NAME, BOOT)
}

/// Linux does this at every boot.
fn delete_unknown(guest: &Guest) -> Outcome {
    for attributes in [RUNTIME, BOOT, 0] {
        let found = set(guest, &NAME, attributes, &[]);
        status("SetVariable", found, Status::NOT_FOUND)?;
    }
    Ok(())
}

fn wrong_attributes(guest: &Guest) -> Outcome {
    let runtime_only = efi::VARIABLE_RUNTIME_ACCESS;
    let found = set(guest, &NAME, runtime_only, b"value");
    status(
        "runtime without boot access",
        found,
        Status::INVALID_PARAMETER,
    )?;
    absent(guest, &NAME)
}

/// `EFI_VARIABLE_AUTHENTICATION_2` with a signature of nothing.
const DESCRIPTOR: [u8; 42] = [
    0xea, 0x07, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 26, 0, 0, 0, 0x00, 0x02, 0xf1, 0x0e,
    0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7,
    0x30, 0x00,
];

/// What is refused as a whole leaves nothing behind.
fn signed(guest: &Guest) -> Outcome {
    let time_based = RUNTIME | efi::VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS;
    let by_count = RUNTIME | efi::VARIABLE_AUTHENTICATED_WRITE_ACCESS;
    let record = efi::VARIABLE_HARDWARE_ERROR_RECORD;
    let enhanced = RUNTIME | efi::VARIABLE_ENHANCED_AUTHENTICATED_ACCESS;
    for (what, attributes, data, expected) in [
        (
            "no descriptor",
            time_based,
            &b"value"[..],
            Status::SECURITY_VIOLATION,
        ),
        (
            "half of one",
            time_based,
            &DESCRIPTOR[..39],
            Status::SECURITY_VIOLATION,
        ),
        ("a descriptor", time_based, &DESCRIPTOR, Status::UNSUPPORTED),
        ("by count", by_count, &DESCRIPTOR, Status::UNSUPPORTED),
        ("enhanced", enhanced, &DESCRIPTOR, Status::UNSUPPORTED),
        (
            "half a record",
            BOOT | record,
            b"value",
            Status::INVALID_PARAMETER,
        ),
        ("a record", RUNTIME | record, b"value", Status::UNSUPPORTED),
        (
            "undefined",
            RUNTIME | 0x100,
            b"value",
            Status::INVALID_PARAMETER,
        ),
    ] {
        status(what, set(guest, &NAME, attributes, data), expected)?;
        absent(guest, &NAME)?;
    }
    Ok(())
}

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: Guid = Guid::from_fields(
    0x8be4_df61,
    0x93ca,
    0x11d2,
    0xaa,
    0x0d,
    &[0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c],
);

/// The firmware's own variables (§3.3) are what they are, at all times.
pub fn own(guest: &Guest) -> Outcome {
    const SECURE_BOOT: [u16; 11] = utf16("SecureBoot");
    const SETUP_MODE: [u16; 10] = utf16("SetupMode");
    const INDICATIONS: [u16; 23] = utf16("OsIndicationsSupported");
    const LANGUAGES: [u16; 18] = utf16("PlatformLangCodes");
    const LANGUAGE: [u16; 13] = utf16("PlatformLang");
    let volatile = BOOT | efi::VARIABLE_RUNTIME_ACCESS;
    for (name, expected, attributes) in [
        (&SECURE_BOOT[..], &[0][..], volatile),
        (&SETUP_MODE, &[1], volatile),
        (&INDICATIONS, &[0; 8], volatile),
        (&LANGUAGES, b"en\0", volatile),
        (&LANGUAGE, b"en\0", RUNTIME),
    ] {
        global(guest, name, attributes, expected)?;
        if attributes == volatile {
            for (attributes, data) in [
                (volatile, &b"x"[..]),
                (volatile, b""),
                (0, b""),
                (RUNTIME, b"x"),
            ] {
                let bytes = data.as_ptr().cast();
                let found =
                    guest.set_variable(name.as_ptr(), &GLOBAL, attributes, data.len(), bytes);
                status("SetVariable", found, Status::WRITE_PROTECTED)?;
            }
            global(guest, name, attributes, expected)?;
        }
    }
    Ok(())
}

/// Checks a variable of the firmware.
fn global(guest: &Guest, name: &[u16], attributes: u32, expected: &[u8]) -> Outcome {
    let (mut data, mut found, mut size) = ([0_u8; 16], 0, 16);
    let buffer = data.as_mut_ptr().cast();
    let result = guest.get_variable(name.as_ptr(), &GLOBAL, &mut found, &mut size, buffer);
    success("GetVariable", result)?;
    equal("value", data.get(..size).unwrap_or(&[]), expected)?;
    equal("attributes", found, attributes)
}

/// Nobody can have another firmware believe in keys.
fn keys(guest: &Guest) -> Outcome {
    const PLATFORM_KEY: [u16; 3] = utf16("PK");
    let data = b"key".as_ptr().cast();
    let found = guest.set_variable(PLATFORM_KEY.as_ptr(), &GLOBAL, RUNTIME, 3, data);
    status("SetVariable", found, Status::INVALID_PARAMETER)
}

fn other_attributes(guest: &Guest) -> Outcome {
    success("SetVariable", set(guest, &NAME, BOOT, b"value"))?;
    let found = set(guest, &NAME, RUNTIME, &[]);
    status("deletion", found, Status::INVALID_PARAMETER)?;
    let found = set(guest, &NAME, RUNTIME, b"other");
    status("SetVariable", found, Status::INVALID_PARAMETER)?;
    value(guest, &NAME, BOOT, b"value")?;
    delete(guest, &NAME, BOOT)
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let data = b"value".as_ptr().cast();
    let no_name = utf16::<1>("");
    let found = guest.set_variable(no_name.as_ptr(), &VENDOR, BOOT, 5, data);
    status("an empty name", found, Status::INVALID_PARAMETER)?;
    let found = guest.set_variable(ptr::null(), &VENDOR, BOOT, 5, data);
    status("no name", found, Status::INVALID_PARAMETER)?;
    let found = guest.set_variable(NAME.as_ptr(), ptr::null(), BOOT, 5, data);
    status("no GUID", found, Status::INVALID_PARAMETER)?;
    let found = guest.set_variable(NAME.as_ptr(), &VENDOR, BOOT, 5, ptr::null());
    status("no data", found, Status::INVALID_PARAMETER)?;
    let null = ptr::null_mut();
    let found = guest.get_variable(
        NAME.as_ptr(),
        &VENDOR,
        ptr::null_mut(),
        ptr::null_mut(),
        null,
    );
    status("no size", found, Status::INVALID_PARAMETER)
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

fn wrong_names(guest: &Guest) -> Outcome {
    let mut vendor = VENDOR;
    success("SetVariable", set(guest, &NAME, BOOT, b"value"))?;
    let mut empty = [0_u16; 1];
    let found = guest.get_next_variable_name(&mut 2, empty.as_mut_ptr(), &mut vendor);
    status("no room", found, Status::BUFFER_TOO_SMALL)?;
    for mut size in [0, 1] {
        let found = guest.get_next_variable_name(&mut size, empty.as_mut_ptr(), &mut vendor);
        status("no room for a NUL", found, Status::INVALID_PARAMETER)?;
    }
    let mut unterminated = [b'G'.into()];
    let found = guest.get_next_variable_name(&mut 2, unterminated.as_mut_ptr(), &mut vendor);
    status("a name without a NUL", found, Status::INVALID_PARAMETER)?;
    let mut name = OTHER;
    let found = guest.get_next_variable_name(&mut 12, name.as_mut_ptr(), &mut vendor);
    status("a name that is not there", found, Status::INVALID_PARAMETER)?;
    let found = guest.get_next_variable_name(ptr::null_mut(), name.as_mut_ptr(), &mut vendor);
    status("no size", found, Status::INVALID_PARAMETER)?;
    delete(guest, &NAME, BOOT)
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
    )?;
    let found = guest.query_variable_info(0, &mut maximum, &mut remaining, &mut largest);
    status("no attributes", found, Status::INVALID_PARAMETER)
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
    let refused = matches!(found, Status::OUT_OF_RESOURCES | Status::INVALID_PARAMETER);
    holds("OUT_OF_RESOURCES", refused)?;
    absent(guest, &NAME)
}

fn leave_some(guest: &Guest) -> Outcome {
    success("SetVariable", set(guest, &BOOT_NAME, BOOT, b"boot"))?;
    success(
        "SetVariable",
        set(guest, &RUNTIME_NAME, RUNTIME, b"runtime"),
    )
}
