//! The little that the firmware itself reads from ACPI tables: where they begin,
//! how to reset the machine and how to power it off (ACPI 6.5 §5.2.5, §5.2.9).
//!
//! Tables are copied out of memory before they are looked at. What is not there,
//! too long or outside of memory that can be read is left out.
//!
//! Coverage, configuration tables:
//!
//! | ACPI 1.0 or ACPI 2.0, by the RSDP's revision | 4.6.1 | the host's table-loader script, the PVH loader's RSDP, or what hvmloader left in 0xE0000 to 0xFFFFF |

use super::{BIOS_AREA_ALIGNMENT, checksum, get};
use crate::physical::Physical;
use crate::resident::{Reset, Space, Write};
use alloc::vec::Vec;
use uefi_raw::{Guid, guid};

/// `EFI_ACPI_TABLE_GUID`: the RSDP of ACPI 2.0 and later.
const ACPI_20_TABLE: Guid = guid!("8868e871-e4f1-11d3-bc22-0080c73c8881");
/// `ACPI_TABLE_GUID`: the RSDP of ACPI 1.0, without an XSDT.
const ACPI_10_TABLE: Guid = guid!("eb9d2d30-2d88-11d3-9a16-0090273fc14d");

const RSDP_SIGNATURE: &[u8] = b"RSD PTR ";
/// Length of the RSDP of ACPI 1.0, and of its successors.
const RSDP_1: usize = 20;
const RSDP_2: usize = 36;
/// Length of the header that every table but the RSDP begins with.
const HEADER: usize = 36;
/// Longest table that is read, in bytes; QEMU's largest, the DSDT of a machine
/// with hundreds of processors, has about a third.
const MAX_TABLE: usize = 256 * 1024;

/// `SLP_EN` and the position of `SLP_TYP` in PM1_CNT.
const PM1_SLEEP_ENABLE: u16 = 1 << 13;
const PM1_SLEEP_TYPE: u32 = 10;
/// `SLP_EN` and the position of `SLP_TYP` in SLEEP_CONTROL_REG (§4.8.3.7).
const SLEEP_CONTROL_ENABLE: u16 = 1 << 5;
const SLEEP_CONTROL_TYPE: u32 = 2;
/// FADT flags `RESET_REG_SUP` and `HW_REDUCED_ACPI`.
const RESET_SUPPORTED: u64 = 1 << 10;
const HARDWARE_REDUCED: u64 = 1 << 20;

/// Where the FADT has its fields (§5.2.9).
mod fadt {
    pub const DSDT: usize = 40;
    pub const PM1A_CONTROL_BLOCK: usize = 64;
    pub const FLAGS: usize = 112;
    pub const RESET_REGISTER: usize = 116;
    pub const RESET_VALUE: usize = 128;
    pub const X_DSDT: usize = 140;
    pub const SLEEP_CONTROL_REGISTER: usize = 244;
}

/// Finds an RSDP in `area`, a copy of [`BIOS_AREA`](super::BIOS_AREA)
/// (§5.2.5.1); its offset.
#[must_use]
#[cold]
pub fn find_rsdp(area: &[u8]) -> Option<usize> {
    let mut offsets = (0..area.len()).step_by(BIOS_AREA_ALIGNMENT);
    offsets.find(|at| {
        let first = area.get(*at..).and_then(|rest| rest.get(..RSDP_1));
        first.is_some_and(|rsdp| rsdp.starts_with(RSDP_SIGNATURE) && checksum(rsdp) == 0)
    })
}

/// The GUID to publish the RSDP at `address` under; `None` when none is there.
#[must_use]
pub fn rsdp_guid(memory: &dyn Physical, address: u64) -> Option<Guid> {
    let first = memory.bytes(address, RSDP_1)?;
    if !first.starts_with(RSDP_SIGNATURE) || checksum(&first) != 0 {
        return None;
    }
    // Byte 15 is the revision: 0 for ACPI 1.0 (§5.2.5.3).
    if get(&first, 15, 1)? == 0 {
        return Some(ACPI_10_TABLE);
    }
    let second = memory.bytes(address, RSDP_2)?;
    (checksum(&second) == 0).then_some(ACPI_20_TABLE)
}

/// Reads reset and power-off from the FADT that the RSDP at `rsdp` leads to.
#[must_use]
pub fn reset(memory: &dyn Physical, rsdp: u64) -> Reset {
    let fadt = find(memory, rsdp, b"FACP").and_then(|fadt| table(memory, fadt));
    let Some(fadt) = fadt else {
        return Reset::default();
    };
    Reset {
        shutdown: shutdown(memory, &fadt).unwrap_or_default(),
        reset: reset_register(&fadt).unwrap_or_default(),
    }
}

