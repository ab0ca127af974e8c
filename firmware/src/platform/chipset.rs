//! The two PC chipsets QEMU emulates: which one is it, and everything that must
//! be set before the host's ACPI tables are read.
//!
//! QEMU writes what it finds in the chipset's and the bridges' registers into
//! the tables at the moment they are fetched for the first time: PM base, MCFG,
//! `_CRS` (QEMU `hw/i386/acpi-build.c`). So a machine that another firmware has
//! set up already is left as it is: its tables are written.
//!
//! Not done, because nothing under EFI depends on it: option ROMs, the SMBus base
//! address, SMRAM.

use super::fw_cfg::{self, FwCfg};
use crate::arch::{mtrr, smp, time};
use crate::console::warning;
use crate::ports;
use crate::ports::fw_cfg::Device;
use crate::ports::pci::Ports;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use ovmf_lite_services::e820::Region;
use ovmf_lite_services::pci::{self, Configuration, Function, Host, LINES, Routing, Space};
use uefi_raw::table::boot::MemoryType;

/// Where the ACPI power-management registers go: QEMU's SeaBIOS uses the same.
const PM_BASE: u32 = 0x600;
/// Where among them the timer is (Intel 82371AB data sheet §7.2.4).
const PM_TIMER: u16 = 8;
/// Bit 0 of a base register: the range is in I/O space.
const IO_SPACE: u32 = 1;

const HOST_BRIDGE: Function = on_root(0, 0);
/// Q35 host bridge: PCIEXBAR (Intel 3 Series Express Chipset Family data sheet
/// §5.1.13): enabled, 256 buses of 1 MiB.
const PCIEXBAR: u8 = 0x60;
const PCIEXBAR_HIGH: u8 = 0x64;
const PCIEXBAR_ENABLE: u32 = 1;
const PCIEXBAR_ADDRESS: u32 = 0xf000_0000;
const MMCONFIG_BYTES: u64 = 256 << 20;
/// Where memory ends on q35 at the latest, and MMCONFIG begins: QEMU keeps the
/// range free of RAM (QEMU `hw/i386/pc_q35.c`).
const MMCONFIG: u64 = 0xb000_0000;

/// Programmable attribute maps of the host bridges (Intel 82441FX data sheet
/// §3.2.18, Intel 3 Series Express Chipset Family data sheet §5.1.17): one
/// register for 0xF0000, then six for 0xC0000 to 0xEFFFF, half a byte for each
/// range. Bits 0 and 1 of a half: reads and writes go to RAM.
const I440FX_PAM: u8 = 0x59;
const Q35_PAM: u8 = 0x90;
const PAM_ROM_AREA: u8 = 0x30;
const PAM_BELOW: u8 = 0x33;
const PAM_BELOW_REGISTERS: u8 = 6;

/// PIIX3 ISA bridge: PIRQRC, one byte a link (Intel 82371SB data sheet §2.2.6).
const PIIX3_ISA: Function = on_root(1, 0);
const PIIX3_PIRQ: u8 = 0x60;
/// PIIX4 power management (Intel 82371AB data sheet §7): PMBA and PMREGMISC.
const PIIX4_PM: Function = on_root(1, 3);
const PIIX4_PMBA: u8 = 0x40;
const PIIX4_PMREGMISC: u8 = 0x80;
const PIIX4_PM_ENABLE: u8 = 1;
/// ICH9 LPC bridge (Intel ICH9 data sheet §13.1): PMBASE, ACPI_CNTL, links A to
/// D and E to H, RCBA.
const ICH9_LPC: Function = on_root(31, 0);
const ICH9_PMBASE: u8 = 0x40;
const ICH9_ACPI_CNTL: u8 = 0x44;
const ICH9_ACPI_ENABLE: u8 = 1 << 7;
const ICH9_PIRQ_A: u8 = 0x60;
const ICH9_PIRQ_E: u8 = 0x68;
const ICH9_RCBA: u8 = 0xf0;
/// The chipset's own registers, enabled: Linux's watchdog driver needs them.
const RCBA: u32 = 0xfed1_c000 | 1;

/// Edge/level control of interrupt lines 8 to 15 (Intel 82371SB data sheet
/// §2.5.5.3): PCI interrupts are level-triggered.
const ELCR_HIGH: u16 = 0x4d1;

/// The interrupt controllers' masks: nothing gets through.
const PIC_MASK: u16 = 0x21;
const SECOND_PIC_MASK: u16 = 0xa1;
const ALL_MASKED: u8 = 0xff;

