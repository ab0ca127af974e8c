//! ResetSystem (UEFI 2.11 §8.5.1).
//!
//! Promises not to return. Tries what the firmware found out about the machine,
//! then what every PC has, then a triple fault, which resets any x86 machine.
//! A power-off that has no effect leaves the machine halted rather than reset:
//! whoever asked for it would not want it to start again.

use crate::hypercall::{self, shut_down};
use crate::ports;
use crate::state;
use core::arch::asm;
use core::ptr;
use ovmf_lite_services::resident::{Machine, Space, Write};
use uefi_raw::Status;
use uefi_raw::table::runtime::ResetType;

/// The chipset's reset control register.
const RESET_CONTROL: u16 = 0xcf9;
/// Bits 1 and 2 of it: "reset the system, too" and, on its rising edge, "do it".
const WARM: [u8; 2] = [0x02, 0x06];
/// Bit 3 adds a power cycle.
const COLD: [u8; 2] = [0x02, 0x0e];

/// The keyboard controller's command port.
const KEYBOARD: u16 = 0x64;
/// Its command "pulse output line 0", which is the processor's reset line.
const PULSE_RESET: u8 = 0xfe;

/// A port nobody uses; an access to it takes about a microsecond.
const DELAY: u16 = 0x80;

/// ResetSystem. Status code and data are for logs that do not exist.
pub unsafe extern "efiapi" fn reset_system(
    kind: ResetType,
    _: Status,
    _: usize,
    _: *const u8,
) -> ! {
    let machine = state::machine();
    match kind {
        ResetType::SHUTDOWN => power_off(&machine),
        ResetType::WARM => restart(&machine, WARM),
        _ => restart(&machine, COLD),
    }
}

fn power_off(machine: &Machine) -> ! {
    shut_down(machine.hypercall, hypercall::POWER_OFF);
    write(machine.reset.shutdown);
    halt()
}

fn restart(machine: &Machine, control: [u8; 2]) -> ! {
    shut_down(machine.hypercall, hypercall::REBOOT);
    write(machine.reset.reset);
    for value in control {
        write(port(RESET_CONTROL, value));
    }
    write(port(KEYBOARD, PULSE_RESET));
    triple_fault()
}

fn port(port: u16, value: u8) -> Write {
    Write {
        address: port.into(),
        space: Space::IO,
        value: value.into(),
        width: 1,
    }
}

/// Writes, and gives the write time to take effect.
fn write(write: Write) {
    let [low, high] = write.value.to_le_bytes();
    match (write.space, write.width) {
        (Space::IO, 1) => write_port(write.address, &[low]),
        (Space::IO, 2) => write_port(write.address, &[low, high]),
        (Space::MEMORY, 1) => write_memory(write.address, low),
        _ => return,
    }
    for _ in 0..50 {
        // SAFETY: reading the delay port has no effect but the delay.
        unsafe { ports::read(DELAY) };
    }
}

fn write_port(port: u64, value: &[u8]) {
    let Ok(port) = u16::try_from(port) else {
        return;
    };
    match *value {
        // SAFETY: a port that resets or powers off, which is what was asked for.
        [value] => unsafe { ports::write(port, value) },
        // SAFETY: as above.
        [low, high] => unsafe { ports::write_wide(port, u16::from_le_bytes([low, high])) },
        _ => {}
    }
}

fn write_memory(address: u64, value: u8) {
    let Ok(address) = usize::try_from(address) else {
        return;
    };
    let register = ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: a register that resets or powers off, in a page that the firmware
    // has listed for the runtime services; SetVirtualAddressMap converted it.
    unsafe { register.write_volatile(value) };
}

/// An exception without an interrupt table is a double fault, which is a triple
/// fault.
fn triple_fault() -> ! {
    let empty = [0u8; 10];
    // SAFETY: nothing runs after this, so nothing misses the interrupt table.
    unsafe { asm!("lidt [{}]", "int3", in(reg) &raw const empty, options(nostack, readonly)) };
    halt()
}

fn halt() -> ! {
    loop {
        // SAFETY: stops the processor, which is the caller's wish.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
