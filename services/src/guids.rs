//! GUIDs as numbers, for those who look for one among many.
//!
//! The type that programs and tables have is compared field by field and byte by
//! byte, some 60 bytes of code at each place; a number is compared at once.

use uefi_raw::Guid;

/// A GUID's bytes, the first one the lowest.
#[must_use]
#[inline(never)]
pub fn number(guid: &Guid) -> u128 {
    u128::from_le_bytes(guid.to_bytes())
}

/// Whether two GUIDs are the same.
#[must_use]
#[inline(never)]
pub fn same(one: &Guid, other: &Guid) -> bool {
    number(one) == number(other)
}

/// The GUID of a number.
#[must_use]
#[inline(never)]
#[cold]
pub fn guid(number: u128) -> Guid {
    Guid::from_bytes(number.to_le_bytes())
}
