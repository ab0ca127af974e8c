//! Memory types by physical address: what the MTRRs have to say on a PC
//! (Intel SDM vol. 3 §12.11).
//!
//! Everything is write-back, except VGA memory and the ROMs below 1 MiB and one
//! range that ends at 4 GiB, where devices are: those are uncacheable. Linux
//! wants the same on each processor and complains about anything else.

use alloc::vec::Vec;

/// A model-specific register and its value.
pub type Msr = (u32, u64);

/// IA32_MTRRCAP: how many variable ranges there are, whether there are fixed.
pub const CAPABILITY: u32 = 0xfe;
const CAPABILITY_FIXED: u64 = 1 << 8;
/// IA32_MTRR_DEF_TYPE: type of all that no range covers.
const DEFAULT_TYPE: u32 = 0x2ff;
const ENABLE: u64 = 1 << 11;
const ENABLE_FIXED: u64 = 1 << 10;
/// The fixed ranges below and above 0xA0000, 8 in each register.
const FIXED_RAM: &[u32] = &[0x250, 0x258];
const FIXED_LEGACY: &[u32] = &[
    0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
/// IA32_MTRR_PHYSBASE0; the mask is the register behind each base.
const VARIABLE: u32 = 0x200;
const MASK_VALID: u64 = 1 << 11;

const UNCACHEABLE: u64 = 0;
const WRITE_BACK: u64 = 6;
const FOUR_GIB: u64 = 1 << 32;

/// What to write, in this order. `capability` is the value of [`CAPABILITY`],
/// `address_bits` the width of a physical address. The range from
/// `uncached_from`, a multiple of 4 KiB, to 4 GiB becomes uncacheable; if there
/// are too few registers, then only its largest parts, which are the highest.
pub fn registers(capability: u64, address_bits: u32, uncached_from: u64) -> Vec<Msr> {
    let mut registers = Vec::new();
    let mut enable = ENABLE | WRITE_BACK;
    if capability & CAPABILITY_FIXED != 0 {
        enable |= ENABLE_FIXED;
        let write_back = u64::from_le_bytes([6; 8]);
        for (fixed, ty) in [(FIXED_RAM, write_back), (FIXED_LEGACY, UNCACHEABLE)] {
            for register in fixed {
                registers.push((*register, ty));
            }
        }
    }
    let [available, ..] = capability.to_le_bytes();
    let bits = u64::MAX
        .checked_shl(address_bits)
        .map_or(u64::MAX, |above| !above);
    let mut next = VARIABLE;
    for (range, size) in parts(uncached_from).take(available.into()) {
        let mask = bits & !size.wrapping_sub(1) | MASK_VALID;
        for value in [range | UNCACHEABLE, mask] {
            registers.push((next, value));
            next = next.saturating_add(1);
        }
    }
    registers.push((DEFAULT_TYPE, enable));
    registers
}

/// The range from `start` to 4 GiB in parts that are powers of two, aligned to
/// their size, from the top down: start and size.
fn parts(start: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut end = FOUR_GIB;
    core::iter::from_fn(move || {
        let left = end.checked_sub(start)?;
        let most = 1_u64.checked_shl(left.checked_ilog2()?)?;
        // What ends here is aligned when its size divides the end.
        let fits = 1_u64.checked_shl(end.trailing_zeros())?;
        let size = most.min(fits);
        end = end.checked_sub(size)?;
        Some((end, size))
    })
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use proptest::prelude::*;

    const FULL: u64 = CAPABILITY_FIXED | 8;

    /// The type of an address above 1 MiB, as the processor works it out.
    fn memory_type(registers: &[Msr], address: u64) -> u64 {
        let value = |wanted| registers.iter().find(|(register, _)| *register == wanted);
        for pair in 0..8 {
            let (Some((_, base)), Some((_, mask))) =
                (value(VARIABLE + 2 * pair), value(VARIABLE + 2 * pair + 1))
            else {
                break;
            };
            let mask_bits = mask & !0xfff;
            if mask & MASK_VALID != 0 && address & mask_bits == base & mask_bits {
                return base & 0xff;
            }
        }
        value(DEFAULT_TYPE).map_or(0, |(_, value)| value & 0xff)
    }

    #[test]
    fn q35_needs_two_ranges() {
        let registers = registers(FULL, 40, 0xb000_0000);
        let variable = &registers[11..];
        assert_eq!(
            variable,
            [
                (0x200, 0xc000_0000),
                (0x201, 0xff_c000_0800),
                (0x202, 0xb000_0000),
                (0x203, 0xff_f000_0800),
                (0x2ff, 0xc06),
            ]
        );
    }

    #[test]
    fn legacy_addresses_are_uncacheable() {
        let registers = registers(FULL, 36, 1 << 31);
        assert_eq!(registers[0], (0x250, 0x0606_0606_0606_0606));
        assert_eq!(registers[1], (0x258, 0x0606_0606_0606_0606));
        assert!(registers[2..11].iter().all(|(_, value)| *value == 0));
    }

    #[test]
    fn what_the_processor_lacks_is_not_written() {
        let registers = registers(1, 36, 0xb000_0000);
        let expected = [(0x200, 0xc000_0000), (0x201, 0xf_c000_0800), (0x2ff, 0x806)];
        assert_eq!(registers, expected);
    }

    proptest! {
        #[test]
        fn only_the_range_is_uncacheable(
            chunk in 0_u64..16, bits in 36_u32..53, address in 0x10_0000_u64..1 << 36,
        ) {
            let from = chunk << 28;
            let registers = registers(FULL, bits, from);
            let expected = if (from..FOUR_GIB).contains(&address) { 0 } else { 6 };
            prop_assert_eq!(memory_type(&registers, address), expected);
        }
    }
}
