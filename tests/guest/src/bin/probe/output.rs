//! Lines of numbers on COM1, and the end of the machine. No firmware is asked,
//! and nothing that holds an address is used.

use core::arch::asm;

const COM1: u16 = 0x3f8;
/// Line status register, and its bit "transmitter holding register empty".
const COM1_STATUS: u16 = COM1 + 5;
const COM1_READY: u8 = 1 << 5;
/// QEMU's isa-debug-exit, at the address that xtask/src/bench gives it.
const EXIT: u16 = 0xf4;
const EXIT_CODE: u8 = 0x10;

/// Writes `probe: NAME NUMBER…` on a line of its own.
pub fn line(name: &str, numbers: &[u64]) {
    text("\nprobe: ");
    text(name);
    for number in numbers {
        byte(b' ');
        decimal(*number);
    }
    byte(b'\n');
}

/// Ends QEMU.
pub fn end() -> ! {
    write(EXIT, EXIT_CODE);
    loop {
        // SAFETY: nothing follows.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

fn decimal(number: u64) {
    if number >= 10 {
        decimal(number / 10);
    }
    byte(b'0' + (number % 10) as u8);
}

fn text(text: &str) {
    text.bytes().for_each(byte);
}

fn byte(byte: u8) {
    for _ in 0..100_000 {
        if read(COM1_STATUS) & COM1_READY != 0 {
            break;
        }
    }
    write(COM1, byte);
}

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
