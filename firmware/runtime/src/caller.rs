//! The one door through which a caller's pointers are read.
//!
//! They are allegations: virtual addresses of the operating system, perhaps
//! unaligned, valid only during the call. Promises never to read past the size
//! a caller gave, nor past what the variable storage could hold. Refuses NULL.

use crate::state::STORAGE;
use core::slice;
use ovmf_lite_services::variables::{Key, Name};
use uefi_raw::{Char16, Guid, Status};

/// The variable that `name` and `vendor` identify; `too_long` if no variable
/// can have that name.
///
/// # Safety
/// Unless NULL, `name` points to a NUL-terminated string and `vendor` to a
/// GUID. Both live as long as the result is used.
pub unsafe fn key<'a>(
    name: *const Char16,
    vendor: *const Guid,
    too_long: Status,
) -> Result<Key<'a>, Status> {
    if name.is_null() || vendor.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    // SAFETY: the caller points to a GUID.
    let vendor = unsafe { guid(vendor) };
    // SAFETY: the caller points to a string.
    let name = unsafe { string(name) }.ok_or(too_long)?;
    Ok(Key { vendor, name })
}

/// The GUID at `pointer`.
///
/// # Safety
/// `pointer` points to a GUID; no alignment is needed.
pub unsafe fn guid(pointer: *const Guid) -> Guid {
    // SAFETY: the caller points to a GUID, and any 16 bytes are one.
    unsafe { pointer.read_unaligned() }
}

/// More bytes than any variable has: what the largest store in flash holds.
const TOO_MANY: usize = 256 * 1024;

/// At most [`TOO_MANY`] bytes of the `size` at `pointer`: enough for being
/// refused.
///
/// # Safety
/// `size` bytes can be read at `pointer` as long as the result is used.
pub unsafe fn bytes<'a>(pointer: *const u8, size: usize) -> Result<&'a [u8], Status> {
    match size {
        0 => Ok(&[]),
        _ if pointer.is_null() => Err(Status::INVALID_PARAMETER),
        // SAFETY: a prefix of what the caller vouches for.
        _ => Ok(unsafe { slice::from_raw_parts(pointer, size.min(TOO_MANY)) }),
    }
}

/// # Safety
/// `pointer` points to a NUL-terminated string, which lives as long as the
/// result is used; no alignment is needed.
unsafe fn string<'a>(pointer: *const Char16) -> Option<Name<'a>> {
    let units = pointer.cast::<[u8; 2]>();
    let length = (0..STORAGE / 2).find(|&at| {
        // SAFETY: the string has not ended before `at`, so `at` is part of it.
        unsafe { units.wrapping_add(at).read() == [0, 0] }
    })?;
    // SAFETY: just read, terminator included.
    let units = unsafe { slice::from_raw_parts(units, length.wrapping_add(1)) };
    Name::from_buffer(units.as_flattened())
}
