//! Variables of this firmware: its own, and those that it would need a signature
//! for (UEFI 2.11 §3.3, §8.2.6). Other firmware has others, or keys.

use crate::calls::Guest;
use crate::report::{Area, Outcome, equal, status, success};
use crate::text::utf16;
use crate::variables::{BOOT, NAME, RUNTIME, absent, set};
use r_efi::efi::{self, Guid, Status};

pub const OURS: Area = Area {
    name: "8.2.3 SetVariable",
    checks: &[
        ("signed writes and error records", signed),
        ("3.3 the firmware's own variables", own),
        ("3.3 keys need a signature", keys),
    ],
};

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
