//! The devices that this application drives itself: the serial port COM1
//! (16550) and pvpanic (QEMU `docs/specs/pvpanic`), because after
//! ExitBootServices nobody else does, and the CMOS clock, to change its mode.

use core::arch::asm;

const COM1: u16 = 0x3f8;
/// Line status register, and its bit "transmitter holding register empty".
const COM1_STATUS: u16 = COM1 + 5;
const COM1_READY: u8 = 1 << 5;

const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;

/// `XEN_HVM_DEBUGCONS_IOPORT`; nothing is there elsewhere.
const XEN_DEBUG: u16 = 0xe9;

const PVPANIC: u16 = 0x505;
const PVPANIC_PANICKED: u8 = 1;

/// An address far above all memory.
const UNMAPPED: u64 = 0x1234_5678_9000;

fn write(port: u16, value: u8) {
    // SAFETY: the devices of this file do not access memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

fn read(port: u16) -> u8 {
    let value: u8;
    // SAFETY: as in `write`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

/// The time stamp counter.
pub fn time_stamp() -> u64 {
    // SAFETY: reading it has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Sends one byte over COM1, set up as the firmware left it, and to Xen's debug
/// port, which is all there is in its PVH domains.
pub fn serial(byte: u8) {
    write(XEN_DEBUG, byte);
    // Bounded: a machine without COM1 reads all ones, a broken one may not.
    for _ in 0..100_000 {
        if read(COM1_STATUS) & COM1_READY != 0 {
            break;
        }
    }
    write(COM1, byte);
}

/// Reads a CMOS register.
pub fn cmos(register: u8) -> u8 {
    write(CMOS_INDEX, register);
    read(CMOS_DATA)
}

/// Writes a CMOS register.
pub fn set_cmos(register: u8, value: u8) {
    write(CMOS_INDEX, register);
    write(CMOS_DATA, value);
}

/// Whether maskable interrupts are enabled.
pub fn interrupts_enabled() -> bool {
    const INTERRUPT_FLAG: u64 = 1 << 9;
    let flags: u64;
    // SAFETY: pushes and pops one word; the stack is this function's.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags & INTERRUPT_FLAG != 0
}

/// Waits for an interrupt.
pub fn halt() {
    // SAFETY: goes on behind it; the firmware handles the interrupt.
    unsafe { asm!("hlt", options(nomem, nostack)) };
}

/// Tells QEMU that the guest has failed, and stops.
pub fn panic_machine() -> ! {
    write(PVPANIC, PVPANIC_PANICKED);
    loop {
        // SAFETY: interrupts are left disabled for good; nothing follows.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Reads where nothing is mapped: the firmware reports a page fault and stops.
pub fn fault() -> ! {
    // SAFETY: meant to fault; the firmware's handler does not come back.
    unsafe { asm!("mov al, [{}]", in(reg) UNMAPPED, out("al") _, options(nostack)) };
    panic_machine()
}
