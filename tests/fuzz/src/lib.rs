//! What the fuzz targets share.

use ovmf_lite_services::physical::Physical;

/// All the memory there is: bytes from [`Memory::ADDRESS`] on.
#[derive(Debug)]
pub struct Memory<'b>(pub &'b [u8]);

impl Memory<'_> {
    /// Where the bytes start. Small, so that random pointers can hit them.
    pub const ADDRESS: u64 = 0x10;
}

impl Physical for Memory<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(Self::ADDRESS)?).ok()?;
        let source = self.0.get(start..start.checked_add(buffer.len())?)?;
        buffer.copy_from_slice(source);
        Some(())
    }
}

/// Whether `bytes` sum to 0, as sealed tables do.
pub fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
        == 0
}
