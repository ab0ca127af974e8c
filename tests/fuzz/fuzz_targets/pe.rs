//! PE images: any file is refused or can be placed, and then its sections are
//! where their headers say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovmf_lite_loader::pe::{Image, settle};

/// Larger images are not placed, for speed.
const MAX_PLACED: usize = 1 << 20;

fuzz_target!(|input: (bool, Vec<(u16, u32)>, &[u8])| {
    let (valid, changes, tail) = input;
    let mut file = if valid { image() } else { Vec::new() };
    file.extend(tail);
    for (at, value) in changes {
        let at = usize::from(at) % (file.len() + 1);
        let length = 4.min(file.len() - at);
        file[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    }
    if let Ok(image) = Image::parse(&file) {
        place(&image, &file);
    }
});

/// A page of `.text`, and relocations for it.
fn image() -> Vec<u8> {
    let mut file = vec![0; 0x300];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0\x64\x86\x02\0");
    put(0x54, &[240, 0, 6, 0, 0x0b, 2]); // SizeOfOptionalHeader, characteristics, PE32+
    let fields = [
        (0x58 + 16, 0x1000),  // AddressOfEntryPoint
        (0x58 + 32, 0x1000),  // SectionAlignment
        (0x58 + 56, 0x3000),  // SizeOfImage
        (0x58 + 60, 0x200),   // SizeOfHeaders
        (0x58 + 68, 10),      // Subsystem
        (0x58 + 108, 16),     // NumberOfRvaAndSizes
        (0x58 + 152, 0x2000), // relocations
        (0x58 + 156, 12),
    ];
    let sections = [[0x1000, 0x1000, 0x80, 0x200], [0x1000, 0x2000, 0x80, 0x280]];
    for (at, value) in fields {
        put(at, &u32::to_le_bytes(value));
    }
    for (index, section) in sections.iter().enumerate() {
        for (field, value) in section.iter().enumerate() {
            put(
                0x148 + 40 * index + 8 + 4 * field,
                &u32::to_le_bytes(*value),
            );
        }
    }
    put(0x280, &[0, 0x10, 0, 0, 12, 0, 0, 0, 8, 0xa0, 0, 0]); // DIR64 at 0x1008
    file
}

fn place(image: &Image<'_>, file: &[u8]) {
    if image.size() > MAX_PLACED {
        return;
    }
    let base = if image.relocatable() {
        image.alignment() as u64 * 3
    } else {
        image.image_base()
    };
    // Of exactly this size: the address sanitizer sees a byte too many.
    let mut memory = vec![0xaa; image.size()].into_boxed_slice();
    image
        .place(&mut memory, base)
        .expect("what parses can be placed");
    assert!((image.entry() as usize) < memory.len());
    let mut settled = file.to_vec();
    settled.resize(file.len().max(image.size()), 0xaa);
    if settle(&mut settled, file.len(), base) {
        Image::parse(&settled).expect("what settled can be parsed again");
        assert_eq!(settled[..image.size()], *memory);
    }
    for section in image.sections().filter(|_| !image.has_relocations()) {
        let placed = &memory[section.rva as usize..][..section.virtual_size as usize];
        assert!(placed.starts_with(section.raw));
        assert!(placed[section.raw.len()..].iter().all(|byte| *byte == 0));
    }
}