/// fw_cfg files of one 64-bit number each (QEMU `hw/i386/pc.c`,
/// `hw/i386/fw_cfg.c`): where memory that may be plugged in ends; how many root
/// buses there are besides bus 0; what IA32_FEATURE_CONTROL shall be.
const RESERVED_MEMORY_END: &str = "etc/reserved-memory-end";
const EXTRA_ROOTS: &str = "etc/extra-pci-roots";
const FEATURE_CONTROL: &str = "etc/msr_feature_control";
/// fw_cfg item: how many processors are there at the start, 16 bits.
const PROCESSORS: u16 = 0x05;

/// I/O ports for PCI. QEMU has devices of its own below 0x1000, at 0xAExx and
/// 0xAFxx, and at 0xB1xx.
const IO: [Range<u64>; 2] = [0xc000..0x1_0000, 0x1000..0xa000];
/// PCI memory below 4 GiB begins here at the earliest, ...
const LOW_START: u64 = 2 << 30;
/// ... at a multiple of this, so that few MTRRs describe it, ...
const LOW_ALIGNMENT: u64 = 256 << 20;
/// ... and ends at the I/O APIC.
const LOW_END: u64 = 0xfec0_0000;
const HIGH_START: u64 = 4 << 30;
/// QEMU's tables round the end of memory up like this.
const HIGH_ALIGNMENT: u64 = 1 << 30;
/// Linux maps no more without 5-level paging.
const MAX_ADDRESS_BITS: u32 = 46;

const fn on_root(device: u8, function: u8) -> Function {
    Function {
        bus: 0,
        device,
        function,
    }
}

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
    match Ports.read(HOST_BRIDGE, 0) {
        0x1237_8086 => Ok(Chipset::I440fx),
        0x29c0_8086 => Ok(Chipset::Q35),
        other => Err(other),
    }
}

/// Sets up chipset, PCI and processors, unless somebody else has. `memory` is
/// the host's; what the chipset takes out of it is added.
pub fn set_up(
    chipset: Option<Chipset>,
    fw_cfg: &FwCfg,
    memory: &mut Vec<Region>,
) -> Result<(), fw_cfg::Error> {
    match chipset {
        Some(chipset) if chipset.is_set_up() => {}
        Some(chipset) => chipset.set_up(fw_cfg, memory)?,
        None => set_up_processors(fw_cfg, low_start(None, memory))?,
    }
    memory.extend(chipset.and_then(Chipset::mmconfig));
    Ok(())
}

impl Chipset {
    fn set_up(self, fw_cfg: &FwCfg, memory: &[Region]) -> Result<(), fw_cfg::Error> {
        self.enable_power_management();
        self.shadow();
        self.route_interrupts();
        if self == Self::Q35 {
            enable_mmconfig(memory);
        }
        let low = low_start(self.mmconfig(), memory);
        self.assign_pci(fw_cfg, memory, low)?;
        set_up_processors(fw_cfg, low)
    }

    fn is_set_up(self) -> bool {
        match self {
            Self::I440fx => Ports.read_u8(PIIX4_PM, PIIX4_PMREGMISC) == PIIX4_PM_ENABLE,
            Self::Q35 => Ports.read_u8(ICH9_LPC, ICH9_ACPI_CNTL) & ICH9_ACPI_ENABLE != 0,
        }
    }

    /// Places the ACPI power-management registers and turns them on.
    fn enable_power_management(self) {
        match self {
            Self::I440fx => {
                Ports.write(PIIX4_PM, PIIX4_PMBA, PM_BASE | IO_SPACE);
                Ports.write_u8(PIIX4_PM, PIIX4_PMREGMISC, PIIX4_PM_ENABLE);
            }
            Self::Q35 => {
                Ports.write(ICH9_LPC, ICH9_PMBASE, PM_BASE | IO_SPACE);
                Ports.write_u8(ICH9_LPC, ICH9_ACPI_CNTL, ICH9_ACPI_ENABLE);
                Ports.write(ICH9_LPC, ICH9_RCBA, RCBA);
            }
        }
        time::acpi_timer_runs(PM_BASE as u16 + PM_TIMER);
    }

    /// Puts RAM where the flash showed through, so that what looks for legacy
    /// tables there does not find pieces of our image. A reset undoes it.
    fn shadow(self) {
        let first = match self {
            Self::I440fx => I440FX_PAM,
            Self::Q35 => Q35_PAM,
        };
        Ports.write_u8(HOST_BRIDGE, first, PAM_ROM_AREA);
        for register in first + 1..=first + PAM_BELOW_REGISTERS {
            Ports.write_u8(HOST_BRIDGE, register, PAM_BELOW);
        }
    }

