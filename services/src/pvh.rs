//! What a PVH loader tells the program it starts: `hvm_start_info` (Xen
//! `xen/include/public/arch-x86/hvm/start_info.h`, `docs/misc/pvh.pandoc`).
//!
//! Everything is copied out at once: the structures lie in memory that the
//! loader calls usable. Refuses a memory map without RAM, and more modules than
//! a kernel and an initrd. A structure without a memory map (version 0, and
//! version 1 with none) is for the caller to judge: under Xen a hypercall has it.

use crate::e820::{self, Region};
use crate::physical::Physical;
use crate::tables::get;
use alloc::vec::Vec;
use core::fmt;

/// `XEN_HVM_START_MAGIC_VALUE`: "xEn3" with the top bit of the E set.
const MAGIC: u32 = 0x336e_c578;
/// Length of the fields that every version has.
const VERSION_0: usize = 40;
/// Length with the memory map of version 1.
const VERSION_1: usize = 56;
/// Length of an `hvm_modlist_entry`, and where in it the module's own command
/// line is.
const MODULE: usize = 32;
const MODULE_COMMAND_LINE: usize = 16;

/// A kernel and an initrd.
const MAX_MODULES: u32 = 2;
/// Most entries of a memory map; as many as Linux has room for in its own.
const MAX_REGIONS: u32 = 128;
/// Longest command line in bytes.
const MAX_COMMAND_LINE: u64 = 64 * 1024;

/// A file that the loader put into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its first byte.
    pub start: u64,
    /// Its size in bytes, not 0.
    pub bytes: u64,
}

/// What the loader told us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartInfo {
    /// Version of the structure.
    pub version: u32,
    /// Physical memory, if the loader says anything about it.
    pub regions: Option<Vec<Region>>,
    /// The command line, without the NUL that ended it: that of the kernel's
    /// module, where it has one, as with Xen's `pvshim`; else the structure's.
    pub command_line: Vec<u8>,
    /// Kernel and initrd, in this order, as far as there are any.
    pub modules: Vec<Module>,
    /// Where the loader says the RSDP is.
    pub rsdp: Option<u64>,
}

/// Why `hvm_start_info` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// This part of it cannot be read at this address.
    Unreadable(&'static str, u64),
    /// What is there instead of the magic number.
    Magic(u32),
    /// No memory map, or no RAM in it: the structure's version.
    NoMemoryMap(u32),
    /// More memory ranges than [`MAX_REGIONS`].
    Regions(u32),
    /// More modules than [`MAX_MODULES`].
    Modules(u32),
    /// An initrd of no bytes.
    EmptyInitrd,
    /// No NUL within [`MAX_COMMAND_LINE`] bytes.
    CommandLine,
}

impl fmt::Display for Error {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hvm_start_info: ")?;
        match self {
            Self::Unreadable(what, address) => {
                write!(f, "expected {what} in memory, found address {address:#x}")
            }
            Self::Magic(found) => write!(
                f,
                "expected magic {MAGIC:#x}, found {found:#x}: start the ELF file with a PVH loader"
            ),
            Self::NoMemoryMap(version) => write!(
                f,
                "expected version 1 with a memory map, found version {version} without RAM: use \
                 QEMU 4.0, Xen 4.11 or later"
            ),
            Self::Regions(found) => {
                write!(
                    f,
                    "expected at most {MAX_REGIONS} memory ranges, found {found}"
                )
            }
            Self::Modules(found) => write!(
                f,
                "expected a kernel and at most one initrd, found {found} modules"
            ),
            Self::EmptyInitrd => write!(
                f,
                "expected an initrd behind the kernel, found a module of 0 bytes: give it its \
                 content or leave it out"
            ),
            Self::CommandLine => write!(
                f,
                "expected a command line of at most {MAX_COMMAND_LINE} bytes with NUL"
            ),
        }
    }
}

