//! I/O ports.
//!
//! Port numbers do not depend on any mapping, so these work wherever the
//! operating system has put the image.

use core::arch::asm;

/// Reads a byte.
///
/// # Safety
/// Reading `port` has no effect on memory in use.
pub unsafe fn read(port: u16) -> u8 {
    let value;
    // SAFETY: the caller vouches for the port.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
    };
    value
}

/// Writes a byte.
///
/// # Safety
/// Writing `value` to `port` has no effect on memory in use.
pub unsafe fn write(port: u16, value: u8) {
    // SAFETY: the caller vouches for the port.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags))
    };
}

/// Writes four bytes at once, to a device that goes on to memory.
///
/// # Safety
/// What writing `value` to `port` makes of memory is what the caller expects.
pub unsafe fn write_double(port: u16, value: u32) {
    // SAFETY: the caller vouches for the port.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags))
    };
}

/// Writes two bytes at once.
///
/// # Safety
/// Writing `value` to `port` has no effect on memory in use.
pub unsafe fn write_wide(port: u16, value: u16) {
    // SAFETY: the caller vouches for the port.
    unsafe {
        asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags))
    };
}
