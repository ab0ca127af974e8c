//! ACPI and SMBIOS tables as the host hands them over: bytes that refer to each
//! other, to be put into guest memory.

pub mod acpi;
pub mod loader;
pub mod smbios;

/// Where earlier firmware leaves RSDP and SMBIOS entry point, each at a multiple
/// of [`BIOS_AREA_ALIGNMENT`]: start and length in bytes. The latter is to be in
/// the upper half, but hvmloader has it in the lower.
pub const BIOS_AREA: (u64, usize) = (0xe_0000, 0x2_0000);
const BIOS_AREA_ALIGNMENT: usize = 16;

/// Little-endian number of `width` bytes (at most 8) at `offset`.
pub(crate) fn get(bytes: &[u8], offset: usize, width: usize) -> Option<u64> {
    let source = bytes.get(offset..offset.checked_add(width)?)?;
    let mut value = [0; 8];
    value.get_mut(..width)?.copy_from_slice(source);
    Some(u64::from_le_bytes(value))
}

/// Writes the low `width` bytes (at most 8) of `value` at `offset`.
pub(crate) fn put(bytes: &mut [u8], offset: usize, width: usize, value: u64) -> Option<()> {
    let target = bytes.get_mut(offset..offset.checked_add(width)?)?;
    target.copy_from_slice(value.to_le_bytes().get(..width)?);
    Some(())
}

/// The byte that makes `bytes` sum to 0. Eight at a time: each table of the host
/// is summed when the machine starts.
pub(crate) fn checksum(bytes: &[u8]) -> u8 {
    /// Every second byte of a word.
    const LANES: u64 = 0x00ff_00ff_00ff_00ff;
    let (words, rest) = bytes.as_chunks();
    // In lanes of 16 bits, reduced to a byte each time, so that none overflows
    // into the next.
    let sum = words.iter().fold(0, |sum: u64, word| {
        let word = u64::from_le_bytes(*word);
        (sum & LANES)
            .wrapping_add(word & LANES)
            .wrapping_add(word >> 8 & LANES)
    });
    let lanes = sum.to_le_bytes();
    let lanes = lanes.iter().step_by(2).chain(rest);
    lanes.fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}
