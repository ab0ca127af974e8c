//! Configuration tables (UEFI 2.11 §4.6, §7.5.6).

use crate::calls::Guest;
use crate::install::interface;
use crate::protocols::UNKNOWN;
use crate::report::{Area, Failure, Outcome, equal, gives, holds, invalid, success, works};
use crate::tables;
use core::ffi::c_void;
use core::ptr;
use r_efi::efi::{self, ConfigurationTable, Guid, RtPropertiesTable, Status};

pub const AREA: Area = Area {
    name: "7.5.6 InstallConfigurationTable",
    checks: &[
        ("adds a table", |g| {
            with_table(g, |g| listed(g, Some(FIRST)))
        }),
        ("adds one to the number of tables", |g| {
            let count = g.system().number_of_table_entries;
            with_table(g, |g| {
                equal("number", g.system().number_of_table_entries, count + 1)
            })
        }),
        ("updates the CRC of the system table", |g| {
            with_table(g, tables::system)
        }),
        ("replaces a table", |g| {
            with_table(g, |g| {
                let count = g.system().number_of_table_entries;
                works(g.install_configuration_table(&UNKNOWN, interface(SECOND)))?;
                equal("number", g.system().number_of_table_entries, count)?;
                listed(g, Some(SECOND))
            })
        }),
        ("removes a table", |g| {
            let count = g.system().number_of_table_entries;
            with_table(g, |_| Ok(()))?;
            equal("number", g.system().number_of_table_entries, count)?;
            listed(g, None)?;
            tables::system(g)
        }),
        ("removing what is not there", |g| {
            gives(
                Status::NOT_FOUND,
                g.install_configuration_table(&UNKNOWN, ptr::null_mut()),
            )
        }),
        ("Guid of NULL", |g| {
            invalid(g.install_configuration_table(ptr::null(), interface(FIRST)))
        }),
        ("Guid and Table of NULL", |g| {
            invalid(g.install_configuration_table(ptr::null(), ptr::null_mut()))
        }),
        ("many tables", many),
        ("4.6 no table is there twice", unique),
    ],
};

const FIRST: usize = 0x1000;
const SECOND: usize = 0x2000;

/// The table of a GUID.
pub fn find(guest: &Guest, guid: &Guid) -> Option<*mut c_void> {
    let mut tables = entries(guest);
    let entry = tables.find(|entry| entry.vendor_guid == *guid)?;
    Some(entry.vendor_table)
}

/// All tables and their GUIDs.
pub fn entries(guest: &Guest) -> impl Iterator<Item = ConfigurationTable> {
    let table = guest.system();
    let (start, count) = (table.configuration_table, table.number_of_table_entries);
    (0..count).map(move |i| {
        // SAFETY: the array has that many entries.
        unsafe { start.wrapping_add(i).read() }
    })
}

fn install(guest: &Guest, guid: &Guid, table: *mut c_void) -> Status {
    guest.install_configuration_table(guid, table)
}

/// Does `act` while there is a table more.
fn with_table(guest: &Guest, act: impl FnOnce(&Guest) -> Outcome) -> Outcome {
    works(install(guest, &UNKNOWN, interface(FIRST)))?;
    let outcome = act(guest);
    works(install(guest, &UNKNOWN, ptr::null_mut()))?;
    outcome
}

fn listed(guest: &Guest, expected: Option<usize>) -> Outcome {
    let found = find(guest, &UNKNOWN).map(|table| table.addr());
    equal("table", found, expected)
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
    let twice = entries(guest).enumerate().any(|(i, entry)| {
        let mut before = entries(guest).take(i);
        before.any(|other| other.vendor_guid == entry.vendor_guid)
    });
    holds("each GUID once", !twice)
}

/// The services that the firmware says work after ExitBootServices: all, when
/// it does not say.
pub fn runtime_services(guest: &Guest) -> Result<u32, Failure> {
    if let Some(promised) = guest.promised {
        return Ok(promised);
    }
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
