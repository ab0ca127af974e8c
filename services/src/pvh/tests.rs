//! Structures as QEMU and Xen lay them out, one broken field at a time, and any
//! bytes at all.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that goes wrong should panic where it does"
)]

use super::*;
use crate::physical::Bytes;
use proptest::prelude::*;
use uefi_raw::table::boot::MemoryType;

/// Where the page with everything in it lies.
const BASE: u64 = 0x15_6000;
const COMMAND_LINE: usize = 0x38;
const MODULES: usize = 0x80;
const MEMORY_MAP: usize = 0x100;

struct Page(Vec<u8>);

impl Page {
    /// One kernel, "quiet", 64 MiB of RAM and a reserved page.
    fn new() -> Self {
        let mut page = Self(vec![0; 0x1000]);
        page.put(0, &MAGIC.to_le_bytes());
        page.u32(4, 1);
        page.u32(12, 1);
        page.u64(16, BASE + MODULES as u64);
        page.u64(24, BASE + COMMAND_LINE as u64);
        page.u64(32, 0xfc00_8000);
        page.u64(40, BASE + MEMORY_MAP as u64);
        page.u32(48, 2);
        page.put(COMMAND_LINE, b"quiet\0junk");
        page.u64(MODULES, 0x20_0000);
        page.u64(MODULES + 8, 0x1234);
        page.u64(MEMORY_MAP + 8, 64 << 20);
        page.u32(MEMORY_MAP + 16, 1);
        page.u64(MEMORY_MAP + 24, 0xfeff_8000);
        page.u64(MEMORY_MAP + 32, 0x1000);
        page.u32(MEMORY_MAP + 40, 2);
        page
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    fn read(&self) -> Result<StartInfo, Error> {
        read(
            &Bytes {
                address: BASE,
                bytes: &self.0,
            },
            BASE,
        )
    }

    /// What a page with one field changed is refused for.
    fn refused(change: impl Fn(&mut Self)) -> Error {
        let mut page = Self::new();
        change(&mut page);
        page.read().unwrap_err()
    }
}

#[test]
fn everything_is_copied_out() {
    let info = Page::new().read().unwrap();
    assert_eq!(info.command_line, b"quiet");
    assert_eq!(info.rsdp, Some(0xfc00_8000));
    let kernel = Module {
        start: 0x20_0000,
        bytes: 0x1234,
    };
    assert_eq!(info.modules, [kernel]);
    let regions = info.regions.unwrap();
    let types: Vec<_> = regions.iter().map(|region| region.ty).collect();
    assert_eq!(types, [MemoryType::CONVENTIONAL, MemoryType::RESERVED]);
}

#[test]
fn what_may_be_absent_may_be_absent() {
    let mut page = Page::new();
    for pointer in [16, 24, 32] {
        page.u64(pointer, 0);
    }
    page.u32(12, 0);
    let info = page.read().unwrap();
    assert!(info.modules.is_empty() && info.command_line.is_empty());
    assert_eq!(info.rsdp, None);
}

#[test]
fn no_memory_map_is_for_the_caller_to_judge() {
    for (field, value) in [(4, 0), (48, 0)] {
        let mut page = Page::new();
        page.u32(field, value);
        let info = page.read().unwrap();
        assert_eq!((info.regions, info.version), (None, u32::from(field != 4)));
    }
}

#[test]
fn the_kernels_own_command_line_counts() {
    let mut page = Page::new();
    page.put(0x60, b"root=xvda\0");
    page.u64(MODULES + 16, BASE + 0x60);
    assert_eq!(page.read().unwrap().command_line, b"root=xvda");
    // Even one without a word in it.
    page.put(0x60, b"\0");
    assert!(page.read().unwrap().command_line.is_empty());
}

#[test]
fn an_empty_module_is_none_but_an_empty_initrd_is_a_mistake() {
    let mut page = Page::new();
    page.u32(12, 2);
    assert_eq!(page.read(), Err(Error::EmptyInitrd));
    page.u64(MODULES + 32 + 8, 5);
    assert_eq!(page.read().unwrap().modules.len(), 2);
    page.u64(MODULES + 8, 0);
    assert!(page.read().unwrap().modules.is_empty());
}

#[test]
fn each_wrong_field_is_named() {
    assert_eq!(Page::refused(|page| page.u32(0, 7)), Error::Magic(7));
    // Entries there are, but none of them RAM.
    assert_eq!(
        Page::refused(|page| page.u32(MEMORY_MAP + 16, 2)),
        Error::NoMemoryMap(1)
    );
    assert_eq!(
        Page::refused(|page| page.u32(48, u32::MAX)),
        Error::Regions(u32::MAX)
    );
    assert_eq!(Page::refused(|page| page.u32(12, 3)), Error::Modules(3));
}

#[test]
fn pointers_that_lead_nowhere_are_named() {
    for (field, what) in [
        (16, "the module list"),
        (24, "the command line"),
        (40, "the memory map"),
    ] {
        for address in [0xdead_0000, u64::MAX, BASE + 0xff8] {
            let Error::Unreadable(found, at) = Page::refused(|page| {
                page.u64(field, address);
                page.put(0xff8, &[b'x'; 8]);
            }) else {
                panic!("{what} at {address:#x}");
            };
            assert_eq!(found, what);
            assert!(at == address || at == BASE + 0x1000);
        }
    }
    let nowhere = Bytes {
        address: BASE,
        bytes: &[0; 20],
    };
    assert_eq!(
        read(&nowhere, BASE),
        Err(Error::Unreadable("the structure", BASE))
    );
}

#[test]
#[cfg_attr(miri, ignore = "reads 64 KiB byte by byte: a minute in Miri")]
fn a_command_line_without_end_is_refused() {
    let mut page = Page::new();
    page.0.resize(0x2_0000, b'a');
    page.u64(24, BASE + 0x1000);
    assert_eq!(page.read(), Err(Error::CommandLine));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        changes in prop::collection::vec((0usize..0x200, any::<u8>()), 0..40),
    ) {
        let mut page = Page::new();
        for (at, value) in changes {
            page.0[at] = value;
        }
        if let Ok(info) = page.read() {
            prop_assert!(info.modules.len() <= 2 && info.modules.iter().all(|m| m.bytes != 0));
            let regions = info.regions.iter().flatten();
            prop_assert!(info.regions.is_none() || regions.cloned().any(|region| region.is_ram()));
        }
    }
}
