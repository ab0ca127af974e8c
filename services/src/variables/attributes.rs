//! Which attributes a caller may pass (UEFI 2.11 §8.2.3).
//!
//! Promises that what [`check`] lets through consists of `NON_VOLATILE`,
//! `BOOTSERVICE_ACCESS`, `RUNTIME_ACCESS` and `APPEND_WRITE` only. Refuses the
//! three kinds of authenticated write and hardware error records.

use super::{Error, Phase};
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

/// Accepts `attributes` as the argument of a call that is answered here.
pub fn check(attributes: VariableAttributes) -> Result<(), Error> {
    defined(attributes)?;
    if attributes.intersects(UNSUPPORTED) {
        return Err(Error::UnsupportedAttributes(
            attributes.intersection(UNSUPPORTED),
        ));
    }
    plausible(attributes)
}

fn defined(attributes: VariableAttributes) -> Result<(), Error> {
    match attributes.bits() & !VariableAttributes::all().bits() {
        0 => Ok(()),
        undefined => Err(Error::UndefinedAttributes(undefined)),
    }
}

/// Accepts `attributes` as the argument of any call.
pub fn plausible(attributes: VariableAttributes) -> Result<(), Error> {
    defined(attributes)?;
    if attributes.intersection(ACCESS) == VariableAttributes::RUNTIME_ACCESS {
        return Err(Error::RuntimeOnly);
    }
    Ok(())
}

/// Accepts `attributes`, which are plausible, for QueryVariableInfo in `phase`.
pub fn queried(phase: Phase, attributes: VariableAttributes) -> Result<(), Error> {
    if without_access(attributes) {
        return Err(Error::NoAccess);
    }
    if phase == Phase::Runtime && !attributes.contains(VariableAttributes::RUNTIME_ACCESS) {
        return Err(Error::NotForRuntime);
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
