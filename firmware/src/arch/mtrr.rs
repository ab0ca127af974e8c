//! What the processor can say about memory types; what it is told is decided
//! in `services::mtrr`.

use super::smp::read_msr;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use ovmf_lite_services::mtrr::{self, Msr};

/// CPUID 1 EDX: there are MTRRs.
const CPUID_MTRR: u32 = 1 << 12;
/// CPUID leaf with the number of physical address bits in AL.
const CPUID_ADDRESS_BITS: u32 = 0x8000_0008;
/// What processors have that do not say.
const LEAST_ADDRESS_BITS: u32 = 36;

/// The registers that make all addresses cacheable, but VGA memory, ROMs and
/// what lies between `uncached_from` and 4 GiB. Empty without MTRRs.
pub fn registers(uncached_from: u64) -> Vec<Msr> {
    if __cpuid(1).edx & CPUID_MTRR == 0 {
        return Vec::new();
    }
    mtrr::registers(read_msr(mtrr::CAPABILITY), address_bits(), uncached_from)
}

/// How many bits a physical address has.
pub fn address_bits() -> u32 {
    if __cpuid(0x8000_0000).eax < CPUID_ADDRESS_BITS {
        return LEAST_ADDRESS_BITS;
    }
    __cpuid(CPUID_ADDRESS_BITS).eax & 0xff
}
