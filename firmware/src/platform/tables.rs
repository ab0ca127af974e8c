//! The host's ACPI and SMBIOS tables: brought into memory from fw_cfg, or found
//! where the firmware before us left them.

use super::fw_cfg::{self, FwCfg};
use super::{Host as PlatformHost, Platform};
use crate::arch::ram::{self, Found};
use alloc::vec::Vec;
use core::fmt;
use ovmf_lite_services::e820::Region;
use ovmf_lite_services::memory::{self, MemoryMap, PAGE_SIZE, PageCount, PhysAddr, Placement};
use ovmf_lite_services::physical::Physical;
use ovmf_lite_services::resident::Reset;
use ovmf_lite_services::tables::loader::{self, Blob, Host, HostError};
use ovmf_lite_services::tables::{BIOS_AREA, acpi, smbios};
use uefi_raw::Guid;
use uefi_raw::table::boot::MemoryType;

const SCRIPT: &str = "etc/table-loader";
const RSDP: &str = "etc/acpi/rsdp";
/// Padded to a multiple of 128 KiB (QEMU `hw/i386/acpi-build.c`, `ACPI_BUILD_TABLE_SIZE`).
const TABLES: &str = "etc/acpi/tables";
const SMBIOS_ANCHOR: &str = "etc/smbios/smbios-anchor";
const SMBIOS_TABLES: &str = "etc/smbios/smbios-tables";
/// Room for an SMBIOS entry point in front of its table.
const ANCHOR_ROOM: usize = 32;

/// A table to be published in the system table.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// What it is.
    pub guid: Guid,
    /// Its physical address.
    pub address: usize,
}

/// Why the host's tables cannot be used.
#[derive(Debug)]
pub enum Error {
    /// The host's script is wrong.
    Script(loader::Error<'static>),
    /// The script placed no RSDP.
    NoRsdp,
    /// What is at this address is none.
    Rsdp(u64),
    /// The SMBIOS entry point is wrong.
    Smbios(smbios::Error),
    /// A transfer failed.
    FwCfg(fw_cfg::Error),
    /// No memory for the tables.
    Memory(memory::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(error) => write!(f, "ACPI: {error}"),
            Self::NoRsdp => write!(f, "ACPI: expected {SCRIPT} to place {RSDP}, it does not"),
            Self::Rsdp(address) => write!(
                f,
                "ACPI: expected an RSDP with right checksums at {address:#x}, found none"
            ),
            Self::Smbios(error) => write!(f, "SMBIOS: {error}"),
            Self::FwCfg(error) => error.fmt(f),
            Self::Memory(error) => write!(f, "tables: {error}"),
        }
    }
}

impl From<fw_cfg::Error> for Error {
    fn from(error: fw_cfg::Error) -> Self {
        Self::FwCfg(error)
    }
}

impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Self {
        Self::Memory(error)
    }
}

/// The table loader's view of fw_cfg and memory.
struct Loader<'m> {
    fw_cfg: &'m FwCfg,
    memory: &'m mut MemoryMap,
}

impl Host<'static> for Loader<'_> {
    fn place(&mut self, file: &[u8], alignment: u64) -> Result<Blob<'static>, HostError> {
        let item = self.fw_cfg.file(file).ok_or(HostError::NoFile)?;
        // NVS, not reclaim: the FACS is among the tables, and AML keeps
        // reading the rest (ACPI 6.5 §5.2.10, §15.4).
        let bytes = ram::allocate_aligned(
            self.memory,
            Placement::Any,
            MemoryType::ACPI_NON_VOLATILE,
            item.size,
            alignment,
        )
        .map_err(|_| HostError::NoMemory)?;
        let (bytes, rest) = bytes.split_at_mut(item.size);
        rest.fill(0);
        let read = self.fw_cfg.read(item, bytes);
        read.map_err(|_| HostError::Transfer)?;
        Ok(Blob {
            address: bytes.as_ptr().addr() as u64,
            bytes,
            used: 0,
        })
    }

    fn write(&mut self, file: &[u8], offset: u32, bytes: &mut [u8]) -> Result<(), HostError> {
        let item = self.fw_cfg.file(file).ok_or(HostError::NoFile)?;
        let written = self.fw_cfg.write(item, offset, bytes);
        written.map_err(|_| HostError::Transfer)
    }
}

/// Places or finds the ACPI tables. `None` when the host has none.
pub fn acpi(platform: &Platform, memory: &mut MemoryMap) -> Result<Option<Acpi>, Error> {
    let regions = Some(platform.regions);
    let found = Found { regions };
    let rsdp = match &platform.host {
        PlatformHost::Reset { fw_cfg, .. } => return place_acpi(fw_cfg, memory),
        PlatformHost::Pvh { rsdp } => *rsdp,
        PlatformHost::Hvmloader { .. } => find_rsdp(platform.regions),
    };
    rsdp.map(|rsdp| describe_acpi(&found, rsdp)).transpose()
}

