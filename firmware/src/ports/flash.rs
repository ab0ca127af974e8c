//! The flash for variables: QEMU's second `pflash` drive.
//!
//! QEMU puts its first flash, which has us in it, below 4 GiB and the second one
//! right below the first (QEMU `hw/i386/pc_sysfw.c`). Both are asked for their
//! size by the query that every such chip answers (JEDEC JESD68.01, "Common Flash
//! Interface"). A chip that is no flash takes the question for a write to ROM or
//! to nothing.

use core::ptr;
use ovmf_lite_services::resident::Flash;

const END: usize = 1 << 32;
/// The queries go to the last page of a flash. Their answers start there.
const PAGE: usize = 4096;

const QUERY: u8 = 0x98;
const READ_ARRAY: u8 = 0xff;

/// Offsets in the answer: "QRY"; blocks less one and their size in units of 256
/// bytes, 16 bits each.
const SIGNATURE: usize = 0x10;
const BLOCKS: usize = 0x2d;
const BLOCK_SIZE: usize = 0x2f;

/// The largest that can be there: the interrupt controllers are below.
const LARGEST: usize = 0x0080_0000;

/// The flash for variables, if there is one.
///
/// Only where we came from the reset vector: elsewhere there may be memory.
pub fn find() -> Option<Flash> {
    let ours = size_below(END)?;
    let end = END - ours;
    let size = size_below(end)?;
    Some(Flash {
        address: (end - size) as u64,
        size: size as u64,
    })
}

/// The size of the flash that ends at `end`.
fn size_below(end: usize) -> Option<usize> {
    let page = end - PAGE;
    write(page, QUERY);
    let signature = [0, 1, 2].map(|at| read(page + SIGNATURE + at));
    let number = |at: usize| usize::from(read(page + at)) | usize::from(read(page + at + 1)) << 8;
    let size = (number(BLOCKS) + 1) * number(BLOCK_SIZE) * 256;
    write(page, READ_ARRAY);
    let plausible = size % PAGE == 0 && size != 0 && size <= LARGEST;
    (signature == *b"QRY" && plausible).then_some(size)
}

fn read(address: usize) -> u8 {
    let byte = ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: everything below 4 GiB is mapped, and reading flash, or nothing,
    // has no effect.
    unsafe { byte.read_volatile() }
}

fn write(address: usize, value: u8) {
    let byte = ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: below 4 GiB QEMU has flash or ROM, and below that flash or nothing:
    // no memory that anybody uses. We run from a copy.
    unsafe { byte.write_volatile(value) };
}
