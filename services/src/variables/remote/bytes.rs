//! Numbers and strings in the buffer, one behind the other, little-endian.
//!
//! Promises to stay within the buffer. A request that does not fit goes on being
//! counted, and is refused at its end.

use crate::variables::Error;
use uefi_raw::Guid;

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

    /// How many bytes have been written.
    ///
    /// # Errors
    /// When they are more than the buffer has.
    pub const fn size(&self) -> Result<usize, Error> {
        let (needed, free) = (self.at, self.buffer.len());
        if needed > free {
            return Err(Error::full(needed, free));
        }
        Ok(needed)
    }

    /// Writes `bytes` at `at`.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let room = self.buffer.get_mut(at..).unwrap_or_default();
        if let Some(room) = room.get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }

    /// Replaces the 64 bits at `at`.
    pub fn patch(&mut self, at: usize, value: usize) {
        self.put(at, &(value as u64).to_le_bytes());
    }

    /// Leaves the next `size` bytes as they are.
    pub fn skip(&mut self, size: usize) {
        self.at = self.at.saturating_add(size);
    }

    /// Appends `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.put(self.at, bytes);
        self.skip(bytes.len());
    }

    /// Appends a GUID.
    pub fn guid(&mut self, guid: Guid) {
        self.bytes(&guid.to_bytes());
    }

    /// Appends 32 bits.
    pub fn int(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends 64 bits.
    pub fn long(&mut self, value: usize) {
        self.bytes(&(value as u64).to_le_bytes());
    }
}

/// The 64 bits at `at`.
pub fn number(buffer: &[u8], at: usize) -> Option<u64> {
    field(buffer, at).map(u64::from_le_bytes)
}

/// The 32 bits at `at`.
pub fn int(buffer: &[u8], at: usize) -> Option<u32> {
    field(buffer, at).map(u32::from_le_bytes)
}

/// The GUID at `at`.
pub fn guid(buffer: &[u8], at: usize) -> Option<Guid> {
    field(buffer, at).map(Guid::from_bytes)
}

fn field<const N: usize>(buffer: &[u8], at: usize) -> Option<[u8; N]> {
    buffer.get(at..)?.first_chunk().copied()
}