/// The RSDP, and what its tables say about resetting the machine.
#[derive(Clone, Copy, Debug)]
pub struct Acpi {
    /// The RSDP.
    pub rsdp: Published,
    /// How to reset the machine and how to power it off.
    pub reset: Reset,
}

fn place_acpi(fw_cfg: &FwCfg, memory: &mut MemoryMap) -> Result<Option<Acpi>, Error> {
    let script = fw_cfg.read_file(SCRIPT)?.leak();
    if script.is_empty() {
        return Ok(None);
    }
    let files = loader::run(script, &mut Loader { fw_cfg, memory }).map_err(Error::Script)?;
    let rsdp = files.get(RSDP.as_bytes()).ok_or(Error::NoRsdp)?;
    let acpi = describe_acpi(&files, rsdp.address)?;
    let padding = files.get(TABLES.as_bytes()).map(|tables| {
        let kept = PageCount::covering(tables.used);
        let all = PageCount::covering(tables.bytes.len());
        let start = PhysAddr(tables.address + kept.0 * PAGE_SIZE);
        (start, PageCount(all.0 - kept.0))
    });
    drop(files);
    if let Some((start, pages)) = padding.filter(|(_, pages)| pages.0 > 0) {
        memory.free(start, pages)?;
    }
    Ok(Some(acpi))
}

fn describe_acpi(memory: &dyn Physical, rsdp: u64) -> Result<Acpi, Error> {
    Ok(Acpi {
        rsdp: Published {
            guid: acpi::rsdp_guid(memory, rsdp).ok_or(Error::Rsdp(rsdp))?,
            address: rsdp as usize,
        },
        reset: acpi::reset(memory, rsdp),
    })
}

/// Places or finds the SMBIOS entry point. `None` when the host has none.
pub fn smbios(platform: &Platform, memory: &mut MemoryMap) -> Result<Option<Published>, Error> {
    match &platform.host {
        PlatformHost::Reset { fw_cfg, .. } => place_smbios(fw_cfg, memory),
        PlatformHost::Pvh { .. } | PlatformHost::Hvmloader { .. } => {
            Ok(find_smbios(platform.regions))
        }
    }
}

fn find_rsdp(regions: &[Region]) -> Option<u64> {
    let offset = acpi::find_rsdp(&bios_area(regions)?)?;
    Some(BIOS_AREA.0 + offset as u64)
}

fn find_smbios(regions: &[Region]) -> Option<Published> {
    let (offset, guid) = smbios::find(&bios_area(regions)?)?;
    Some(Published {
        guid,
        address: BIOS_AREA.0 as usize + offset,
    })
}

/// What an earlier firmware has left there. RAM that nobody calls reserved is
/// not read: it holds nothing, and under Xen touching it may be what makes it
/// exist.
#[cold]
fn bios_area(regions: &[Region]) -> Option<Vec<u8>> {
    let (start, length) = BIOS_AREA;
    let last = start + length as u64 - 1;
    let at_end = |region: &&Region| region.contains(last, 1);
    let mut found = regions.iter().filter(at_end);
    if found.clone().count() > 0 && found.all(Region::is_ram) {
        return None;
    }
    let memory: &dyn Physical = &Found { regions: None };
    memory.bytes(start, length)
}

fn place_smbios(fw_cfg: &FwCfg, memory: &mut MemoryMap) -> Result<Option<Published>, Error> {
    let (Some(anchor), Some(tables)) = (
        fw_cfg.file(SMBIOS_ANCHOR.as_bytes()),
        fw_cfg.file(SMBIOS_TABLES.as_bytes()),
    ) else {
        return Ok(None);
    };
    if anchor.size > ANCHOR_ROOM {
        return Err(Error::Smbios(smbios::Error::Anchor));
    }
    let bytes = ram::allocate(
        memory,
        Placement::Any,
        MemoryType::ACPI_RECLAIM,
        ANCHOR_ROOM + tables.size,
    )?;
    let (front, back) = bytes.split_at_mut(ANCHOR_ROOM);
    front.fill(0);
    fw_cfg.read(anchor, &mut front[..anchor.size])?;
    fw_cfg.read(tables, &mut back[..tables.size])?;
    let address = back.as_ptr().addr() as u64;
    let guid = smbios::relocate(&mut front[..anchor.size], address).map_err(Error::Smbios)?;
    Ok(Some(Published {
        guid,
        address: front.as_ptr().addr(),
    }))
}