    /// Connects the PCI interrupt links to their lines.
    fn route_interrupts(self) {
        let links = u32::from_le_bytes(LINES);
        match self {
            Self::I440fx => Ports.write(PIIX3_ISA, PIIX3_PIRQ, links),
            Self::Q35 => {
                Ports.write(ICH9_LPC, ICH9_PIRQ_A, links);
                Ports.write(ICH9_LPC, ICH9_PIRQ_E, links);
            }
        }
        let level = LINES.iter().fold(0, |bits, line| bits | 1 << (line - 8));
        ports::write::<u8>(ELCR_HIGH, level);
    }

    /// Configuration space in memory, when it is enabled.
    fn mmconfig(self) -> Option<Region> {
        let register = Ports.read(HOST_BRIDGE, PCIEXBAR);
        (self == Self::Q35 && register & PCIEXBAR_ENABLE != 0).then_some(Region {
            start: u64::from(register & PCIEXBAR_ADDRESS),
            bytes: MMCONFIG_BYTES,
            ty: MemoryType::RESERVED,
        })
    }

    fn assign_pci(self, fw_cfg: &FwCfg, memory: &[Region], low: u64) -> Result<(), fw_cfg::Error> {
        let limit = 1 << mtrr::address_bits().min(MAX_ADDRESS_BITS);
        let reserved = read_u64(fw_cfg, RESERVED_MEMORY_END)?.unwrap_or(0);
        let high = ram_end(memory, limit).max(reserved.min(limit));
        let high = high.max(HIGH_START).next_multiple_of(HIGH_ALIGNMENT);
        let mut host = Host {
            extra_roots: read_u64(fw_cfg, EXTRA_ROOTS)?.is_some_and(|roots| roots != 0),
            io: Space::new(IO),
            low: Space::new(Some(low..LOW_END)),
            high: Space::new(Some(high..limit)),
            routing: match self {
                Self::I440fx => Routing::Piix3,
                Self::Q35 => Routing::Ich9,
            },
        };
        for region in memory.iter().copied().chain(self.mmconfig()) {
            let range = region.start..region.start.saturating_add(region.bytes);
            host.low.remove(&range);
            host.high.remove(&range);
        }
        for shortage in pci::assign(&mut Ports, &host) {
            warning!("{shortage}");
        }
        Ok(())
    }
}

/// Where memory below `limit` ends.
fn ram_end(memory: &[Region], limit: u64) -> u64 {
    let ram = memory.iter().filter(|region| region.is_ram());
    let ram = ram.filter(|region| region.start < limit);
    let ends = ram.map(|region| region.start.saturating_add(region.bytes).min(limit));
    ends.max().unwrap_or(0)
}

/// Where addresses that are not memory begin below 4 GiB.
fn low_start(mmconfig: Option<Region>, memory: &[Region]) -> u64 {
    let start = mmconfig.map_or(LOW_START, |region| region.start);
    let start = start.max(ram_end(memory, HIGH_START));
    start.next_multiple_of(LOW_ALIGNMENT)
}

/// Turns on configuration space in memory, above RAM, where there is room.
fn enable_mmconfig(memory: &[Region]) {
    let start = ram_end(memory, HIGH_START).max(MMCONFIG);
    let start = start.next_multiple_of(MMCONFIG_BYTES);
    if start + MMCONFIG_BYTES <= LOW_END {
        Ports.write(HOST_BRIDGE, PCIEXBAR_HIGH, 0);
        Ports.write(HOST_BRIDGE, PCIEXBAR, start as u32 | PCIEXBAR_ENABLE);
    }
}

/// Sets memory types and features on every processor, and masks what comes to
/// this one through the 8259s: out of reset they would send the timer's
/// interrupts to a system without drivers for them, as exception 0.
fn set_up_processors(fw_cfg: &FwCfg, uncached_from: u64) -> Result<(), fw_cfg::Error> {
    ports::write(PIC_MASK, ALL_MASKED);
    ports::write(SECOND_PIC_MASK, ALL_MASKED);
    let mut registers = mtrr::registers(uncached_from);
    let features = read_u64(fw_cfg, FEATURE_CONTROL)?;
    registers.extend(features.and_then(smp::feature_control));
    let mut count = [0; 2];
    if let Some(device) = Device::probe() {
        device.read(PROCESSORS, 0, &mut count)?;
    }
    let others = u16::from_le_bytes(count).saturating_sub(1);
    if let Err(smp::Missing { expected, found }) = smp::set_everywhere(&registers, others.into()) {
        warning!(
            "expected {expected} more processors to answer, found {found}: the host is too slow"
        );
    }
    Ok(())
}

/// A file of one 64-bit number.
fn read_u64(fw_cfg: &FwCfg, name: &'static str) -> Result<Option<u64>, fw_cfg::Error> {
    let bytes = fw_cfg.read_file(name)?;
    Ok(bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)))
}
