//! CRC-32 (ISO 3309, reflected, polynomial 0x04C11DB7) as EFI tables carry it;
//! written again here so that the firmware's is not its own judge.

/// The CRC-32 of `bytes`.
pub fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            let mask = (crc & 1).wrapping_neg();
            (crc >> 1) ^ (0xedb8_8320 & mask)
        })
    })
}
