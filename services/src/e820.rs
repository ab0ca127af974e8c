//! Memory as PC hosts describe it: ranges with an e820 type (ACPI 6.5 §15.2).
//!
//! Hosts list ranges in any order, some of them empty or on top of each other.
//! Where two disagree the one that is not RAM counts.

use crate::memory::{Error, MemoryMap, PAGE_SIZE, PhysAddr};
use crate::tables::get;
use alloc::vec::Vec;
use uefi_raw::table::boot::MemoryType;

/// Length of an entry in QEMU's fw_cfg file `etc/e820`, without padding.
pub const FW_CFG_ENTRY: usize = 20;
/// Length of an `hvm_memmap_table_entry`, which ends in a reserved field.
pub const PVH_ENTRY: usize = 24;

/// A range of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Length in bytes, not 0.
    pub bytes: u64,
    /// What it is.
    pub ty: MemoryType,
}

impl Region {
    /// Whether this is memory for anyone to use.
    #[must_use]
    pub fn is_ram(&self) -> bool {
        self.ty == MemoryType::CONVENTIONAL
    }

    /// Whether all `length` bytes at `address` are in this range.
    #[must_use]
    pub fn contains(&self, address: u64, length: u64) -> bool {
        address
            .checked_sub(self.start)
            .and_then(|offset| offset.checked_add(length))
            .is_some_and(|end| end <= self.bytes)
    }
}

/// Whether no memory for anyone to use is in the page at `address`: a place for what
/// a host makes appear.
#[must_use]
#[inline(never)]
#[cold]
pub fn is_hole(regions: &[Region], address: u64) -> bool {
    let taken = |region: &Region| {
        let end = region.start.saturating_add(region.bytes);
        region.is_ram() && region.start < address.saturating_add(PAGE_SIZE) && end > address
    };
    !regions.iter().any(taken)
}

/// The ranges in a table of entries of `stride` bytes: address, length, type,
/// padding. Empty ranges and a cut-off last entry are dropped.
#[must_use]
#[inline(never)]
pub fn parse(table: &[u8], stride: usize) -> Vec<Region> {
    let mut regions = Vec::new();
    for entry in table.chunks_exact(stride.max(FW_CFG_ENTRY)) {
        if let Some(region) = region(entry).filter(|region| region.bytes != 0) {
            regions.push(region);
        }
    }
    regions
}

fn region(entry: &[u8]) -> Option<Region> {
    Some(Region {
        start: get(entry, 0, 8)?,
        bytes: get(entry, 8, 8)?,
        ty: match get(entry, 16, 4)? {
            1 => MemoryType::CONVENTIONAL,
            // Type 3 is "ACPI reclaim", but Xen's AML keeps reading its tables.
            3 | 4 => MemoryType::ACPI_NON_VOLATILE,
            5 => MemoryType::UNUSABLE,
            7 => MemoryType::PERSISTENT_MEMORY,
            _ => MemoryType::RESERVED,
        },
    })
}

/// Enters `regions` into `map`: RAM first, so that what overlaps it stays what
/// it is.
///
/// # Errors
/// As [`MemoryMap::describe`].
pub fn describe(regions: &[Region], map: &mut MemoryMap) -> Result<(), Error> {
    let ram = regions.iter().filter(|region| region.is_ram());
    let others = regions.iter().filter(|region| !region.is_ram());
    for region in ram.chain(others) {
        map.describe(PhysAddr(region.start), region.bytes, region.ty)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn table(entries: &[(u64, u64, u32)], stride: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (start, length, ty) in entries {
            let mut entry = [start.to_le_bytes(), length.to_le_bytes()].concat();
            entry.extend(ty.to_le_bytes());
            entry.resize(stride, 0xee);
            bytes.extend(entry);
        }
        bytes
    }

    #[test]
    fn both_layouts_read_alike() {
        let entries = [(0, 0x9_fc00, 1), (0xf_0000, 0x1_0000, 2), (0x1000, 0, 1)];
        for stride in [FW_CFG_ENTRY, PVH_ENTRY] {
            let mut bytes = table(&entries, stride);
            bytes.extend([1; 19]);
            let regions = parse(&bytes, stride);
            let found: Vec<_> = regions.iter().map(|r| (r.start, r.bytes, r.ty)).collect();
            assert_eq!(
                found,
                [
                    (0, 0x9_fc00, MemoryType::CONVENTIONAL),
                    (0xf_0000, 0x1_0000, MemoryType::RESERVED)
                ]
            );
        }
    }

    #[test]
    fn a_hole_is_a_page_without_memory() {
        let ty = MemoryType::CONVENTIONAL;
        let at = |start, bytes, ty| Region { start, bytes, ty };
        let regions = [
            at(0x1000, 0x1001, ty),
            at(0x5fff, 1, ty),
            at(0x7000, 0x1000, MemoryType::RESERVED),
        ];
        let holes = (0..9).map(|page| page * PAGE_SIZE);
        let holes = holes.filter(|page| is_hole(&regions, *page));
        assert!(holes.eq([0, 0x3000, 0x4000, 0x6000, 0x7000, 0x8000]));
        assert!(is_hole(&regions, !0xfff));
    }

    #[test]
    fn types_are_those_of_acpi() {
        let entries: Vec<_> = (0..=8).map(|ty| (u64::from(ty) << 12, 1, ty)).collect();
        let types: Vec<_> = parse(&table(&entries, 20), 20)
            .iter()
            .map(|region| region.ty)
            .collect();
        let reserved = MemoryType::RESERVED;
        let nvs = MemoryType::ACPI_NON_VOLATILE;
        assert_eq!(
            types,
            [
                reserved,
                MemoryType::CONVENTIONAL,
                reserved,
                nvs,
                nvs,
                MemoryType::UNUSABLE,
                reserved,
                MemoryType::PERSISTENT_MEMORY,
                reserved
            ]
        );
    }

    #[test]
    fn what_is_not_ram_counts_whatever_the_order() {
        let entries = [
            (0x40_0000, 0x1000, 2),
            (0, 0x80_0000, 1),
            (0x40_0800, 0x40, 3),
        ];
        let mut map = MemoryMap::new();
        describe(&parse(&table(&entries, 20), 20), &mut map).unwrap();
        let found: Vec<_> = map
            .descriptors()
            .map(|d| (d.phys_start, d.page_count, d.ty))
            .collect();
        assert_eq!(
            found,
            [
                (0, 0x400, MemoryType::CONVENTIONAL),
                (0x40_0000, 1, MemoryType::ACPI_NON_VOLATILE),
                (0x40_1000, 0x3ff, MemoryType::CONVENTIONAL)
            ]
        );
    }

    #[test]
    fn a_range_contains_what_ends_with_it() {
        let region = Region {
            start: 0x1000,
            bytes: 0x1000,
            ty: MemoryType::RESERVED,
        };
        assert!(region.contains(0x1000, 0x1000) && region.contains(0x1fff, 1));
        assert!(!region.contains(0xfff, 2) && !region.contains(0x1fff, 2));
        assert!(!region.contains(0x1800, u64::MAX));
    }
}
