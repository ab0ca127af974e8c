//! Which attributes a caller may pass (UEFI 2.11 §8.2.3).
//!
//! Promises that what [`check`] lets through consists of `NON_VOLATILE`,
//! `BOOTSERVICE_ACCESS`, `RUNTIME_ACCESS` and `APPEND_WRITE` only. Refuses the
//! three kinds of authenticated write and hardware error records.

use super::Error;
use uefi_raw::table::runtime::VariableAttributes;

/// What a variable must have to be written after ExitBootServices.
pub const NEEDED_AT_RUNTIME: VariableAttributes =
    VariableAttributes::NON_VOLATILE.union(VariableAttributes::RUNTIME_ACCESS);

const ACCESS: VariableAttributes =
    VariableAttributes::BOOTSERVICE_ACCESS.union(VariableAttributes::RUNTIME_ACCESS);

const UNSUPPORTED: VariableAttributes = VariableAttributes::HARDWARE_ERROR_RECORD
    .union(VariableAttributes::AUTHENTICATED_WRITE_ACCESS)
    .union(VariableAttributes::TIME_BASED_AUTHENTICATED_WRITE_ACCESS)
    .union(VariableAttributes::ENHANCED_AUTHENTICATED_ACCESS);

/// Accepts `attributes` as the argument of a call.
pub fn check(attributes: VariableAttributes) -> Result<(), Error> {
    let undefined = attributes.bits() & !VariableAttributes::all().bits();
    if undefined != 0 {
        return Err(Error::UndefinedAttributes(undefined));
    }
    if attributes.intersects(UNSUPPORTED) {
        return Err(Error::UnsupportedAttributes(
            attributes.intersection(UNSUPPORTED),
        ));
    }
    if attributes.intersection(ACCESS) == VariableAttributes::RUNTIME_ACCESS {
        return Err(Error::RuntimeOnly);
    }
    Ok(())
}

/// Whether changing such a variable needs a signature.
pub fn signed(attributes: VariableAttributes) -> bool {
    attributes.intersects(UNSUPPORTED.difference(VariableAttributes::HARDWARE_ERROR_RECORD))
}

/// Neither before nor after ExitBootServices could such a variable be read.
pub fn without_access(attributes: VariableAttributes) -> bool {
    !attributes.intersects(ACCESS)
}

/// Whether SetVariable with these arguments means "delete".
pub fn deletes(attributes: VariableAttributes, data: &[u8]) -> bool {
    let append = attributes.contains(VariableAttributes::APPEND_WRITE);
    without_access(attributes) || (data.is_empty() && !append)
}
