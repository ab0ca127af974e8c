//! The one checked door to memory that a caller names.
//!
//! A pointer argument of an EFI service is an allegation: the caller says that
//! something of type `T` lies there. It is taken once, in [`Alleged::new`], and
//! from then on only read and written through checks for null and for ranges
//! that wrap. Alignment is not assumed. What cannot be checked is whether the
//! memory exists; a wild pointer ends in the exception report.

use core::{ptr, slice};
use uefi_raw::Status;

/// A caller's pointer to `T`, not believed yet.
#[derive(Debug)]
pub struct Alleged<T>(*mut T);

// A pointer can be copied whatever it leads to.
impl<T> Clone for Alleged<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Alleged<T> {}

impl<T> Alleged<T> {
    /// Takes a pointer from a caller.
    ///
    /// # Safety
    /// The caller of the EFI service promised (UEFI 2.11 §2.3) that the pointer
    /// is null or leads to memory that is its own to lend, for reading, and for
    /// writing if the service's contract says `OUT`.
    pub unsafe fn new(pointer: *const T) -> Self {
        Self(pointer.cast_mut())
    }

    /// Whether the caller passed null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    fn checked(self, count: usize) -> Result<*mut T, Status> {
        let bytes = size_of::<T>().checked_mul(count);
        let end = bytes.and_then(|bytes| self.0.addr().checked_add(bytes));
        if self.0.is_null() || end.is_none() {
            return Err(Status::INVALID_PARAMETER);
        }
        Ok(self.0)
    }

    /// Writes the value; `INVALID_PARAMETER` when null.
    pub fn write(self, value: T) -> Result<(), Status> {
        let pointer = self.checked(1)?;
        // SAFETY: non-null, and writable as promised to `new`.
        unsafe { pointer.write_unaligned(value) };
        Ok(())
    }

    /// Writes the value unless the caller passed null.
    pub fn write_optional(self, value: T) {
        if !self.is_null() {
            let _ = self.write(value);
        }
    }

    /// The element `index` behind the pointer.
    pub fn at(self, index: usize) -> Result<Self, Status> {
        let end = index.checked_add(1).ok_or(Status::INVALID_PARAMETER)?;
        Ok(Self(self.checked(end)?.wrapping_add(index)))
    }

    /// The same place, said to hold another type.
    pub fn cast<U>(self) -> Alleged<U> {
        Alleged(self.0.cast())
    }

    /// Writes `values`, which have nothing to drop, one after the other.
    pub fn write_all(self, values: &[T]) -> Result<(), Status> {
        let pointer = self.checked(values.len())?.cast::<u8>();
        let bytes = values.as_ptr().cast::<u8>();
        // SAFETY: non-null, does not wrap, writable as promised to `new`; nobody
        // but the firmware has `values`.
        unsafe { ptr::copy_nonoverlapping(bytes, pointer, size_of_val(values)) };
        Ok(())
    }
}

impl<T: Copy> Alleged<T> {
    /// Reads the value; `INVALID_PARAMETER` when null.
    pub fn read(self) -> Result<T, Status> {
        let pointer = self.checked(1)?;
        // SAFETY: non-null, and readable as promised to `new`.
        Ok(unsafe { pointer.read_unaligned() })
    }
}

impl Alleged<u8> {
    /// The address, to be looked up.
    pub fn pointer(self) -> *mut u8 {
        self.0
    }

    /// The bytes of a caller's buffer. An empty one may be null.
    pub fn bytes<'a>(self, length: usize) -> Result<&'a [u8], Status> {
        if length == 0 {
            return Ok(&[]);
        }
        let pointer = self.checked(length)?;
        // SAFETY: non-null, does not wrap, readable as promised to `new`; the
        // caller waits for the service and so does not write meanwhile.
        Ok(unsafe { slice::from_raw_parts(pointer, length) })
    }

    /// The bytes of a caller's buffer, to be written. An empty one may be null.
    pub fn bytes_mut<'a>(self, length: usize) -> Result<&'a mut [u8], Status> {
        if length == 0 {
            return Ok(&mut []);
        }
        let pointer = self.checked(length)?;
        // SAFETY: as in `bytes`, and writable as promised to `new`.
        Ok(unsafe { slice::from_raw_parts_mut(pointer, length) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::{null, without_provenance};

    #[test]
    fn null_and_wrapping_ranges_are_refused() {
        // SAFETY: null needs no memory.
        let null = unsafe { Alleged::<u32>::new(null()) };
        assert_eq!(null.read(), Err(Status::INVALID_PARAMETER));
        assert_eq!(null.write(1), Err(Status::INVALID_PARAMETER));
        // SAFETY: never dereferenced: the range wraps.
        let high = unsafe { Alleged::<u8>::new(without_provenance(usize::MAX - 3)) };
        assert_eq!(high.bytes(8), Err(Status::INVALID_PARAMETER));
        assert_eq!(high.at(usize::MAX).err(), Some(Status::INVALID_PARAMETER));
    }

    #[test]
    fn misaligned_values_are_read_and_written() {
        let mut bytes = [0u8; 9];
        // SAFETY: one byte in, eight bytes remain.
        let misaligned = unsafe { Alleged::new(bytes.as_mut_ptr().wrapping_add(1).cast::<u64>()) };
        assert_eq!(misaligned.write(0x0102_0304_0506_0708), Ok(()));
        assert_eq!(misaligned.read(), Ok(0x0102_0304_0506_0708));
        assert_eq!(bytes, [0, 8, 7, 6, 5, 4, 3, 2, 1]);
    }
}
