//! The configuration-table array: GUID to table, as InstallConfigurationTable
//! keeps it (UEFI 2.11 §7.5.6).
//!
//! The array itself lives in the runtime image; this module only decides what
//! changes in it.

use crate::guids::same;
use core::ffi::c_void;
use uefi_raw::Guid;
use uefi_raw::table::configuration::ConfigurationTable;

/// Why a table was not installed or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// To be removed, but there is none with this GUID.
    NotFound,
    /// The array has no room.
    Full,
}

/// Adds, replaces or (with a null `table`) removes the entry for `guid` among
/// the first `*count` of `tables`, and updates `*count`.
pub fn install(
    tables: &mut [ConfigurationTable],
    count: &mut usize,
    guid: Guid,
    table: *mut c_void,
) -> Result<(), Error> {
    let used = tables.get_mut(..*count).ok_or(Error::Full)?;
    let found = used
        .iter()
        .position(|entry| same(&entry.vendor_guid, &guid));
    match (found, table.is_null()) {
        (None, true) => Err(Error::NotFound),
        (Some(at), true) => {
            // Programs may hold the order of the others for stable: shift.
            if let Some(tail) = used.get_mut(at..) {
                tail.rotate_left(1);
            }
            *count = count.saturating_sub(1);
            Ok(())
        }
        (found, false) => {
            let at = found.unwrap_or(*count);
            *tables.get_mut(at).ok_or(Error::Full)? = ConfigurationTable {
                vendor_guid: guid,
                vendor_table: table,
            };
            *count = (*count).max(at.saturating_add(1));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use core::ptr::{null_mut, without_provenance_mut};
    use uefi_raw::guid;

    const A: Guid = guid!("00000001-0000-0000-0000-000000000000");
    const B: Guid = guid!("00000002-0000-0000-0000-000000000000");
    const C: Guid = guid!("00000003-0000-0000-0000-000000000000");

    fn room(n: usize) -> Vec<ConfigurationTable> {
        (0..n)
            .map(|_| ConfigurationTable {
                vendor_guid: Guid::ZERO,
                vendor_table: null_mut(),
            })
            .collect()
    }

    fn seen(tables: &[ConfigurationTable], count: usize) -> Vec<(Guid, usize)> {
        tables
            .iter()
            .take(count)
            .map(|entry| (entry.vendor_guid, entry.vendor_table.addr()))
            .collect()
    }

    #[test]
    fn entries_are_added_replaced_and_removed_in_order() {
        let (mut tables, mut count) = (room(3), 0);
        for (guid, at) in [(A, 1), (B, 2), (C, 3), (B, 4)] {
            install(&mut tables, &mut count, guid, without_provenance_mut(at)).unwrap();
        }
        assert_eq!(seen(&tables, count), [(A, 1), (B, 4), (C, 3)]);
        install(&mut tables, &mut count, A, null_mut()).unwrap();
        assert_eq!(seen(&tables, count), [(B, 4), (C, 3)]);
    }

    #[test]
    fn what_is_not_there_cannot_be_removed_and_a_full_array_stays_as_it_is() {
        let (mut tables, mut count) = (room(1), 0);
        let remove = install(&mut tables, &mut count, A, null_mut());
        assert_eq!(remove, Err(Error::NotFound));
        install(&mut tables, &mut count, A, without_provenance_mut(1)).unwrap();
        let full = install(&mut tables, &mut count, B, without_provenance_mut(2));
        assert_eq!(full, Err(Error::Full));
        assert_eq!(seen(&tables, count), [(A, 1)]);
    }
}
