//! What hvmloader tells the firmware it starts in an HVM domain: a block at a
//! fixed address with the memory map that it has made (Xen
//! `tools/firmware/hvmloader/ovmf.c`).
//!
//! Refuses a block whose checksum is wrong, and a memory map without RAM.

use crate::e820::{self, Region};
use crate::physical::Physical;
use crate::tables::{checksum, get};
use alloc::vec::Vec;
use core::fmt;
use ovmf_lite_loader::Printed;

/// Where the block lies.
pub const ADDRESS: u64 = 0x1000;
const SIGNATURE: &[u8; 14] = b"XenHVMOVMF\0\0\0\0";
/// Length of the block in bytes; its fields are packed.
const LENGTH: u8 = 40;
const LENGTH_AT: usize = 14;
const MEMORY_MAP: usize = 28;
const MEMORY_MAP_ENTRIES: usize = 36;
/// Most entries of the memory map; hvmloader itself has room for fewer.
const MAX_REGIONS: u64 = 128;

/// Why the block cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It does not begin with its signature: what is there instead.
    Signature([u8; 14]),
    /// It is not as long as it should be.
    Length(u8),
    /// Its bytes sum to this instead of 0.
    Checksum(u8),
    /// There are more than [`MAX_REGIONS`] memory ranges.
    Regions(u64),
    /// The memory map cannot be read where it should be.
    Unreadable(u64),
    /// There is no RAM in it.
    NoRam,
}

impl fmt::Display for Error {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hvmloader's information at {ADDRESS:#x}: ")?;
        match self {
            Self::Signature(found) => write!(
                f,
                "expected XenHVMOVMF, found {}: start the flash image with \
                 bios=\"ovmf\" and bios_path_override=",
                Printed(found)
            ),
            Self::Length(found) => write!(f, "expected {LENGTH} bytes, found {found}"),
            Self::Checksum(found) => {
                write!(f, "expected bytes with the sum 0, found {found:#x}")
            }
            Self::Regions(found) => {
                write!(
                    f,
                    "expected at most {MAX_REGIONS} memory ranges, found {found}"
                )
            }
            Self::Unreadable(address) => {
                write!(
                    f,
                    "expected the memory map in memory, found address {address:#x}"
                )
            }
            Self::NoRam => write!(f, "expected RAM in the memory map, found none"),
        }
    }
}

/// Whether the block is there, whatever else it says.
#[cold]
pub fn is_there(memory: &dyn Physical) -> bool {
    let mut found = [0; 14];
    memory.read(ADDRESS, &mut found) == Some(()) && found == *SIGNATURE
}

/// The memory map.
///
/// # Errors
/// The first thing about the block that is not as it should be.
pub fn read(memory: &dyn Physical) -> Result<Vec<Region>, Error> {
    let mut block = [0; LENGTH as usize];
    memory
        .read(ADDRESS, &mut block)
        .ok_or(Error::Unreadable(ADDRESS))?;
    let found = block.first_chunk().copied().unwrap_or_default();
    if found != *SIGNATURE {
        return Err(Error::Signature(found));
    }
    match block.get(LENGTH_AT) {
        Some(&LENGTH) => {}
        found => return Err(Error::Length(found.copied().unwrap_or_default())),
    }
    // What has to be added for a sum of 0.
    match checksum(&block) {
        0 => memory_map(memory, &block),
        missing => Err(Error::Checksum(missing.wrapping_neg())),
    }
}

fn memory_map(memory: &dyn Physical, block: &[u8]) -> Result<Vec<Region>, Error> {
    let field = |at, width| get(block, at, width).unwrap_or_default();
    let (address, count) = (field(MEMORY_MAP, 8), field(MEMORY_MAP_ENTRIES, 4));
    let length = usize::try_from(count)
        .ok()
        .filter(|_| count <= MAX_REGIONS)
        .and_then(|count| count.checked_mul(e820::FW_CFG_ENTRY))
        .ok_or(Error::Regions(count))?;
    let table = memory
        .bytes(address, length)
        .ok_or(Error::Unreadable(address))?;
    let regions = e820::parse(&table, e820::FW_CFG_ENTRY);
    if !regions.iter().any(Region::is_ram) {
        return Err(Error::NoRam);
    }
    Ok(regions)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use crate::physical::Bytes;

    const MAP: usize = 0x100;

    /// What hvmloader leaves in a domain of 128 MiB, from the block on.
    fn page() -> Vec<u8> {
        let mut page = vec![0; 0x1000];
        page[..14].copy_from_slice(SIGNATURE);
        page[LENGTH_AT] = LENGTH;
        page[MEMORY_MAP..][..8].copy_from_slice(&(ADDRESS + MAP as u64).to_le_bytes());
        page[MEMORY_MAP_ENTRIES..][..4].copy_from_slice(&2_u32.to_le_bytes());
        let entries = [
            (0x10_0000_u64, 0x7f0_0000_u64, 1_u32),
            (0xfc00_0000, 0xb000, 4),
        ];
        for ((start, bytes, ty), entry) in entries.iter().zip(page[MAP..].chunks_exact_mut(20)) {
            entry[..8].copy_from_slice(&start.to_le_bytes());
            entry[8..16].copy_from_slice(&bytes.to_le_bytes());
            entry[16..].copy_from_slice(&ty.to_le_bytes());
        }
        seal(page)
    }

    /// `page` with a right checksum.
    fn seal(mut page: Vec<u8>) -> Vec<u8> {
        page[15] = 0;
        page[15] = checksum(&page[..LENGTH.into()]);
        page
    }

    fn read(page: &[u8]) -> Result<Vec<Region>, Error> {
        super::read(&Bytes {
            address: ADDRESS,
            bytes: page,
        })
    }

    /// Why a page with one change is refused; `sealed` again or not.
    fn refused(sealed: bool, change: impl Fn(&mut [u8])) -> Error {
        let mut page = page();
        change(&mut page);
        read(&if sealed { seal(page) } else { page }).unwrap_err()
    }

    #[test]
    fn the_memory_map_is_read() {
        let regions = read(&page()).unwrap();
        let starts: Vec<_> = regions.iter().map(|region| region.start).collect();
        assert_eq!(starts, [0x10_0000, 0xfc00_0000]);
        assert!(regions[0].is_ram() && !regions[1].is_ram());
    }

    #[test]
    fn each_damage_is_named() {
        let signature = *b"YenHVMOVMF\0\0\0\0";
        assert_eq!(refused(true, |p| p[0] = b'Y'), Error::Signature(signature));
        assert_eq!(refused(true, |p| p[LENGTH_AT] = 41), Error::Length(41));
        assert_eq!(refused(false, |p| p[20] = 3), Error::Checksum(3));
        assert_eq!(refused(true, |p| p[MAP + 16] = 2), Error::NoRam);
        assert_eq!(refused(true, |p| p[MEMORY_MAP_ENTRIES] = 0), Error::NoRam);
        assert_eq!(
            refused(true, |p| p[MEMORY_MAP_ENTRIES + 1] = 1),
            Error::Regions(258)
        );
        assert_eq!(
            refused(true, |p| p[MEMORY_MAP + 4] = 1),
            Error::Unreadable(0x1_0000_1100)
        );
        let nothing = Bytes {
            address: 0,
            bytes: &[],
        };
        assert_eq!(super::read(&nothing), Err(Error::Unreadable(ADDRESS)));
        assert!(!is_there(&nothing));
    }
}
