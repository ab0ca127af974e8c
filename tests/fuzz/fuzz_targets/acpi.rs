//! ACPI tables: any memory is read or left out, and power-off and reset name
//! ports of the widths they may have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovmf_lite_fuzz::Memory;
use ovmf_lite_services::tables::acpi;

fuzz_target!(|input: (Vec<[u8; 5]>, bool)| {
    let (changes, extended) = input;
    let mut bytes = tables(extended);
    for [high, low, value, second, third] in changes {
        let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() - 2);
        bytes[at..at + 3].copy_from_slice(&[value, second, third]);
    }
    let _ = acpi::rsdp_guid(&Memory(&bytes), Memory::ADDRESS);
    let found = acpi::reset(&Memory(&bytes), Memory::ADDRESS);
    for write in [found.shutdown, found.reset] {
        assert!(matches!(write.width, 0..=2 | 4));
    }
});

/// RSDP at 0, root table at 0x40, FADT at 0x100, DSDT with `\_S5` at 0x300.
fn tables(extended: bool) -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    let pointer = |at: u32| at + Memory::ADDRESS as u32;
    let mut put = |at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    put(12, if extended { 2 << 24 } else { 0 });
    put(if extended { 24 } else { 16 }, pointer(0x40));
    put(0x44, if extended { 44 } else { 40 });
    put(0x64, pointer(0x100));
    put(0x100, u32::from_le_bytes(*b"FACP"));
    put(0x104, 268);
    put(0x100 + 40, pointer(0x300));
    put(0x100 + 64, 0x604);
    put(0x100 + 112, 1 << 10);
    put(0x100 + 116, 0x0801);
    put(0x100 + 120, 0xcf9);
    put(0x100 + 128, 0x0f);
    put(0x300, u32::from_le_bytes(*b"DSDT"));
    put(0x304, 0x80);
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[0x330..][..11].copy_from_slice(b"\x08_S5_\x12\x06\x04\x05\x05\0");
    bytes
}
