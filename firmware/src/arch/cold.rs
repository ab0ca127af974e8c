//! Code that an ordinary start never calls: everything marked `#[cold]`.
//!
//! In the flash image it is an LZ4 block of its own, which the entry code leaves
//! packed; it fills the place with breakpoint instructions. Whoever calls into it
//! raises an exception, for which [`thaw`] puts the code there, and calls again.
//! In the ELF file the code lies where it belongs from the beginning.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

unsafe extern "C" {
    static cold_start: u8;
    static cold_end: u8;
    /// Address of the block, 0 if there is none to unpack.
    static cold_packed: AtomicU32;
    /// In `reset.s`, which runs in the flash.
    static unpack: u8;
    /// What lies at 4 GiB there.
    static reset_end: u8;
}

/// Unpacks the code if `address` is in it and it is still packed. Says whether the
/// instruction at `address` has become another one.
pub fn thaw(address: u64) -> bool {
    let start = (&raw const cold_start).addr() as u64;
    let end = (&raw const cold_end).addr() as u64;
    // SAFETY: only accessed here, once the entry code has left it.
    let packed = unsafe { &cold_packed };
    if !(start..end).contains(&address) {
        return false;
    }
    let block = packed.swap(0, Ordering::Relaxed);
    if block == 0 {
        return false;
    }
    let routine = (&raw const unpack)
        .addr()
        .wrapping_sub((&raw const reset_end).addr()) as u32;
    // SAFETY: the routine is mapped, and touches nothing but the registers here and
    // the place of the code, none of which has run yet.
    unsafe {
        asm!(
            "mov {rbx}, rbx",
            "lea rdx, [rip + 2f]",
            "jmp rax",
            "2: mov rbx, {rbx}",
            rbx = out(reg) _,
            inout("rax") u64::from(routine) => _,
            inout("rsi") u64::from(block) => _,
            inout("rdi") start => _,
            out("rcx") _,
            out("rdx") _,
            out("xmm0") _,
            out("xmm1") _,
            out("xmm2") _,
            out("xmm3") _,
        );
    }
    true
}
