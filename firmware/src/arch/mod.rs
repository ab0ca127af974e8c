//! The processor: exceptions, page tables, memory ownership, time, and the
//! calls into images and out of them.

pub mod apic;
mod cold;
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
pub mod tick;
pub mod time;

use core::arch::x86_64::__cpuid;
use x86_64::instructions::{hlt, interrupts};

/// In ECX of CPUID leaf 1: a hypervisor is there, and has leaves of its own from
/// 0x40000000 on (Intel SDM vol. 2 CPUID).
const CPUID_HYPERVISOR: u32 = 1 << 31;

/// The entry code has mapped every address below this one.
pub const MAPPED_AT_ENTRY: u64 = 4 << 30;

/// Takes over the processor from the entry code.
pub fn init() {
    exceptions::init();
    heap::init();
}

/// Whether a hypervisor says that it is there.
pub fn has_hypervisor() -> bool {
    __cpuid(1).ecx & CPUID_HYPERVISOR != 0
}

/// Stops this processor for good.
#[cold]
pub fn stop() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}
