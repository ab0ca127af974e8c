//! An interrupt every few milliseconds while programs run, so that one that waits
//! with HLT goes on: programs find interrupts enabled (UEFI 2.11 §2.3.4).
//!
//! Nothing is done in it. Timers are looked at when services are called.

use super::apic::{self, DIVIDE, END_OF_INTERRUPT, INITIAL_COUNT, TIMER};
use super::exceptions::TICK;
use super::time;
use crate::ports;
use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use x86_64::instructions::{hlt, interrupts};

/// The masks of both 8259.
const MASKS: [u16; 2] = [0x21, 0xa1];
/// Cycles of the bus between two ticks: 4 ms with 1 GHz, as QEMU and KVM have it,
/// 40 ms with Xen's 100 MHz.
const CYCLES: u32 = 4_000_000;
/// How long a pause is without ticks, in microseconds.
const PAUSE: u64 = 100;
const DIVIDE_BY_ONE: u32 = 0b1011;
const PERIODIC: u32 = 1 << 17;
const MASKED: u32 = 1 << 16;

static RUNNING: AtomicBool = AtomicBool::new(false);
/// Where the handler writes; 0 where that is a model-specific register.
static END: AtomicUsize = AtomicUsize::new(0);

/// Enables interrupts, of which there is none but the tick.
pub fn start() {
    if !apic::is_there() {
        return;
    }
    for port in MASKS {
        ports::write(port, 0xff_u8);
    }
    END.store(apic::address(END_OF_INTERRUPT).unwrap_or(0), Relaxed);
    apic::enable();
    apic::write(DIVIDE, DIVIDE_BY_ONE);
    apic::write(TIMER, PERIODIC | u32::from(TICK));
    apic::write(INITIAL_COUNT, CYCLES);
    RUNNING.store(true, Relaxed);
    interrupts::enable();
}

/// No tick from here on, and no interrupt: the kernel wants none, its stub sets no
/// table of them before it jumps to it.
pub fn stop() {
    interrupts::disable();
    if !RUNNING.swap(false, Relaxed) {
        return;
    }
    apic::write(TIMER, MASKED);
    apic::write(INITIAL_COUNT, 0);
    // One that was due already comes here, not in the kernel.
    // SAFETY: its handler changes nothing.
    unsafe { asm!("sti", "nop", "cli", options(nomem, nostack)) };
}

/// Leaves the processor to others until the next tick, if there is one to come.
pub fn pause() {
    if RUNNING.load(Relaxed) && interrupts::are_enabled() {
        hlt();
    } else {
        time::stall(PAUSE);
    }
}

/// Lets interrupts come or not, while programs run.
pub fn enable(on: bool) {
    if on && RUNNING.load(Relaxed) {
        interrupts::enable();
    } else {
        interrupts::disable();
    }
}

/// Handles [`TICK`] and the spurious interrupt, which ends nothing when it is said to end.
#[unsafe(naked)]
pub unsafe extern "C" fn handler() {
    naked_asm!(
        "push rax",
        "mov rax, [{end}]",
        "test rax, rax",
        "jz 2f",
        "mov dword ptr [rax], 0",
        "pop rax",
        "iretq",
        "2:",
        "push rcx",
        "push rdx",
        "mov ecx, {register}",
        "xor edx, edx",
        "wrmsr",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "iretq",
        end = sym END,
        register = const apic::X2APIC_REGISTERS + (END_OF_INTERRUPT >> 4) as u32,
    )
}
