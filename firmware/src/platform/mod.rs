//! The platform: what kind of machine this is and what the host gave us.
//!
//! [`discover`] fills one plain struct; everything after it is the same on
//! every host.

pub mod chipset;
pub mod fw_cfg;
pub mod tables;

use alloc::vec::Vec;
use chipset::Chipset;
use core::fmt;
use fw_cfg::FwCfg;
use ovmf_lite_services::boot::Initrd;
use ovmf_lite_services::memory::{self, MemoryMap, PhysAddr};
use uefi_raw::table::boot::MemoryType;

/// The legacy hole: VGA memory, option ROMs and the BIOS area. Never offered as
/// memory, even where the host has RAM there: Linux takes conventional memory
/// at 0xA0000 for "there is no VGA" and fails without a console.
const LEGACY_HOLE: (u64, u64) = (0xa_0000, 0x6_0000);

/// Everything the host told us.
pub struct Platform {
    /// The chipset, which decides where some registers are.
    pub chipset: Chipset,
    /// Physical memory as the host describes it.
    pub regions: Vec<Region>,
    /// The kernel's command line, as bytes.
    pub command_line: Vec<u8>,
    /// The kernel image, still with the host.
    pub kernel: Option<Payload>,
    /// The initial RAM disk, still with the host.
    pub initrd: Option<Initrd>,
    /// Where the rest comes from.
    pub fw_cfg: FwCfg,
}

/// A range of physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// What it is.
    pub ty: MemoryType,
}

/// Bytes that lie with the host, in one or more parts that belong together.
#[derive(Clone, Debug)]
pub struct Payload(pub Vec<fw_cfg::Item>);

impl Payload {
    /// Size of all parts in bytes.
    pub fn size(&self) -> usize {
        self.0.iter().map(|part| part.size).sum()
    }
}

/// Why the machine cannot be used.
#[derive(Debug)]
pub enum Error {
    /// No host interface that we know answers.
    NoHost,
    /// The chipset is none we know: device and vendor of the host bridge.
    Chipset(u32),
    /// fw_cfg does not do what it should.
    FwCfg(fw_cfg::Error),
    /// The host describes no memory.
    NoMemoryMap,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => write!(
                f,
                "expected QEMU's fw_cfg device at port 0x510, found none: \
                 start the firmware with QEMU's -bios on a pc or q35 machine"
            ),
            Self::Chipset(id) => write!(
                f,
                "expected a host bridge 8086:1237 (pc) or 8086:29c0 (q35), found {:04x}:{:04x}: \
                 use -machine pc or -machine q35",
                id & 0xffff,
                id >> 16
            ),
            Self::FwCfg(error) => error.fmt(f),
            Self::NoMemoryMap => write!(
                f,
                "expected fw_cfg file etc/e820 to describe memory, found no RAM in it"
            ),
        }
    }
}

impl From<fw_cfg::Error> for Error {
    fn from(error: fw_cfg::Error) -> Self {
        Self::FwCfg(error)
    }
}

/// Finds out where we are and sets the chipset up as far as the host's tables
/// will describe it.
pub fn discover() -> Result<Platform, Error> {
    let fw_cfg = FwCfg::open()?.ok_or(Error::NoHost)?;
    let chipset = chipset::identify().map_err(Error::Chipset)?;
    chipset.enable_power_management();
    let regions = fw_cfg.memory()?;
    if !regions
        .iter()
        .any(|region| region.ty == MemoryType::CONVENTIONAL)
    {
        return Err(Error::NoMemoryMap);
    }
    Ok(Platform {
        chipset,
        regions,
        command_line: fw_cfg.command_line()?,
        kernel: fw_cfg.kernel()?,
        initrd: fw_cfg.initrd()?,
        fw_cfg,
    })
}

impl Platform {
    /// The memory map before any allocation: what the host described, less the
    /// legacy hole and `occupied`, the firmware itself (start and length).
    pub fn memory_map(&self, occupied: (u64, u64)) -> Result<MemoryMap, memory::Error> {
        let mut map = MemoryMap::new();
        for region in &self.regions {
            map.describe(PhysAddr(region.start), region.bytes, region.ty)?;
        }
        let (start, bytes) = LEGACY_HOLE;
        map.describe(PhysAddr(start), bytes, MemoryType::RESERVED)?;
        let (start, bytes) = occupied;
        map.describe(PhysAddr(start), bytes, MemoryType::BOOT_SERVICES_CODE)?;
        Ok(map)
    }

    /// Bytes of RAM the host gave, for the first line of the log.
    pub fn ram_bytes(&self) -> u64 {
        let ram = self.regions.iter();
        ram.filter(|region| region.ty == MemoryType::CONVENTIONAL)
            .map(|region| region.bytes)
            .sum()
    }
}
