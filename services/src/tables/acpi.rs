//! The little that the firmware itself reads from ACPI tables: how to reset the
//! machine and how to power it off (ACPI 6.5 §5.2.5, §5.2.9).

use super::get;
use super::loader::Files;
use crate::resident::{PortWrite, Reset};

/// Length of the header that every table but the RSDP begins with.
const HEADER: usize = 36;
/// `SLP_EN` in PM1_CNT.
const SLEEP_ENABLE: u16 = 1 << 13;
/// `SLP_TYP` of S5 in QEMU's `\_S5` packages, the only host whose tables are
/// read here: 0 on each machine type.
const SLEEP_TYPE_S5: u16 = 0;
/// FADT flag `RESET_REG_SUP`.
const RESET_SUPPORTED: u64 = 1 << 10;
/// Generic address structure: system I/O space.
const SPACE_IO: u64 = 1;

/// Reads reset and power-off from the FADT that `rsdp` leads to. What is not
/// there, or does not lie in `files`, is left out.
#[must_use]
pub fn reset(files: &Files<'_>, rsdp: &[u8]) -> Reset {
    find(files, rsdp, b"FACP")
        .map(|fadt| Reset {
            shutdown: shutdown(fadt).unwrap_or_default(),
            reset: reset_register(fadt).unwrap_or_default(),
        })
        .unwrap_or_default()
}

/// The table with this signature, by the XSDT or, failing that, the RSDT.
fn find<'f>(files: &'f Files<'_>, rsdp: &[u8], signature: &[u8; 4]) -> Option<&'f [u8]> {
    let revision = get(rsdp, 15, 1)?;
    let (root, width) = match get(rsdp, 24, 8) {
        Some(xsdt) if revision >= 2 && xsdt != 0 => (xsdt, 8),
        _ => (get(rsdp, 16, 4)?, 4),
    };
    let root = table(files, root)?;
    let pointers = root.get(HEADER..)?.chunks_exact(width);
    pointers
        .filter_map(|pointer| table(files, get(pointer, 0, width)?))
        .find(|table| table.starts_with(signature))
}

/// The bytes of the table at `address`, as long as its header says.
fn table<'f>(files: &'f Files<'_>, address: u64) -> Option<&'f [u8]> {
    let bytes = files.at(address)?;
    let length = usize::try_from(get(bytes, 4, 4)?).ok()?;
    bytes.get(..length)
}

/// PM1a_CNT_BLK, with what powers off.
fn shutdown(fadt: &[u8]) -> Option<PortWrite> {
    let port = u16::try_from(get(fadt, 64, 4)?).ok()?;
    (port != 0).then_some(PortWrite {
        port,
        value: SLEEP_ENABLE | SLEEP_TYPE_S5 << 10,
        width: 2,
    })
}

/// RESET_REG and RESET_VALUE, when they name an I/O port.
fn reset_register(fadt: &[u8]) -> Option<PortWrite> {
    let supported = get(fadt, 112, 4)? & RESET_SUPPORTED != 0;
    let in_io_space = get(fadt, 116, 1)? == SPACE_IO;
    let port = u16::try_from(get(fadt, 120, 8)?).ok()?;
    let value = u16::from(*fadt.get(128)?);
    (supported && in_io_space && port != 0).then_some(PortWrite {
        port,
        value,
        width: 1,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::loader::{Blob, Host, HostError, run};
    use super::super::put;
    use super::*;

    /// One file at `BASE` that holds RSDP, root table and FADT.
    struct Tables(Vec<u8>);
    const BASE: u64 = 0x7000;

    impl Host<'static> for Tables {
        fn place(&mut self, _: &str, _: u64) -> Result<Blob<'static>, HostError> {
            let bytes = self.0.clone().leak();
            Ok(Blob {
                address: BASE,
                bytes,
            })
        }
        fn write(&mut self, _: &str, _: u32, _: &mut [u8]) -> Result<(), HostError> {
            Err(HostError::NoFile)
        }
    }

    fn reset_of(bytes: Vec<u8>) -> Reset {
        let mut script = vec![0; 128];
        put(&mut script, 0, 4, 1).unwrap();
        put(&mut script, 4, 1, u64::from(b't')).unwrap();
        put(&mut script, 60, 4, 1).unwrap();
        let files = run(&script, &mut Tables(bytes.clone())).unwrap();
        reset(&files, &bytes)
    }

    /// RSDP at 0, root at 0x40, FADT at 0x100.
    fn tables(xsdt: bool) -> Vec<u8> {
        let mut bytes = vec![0; 0x200];
        let fields: &[(usize, usize, u64)] = &[
            (15, 1, if xsdt { 2 } else { 0 }),
            (16, 4, if xsdt { 0 } else { BASE + 0x40 }),
            (24, 8, if xsdt { BASE + 0x40 } else { 0 }),
            (0x44, 4, 36 + 8),
            (0x40 + 36, if xsdt { 8 } else { 4 }, BASE + 0x100),
            (0x100, 4, u64::from(u32::from_le_bytes(*b"FACP"))),
            (0x104, 4, 244),
            (0x100 + 64, 4, 0x604),
            (0x100 + 112, 4, RESET_SUPPORTED),
            (0x100 + 116, 1, SPACE_IO),
            (0x100 + 120, 8, 0xcf9),
            (0x100 + 128, 1, 0x0f),
        ];
        for (offset, width, value) in fields {
            put(&mut bytes, *offset, *width, *value).unwrap();
        }
        bytes
    }

    #[test]
    fn the_fadt_is_found_by_either_root_table() {
        for xsdt in [true, false] {
            let reset = reset_of(tables(xsdt));
            assert_eq!(
                (
                    reset.shutdown.port,
                    reset.shutdown.value,
                    reset.shutdown.width
                ),
                (0x604, 0x2000, 2)
            );
            assert_eq!(
                (reset.reset.port, reset.reset.value, reset.reset.width),
                (0xcf9, 0x0f, 1)
            );
        }
    }

    #[test]
    fn pointers_that_lead_nowhere_are_left_out() {
        let mut bytes = tables(true);
        put(&mut bytes, 0x40 + 36, 8, 0xdead_0000).unwrap();
        assert_eq!(reset_of(bytes), Reset::default());
        assert_eq!(reset_of(vec![0; 10]), Reset::default());
    }

    #[test]
    fn a_reset_register_in_memory_is_not_a_port() {
        let mut bytes = tables(true);
        put(&mut bytes, 0x100 + 116, 1, 0).unwrap();
        assert_eq!(reset_of(bytes).reset, PortWrite::default());
    }
}
