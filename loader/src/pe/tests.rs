//! Images as linkers write them, one broken image per error, and hostile ones.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test that goes wrong should panic where it does"
)]

mod builder;
mod errors;
mod hostile;

use super::{Image, Needs, PlaceError, Section, Subsystem, settle};
use builder::{Builder, LINKED_AT, paged, section, small_alignment};

/// Places the image of `file` at `base` in memory that was not zero.
fn placed(file: &[u8], base: u64) -> Vec<u8> {
    let image = Image::parse(file).unwrap();
    let mut memory = vec![0xaa; image.size()];
    image.place(&mut memory, base).unwrap();
    if let Some(settled) = settled(file, base) {
        assert_eq!(settled, memory);
    }
    memory
}

/// The image of `file` where the file was read to, with rubbish behind it.
fn settled(file: &[u8], base: u64) -> Option<Vec<u8>> {
    let size = Image::parse(file).unwrap().size();
    let mut memory = file.to_vec();
    memory.resize(size.max(file.len()), 0xaa);
    let before = memory.clone();
    if !settle(&mut memory, file.len(), base) {
        assert_eq!(memory, before);
        return None;
    }
    assert_eq!(Image::parse(&memory).unwrap().size(), size);
    memory.truncate(size);
    Some(memory)
}

fn names(image: &Image<'_>) -> Vec<String> {
    image.sections().map(|s| s.name.to_string()).collect()
}

fn u64_at(memory: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(memory[at..at + 8].try_into().unwrap())
}

#[test]
fn small_alignments_are_believed() {
    let file = small_alignment().build();
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.size(), 0x9_1000);
    assert_eq!(image.alignment(), 0x1000);
    assert_eq!(image.entry(), 0x260);
    assert_eq!(image.image_base(), 0x100_0000);
    assert!(image.relocatable());
    assert!(!image.has_relocations());
    assert_eq!(names(&image), [".setup", ".reloc", ".text"]);
}

#[test]
fn an_image_larger_than_its_file_is_zero_behind_it() {
    let file = small_alignment().build();
    let memory = placed(&file, 0x7_0000_0000);
    assert_eq!(memory.len(), 0x9_1000);
    assert_eq!(memory[..file.len()], file);
    assert_eq!(memory[file.len()..], vec![0; 0x9_1000 - file.len()]);
}

#[test]
fn kernels_settle() {
    let mut kernel = small_alignment();
    let file = kernel.build();
    let base = 0x7_0000_0000;
    assert_eq!(settled(&file, base).unwrap(), placed(&file, base));
    let needs = Needs::of(&file[..0x200]).unwrap();
    assert_eq!((needs.size, needs.alignment), (0x9_1000, 0x1000));
    assert!(Needs::of(&file[..0x1ff]).is_none());
    // Not where it would be misaligned, and not in less memory than it needs.
    assert!(settled(&file, base + 0x200).is_none());
    let mut short = file.clone();
    assert!(!settle(&mut short, file.len(), base));
    assert_eq!(short, file);
    // What is behind a section's virtual size is not the image's.
    kernel.sections[0].virtual_size -= 0x20;
    assert!(settled(&kernel.build(), base).is_some());
    placed(&kernel.build(), base);
}

#[test]
fn what_lies_elsewhere_in_memory_does_not_settle() {
    let mut moved = small_alignment();
    let last = moved.sections.last_mut().unwrap();
    (last.rva, last.virtual_size) = (last.rva + 0x20, last.virtual_size - 0x20);
    assert!(settled(&moved.build(), 0x10_0000).is_none());
    assert!(settled(&paged().build(), 0x10_0000).is_none());
}

#[test]
fn sections_come_in_address_order_without_empty_ones() {
    let file = paged().build();
    let image = Image::parse(&file).unwrap();
    assert_eq!(names(&image), [".data", ".text", ".reloc"]);
    let [data, text, reloc] = image.sections().collect::<Vec<Section<'_>>>()[..] else {
        unreachable!("three names, three sections");
    };
    assert_eq!((data.rva, data.virtual_size), (0x1000, 0x3800));
    assert_eq!(data.raw, &file[0x600..0x2600]);
    assert!(data.readable() && data.writable() && !data.executable());
    assert!(text.readable() && !text.writable() && text.executable());
    assert_eq!(reloc.virtual_size as usize, reloc.raw.len());
}

