//! GetVariable, GetNextVariableName, SetVariable and QueryVariableInfo
//! (UEFI 2.11 §8.2): from pointers to `services::variables` and back.
//!
//! Promises to write to a caller's memory only what the specification says, and
//! nothing at all on an error other than `BUFFER_TOO_SMALL`.

use crate::{caller, state};
use ovmf_lite_services::variables::{Error, Key, Name};
use uefi_raw::table::runtime::VariableAttributes;
use uefi_raw::{Char16, Guid, Status};

/// GetVariable (§8.2.1).
pub unsafe extern "efiapi" fn get_variable(
    name: *const Char16,
    vendor: *const Guid,
    attributes: *mut VariableAttributes,
    data_size: *mut usize,
    data: *mut u8,
) -> Status {
    // SAFETY: the arguments are as UEFI prescribes them.
    status(unsafe { get(name, vendor, attributes, data_size, data) })
}

/// GetNextVariableName (§8.2.2).
pub unsafe extern "efiapi" fn get_next_variable_name(
    name_size: *mut usize,
    name: *mut Char16,
    vendor: *mut Guid,
) -> Status {
    // SAFETY: the arguments are as UEFI prescribes them.
    status(unsafe { get_next(name_size, name, vendor) })
}

/// SetVariable (§8.2.3).
pub unsafe extern "efiapi" fn set_variable(
    name: *const Char16,
    vendor: *const Guid,
    attributes: VariableAttributes,
    data_size: usize,
    data: *const u8,
) -> Status {
    // SAFETY: the arguments are as UEFI prescribes them.
    status(unsafe { set(name, vendor, attributes, data_size, data) })
}

/// QueryVariableInfo (§8.2.4).
pub unsafe extern "efiapi" fn query_variable_info(
    attributes: VariableAttributes,
    storage: *mut u64,
    remaining: *mut u64,
    largest: *mut u64,
) -> Status {
    // SAFETY: the arguments are as UEFI prescribes them.
    status(unsafe { query(attributes, storage, remaining, largest) })
}

/// # Safety
/// The arguments are as UEFI prescribes for GetVariable.
unsafe fn get(
    name: *const Char16,
    vendor: *const Guid,
    attributes: *mut VariableAttributes,
    data_size: *mut usize,
    data: *mut u8,
) -> Result<(), Status> {
    if data_size.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    // SAFETY: these are the caller's string and GUID.
    let key = unsafe { caller::key(name, vendor, Status::NOT_FOUND) }?;
    // SAFETY: not NULL, so the caller's size.
    let room = unsafe { data_size.read_unaligned() };
    let mut state = state::lock()?;
    let found = state.get(state::phase(), key, room).map_err(code)?;
    let fits = found.size <= room;
    if fits && data.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    // SAFETY: not NULL, so the caller's size.
    unsafe { data_size.write_unaligned(found.size) };
    if !attributes.is_null() {
        // SAFETY: not NULL, so room for attributes.
        unsafe { attributes.write_unaligned(found.attributes) };
    }
    if !fits {
        return Err(Status::BUFFER_TOO_SMALL);
    }
    // SAFETY: the caller's buffer has `room` bytes, and lies outside this image.
    unsafe { data.copy_from_nonoverlapping(found.bytes.as_ptr(), found.bytes.len()) };
    Ok(())
}

/// # Safety
/// The arguments are as UEFI prescribes for GetNextVariableName.
unsafe fn get_next(
    name_size: *mut usize,
    name: *mut Char16,
    vendor: *mut Guid,
) -> Result<(), Status> {
    if name_size.is_null() || name.is_null() || vendor.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    // SAFETY: not NULL, so the caller's size.
    let room = unsafe { name_size.read_unaligned() };
    // SAFETY: the caller's buffer has that size.
    let buffer = unsafe { caller::bytes(name.cast(), room) }?;
    // SAFETY: not NULL, so the caller's GUID.
    let vendor_guid = unsafe { caller::guid(vendor) };
    let predecessor = Name::from_buffer(buffer).ok_or(Status::INVALID_PARAMETER)?;
    let mut state = state::lock()?;
    let key = Key {
        vendor: vendor_guid,
        name: predecessor,
    };
    let next = state.next(state::phase(), key, room).map_err(code)?;
    // SAFETY: not NULL, so the caller's size.
    unsafe { name_size.write_unaligned(next.size) };
    if next.size > room {
        return Err(Status::BUFFER_TOO_SMALL);
    }
    // SAFETY: not NULL, so the caller's GUID.
    unsafe { vendor.write_unaligned(next.vendor) };
    // SAFETY: the caller's buffer has `room` bytes, and lies outside this image.
    unsafe {
        name.cast::<u8>()
            .copy_from_nonoverlapping(next.bytes.as_ptr(), next.bytes.len())
    };
    Ok(())
}

/// # Safety
/// The arguments are as UEFI prescribes for SetVariable.
unsafe fn set(
    name: *const Char16,
    vendor: *const Guid,
    attributes: VariableAttributes,
    data_size: usize,
    data: *const u8,
) -> Result<(), Status> {
    // SAFETY: these are the caller's string and GUID.
    let key = unsafe { caller::key(name, vendor, Status::OUT_OF_RESOURCES) }?;
    // SAFETY: the caller's data have that size.
    let data = unsafe { caller::bytes(data, data_size) }?;
    let mut state = state::lock()?;
    state
        .set(state::phase(), key, attributes, data)
        .map_err(code)
}

/// # Safety
/// The arguments are as UEFI prescribes for QueryVariableInfo.
unsafe fn query(
    attributes: VariableAttributes,
    storage: *mut u64,
    remaining: *mut u64,
    largest: *mut u64,
) -> Result<(), Status> {
    if storage.is_null() || remaining.is_null() || largest.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    let info = state::lock()?
        .info(state::phase(), attributes)
        .map_err(code)?;
    for (to, size) in [
        (storage, info.storage),
        (remaining, info.remaining),
        (largest, info.largest),
    ] {
        // SAFETY: not NULL, so room for a number.
        unsafe { to.write_unaligned(size as u64) };
    }
    Ok(())
}

fn status(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::SUCCESS)
}

/// The status code the specification has for `error`.
fn code(error: Error) -> Status {
    match error {
        Error::UnsupportedAttributes(_) | Error::Frozen => Status::UNSUPPORTED,
        Error::NotFound => Status::NOT_FOUND,
        Error::ReadOnly | Error::Signed => Status::WRITE_PROTECTED,
        Error::Full(_) => Status::OUT_OF_RESOURCES,
        Error::NoDescriptor => Status::SECURITY_VIOLATION,
        Error::Storage => Status::DEVICE_ERROR,
        Error::Host(status) => status,
        Error::EmptyName
        | Error::UndefinedAttributes(_)
        | Error::RuntimeOnly
        | Error::HalfErrorRecord
        | Error::Unsigned
        | Error::NoAccess
        | Error::AttributesDiffer
        | Error::NotForRuntime
        | Error::UnknownPredecessor => Status::INVALID_PARAMETER,
    }
}
