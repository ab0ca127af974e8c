//! The two PC chipsets QEMU emulates: which one is it, and the registers that
//! must be set before the host's ACPI tables are read.
//!
//! QEMU writes the power-management base address that it finds in the chipset
//! into the FADT at the moment the tables are fetched (QEMU `hw/i386/acpi-build.c`).

use crate::ports::pci::Function;
use core::fmt;

/// Where the ACPI power-management registers go: QEMU's SeaBIOS uses the same.
const PM_BASE: u32 = 0x600;
/// Bit 0 of a base register: the range is in I/O space.
const IO_SPACE: u32 = 1;

const HOST_BRIDGE: Function = Function {
    device: 0,
    function: 0,
};
/// PIIX4 power management (Intel 82371AB data sheet §7): PMBA and PMREGMISC.
const PIIX4_PM: Function = Function {
    device: 1,
    function: 3,
};
const PIIX4_PMBA: u8 = 0x40;
const PIIX4_PMREGMISC: u8 = 0x80;
const PIIX4_PM_ENABLE: u8 = 1;
/// ICH9 LPC bridge (Intel ICH9 data sheet §13.1): PMBASE and ACPI_CNTL.
const ICH9_LPC: Function = Function {
    device: 31,
    function: 0,
};
const ICH9_PMBASE: u8 = 0x40;
const ICH9_ACPI_CNTL: u8 = 0x44;
const ICH9_ACPI_ENABLE: u8 = 1 << 7;

/// A chipset this firmware knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chipset {
    /// Intel 440FX with PIIX: QEMU's machine type `pc`.
    I440fx,
    /// Intel Q35 with ICH9: QEMU's machine type `q35`.
    Q35,
}

impl fmt::Display for Chipset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I440fx => "pc (i440fx)",
            Self::Q35 => "q35",
        })
    }
}

/// Tells the chipset by its host bridge; the bridge's ID when it is unknown.
pub fn identify() -> Result<Chipset, u32> {
    match HOST_BRIDGE.id() {
        0x1237_8086 => Ok(Chipset::I440fx),
        0x29c0_8086 => Ok(Chipset::Q35),
        other => Err(other),
    }
}

impl Chipset {
    /// Places the ACPI power-management registers and turns them on.
    pub fn enable_power_management(self) {
        match self {
            Self::I440fx => {
                PIIX4_PM.write(PIIX4_PMBA, PM_BASE | IO_SPACE);
                PIIX4_PM.write_u8(PIIX4_PMREGMISC, PIIX4_PM_ENABLE);
            }
            Self::Q35 => {
                ICH9_LPC.write(ICH9_PMBASE, PM_BASE | IO_SPACE);
                ICH9_LPC.write_u8(ICH9_ACPI_CNTL, ICH9_ACPI_ENABLE);
            }
        }
    }
}
