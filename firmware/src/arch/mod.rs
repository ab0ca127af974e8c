//! The processor: exceptions, page tables, memory ownership, time, and the
//! calls into images and out of them.

pub mod exceptions;
pub mod heap;
pub mod image;
pub mod mtrr;
pub mod once;
pub mod paging;
pub mod protection;
pub mod ram;
pub mod random;
pub mod smp;
pub mod time;

use x86_64::instructions::{hlt, interrupts};

/// The entry code has mapped every address below this one.
pub const MAPPED_AT_ENTRY: u64 = 4 << 30;

/// Takes over the processor from the entry code.
pub fn init() {
    exceptions::init();
    heap::init();
}

/// No interrupt from here on. The firmware never enables one; a program it
/// started may have, and the kernel wants none (its stub sets no IDT before it
/// jumps to the kernel).
pub fn quiesce() {
    interrupts::disable();
    crate::phases::end();
}

/// Stops this processor for good.
pub fn stop() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}