/// Copies the structure at `address` and what it refers to out of `memory`.
///
/// # Errors
/// The first part that is not as it should be.
#[cold]
pub fn read(memory: &dyn Physical, address: u64) -> Result<StartInfo, Error> {
    let unreadable = Error::Unreadable("the structure", address);
    let head = memory.bytes(address, VERSION_0).ok_or(unreadable)?;
    let magic = u32_at(&head, 0);
    if magic != MAGIC {
        return Err(Error::Magic(magic));
    }
    let version = u32_at(&head, 4);
    let list = module_list(memory, u64_at(&head, 16), u32_at(&head, 12))?;
    let own = list
        .first_chunk()
        .map(|kernel: &[u8; MODULE]| u64_at(kernel, MODULE_COMMAND_LINE));
    let line = own.filter(|address| *address != 0);
    Ok(StartInfo {
        version,
        regions: regions(memory, address, version)?,
        command_line: command_line(memory, line.unwrap_or_else(|| u64_at(&head, 24)))?,
        modules: modules(&list)?,
        rsdp: Some(u64_at(&head, 32)).filter(|rsdp| *rsdp != 0),
    })
}

/// A field of a structure that was read whole.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    get(bytes, offset, 8).unwrap_or_default()
}

/// As [`u64_at`].
fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    get(bytes, offset, 4)
        .and_then(|value| u32::try_from(value).ok())
        .unwrap_or_default()
}

/// `count` entries of `size` bytes.
fn array(
    memory: &dyn Physical,
    what: &'static str,
    address: u64,
    (count, size): (u32, usize),
) -> Result<Vec<u8>, Error> {
    let unreadable = Error::Unreadable(what, address);
    let length = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(size));
    length
        .and_then(|length| memory.bytes(address, length))
        .ok_or(unreadable)
}

fn regions(
    memory: &dyn Physical,
    address: u64,
    version: u32,
) -> Result<Option<Vec<Region>>, Error> {
    if version == 0 {
        return Ok(None);
    }
    let unreadable = Error::Unreadable("version 1 of the structure", address);
    let info = memory.bytes(address, VERSION_1).ok_or(unreadable)?;
    let (address, count) = (u64_at(&info, 40), u32_at(&info, 48));
    if count == 0 {
        return Ok(None);
    }
    if count > MAX_REGIONS {
        return Err(Error::Regions(count));
    }
    let table = array(memory, "the memory map", address, (count, e820::PVH_ENTRY))?;
    let regions = e820::parse(&table, e820::PVH_ENTRY);
    if !regions.iter().any(Region::is_ram) {
        return Err(Error::NoMemoryMap(version));
    }
    Ok(Some(regions))
}

fn module_list(memory: &dyn Physical, address: u64, count: u32) -> Result<Vec<u8>, Error> {
    match count {
        // Xen leaves the pointer 0 then.
        0 => Ok(Vec::new()),
        1..=MAX_MODULES => array(memory, "the module list", address, (count, MODULE)),
        _ => Err(Error::Modules(count)),
    }
}

/// The modules of a list. An empty one is what QEMU passes when it has none.
fn modules(list: &[u8]) -> Result<Vec<Module>, Error> {
    let module = |entry: &[u8]| Module {
        start: u64_at(entry, 0),
        bytes: u64_at(entry, 8),
    };
    let modules: Vec<_> = list.chunks_exact(MODULE).map(module).collect();
    match modules.as_slice() {
        [kernel, initrd] if kernel.bytes != 0 && initrd.bytes == 0 => Err(Error::EmptyInitrd),
        [kernel, ..] if kernel.bytes == 0 => Ok(Vec::new()),
        _ => Ok(modules),
    }
}

/// The bytes up to a NUL; none when there is no command line.
fn command_line(memory: &dyn Physical, address: u64) -> Result<Vec<u8>, Error> {
    let mut line = Vec::new();
    if address == 0 {
        return Ok(line);
    }
    for offset in 0..MAX_COMMAND_LINE {
        let mut byte = [0];
        let at = address.saturating_add(offset);
        memory
            .read(at, &mut byte)
            .ok_or(Error::Unreadable("the command line", at))?;
        match byte {
            [0] => return Ok(line),
            [byte] => line.push(byte),
        }
    }
    Err(Error::CommandLine)
}

#[cfg(test)]
mod tests;
