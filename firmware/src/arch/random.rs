//! Random numbers of the processor: RDRAND and RDSEED, where it has them.

use ovmf_lite_services::boot::Fill;

/// CPUID 1 ECX and CPUID 7 EBX.
const CPUID_RDRAND: u32 = 1 << 30;
const CPUID_RDSEED: u32 = 1 << 18;
/// How often RDRAND is asked for one word (Intel SDM vol. 1 §7.3.17.1 says 10),
/// and RDSEED, which others may have emptied.
const RDRAND_TRIES: u32 = 10;
const RDSEED_TRIES: u32 = 10_000;

/// The generator and its source, each if there is one.
pub fn sources() -> [Option<Fill>; 2] {
    let features = core::arch::x86_64::__cpuid(1).ecx;
    let extended = if core::arch::x86_64::__cpuid(0).eax >= 7 {
        core::arch::x86_64::__cpuid_count(7, 0).ebx
    } else {
        0
    };
    [
        (features & CPUID_RDRAND != 0).then_some(generator as Fill),
        (extended & CPUID_RDSEED != 0).then_some(source as Fill),
    ]
}

fn generator(buffer: &mut [u8]) -> bool {
    // SAFETY: only handed out if the processor has the instruction.
    fill(buffer, RDRAND_TRIES, || unsafe { rdrand() })
}

fn source(buffer: &mut [u8]) -> bool {
    // SAFETY: only handed out if the processor has the instruction.
    fill(buffer, RDSEED_TRIES, || unsafe { rdseed() })
}

fn fill(buffer: &mut [u8], tries: u32, word: impl Fn() -> Option<u64>) -> bool {
    buffer.chunks_mut(8).all(|chunk| {
        let word = (0..tries).find_map(|_| {
            core::hint::spin_loop();
            word()
        });
        let bytes = word.unwrap_or_default().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
        word.is_some()
    })
}

#[target_feature(enable = "rdrand")]
fn rdrand() -> Option<u64> {
    let mut word = 0;
    (core::arch::x86_64::_rdrand64_step(&mut word) == 1).then_some(word)
}

#[target_feature(enable = "rdseed")]
fn rdseed() -> Option<u64> {
    let mut word = 0;
    (core::arch::x86_64::_rdseed64_step(&mut word) == 1).then_some(word)
}