/// The address of the table with this signature, by the XSDT or, failing that, the
/// RSDT.
fn find(memory: &dyn Physical, rsdp: u64, signature: &[u8; 4]) -> Option<u64> {
    let field = |offset, width| memory.number(rsdp.checked_add(offset)?, width);
    let xsdt = field(15, 1).filter(|revision| *revision > 1);
    let xsdt = xsdt.and_then(|_| field(24, 8)).filter(|xsdt| *xsdt != 0);
    let (root, width) = match xsdt {
        Some(xsdt) => (xsdt, 8),
        None => (field(16, 4)?, 4),
    };
    let end = root.checked_add(length(memory, root)? as u64)?;
    let signature = u32::from_le_bytes(*signature).into();
    let mut pointer = root.checked_add(HEADER as u64)?;
    loop {
        let behind = pointer.checked_add(width as u64)?;
        let address = memory.number(pointer, width).filter(|_| behind <= end)?;
        if memory.number(address, 4) == Some(signature) {
            return Some(address);
        }
        pointer = behind;
    }
}

/// The length of the table at `address`, header included, unless it is too long.
fn length(memory: &dyn Physical, address: u64) -> Option<usize> {
    let length = memory.number(address.checked_add(4)?, 4)?;
    let length = usize::try_from(length).ok()?;
    (HEADER..=MAX_TABLE).contains(&length).then_some(length)
}

/// The table at `address`, as long as its header says.
fn table(memory: &dyn Physical, address: u64) -> Option<Vec<u8>> {
    memory.bytes(address, length(memory, address)?)
}

/// The write that powers off, where the machine has the sleep state S5.
fn shutdown(memory: &dyn Physical, fadt: &[u8]) -> Option<Write> {
    let flags = get(fadt, fadt::FLAGS, 4)?;
    let dsdt = match get(fadt, fadt::X_DSDT, 8) {
        Some(address) if address != 0 => address,
        _ => get(fadt, fadt::DSDT, 4)?,
    };
    let sleep_type = u16::from(sleep_type_s5(&table(memory, dsdt)?)? & 7);
    if flags & HARDWARE_REDUCED != 0 {
        let value = SLEEP_CONTROL_ENABLE | sleep_type << SLEEP_CONTROL_TYPE;
        return byte_write(fadt, fadt::SLEEP_CONTROL_REGISTER, value);
    }
    let address = get(fadt, fadt::PM1A_CONTROL_BLOCK, 4)?;
    (address != 0).then_some(Write {
        address,
        space: Space::IO,
        value: PM1_SLEEP_ENABLE | sleep_type << PM1_SLEEP_TYPE,
        width: 2,
    })
}

/// The first element of the package `\_S5`: the sleep type for PM1a_CNT and
/// SLEEP_CONTROL_REG (§7.4.2). Hosts declare it by name at the top of the DSDT,
/// so nothing of it needs to be executed: NameString, PackageOp, PkgLength,
/// NumElements, and a constant (§20.2).
fn sleep_type_s5(dsdt: &[u8]) -> Option<u8> {
    const NAMED_PACKAGE: [u8; 5] = *b"_S5_\x12";
    let mut package = dsdt;
    // The last byte tells in most places that the name is not here, and how far
    // the next place is where it may be.
    let package = loop {
        let (found, behind) = package.split_first_chunk::<5>()?;
        let step = match found {
            found if *found == NAMED_PACKAGE => break behind,
            [.., b'_'] => 1,
            [.., b'5'] => 2,
            [.., b'S'] => 3,
            _ => 5,
        };
        package = package.get(step..)?;
    };
    let more_length = usize::from(package.first()? >> 6);
    match package.get(more_length.checked_add(2)?..)? {
        [0x00, ..] => Some(0),
        [0x01, ..] => Some(1),
        [0x0a, value, ..] => Some(*value),
        _ => None,
    }
}

/// RESET_REG and RESET_VALUE.
fn reset_register(fadt: &[u8]) -> Option<Write> {
    let supported = get(fadt, fadt::FLAGS, 4)? & RESET_SUPPORTED != 0;
    let value = u16::from(*fadt.get(fadt::RESET_VALUE)?);
    byte_write(fadt, fadt::RESET_REGISTER, value).filter(|_| supported)
}

/// A write of one byte to the register whose generic address structure is at
/// `offset` (§5.2.3.2), when it is a port or in memory.
fn byte_write(fadt: &[u8], offset: usize, value: u16) -> Option<Write> {
    let space = Space(u32::try_from(get(fadt, offset, 1)?).ok()?);
    let address = get(fadt, offset.checked_add(4)?, 8)?;
    let known = space == Space::MEMORY || space == Space::IO && address <= u16::MAX.into();
    (known && address != 0).then_some(Write {
        address,
        space,
        value,
        width: 1,
    })
}

#[cfg(test)]
mod tests;