#[test]
fn bytes_beyond_the_virtual_size_are_not_placed() {
    let file = paged().build();
    let memory = placed(&file, 0x10_0000);
    assert_eq!(memory[0x5000..0x5123], file[0x400..0x523]);
    assert_ne!(file[0x523], 0);
    assert_eq!(memory[0x5123..0x6000], [0; 0xedd]);
}

#[test]
fn gaps_are_zero_and_headers_are_in_front() {
    let file = paged().build();
    let memory = placed(&file, LINKED_AT);
    assert_eq!(memory[..0x400], file[..0x400]);
    assert_eq!(memory[0x400..0x1000], [0; 0xc00]);
    assert_eq!(memory[0x1000..0x3000], file[0x600..0x2600]);
    assert_eq!(memory[0x3000..0x5000], [0; 0x2000]);
}

#[test]
fn relocations_follow_the_base() {
    let file = paged().build();
    assert!(Image::parse(&file).unwrap().has_relocations());
    for base in [0, 0x10_0000, 0xffff_f000, 0x12_3456_7000, LINKED_AT] {
        let memory = placed(&file, base);
        assert_eq!(u64_at(&memory, 0x1ffc), base + 0x11);
        assert_eq!(u64_at(&memory, 0x2008), base + 0x22);
        assert_eq!(memory[0x2ffc..0x3000], (base as u32 + 0x33).to_le_bytes());
    }
}

#[test]
fn only_what_relocations_name_depends_on_the_base() {
    let file = paged().build();
    let (mut low, mut high) = (placed(&file, 0x10_0000), placed(&file, 0x5555_5555_5000));
    assert_ne!(low, high);
    for named in [0x1ffc..0x2004, 0x2008..0x2010, 0x2ffc..0x3000] {
        low[named.clone()].fill(0);
        high[named].fill(0);
    }
    assert!(low == high);
}

#[test]
fn padding_is_not_a_relocation() {
    let padding = builder::block(0x374a, &[(0, 0), (0, 0)]);
    let file = paged().relocations(&padding).build();
    assert!(!Image::parse(&file).unwrap().has_relocations());
}

#[test]
fn the_last_bytes_of_an_image_can_be_relocated() {
    let mut builder = paged().relocations(&builder::block(0x6000, &[(10, 0xff8)]));
    builder.section(".reloc").virtual_size = 0x1000;
    let memory = placed(&builder.build(), 0x3000);
    assert_eq!(u64_at(&memory, 0x6ff8), 0x3000_u64.wrapping_sub(LINKED_AT));
}

#[test]
fn a_file_may_have_fewer_directories_than_the_relocations_index() {
    let mut builder = small_alignment();
    for count in [0, 1, 5, 6, 16] {
        builder.directories = vec![(0, 0); count];
        let file = builder.build();
        let image = Image::parse(&file).unwrap();
        assert!(!image.has_relocations() && !image.imports());
    }
}

#[test]
fn imports_are_reported() {
    let mut builder = paged();
    builder.directories[1] = (0x2000, 0x28);
    assert!(Image::parse(&builder.build()).unwrap().imports());
}

#[test]
fn certificates_symbols_and_checksums_are_ignored() {
    let mut builder = paged();
    builder.directories[4] = (u32::MAX, u32::MAX);
    builder.directories[6] = (u32::MAX, u32::MAX);
    let pe = builder.pe_offset;
    let mut file = builder.build();
    builder::set(&mut file, pe + 12, &[0xff; 8]);
    builder::set(&mut file, pe + 24 + 64, &[0xff; 4]);
    Image::parse(&file).unwrap();
}

#[test]
fn names_in_a_string_table_are_left_as_references() {
    for name in ["/4", "/x", "//......", "/"] {
        let mut builder = paged();
        builder.section(".text").name = name;
        let file = builder.build();
        assert_eq!(names(&Image::parse(&file).unwrap())[1], name);
    }
}

