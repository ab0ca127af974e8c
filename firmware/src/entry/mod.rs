//! How the machine comes to us: from the reset vector or from a PVH loader, to
//! one 64-bit entry.
//!
//! When `start64` calls [`crate::main`] we know that: the image runs at its
//! link address, its bss is zero but for what is marked `uncleared`, the first
//! 4 GiB are mapped one to one, interrupts are off, SSE works, and the stack below
//! is ours alone.

use core::arch::global_asm;

/// Stack of the firmware and of the programs it starts, in bytes. UEFI 2.11
/// §2.3.4 promises programs 128 KiB; the rest is for the services they call.
const STACK_SIZE: usize = 160 * 1024;

global_asm!(include_str!("reset.s"), options(att_syntax));
global_asm!(
    include_str!("start.s"),
    stack_size = const STACK_SIZE,
    main = sym crate::main,
    options(att_syntax)
);

global_asm!(include_str!("processor.s"), options(att_syntax));

unsafe extern "C" {
    static image_start: u8;
    static firmware_end: u8;
}

/// The range of physical memory that the firmware itself occupies: its image,
/// stack, heap and first page tables. Start and length in bytes.
pub fn occupied() -> (u64, u64) {
    let start = (&raw const image_start).addr();
    let end = (&raw const firmware_end).addr();
    (start as u64, (end - start) as u64)
}
