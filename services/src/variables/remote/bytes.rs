//! Numbers and strings in the buffer, one behind the other, little-endian.
//!
//! Promises to stay within the buffer. Refuses a request that does not fit.

use crate::variables::Error;

/// Writes a request.
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    at: usize,
}

impl<'b> Writer<'b> {
    /// From the start of `buffer` on.
    pub const fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, at: 0 }
    }

    /// Where the next byte goes.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The next `size` bytes, as they are.
    pub fn skip(&mut self, size: usize) -> Result<&mut [u8], Error> {
        let rest = self.buffer.get_mut(self.at..).unwrap_or_default();
        let free = rest.len();
        let room = rest
            .get_mut(..size)
            .ok_or(Error::Full { needed: size, free })?;
        self.at = self.at.saturating_add(size);
        Ok(room)
    }

    /// Appends `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.skip(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends 32 bits.
    pub fn int(&mut self, value: u32) -> Result<(), Error> {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends 64 bits.
    pub fn long(&mut self, value: usize) -> Result<(), Error> {
        self.bytes(&(value as u64).to_le_bytes())
    }
}

/// The 64 bits at `at`.
pub fn number(buffer: &[u8], at: usize) -> Option<u64> {
    buffer
        .get(at..)?
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
}

/// The 32 bits at `at`.
pub fn int(buffer: &[u8], at: usize) -> Option<u32> {
    buffer
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
}

/// The GUID at `at`.
pub fn guid(buffer: &[u8], at: usize) -> Option<uefi_raw::Guid> {
    buffer
        .get(at..)?
        .first_chunk()
        .map(|b| uefi_raw::Guid::from_bytes(*b))
}
