//! Physical memory as something to copy bytes out of.
//!
//! What a host or an earlier firmware left in memory is reached through this
//! and nothing else: it is copied first and looked at afterwards, so nobody
//! holds a reference into memory that somebody else may own.

use alloc::vec;
use alloc::vec::Vec;

/// Memory that can be read by physical address.
pub trait Physical {
    /// Fills `buffer` with what is at `address`, or leaves it as it is: `None`
    /// when not all of it can be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()>;
}

impl dyn Physical + '_ {
    /// `length` bytes from `address` on. The caller bounds the length.
    #[inline(never)]
    pub fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }

    /// The little-endian number of `width` bytes (at most 8) at `address`.
    #[inline(never)]
    pub fn number(&self, address: u64, width: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, bytes.get_mut(..width)?)?;
        Some(u64::from_le_bytes(bytes))
    }
}

/// Bytes at an address: all the memory there is.
#[cfg(test)]
pub struct Bytes<'b> {
    /// Where they start.
    pub address: u64,
    /// The bytes.
    pub bytes: &'b [u8],
}

#[cfg(test)]
impl Physical for Bytes<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let source = self.bytes.get(start..start.checked_add(buffer.len())?)?;
        buffer.copy_from_slice(source);
        Some(())
    }
}
