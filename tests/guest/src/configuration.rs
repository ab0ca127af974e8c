//! Configuration tables (UEFI 2.11 §4.6, §7.5.6).

use crate::calls::Guest;
use crate::protocols::UNKNOWN;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use crate::{tables, unsupported};
use core::ffi::c_void;
use core::ptr;
use r_efi::efi::{self, Guid, RtPropertiesTable, Status};

pub const AREA: Area = Area {
    name: "configuration tables",
    checks: &[
        ("add, replace and remove", life),
        ("removing what is not there", remove_unknown),
        ("wrong parameters", wrong_parameters),
        ("many tables", many),
        ("no table is there twice", unique),
        ("RT_PROPERTIES", rt_properties),
    ],
};

/// The table of a GUID.
pub fn find(guest: &Guest, guid: &Guid) -> Option<*mut c_void> {
    let tables = guest.system();
    (0..tables.number_of_table_entries).find_map(|i| {
        // SAFETY: the array has that many entries.
        let entry = unsafe { tables.configuration_table.wrapping_add(i).read() };
        (entry.vendor_guid == *guid).then_some(entry.vendor_table)
    })
}

fn install(guest: &Guest, guid: &Guid, table: *mut c_void) -> Status {
    guest.install_configuration_table(guid, table)
}

fn life(guest: &Guest) -> Outcome {
    let (mut first, mut second) = (1_u64, 2_u64);
    let count = guest.system().number_of_table_entries;
    for table in [&raw mut first, &raw mut second] {
        success(
            "InstallConfigurationTable",
            install(guest, &UNKNOWN, table.cast()),
        )?;
        equal("table", find(guest, &UNKNOWN), Some(table.cast()))?;
        equal(
            "number of tables",
            guest.system().number_of_table_entries,
            count + 1,
        )?;
        tables::system(guest)?;
    }
    success("removal", install(guest, &UNKNOWN, ptr::null_mut()))?;
    equal("table", find(guest, &UNKNOWN), None)?;
    equal(
        "number of tables",
        guest.system().number_of_table_entries,
        count,
    )?;
    tables::system(guest)
}

fn remove_unknown(guest: &Guest) -> Outcome {
    let found = install(guest, &UNKNOWN, ptr::null_mut());
    status("InstallConfigurationTable", found, Status::NOT_FOUND)
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let mut table = 1_u64;
    let found = guest.install_configuration_table(ptr::null(), (&raw mut table).cast());
    status(
        "InstallConfigurationTable",
        found,
        Status::INVALID_PARAMETER,
    )
}

/// Linux adds up to six; shim a few more.
fn many(guest: &Guest) -> Outcome {
    let mut table = 1_u64;
    let numbered = |i| Guid::from_fields(0x7be1_d3a1, i, 0, 0, 0, &[0; 6]);
    for i in 0..12 {
        let found = install(guest, &numbered(i), (&raw mut table).cast());
        success("InstallConfigurationTable", found)?;
    }
    for i in 0..12 {
        success("removal", install(guest, &numbered(i), ptr::null_mut()))?;
    }
    Ok(())
}

fn unique(guest: &Guest) -> Outcome {
    let tables = guest.system();
    let guid = |i| {
        // SAFETY: the array has that many entries.
        unsafe {
            tables
                .configuration_table
                .wrapping_add(i)
                .read()
                .vendor_guid
        }
    };
    let count = tables.number_of_table_entries;
    let twice = (0..count).any(|i| (0..i).any(|j| guid(i) == guid(j)));
    holds("each GUID once", !twice)
}

/// The services that the firmware says work after ExitBootServices: all, when
/// it does not say.
pub fn runtime_services(guest: &Guest) -> Result<u32, Failure> {
    let Some(table) = find(guest, &efi::RT_PROPERTIES_TABLE_GUID) else {
        return Ok(u32::MAX);
    };
    // SAFETY: the firmware's table.
    let table = unsafe { table.cast::<RtPropertiesTable>().read() };
    let header = (table.version, table.length);
    equal(
        "version and length",
        header,
        (efi::RT_PROPERTIES_TABLE_VERSION, 8),
    )?;
    Ok(table.runtime_services_supported)
}

fn rt_properties(guest: &Guest) -> Outcome {
    const EXPECTED: u32 = efi::RT_SUPPORTED_GET_VARIABLE
        | efi::RT_SUPPORTED_GET_NEXT_VARIABLE_NAME
        | efi::RT_SUPPORTED_SET_VARIABLE
        | efi::RT_SUPPORTED_QUERY_VARIABLE_INFO
        | efi::RT_SUPPORTED_SET_VIRTUAL_ADDRESS_MAP
        | efi::RT_SUPPORTED_RESET_SYSTEM;
    let table = find(guest, &efi::RT_PROPERTIES_TABLE_GUID);
    holds("the table", table.is_some())?;
    let supported = runtime_services(guest)?;
    equal("services that are there", supported & EXPECTED, EXPECTED)?;
    equal(
        "services that are not",
        supported & unsupported::RUNTIME_BITS,
        0,
    )
}
