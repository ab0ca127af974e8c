//! fw_cfg items and what they mean (QEMU `docs/specs/fw_cfg.rst`,
//! `include/standard-headers/linux/qemu_fw_cfg.h`).

use super::payload::Payload;
use crate::ports::fw_cfg::{Device, TransferFailed};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use ovmf_lite_services::boot::Initrd;
use ovmf_lite_services::e820::{self, Region};

const KERNEL_SIZE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x11;
const INITRD_SIZE: u16 = 0x0b;
const INITRD_DATA: u16 = 0x12;
const COMMAND_LINE_SIZE: u16 = 0x14;
const COMMAND_LINE_DATA: u16 = 0x15;
const SETUP_SIZE: u16 = 0x17;
const SETUP_DATA: u16 = 0x18;
const DIRECTORY: u16 = 0x19;

/// The file that describes memory.
const MEMORY: &str = "etc/e820";

/// Most directory entries that are looked at; QEMU's limit is 0x3fff items, its
/// machines have about 30.
const MAX_FILES: usize = 1024;
/// Length of a directory entry: size, selector, reserved, name.
const ENTRY: usize = 64;
const NAME: usize = 56;
/// Largest item read onto the heap in bytes.
const MAX_SMALL: usize = 64 * 1024;

/// Bytes behind one selector.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    selector: u16,
    /// Size in bytes.
    pub size: usize,
}

/// The device and its directory.
#[derive(Clone, Copy)]
pub struct FwCfg {
    device: Device,
    /// Entries of [`ENTRY`] bytes, kept for good.
    directory: &'static [u8],
}

/// fw_cfg does not hold what it should.
#[derive(Debug)]
pub enum Error {
    /// The host refused or did not finish a transfer.
    Transfer,
    /// An item is larger than is reasonable: its name, its size.
    TooLarge(&'static str, usize),
}

impl fmt::Display for Error {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer => write!(f, "fw_cfg: the host failed to transfer an item"),
            Self::TooLarge(name, size) => write!(
                f,
                "fw_cfg: expected {name} to have at most {MAX_SMALL} bytes, found {size}"
            ),
        }
    }
}

impl From<TransferFailed> for Error {
    fn from(_: TransferFailed) -> Self {
        Self::Transfer
    }
}

impl FwCfg {
    /// Finds the device and reads its directory.
    pub fn open() -> Result<Option<Self>, Error> {
        let Some(device) = Device::probe() else {
            return Ok(None);
        };
        let mut count = [0; 4];
        device.read(DIRECTORY, 0, &mut count)?;
        let count = (u32::from_be_bytes(count) as usize).min(MAX_FILES);
        let mut entries = vec![0; 4 + count * ENTRY];
        device.read(DIRECTORY, 0, &mut entries)?;
        let directory = entries.leak().get(4..).unwrap_or_default();
        Ok(Some(Self { device, directory }))
    }

    /// How items are transferred, for the log.
    pub fn transport(&self) -> &'static str {
        if self.device.has_dma() {
            "fw_cfg by DMA"
        } else {
            "fw_cfg by port"
        }
    }

    /// The file of this name.
    pub fn file(&self, name: &[u8]) -> Option<Item> {
        // Most differ in length already.
        let named = |entry: &&[u8]| {
            let (found, rest) = entry[ENTRY - NAME..].split_at(name.len().min(NAME));
            rest.first().is_none_or(|byte| *byte == 0) && found == name
        };
        let mut files = self.directory.chunks_exact(ENTRY);
        files.find(named).map(item)
    }

    /// Fills `buffer` from the start of an item.
    pub fn read(&self, item: Item, buffer: &mut [u8]) -> Result<(), Error> {
        Ok(self.device.read(item.selector, 0, buffer)?)
    }

    /// Writes to a file at an offset.
    pub fn write(&self, item: Item, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        Ok(self.device.write(item.selector, offset, bytes)?)
    }

    /// A small item, whole.
    fn read_small(&self, name: &'static str, item: Item) -> Result<Vec<u8>, Error> {
        if item.size > MAX_SMALL {
            return Err(Error::TooLarge(name, item.size));
        }
        let mut bytes = vec![0; item.size];
        self.read(item, &mut bytes)?;
        Ok(bytes)
    }

    /// A small file, whole; empty when there is none.
    pub fn read_file(&self, name: &'static str) -> Result<Vec<u8>, Error> {
        match self.file(name.as_bytes()) {
            Some(item) => self.read_small(name, item),
            None => Ok(Vec::new()),
        }
    }

    /// An item whose size is in an item of its own.
    fn sized(&self, size: u16, selector: u16) -> Result<Item, Error> {
        let mut bytes = [0; 4];
        self.device.read(size, 0, &mut bytes)?;
        let size = u32::from_le_bytes(bytes) as usize;
        Ok(Item { selector, size })
    }

    /// The kernel and its initrd, if there is a kernel.
    pub fn payload(&self) -> Result<Option<Payload>, Error> {
        let parts = self.kernel()?;
        let empty = parts.iter().all(|part| part.size == 0);
        let initrd = self.initrd()?;
        Ok((!empty).then_some(Payload::FwCfg(parts, initrd)))
    }

    /// The kernel in two parts: QEMU cuts it behind the real-mode setup code.
    fn kernel(&self) -> Result<[Item; 2], Error> {
        let setup = self.sized(SETUP_SIZE, SETUP_DATA)?;
        let kernel = self.sized(KERNEL_SIZE, KERNEL_DATA)?;
        Ok([setup, kernel])
    }

    /// The initial RAM disk.
    fn initrd(&self) -> Result<Option<Initrd>, Error> {
        let item = self.sized(INITRD_SIZE, INITRD_DATA)?;
        Ok((item.size != 0).then_some(Initrd {
            size: item.size,
            read: read_initrd,
        }))
    }

    /// The command line, with the NUL that ends it.
    pub fn command_line(&self) -> Result<Vec<u8>, Error> {
        let item = self.sized(COMMAND_LINE_SIZE, COMMAND_LINE_DATA)?;
        self.read_small("the command line", item)
    }

    /// Whether it describes memory: under Xen it does not.
    pub fn has_memory(&self) -> bool {
        self.file(MEMORY.as_bytes()).is_some()
    }

    /// The ranges of `etc/e820`.
    pub fn memory(&self) -> Result<Vec<Region>, Error> {
        let bytes = self.read_file(MEMORY)?;
        Ok(e820::parse(&bytes, e820::FW_CFG_ENTRY))
    }

    /// The port of the pvpanic device, if there is one.
    pub fn pvpanic_port(&self) -> Option<u16> {
        let bytes = self.read_file("etc/pvpanic-port").ok()?;
        Some(u16::from_le_bytes(*bytes.first_chunk()?))
    }
}

/// Reads the initial RAM disk straight to where the kernel wants it.
fn read_initrd(buffer: &mut [u8]) -> Result<(), &'static str> {
    let device = Device::probe().ok_or("fw_cfg is gone")?;
    let read = device.read(INITRD_DATA, 0, buffer);
    read.map_err(|TransferFailed| "the host failed to transfer it")
}

/// What a directory entry of [`ENTRY`] bytes says.
fn item(entry: &[u8]) -> Item {
    let number = |at: usize| u16::from_be_bytes([entry[at], entry[at + 1]]);
    Item {
        selector: number(4),
        size: (usize::from(number(0)) << 16) | usize::from(number(2)),
    }
}
