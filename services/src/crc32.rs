//! CRC-32 as the headers of EFI tables carry it (UEFI 2.11 §4.2).
//!
//! Promises the same value as `EFI_BOOT_SERVICES.CalculateCrc32()` (§7.5):
//! polynomial 0x04c11db7, reflected, inverted before and after. Refuses nothing.

/// Where `EFI_TABLE_HEADER.CRC32` lies: bytes 16 to 19 of every table.
const FIELD: core::ops::Range<usize> = 16..20;

/// CRC-32 of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    !add(!0, bytes)
}

/// The value that belongs into the `CRC32` field of the EFI table `table`,
/// whatever the field holds now: it counts as zero (UEFI 2.11 §4.2.1).
///
/// `table` is as long as the header's `HeaderSize` says.
pub fn of_table(table: &[u8]) -> u32 {
    let (before, behind) = table.split_at(table.len().min(FIELD.start));
    let behind = behind.get(FIELD.len()..).unwrap_or_default();
    let crc = add(!0, before);
    !add(add(crc, &[0; FIELD.end - FIELD.start]), behind)
}

fn add(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| step(crc, *byte))
}

/// What each value of the lower half of a byte does to the register: four steps
/// of the polynomial 0x04c11db7 with its bits reversed, as the register shifts
/// right.
static HALVES: [u32; 16] = [
    0x0000_0000,
    0x1db7_1064,
    0x3b6e_20c8,
    0x26d9_30ac,
    0x76dc_4190,
    0x6b6b_51f4,
    0x4db2_6158,
    0x5005_713c,
    0xedb8_8320,
    0xf00f_9344,
    0xd6d6_a3e8,
    0xcb61_b38c,
    0x9b64_c2b0,
    0x86d3_d2d4,
    0xa00a_e278,
    0xbdbd_f21c,
];

/// By halves of a byte: by single bits this would be a fifth of the work of a whole
/// start, and a table for bytes is larger than what it saves.
fn step(crc: u32, byte: u8) -> u32 {
    half(half(crc ^ u32::from(byte)))
}

fn half(crc: u32) -> u32 {
    (crc >> 4) ^ HALVES.get((crc & 15) as usize).copied().unwrap_or(0)
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
