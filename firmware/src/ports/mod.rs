//! I/O ports: the door through which the firmware talks to PC devices.
//!
//! The functions are safe to call: a port access cannot break memory safety,
//! except by telling a device to write to memory. The one device told so is
//! fw_cfg, whose transfers live behind [`fw_cfg`].

pub mod flash;
pub mod fw_cfg;
pub mod pci;

use core::arch::asm;
use x86_64::instructions::port::{Port, PortRead, PortWrite};

/// Reads an I/O port.
pub fn read<T: PortRead>(port: u16) -> T {
    // SAFETY: see the head of this file.
    unsafe { Port::new(port).read() }
}

/// Writes an I/O port.
pub fn write<T: PortWrite>(port: u16, value: T) {
    // SAFETY: see the head of this file; DMA is only started in `fw_cfg`.
    unsafe { Port::new(port).write(value) }
}

/// Writes bytes one after the other to one I/O port.
pub fn write_string(port: u16, bytes: &[u8]) {
    // SAFETY: reads exactly the bytes; see the head of this file.
    unsafe {
        asm!(
            "rep outsb",
            in("dx") port,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags)
        );
    }
}

/// Fills `buffer` with bytes read one after the other from one I/O port.
pub fn read_string(port: u16, buffer: &mut [u8]) {
    // SAFETY: writes exactly the buffer; see the head of this file.
    unsafe {
        asm!(
            "rep insb",
            in("dx") port,
            inout("rdi") buffer.as_mut_ptr() => _,
            inout("rcx") buffer.len() => _,
            options(nostack, preserves_flags)
        );
    }
}
