//! The three tables: headers, checksums, no empty slots (UEFI 2.11 §4.2-4.5).

use crate::calls::Guest;
use crate::configuration;
use crate::crc32::crc32;
use crate::report::{Area, Failure, Outcome, equal, holds, status};
use core::mem::{offset_of, size_of};
use core::ptr;
use r_efi::efi::{self, BootServices, RuntimeServices, SystemTable, TableHeader};

pub const AREA: Area = Area {
    name: "4.2 tables",
    checks: &[
        ("4.3 the system table's header and CRC", system),
        ("4.4 the boot services' header and CRC", boot),
        ("4.5 the runtime services' header and CRC", runtime),
        ("4.2 all revisions are one", revisions),
        ("4.4 no boot service is missing", boot_slots),
        ("4.5 no runtime service is missing", runtime_slots),
        ("4.3 ConIn, ConOut and StdErr and their handles", consoles),
        ("4.3 FirmwareVendor", vendor),
        ("4.3 tables are aligned", aligned),
        (
            "4.6 entries of the configuration table are GUIDs and addresses",
            entries,
        ),
        ("8.4.1 SetVirtualAddressMap is not for boot time", too_early),
    ],
};

/// The oldest revision with QueryVariableInfo and capsules; Linux looks for it.
const MIN_REVISION: u32 = efi::SYSTEM_TABLE_REVISION_2_00;

/// Offset of `hdr.crc32`, which counts as 0 in the checksum itself.
const CRC: usize = offset_of!(TableHeader, crc32);

/// Reads a byte of a table.
fn byte<T>(table: *const T, offset: usize) -> u8 {
    // SAFETY: inside the table, as its header's size was checked first.
    unsafe { table.cast::<u8>().wrapping_add(offset).read() }
}

/// Checks the header of a table with a size known to this binding.
fn header<T>(table: *const T, header: &TableHeader, signature: u64) -> Outcome {
    equal("signature", header.signature, signature)?;
    holds("revision 2.0 or later", header.revision >= MIN_REVISION)?;
    equal("header size", header.header_size as usize, size_of::<T>())?;
    equal("reserved field", header.reserved, 0)?;
    let bytes = (0..size_of::<T>()).map(|offset| match offset.wrapping_sub(CRC) {
        0..4 => 0,
        _ => byte(table, offset),
    });
    equal("CRC-32", header.crc32, crc32(bytes))
}

/// Checks the system table, as is due after every change of it.
pub fn system(guest: &Guest) -> Outcome {
    let table = guest.system();
    header::<SystemTable>(table, &table.hdr, efi::SYSTEM_TABLE_SIGNATURE)
}

fn boot(guest: &Guest) -> Outcome {
    let table = guest.boot();
    header::<BootServices>(table, &table.hdr, efi::BOOT_SERVICES_SIGNATURE)
}

/// Checks the runtime services table.
pub fn runtime(guest: &Guest) -> Outcome {
    let table = guest.runtime();
    header::<RuntimeServices>(table, &table.hdr, efi::RUNTIME_SERVICES_SIGNATURE)
}

/// Checks that all words behind the header but the one at `reserved` are set.
fn slots<T>(table: *const T, reserved: Option<usize>) -> Outcome {
    for offset in (size_of::<TableHeader>()..size_of::<T>()).step_by(size_of::<usize>()) {
        let empty = (offset..offset + size_of::<usize>()).all(|o| byte(table, o) == 0);
        if empty && Some(offset) != reserved {
            return Err(Failure::new(format_args!(
                "expected a function at offset {offset:#x}, found null"
            )));
        }
    }
    Ok(())
}

fn boot_slots(guest: &Guest) -> Outcome {
    slots(guest.boot(), Some(offset_of!(BootServices, reserved)))
}

fn runtime_slots(guest: &Guest) -> Outcome {
    slots(guest.runtime(), None)
}

fn consoles(guest: &Guest) -> Outcome {
    let table = guest.system();
    holds("ConIn", !table.con_in.is_null())?;
    holds("ConOut", !table.con_out.is_null())?;
    holds("StdErr", !table.std_err.is_null())?;
    holds("a ConsoleInHandle", !table.console_in_handle.is_null())?;
    holds("a ConsoleOutHandle", !table.console_out_handle.is_null())?;
    holds(
        "a StandardErrorHandle",
        !table.standard_error_handle.is_null(),
    )
}

fn vendor(guest: &Guest) -> Outcome {
    let vendor = guest.system().firmware_vendor;
    holds("a vendor string", !vendor.is_null())?;
    let length = (0..100).find(|&i| {
        // SAFETY: the string goes on to its NUL, before which the search stops;
        // Linux itself reads 100 characters.
        unsafe { vendor.wrapping_add(i).read() == 0 }
    });
    holds(
        "1 to 99 characters",
        length.is_some_and(|length| length > 0),
    )
}

fn revisions(guest: &Guest) -> Outcome {
    let found = [guest.boot().hdr.revision, guest.runtime().hdr.revision];
    equal("revisions", found, [guest.system().hdr.revision; 2])
}

fn aligned(guest: &Guest) -> Outcome {
    let tables = [
        guest.system_table().addr(),
        guest.system().boot_services.addr(),
        guest.system().runtime_services.addr(),
        guest.system().configuration_table.addr(),
    ];
    holds(
        "multiples of 8",
        tables.into_iter().all(|address| address % 8 == 0),
    )
}

fn entries(guest: &Guest) -> Outcome {
    configuration::entries(guest).try_for_each(|entry| {
        holds("a GUID", entry.vendor_guid.as_bytes() != &[0; 16])?;
        holds("an address", !entry.vendor_table.is_null())
    })
}

fn too_early(guest: &Guest) -> Outcome {
    let found = guest.set_virtual_address_map(0, 48, 1, ptr::null_mut());
    status("SetVirtualAddressMap", found, efi::Status::UNSUPPORTED)
}

/// Whether this is the firmware that these checks come with.
pub fn is_ours(guest: &Guest) -> bool {
    let vendor = guest.system().firmware_vendor.cast::<[u16; 5]>();
    // SAFETY: the firmware's string, of which Linux reads 100 characters.
    let start = unsafe { vendor.read_unaligned() };
    start.into_iter().eq("OVMF-".encode_utf16())
}
