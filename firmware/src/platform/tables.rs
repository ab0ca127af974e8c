//! The host's ACPI and SMBIOS tables, brought into memory.

use super::fw_cfg::{self, FwCfg};
use crate::arch::ram;
use core::fmt;
use ovmf_lite_services::memory::{self, MemoryMap, Placement};
use ovmf_lite_services::resident::Reset;
use ovmf_lite_services::tables::loader::{self, Blob, Files, Host, HostError};
use ovmf_lite_services::tables::{acpi, smbios};
use uefi_raw::table::boot::MemoryType;
use uefi_raw::{Guid, guid};

/// `EFI_ACPI_TABLE_GUID`: the RSDP of ACPI 2.0 and later.
const ACPI_20_TABLE: Guid = guid!("8868e871-e4f1-11d3-bc22-0080c73c8881");
/// `ACPI_TABLE_GUID`: the RSDP of ACPI 1.0, without an XSDT.
const ACPI_10_TABLE: Guid = guid!("eb9d2d30-2d88-11d3-9a16-0090273fc14d");

const SCRIPT: &str = "etc/table-loader";
const RSDP: &str = "etc/acpi/rsdp";
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
    Script(loader::Error),
    /// The script placed no RSDP.
    NoRsdp,
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
    fn place(&mut self, file: &str, alignment: u64) -> Result<Blob<'static>, HostError> {
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
        })
    }

    fn write(&mut self, file: &str, offset: u32, bytes: &mut [u8]) -> Result<(), HostError> {
        let item = self.fw_cfg.file(file).ok_or(HostError::NoFile)?;
        let written = self.fw_cfg.write(item, offset, bytes);
        written.map_err(|_| HostError::Transfer)
    }
}

/// Places the ACPI tables. `None` when the host has none.
pub fn acpi(fw_cfg: &FwCfg, memory: &mut MemoryMap) -> Result<Option<(Published, Reset)>, Error> {
    let script = fw_cfg.read_file(SCRIPT)?;
    if script.is_empty() {
        return Ok(None);
    }
    let files = loader::run(&script, &mut Loader { fw_cfg, memory }).map_err(Error::Script)?;
    let rsdp = files.get(RSDP).ok_or(Error::NoRsdp)?;
    Ok(Some((published(rsdp), reset(&files, rsdp))))
}

fn published(rsdp: &Blob<'_>) -> Published {
    // Byte 15 is the RSDP's revision: 0 for ACPI 1.0 (ACPI 6.5 §5.2.5.3).
    let first = rsdp.bytes.get(15) == Some(&0);
    Published {
        guid: if first { ACPI_10_TABLE } else { ACPI_20_TABLE },
        address: rsdp.address as usize,
    }
}

fn reset(files: &Files<'_>, rsdp: &Blob<'_>) -> Reset {
    acpi::reset(files, rsdp.bytes)
}

/// Places the SMBIOS entry point and table. `None` when the host has none.
pub fn smbios(fw_cfg: &FwCfg, memory: &mut MemoryMap) -> Result<Option<Published>, Error> {
    let (Some(anchor), Some(tables)) = (fw_cfg.file(SMBIOS_ANCHOR), fw_cfg.file(SMBIOS_TABLES))
    else {
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