#[test]
fn a_name_of_eight_bytes_has_no_terminator() {
    let mut builder = paged();
    builder.section(".text").name = ".dynamic";
    let file = builder.build();
    let image = Image::parse(&file).unwrap();
    let section = image.sections().nth(1).unwrap();
    assert_eq!(section.name.as_bytes(), b".dynamic");
}

#[test]
fn large_section_alignments_bind_the_base() {
    let builder = Builder {
        section_alignment: 0x20_0000,
        ..paged()
    };
    let file = builder.build();
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.alignment(), 0x20_0000);
    let mut memory = vec![0; image.size()];
    image.place(&mut memory, 0x40_0000).unwrap();
    assert_eq!(
        image.place(&mut memory, 0x30_0000),
        Err(PlaceError::Misaligned {
            base: 0x30_0000,
            alignment: 0x20_0000
        })
    );
}

#[test]
fn a_base_is_page_aligned_however_small_the_section_alignment() {
    let file = small_alignment().build();
    let image = Image::parse(&file).unwrap();
    let error = image.place(&mut vec![0; image.size()], 0x1020).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image's address is 0x1020, expected a multiple of 0x1000"
    );
}

#[test]
fn an_image_stripped_of_relocations_runs_at_its_image_base_only() {
    let builder = Builder {
        characteristics: 0x207,
        image_base: 0x40_0000,
        ..small_alignment()
    };
    let file = builder.build();
    let image = Image::parse(&file).unwrap();
    assert!(!image.relocatable());
    let mut memory = vec![0; image.size()];
    image.place(&mut memory, 0x40_0000).unwrap();
    let error = image.place(&mut memory, 0x50_0000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image's address is 0x500000, expected 0x400000: it has no relocations"
    );
}

#[test]
fn memory_of_the_wrong_length_is_left_alone_where_not_needed() {
    let file = paged().build();
    let image = Image::parse(&file).unwrap();
    let mut memory = vec![0xaa; image.size() + 16];
    image.place(&mut memory, 0x1000).unwrap();
    assert_eq!(memory[image.size()..], [0xaa; 16]);

    let mut short = vec![0xaa; image.size() - 1];
    let error = image.place(&mut short, 0x1000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image needs 0x7000 bytes of memory, found 0x6fff"
    );
    assert_eq!(short, vec![0xaa; image.size() - 1]);
}

#[test]
fn subsystems_are_passed_on() {
    for (value, expected) in [
        (10, Subsystem::EFI_APPLICATION),
        (11, Subsystem::EFI_BOOT_SERVICE_DRIVER),
        (12, Subsystem::EFI_RUNTIME_DRIVER),
        (3, Subsystem(3)),
    ] {
        let builder = Builder {
            subsystem: value,
            ..paged()
        };
        let file = builder.build();
        assert_eq!(Image::parse(&file).unwrap().subsystem(), expected);
    }
}

#[test]
fn neighbours_closer_than_the_section_alignment_are_fine() {
    let mut builder = paged();
    let raw = section(".sbat", 0x4800, 0xe2, 0x2800, 0x200, builder::READ);
    let magic = section(".sdmagic", 0x48f0, 0x34, 0x2a00, 0x200, builder::READ);
    builder.sections.extend([raw, magic]);
    let file = builder.build();
    let memory = placed(&file, 0x1000);
    assert_eq!(memory[0x4800..0x48e2], file[0x2800..0x28e2]);
    assert_eq!(memory[0x48e2..0x48f0], [0; 14]);
    assert_eq!(memory[0x48f0..0x4924], file[0x2a00..0x2a34]);
}

#[test]
fn a_file_may_go_on_behind_the_image() {
    let mut builder = paged();
    let sections_end = builder.build().len();
    let size = |builder: &Builder| Image::parse(&builder.build()).unwrap().file_size();
    assert_eq!(size(&builder), sections_end);
    builder.directories[4] = (0x3000, 0x5c0);
    assert_eq!(size(&builder), 0x35c0);
    // Certificates without a size are none, wherever they are.
    builder.directories[4] = (0x9000, 0);
    assert_eq!(size(&builder), sections_end);
    let mut file = builder.build();
    file.extend([0x11; 100]);
    assert_eq!(Image::parse(&file).unwrap().file_size(), sections_end);
}
