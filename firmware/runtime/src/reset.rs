//! ResetSystem (UEFI 2.11 §8.5.1).
//!
//! Promises not to return. Tries what the firmware found out about the machine,
//! then what every PC has, then a triple fault, which resets any x86 machine.
//! A power-off that has no effect leaves the machine halted rather than reset:
//! whoever asked for it would not want it to start again.

use crate::ports;
use crate::state::{self, Machine};
use core::arch::asm;
use ovmf_lite_services::resident::PortWrite;
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
    port_write(machine.reset.shutdown);
    halt()
}

fn restart(machine: &Machine, control: [u8; 2]) -> ! {
    port_write(machine.reset.reset);
    for value in control {
        port_write(PortWrite {
            port: RESET_CONTROL,
            value: value.into(),
            width: 1,
        });
    }
    port_write(PortWrite {
        port: KEYBOARD,
        value: PULSE_RESET.into(),
        width: 1,
    });
    triple_fault()
}

/// Writes, and gives the write time to take effect.
fn port_write(write: PortWrite) {
    let [low, _] = write.value.to_le_bytes();
    match write.width {
        // SAFETY: a port that resets or powers off, which is what was asked for.
        1 => unsafe { ports::write(write.port, low) },
        // SAFETY: as above.
        2 => unsafe { ports::write_wide(write.port, write.value) },
        _ => return,
    }
    for _ in 0..50 {
        // SAFETY: reading the delay port has no effect but the delay.
        unsafe { ports::read(DELAY) };
    }
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
