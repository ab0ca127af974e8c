//! Which attributes a caller may pass (UEFI 2.11 §8.2.3, §8.2.4).
//!
//! Promises that what [`check`] lets through consists of `NON_VOLATILE`,
//! `BOOTSERVICE_ACCESS`, `RUNTIME_ACCESS` and `APPEND_WRITE` only. Refuses the
//! three kinds of authenticated write and hardware error records.
//!
//! Where the text leaves the status or the order of checks open, this is EDK2's
//! (`MdeModulePkg/Universal/Variable/RuntimeDxe/Variable.c`), which conformance
//! tests (tianocore/edk2-test, `VariableServices`) were written against:
//!
//! 1. A bit that UEFI does not define is `INVALID_PARAMETER`.
//! 2. `AUTHENTICATED_WRITE_ACCESS` is deprecated: `UNSUPPORTED`, whatever else is
//!    set and whatever the data.
//! 3. `RUNTIME_ACCESS` without `BOOTSERVICE_ACCESS` is `INVALID_PARAMETER`.
//! 4. So is `HARDWARE_ERROR_RECORD` without all of `NON_VOLATILE`,
//!    `BOOTSERVICE_ACCESS` and `RUNTIME_ACCESS`. With them it is `UNSUPPORTED`, for
//!    there is no `HwErrRecSupport` (§8.2.5).
//! 5. `TIME_BASED_AUTHENTICATED_WRITE_ACCESS` with data that do not begin with a
//!    descriptor is `SECURITY_VIOLATION`: no firmware could accept them. With one
//!    it is `UNSUPPORTED`: this firmware cannot tell.
//! 6. `ENHANCED_AUTHENTICATED_ACCESS` is `UNSUPPORTED`.
//!
//! `APPEND_WRITE` says nothing about a variable, so QueryVariableInfo ignores it.

use super::{Error, Phase};
use uefi_raw::table::runtime::VariableAttributes;

/// What a variable must have to be written after ExitBootServices.
pub const NEEDED_AT_RUNTIME: VariableAttributes =
    VariableAttributes::NON_VOLATILE.union(VariableAttributes::RUNTIME_ACCESS);

/// With one of these a variable can be read some time.
pub const ACCESS: VariableAttributes =
    VariableAttributes::BOOTSERVICE_ACCESS.union(VariableAttributes::RUNTIME_ACCESS);

const TIME_BASED: VariableAttributes = VariableAttributes::TIME_BASED_AUTHENTICATED_WRITE_ACCESS;

const SIGNED: VariableAttributes = VariableAttributes::AUTHENTICATED_WRITE_ACCESS
    .union(TIME_BASED)
    .union(VariableAttributes::ENHANCED_AUTHENTICATED_ACCESS);

const ERROR_RECORD: VariableAttributes = VariableAttributes::HARDWARE_ERROR_RECORD;

/// What an error record has to have besides.
const OF_ERROR_RECORDS: VariableAttributes = ACCESS.union(VariableAttributes::NON_VOLATILE);

/// Accepts `attributes` as the argument of a call that is answered here.
pub fn check(attributes: VariableAttributes) -> Result<(), Error> {
    defined(attributes)?;
    let unsupported = attributes.intersection(SIGNED.union(ERROR_RECORD));
    if attributes.contains(VariableAttributes::AUTHENTICATED_WRITE_ACCESS) {
        return Err(Error::unsupported(unsupported));
    }
    plausible(attributes)?;
    if !unsupported.is_empty() {
        return Err(Error::unsupported(unsupported));
    }
    Ok(())
}

fn defined(attributes: VariableAttributes) -> Result<(), Error> {
    match attributes.bits() & !VariableAttributes::all().bits() {
        0 => Ok(()),
        undefined => Err(Error::UndefinedAttributes(undefined as usize)),
    }
}

/// Accepts `attributes` as the argument of any call.
pub fn plausible(attributes: VariableAttributes) -> Result<(), Error> {
    defined(attributes)?;
    if attributes.intersection(ACCESS) == VariableAttributes::RUNTIME_ACCESS {
        return Err(Error::RuntimeOnly);
    }
    if attributes.contains(ERROR_RECORD) && !attributes.contains(OF_ERROR_RECORDS) {
        return Err(Error::HalfErrorRecord);
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

/// Accepts `attributes` and `data` as the arguments of SetVariable.
pub fn check_write(attributes: VariableAttributes, data: &[u8]) -> Result<(), Error> {
    match check(attributes) {
        Err(error) if error == Error::unsupported(TIME_BASED) && !is_signed(data) => {
            Err(Error::NoDescriptor)
        }
        result => result,
    }
}

/// Whether `data` begin with an `EFI_VARIABLE_AUTHENTICATION_2` (§8.2.6): a time
/// that is nothing but seconds of UTC, and a certificate of the only kind there
/// is, whose length says it lies within `data`.
fn is_signed(data: &[u8]) -> bool {
    /// `wRevision`, `wCertificateType`, `EFI_CERT_TYPE_PKCS7_GUID`.
    const KIND: [u8; 20] = [
        0x00, 0x02, 0xf1, 0x0e, 0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34,
        0x7d, 0x37, 0x56, 0x65, 0xa7,
    ];
    /// Its size, and that of the time in it.
    const HEAD: usize = 40;
    const TIME: usize = 16;
    let Some(head) = data.first_chunk::<HEAD>() else {
        return false;
    };
    let length = head.get(TIME..).and_then(|rest| rest.first_chunk());
    let length = u32::from_le_bytes(length.copied().unwrap_or_default()) as usize;
    let certificate = data.len().saturating_sub(TIME);
    head.get(7..TIME) == Some(&[0; 9])
        && head.get(HEAD.saturating_sub(KIND.len())..) == Some(&KIND)
        && (HEAD.saturating_sub(TIME)..=certificate).contains(&length)
}

/// Whether changing such a variable needs a signature.
pub fn signed(attributes: VariableAttributes) -> bool {
    attributes.intersects(SIGNED)
}

/// Neither before nor after ExitBootServices could such a variable be read. To
/// SetVariable it means "delete", `APPEND_WRITE` or not.
pub fn without_access(attributes: VariableAttributes) -> bool {
    !attributes.intersects(ACCESS)
}

/// Whether SetVariable with these arguments means "delete".
pub fn deletes(attributes: VariableAttributes, data: &[u8]) -> bool {
    let append = attributes.contains(VariableAttributes::APPEND_WRITE);
    without_access(attributes) || (data.is_empty() && !append)
}
