//! The one hypercall of this image: Xen is asked to end the domain (Xen
//! `xen/include/public/sched.h`).
//!
//! A direct instruction: a hypercall page belongs to whoever has registered it
//! last. The argument is a virtual address, which Xen translates by the page
//! tables of the moment, so it may lie on any stack.

use core::arch::asm;
use ovmf_lite_services::resident::Hypercall;

/// `__HYPERVISOR_sched_op`.
const SCHED_OP: u64 = 29;
/// `SCHEDOP_shutdown`; its argument is the reason, 32 bits.
const SHUTDOWN: u64 = 2;

/// `SHUTDOWN_poweroff`: the domain has ended.
pub const POWER_OFF: u32 = 0;
/// `SHUTDOWN_reboot`: the toolstack makes the domain anew.
pub const REBOOT: u32 = 1;

/// Ends the domain for `reason`. Returns when there is no Xen, or it refuses.
pub fn shut_down(hypercall: Hypercall, reason: u32) {
    if hypercall == Hypercall::NONE {
        return;
    }
    // SAFETY: the firmware said that this is how Xen is called. Xen reads the
    // argument, and may spoil the registers that carry it.
    unsafe {
        asm!(
            "cmp {instruction:e}, {vmmcall}",
            "je 2f",
            "vmcall",
            "jmp 3f",
            "2: vmmcall",
            "3:",
            instruction = in(reg) hypercall.0,
            vmmcall = const Hypercall::VMMCALL.0,
            inout("rax") SCHED_OP => _,
            inout("rdi") SHUTDOWN => _,
            inout("rsi") &raw const reason => _,
            options(nostack)
        );
    }
}
