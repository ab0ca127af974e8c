//! Whatever the bytes: no panic, and what is accepted can be placed.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Image;
use super::builder::{block, paged, set, small_alignment};

/// Larger images are not placed, to keep the tests fast.
const MAX_PLACED: usize = 16 << 20;

/// Files per test; the interpreter Miri takes seconds for each.
const CASES: u32 = if cfg!(miri) { 2 } else { 2048 };
/// Length of arbitrary files in bytes, at most.
const LENGTH: usize = if cfg!(miri) { 128 } else { 1024 };

/// Places what can be parsed and checks that the file's bytes are where the
/// sections say, unless relocations changed them.
fn parse_and_place(file: &[u8]) {
    let Ok(image) = Image::parse(file) else {
        return;
    };
    if image.size() > MAX_PLACED {
        return;
    }
    let base = match image.relocatable() {
        true => image.alignment() as u64 * 3,
        false => image.image_base(),
    };
    let mut memory = vec![0xaa; image.size()];
    image.place(&mut memory, base).unwrap();
    assert!((image.entry() as usize) < memory.len());
    for section in image.sections().filter(|_| !image.has_relocations()) {
        let (raw, rest) = memory[section.rva as usize..][..section.virtual_size as usize]
            .split_at(section.raw.len());
        assert_eq!(raw, section.raw);
        assert!(rest == vec![0; rest.len()]);
    }
}

/// Values that headers are sensitive to, and any others.
fn field() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        (0..32_u32).prop_map(|bit| 1 << bit),
        0..0x8000_u32,
        any::<u32>(),
    ]
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(paged().build()), Just(small_alignment().build())]
}

/// A relocation entry: type and offset.
fn entry() -> impl Strategy<Value = (u16, u16)> {
    (prop_oneof![Just(0), Just(3), Just(10)], 0..0x1000_u16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn arbitrary_bytes(mut file in vec(any::<u8>(), 0..LENGTH), dos in any::<bool>()) {
        if dos {
            set(&mut file, 0, b"MZ");
            set(&mut file, 0x3c, &0x40_u32.to_le_bytes());
            set(&mut file, 0x40, b"PE\0\0\x64\x86");
        }
        parse_and_place(&file);
    }

    #[test]
    fn fields_with_other_values(
        mut file in valid(),
        fields in vec((0x20..0xa0_usize, field()), 1..4),
    ) {
        for (index, value) in fields {
            set(&mut file, index * 4, &value.to_le_bytes());
        }
        parse_and_place(&file);
    }

    #[test]
    fn flipped_bytes(mut file in valid(), bytes in vec((0..0x240_usize, any::<u8>()), 1..8)) {
        for (at, byte) in bytes {
            set(&mut file, at, &[byte]);
        }
        parse_and_place(&file);
    }

    #[test]
    fn truncated_files(file in valid(), length in any::<prop::sample::Index>()) {
        parse_and_place(&file[..length.index(file.len())]);
    }

    #[test]
    fn relocations_at_random(
        blocks in vec((0..0x8000_u32, vec(entry(), 0..8)), 0..8),
        tail in vec(any::<u8>(), 0..12),
    ) {
        let mut bytes: Vec<u8> = blocks
            .iter()
            .flat_map(|(page, entries)| block(*page, entries))
            .collect();
        bytes.extend(tail);
        parse_and_place(&paged().relocations(&bytes).build());
    }
}
