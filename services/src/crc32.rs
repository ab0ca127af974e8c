//! CRC-32 as the headers of EFI tables carry it (UEFI 2.11 §4.2).
//!
//! Promises the same value as `EFI_BOOT_SERVICES.CalculateCrc32()` (§7.5):
//! polynomial 0x04c11db7, reflected, inverted before and after. Refuses nothing.

/// 0x04c11db7 with its bits reversed, for a register that shifts right.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// Where `EFI_TABLE_HEADER.CRC32` lies: bytes 16 to 19 of every table.
const FIELD: core::ops::Range<usize> = 16..20;

/// CRC-32 of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| step(crc, *byte))
}

/// The value that belongs into the `CRC32` field of the EFI table `table`,
/// whatever the field holds now: it counts as zero (UEFI 2.11 §4.2.1).
///
/// `table` is as long as the header's `HeaderSize` says.
pub fn of_table(table: &[u8]) -> u32 {
    let blanked = table
        .iter()
        .enumerate()
        .map(|(at, byte)| if FIELD.contains(&at) { 0 } else { *byte });
    !blanked.fold(!0, step)
}

/// Bit by bit: tables are sealed a few times per boot, so a lookup table would
/// cost more memory than it saves time.
fn step(crc: u32, byte: u8) -> u32 {
    (0..8).fold(crc ^ u32::from(byte), |crc, _| {
        (crc >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(crc & 1))
    })
}

#[cfg(test)]
mod tests {
    use super::{crc32, of_table};

    #[test]
    fn check_value_of_the_polynomial() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn the_crc_field_of_a_table_counts_as_zero() {
        let mut table = *b"a table header with room";
        let crc = of_table(&table);
        table[16..20].fill(0);
        assert_eq!(crc, crc32(&table));
        table[15] ^= 1;
        assert_ne!(crc, of_table(&table));
    }
}
