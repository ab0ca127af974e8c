//! The local APIC of this processor, in memory (xAPIC) or in model-specific registers
//! (x2APIC), whichever it was left in (Intel SDM vol. 3 §11.4, §11.12).

use super::exceptions::SPURIOUS;
use super::smp::{read_msr, write_msr};
use core::arch::x86_64::__cpuid;

/// CPUID 1 EDX: there is a local APIC.
const CPUID_APIC: u32 = 1 << 9;
/// IA32_APIC_BASE, its x2APIC enable bit and the address in it.
const BASE: u32 = 0x1b;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0xffff_ffff_f000;
/// The x2APIC's registers are model-specific ones from here on, one where the
/// xAPIC has 16 bytes.
pub const X2APIC_REGISTERS: u32 = 0x800;

/// Registers by their offset in memory, in bytes (Intel SDM vol. 3 table 11-1).
pub const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS_VECTOR: usize = 0xf0;
pub const COMMAND: usize = 0x300;
pub const TIMER: usize = 0x320;
pub const LINT0: usize = 0x350;
pub const LINT1: usize = 0x360;
pub const INITIAL_COUNT: usize = 0x380;
pub const DIVIDE: usize = 0x3e0;

/// In [`SPURIOUS_VECTOR`]: the APIC is enabled.
const ENABLED: u32 = 1 << 8;

/// Whether this processor has one. Nothing else here may be asked without.
pub fn is_there() -> bool {
    __cpuid(1).edx & CPUID_APIC != 0
}

/// Lets it take interrupts.
pub fn enable() {
    write(SPURIOUS_VECTOR, ENABLED | u32::from(SPURIOUS));
}

/// The address of a register; none where they are not in memory.
pub fn address(register: usize) -> Option<usize> {
    let base = read_msr(BASE);
    (base & BASE_X2APIC == 0).then_some((base & BASE_ADDRESS) as usize + register)
}

/// Writes a register.
pub fn write(register: usize, value: u32) {
    let Some(address) = address(register) else {
        let register = X2APIC_REGISTERS + (register >> 4) as u32;
        return write_msr(register, u64::from(value));
    };
    let pointer = core::ptr::with_exposed_provenance_mut::<u32>(address);
    // SAFETY: a register of the local APIC, mapped one to one.
    unsafe { pointer.write_volatile(value) };
}
