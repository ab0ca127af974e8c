//! Tables as QEMU's machines have them, and pointers that lead nowhere.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test that goes wrong should panic where it does"
)]

use super::super::put;
use super::*;
use crate::physical::Bytes;
use proptest::prelude::*;

const BASE: u64 = 0x7000;
const XSDT: usize = 0x40;
const FADT: usize = 0x100;
const DSDT: usize = 0x280;
const LENGTH: usize = 0x300;

/// `\_S5` as QEMU's `pc` and `q35` have it, behind another name.
const S5_ZERO: &[u8] = b"\x08_S3_\x08_S5_\x12\x06\x04\0\0\0\0";
/// As `microvm` has it; with a package length of two bytes.
const S5_FIVE: &[u8] = b"\x08_S5_\x12\x48\0\x04\x0a\x05\0\0\0";

/// RSDP, root table, FADT and DSDT at their offsets from [`BASE`].
#[derive(Clone)]
struct Tables(Vec<u8>);

impl Tables {
    fn new(xsdt: bool, s5: &[u8]) -> Self {
        let mut tables = Self(vec![0; LENGTH]);
        tables.bytes(0, RSDP_SIGNATURE);
        tables.bytes(DSDT + HEADER, s5);
        let address = |offset: usize| BASE + u64::try_from(offset).unwrap();
        for (offset, width, value) in [
            (15, 1, if xsdt { 2 } else { 0 }),
            (16, 4, if xsdt { 0 } else { address(XSDT) }),
            (24, 8, if xsdt { address(XSDT) } else { 0 }),
            (XSDT + 4, 4, 36 + 8),
            (XSDT + HEADER, if xsdt { 8 } else { 4 }, address(FADT)),
            (FADT, 4, u64::from(u32::from_le_bytes(*b"FACP"))),
            (FADT + 4, 4, 268),
            (FADT + fadt::DSDT, 4, address(DSDT)),
            (FADT + fadt::PM1A_CONTROL_BLOCK, 4, 0x604),
            (FADT + fadt::FLAGS, 4, RESET_SUPPORTED),
            (FADT + fadt::RESET_REGISTER, 1, 1),
            (FADT + fadt::RESET_REGISTER + 4, 8, 0xcf9),
            (FADT + fadt::RESET_VALUE, 1, 0x0f),
            (DSDT + 4, 4, 0x80),
        ] {
            tables.put(offset, width, value);
        }
        tables.seal();
        tables
    }

    fn put(&mut self, offset: usize, width: usize, value: u64) {
        put(&mut self.0, offset, width, value).unwrap();
    }

    fn bytes(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        self.0.splice(offset..end, bytes.iter().copied());
    }

    /// Makes both checksums of the RSDP right.
    fn seal(&mut self) {
        for (field, length) in [(8, RSDP_1), (32, RSDP_2)] {
            self.put(field, 1, 0);
            let sum = checksum(self.0.get(..length).unwrap());
            self.put(field, 1, sum.into());
        }
    }

    fn memory(&self) -> Bytes<'_> {
        Bytes {
            address: BASE,
            bytes: &self.0,
        }
    }

    fn reset(&self) -> Reset {
        reset(&self.memory(), BASE)
    }
}

#[test]
fn the_fadt_is_found_by_either_root_table() {
    for xsdt in [true, false] {
        let expected = Reset {
            shutdown: Write {
                address: 0x604,
                space: Space::IO,
                value: 0x2000,
                width: 2,
            },
            reset: Write {
                address: 0xcf9,
                space: Space::IO,
                value: 0x0f,
                width: 1,
            },
        };
        assert_eq!(Tables::new(xsdt, S5_ZERO).reset(), expected);
    }
}

#[test]
fn hardware_reduced_machines_have_their_registers_in_memory() {
    let mut tables = Tables::new(true, S5_FIVE);
    tables.put(FADT + fadt::FLAGS, 4, RESET_SUPPORTED | HARDWARE_REDUCED);
    for (register, address) in [
        (fadt::SLEEP_CONTROL_REGISTER, 0xfea0_0200u64),
        (fadt::RESET_REGISTER, 0xfea0_0202),
    ] {
        tables.put(FADT + register, 1, 0);
        tables.put(FADT + register + 4, 8, address);
    }
    let found = tables.reset();
    let shutdown = Write {
        address: 0xfea0_0200,
        space: Space::MEMORY,
        value: 0x34,
        width: 1,
    };
    assert_eq!(found.shutdown, shutdown);
    assert_eq!(found.reset.space, Space::MEMORY);
    assert_eq!(found.reset.address, 0xfea0_0202);
}

#[test]
fn without_s5_there_is_no_power_off() {
    for dsdt in [&b""[..], b"_S5_", b"_S5_\x0a\x05", b"_S5_\x12\x06\x04\x5b"] {
        let found = Tables::new(true, dsdt).reset();
        assert_eq!(found.shutdown, Write::default());
        assert_ne!(found.reset, Write::default());
    }
}

#[test]
fn pointers_that_lead_nowhere_are_left_out() {
    for (offset, width) in [(24, 8), (XSDT + HEADER, 8), (XSDT + 4, 4)] {
        let mut tables = Tables::new(true, S5_ZERO);
        tables.put(offset, width, 0xdead_0000);
        assert_eq!(tables.reset(), Reset::default());
    }
    let mut tables = Tables::new(true, S5_ZERO);
    tables.put(FADT + fadt::DSDT, 4, 0xdead_0000);
    assert_eq!(tables.reset().shutdown, Write::default());
    assert_eq!(reset(&tables.memory(), 0), Reset::default());
}

#[test]
fn registers_elsewhere_and_ports_that_are_none_are_left_out() {
    for (space, address) in [(2, 0xcf9u64), (1, 0x1_0000), (1, 0)] {
        let mut tables = Tables::new(true, S5_ZERO);
        tables.put(FADT + fadt::RESET_REGISTER, 1, space);
        tables.put(FADT + fadt::RESET_REGISTER + 4, 8, address);
        assert_eq!(tables.reset().reset, Write::default());
    }
}

#[test]
fn an_rsdp_is_known_by_signature_and_checksums() {
    let guid = |tables: &Tables| rsdp_guid(&tables.memory(), BASE);
    let second = Tables::new(true, S5_ZERO);
    assert_eq!(guid(&second), Some(ACPI_20_TABLE));
    assert_eq!(guid(&Tables::new(false, S5_ZERO)), Some(ACPI_10_TABLE));
    for broken in [0, 9, 30] {
        let mut tables = second.clone();
        tables.put(broken, 1, 0x55);
        assert_eq!(guid(&tables), None, "byte {broken}");
    }
    assert_eq!(rsdp_guid(&second.memory(), BASE + 16), None);
}

proptest! {
    #[test]
    fn any_tables_are_read_or_left_out(
        changes in prop::collection::vec((0..LENGTH, any::<u8>()), 0..30),
    ) {
        let mut tables = Tables::new(true, S5_FIVE);
        for (at, value) in changes {
            tables.put(at, 1, value.into());
        }
        let found = tables.reset();
        prop_assert!(found.shutdown.width <= 2 && found.reset.width <= 1);
    }
}
