//! The one thing that we look up in a Linux kernel: how much memory it will ask
//! for (Linux `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header").
//!
//! From 6.6 on, and in stable series that took its EFI stub over, the kernel is
//! unpacked into memory that the stub allocates. Some of these stubs do not
//! notice when there is none and overwrite whatever they find. So we look first.

use crate::memory::PAGE_SIZE;
use crate::tables::get;
use uefi_raw::table::boot::{MemoryDescriptor, MemoryType};

/// Signature of the setup header, where it is, and its first version with all
/// of the fields below.
const SIGNATURE: u64 = 0x5372_6448; // "HdrS"
const SIGNATURE_AT: usize = 0x202;
const VERSION_AT: usize = 0x206;
const VERSION: u64 = 0x20a;
const KERNEL_ALIGNMENT: usize = 0x230;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

/// Memory that a kernel wants in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// How much, in bytes.
    pub bytes: u64,
    /// Not below this address.
    pub from: u64,
    /// At a multiple of this many bytes.
    pub alignment: u64,
}

impl Room {
    /// What the kernel in `file` will allocate to unpack itself; `None` when it
    /// is no Linux, or runs in its image of `image_size` bytes.
    #[must_use]
    pub fn of(file: &[u8], image_size: u64) -> Option<Self> {
        let is_linux = get(file, SIGNATURE_AT, 4)? == SIGNATURE;
        let is_recent = get(file, VERSION_AT, 2)? >= VERSION;
        let room = Self {
            bytes: get(file, INIT_SIZE, 4)?,
            from: get(file, PREF_ADDRESS, 8)?,
            alignment: get(file, KERNEL_ALIGNMENT, 4)?,
        };
        (is_linux && is_recent && room.bytes > image_size).then_some(room)
    }

    /// Whether the free memory in `map` has this room.
    #[must_use]
    pub fn is_in(&self, map: &[MemoryDescriptor]) -> bool {
        let mut free = map
            .iter()
            .filter(|region| region.ty == MemoryType::CONVENTIONAL);
        free.any(|region| self.fits(region) == Some(true))
    }

    fn fits(&self, region: &MemoryDescriptor) -> Option<bool> {
        let length = region.page_count.checked_mul(PAGE_SIZE)?;
        let end = region.phys_start.checked_add(length)?;
        let start = region.phys_start.max(self.from);
        let start = start.checked_next_multiple_of(self.alignment.max(PAGE_SIZE))?;
        Some(start.checked_add(self.bytes)? <= end)
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]
    use super::*;
    use crate::tables::put;
    use uefi_raw::table::boot::MemoryAttribute;

    const MIB: u64 = 1 << 20;

    fn kernel() -> Vec<u8> {
        let mut file = vec![0; 0x300];
        for (at, width, value) in [
            (SIGNATURE_AT, 4, SIGNATURE),
            (VERSION_AT, 2, 0x20f),
            (KERNEL_ALIGNMENT, 4, 2 * MIB),
            (PREF_ADDRESS, 8, 16 * MIB),
            (INIT_SIZE, 4, 50 * MIB),
        ] {
            put(&mut file, at, width, value).unwrap();
        }
        file
    }

    fn free(start: u64, end: u64) -> MemoryDescriptor {
        MemoryDescriptor {
            ty: MemoryType::CONVENTIONAL,
            padding: 0,
            phys_start: start,
            virt_start: 0,
            page_count: (end - start) / PAGE_SIZE,
            att: MemoryAttribute::empty(),
        }
    }

    #[test]
    fn only_a_kernel_that_unpacks_itself_elsewhere_needs_room() {
        let file = kernel();
        assert!(Room::of(&file, 14 * MIB).is_some());
        assert_eq!(Room::of(&file, 50 * MIB), None);
        let mut old = file.clone();
        put(&mut old, VERSION_AT, 2, 0x209).unwrap();
        assert_eq!(Room::of(&old, 14 * MIB), None);
        assert_eq!(Room::of(&vec![0; 0x300], 0), None);
        assert_eq!(Room::of(&file[..0x262], 0), None);
    }

    #[test]
    fn room_is_above_its_address_and_aligned() {
        let room = Room::of(&kernel(), 0).unwrap();
        assert!(room.is_in(&[free(MIB, 66 * MIB)]));
        assert!(!room.is_in(&[free(MIB, 66 * MIB - PAGE_SIZE)]));
        assert!(!room.is_in(&[free(17 * MIB, 67 * MIB)]));
        assert!(room.is_in(&[free(17 * MIB, 30 * MIB), free(90 * MIB, 140 * MIB)]));
        let reserved = MemoryDescriptor {
            ty: MemoryType::RESERVED,
            ..free(0, 100 * MIB)
        };
        assert!(!room.is_in(&[reserved, free(u64::MAX - 0xfff, u64::MAX)]));
    }
}
