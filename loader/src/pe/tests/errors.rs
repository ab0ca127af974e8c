//! One broken image per error, and the words the error has for it.

use super::super::Image;
use super::builder::{Builder, block, paged, section, set};

/// What `parse` has to say about `file`.
fn refusal(file: &[u8]) -> String {
    match Image::parse(file) {
        Ok(_) => "accepted".into(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn files_that_are_no_images() {
    assert_eq!(refusal(b""), "the file is empty");
    assert_eq!(
        refusal(b"\x7fELF"),
        "not a PE image: expected \"MZ\" at offset 0, found 7f 45; Linux has one if built with \
         CONFIG_EFI_STUB=y"
    );
    assert_eq!(
        refusal(b"M"),
        "truncated: the MS-DOS header needs bytes 0x0..0x2 of a file of 0x1 bytes"
    );
    assert_eq!(
        refusal(b"MZ"),
        "truncated: the MS-DOS header needs bytes 0x3c..0x40 of a file of 0x2 bytes"
    );
    let mut file = paged().build();
    set(&mut file, 0x80, b"NE\x01\x02");
    assert_eq!(
        refusal(&file),
        "not a PE image: expected \"PE\\0\\0\" at offset 0x80, found 4e 45 01 02"
    );
    set(&mut file, 0x3c, &u32::MAX.to_le_bytes());
    assert_eq!(
        refusal(&file),
        "truncated: the PE header needs bytes 0xffffffff..0x100000003 of a file of 0x2618 bytes"
    );
}

#[test]
fn images_for_other_machines() {
    for (machine, name) in [
        (0xaa64, "AArch64"),
        (0x14c, "i386"),
        (0xebc, "EFI Byte Code"),
        (0x1c0, "ARM"),
        (0x1c2, "ARM"),
        (0x5064, "RISC-V"),
        (0x6264, "LoongArch"),
        (0x1234, "an unknown architecture"),
    ] {
        let file = Builder { machine, ..paged() }.build();
        let expected = format!(
            "the image is for {name} (machine {machine:#x}), expected x86-64 (machine 0x8664)"
        );
        assert_eq!(refusal(&file), expected);
    }
}

#[test]
fn files_that_end_too_early() {
    let file = paged().build();
    for (length, expected) in [
        (0x90, "the PE header needs bytes 0x80..0x98"),
        (0x100, "the PE header needs bytes 0x98..0x188"),
        (0x190, "the section table needs bytes 0x188..0x228"),
        (0x3ff, "the area of SizeOfHeaders needs bytes 0x0..0x400"),
        (0x5ff, "section .text needs bytes 0x400..0x600"),
    ] {
        assert_eq!(
            refusal(&file[..length]),
            format!("truncated: {expected} of a file of {length:#x} bytes")
        );
    }
}

#[test]
fn optional_headers_of_the_wrong_kind() {
    for magic in [0x10b, 0x107, 0] {
        let file = Builder { magic, ..paged() }.build();
        assert_eq!(
            refusal(&file),
            format!("the optional header has magic {magic:#x}, expected 0x20b (PE32+)")
        );
    }
}

#[test]
fn optional_headers_that_do_not_hold_their_directories() {
    let expected = |size| {
        format!(
            "SizeOfOptionalHeader is {size:#x}, expected room for the fields of PE32+ and for all \
             of at most 16 data directories"
        )
    };
    let mut builder = paged();
    builder.directories.push((0, 0));
    assert_eq!(refusal(&builder.build()), expected(0xf8));
    for size in [0_u16, 1, 0x6f, 0xef] {
        let mut file = paged().build();
        set(&mut file, 0x80 + 20, &size.to_le_bytes());
        assert_eq!(refusal(&file), expected(size));
    }
}

#[test]
fn too_many_sections() {
    let mut builder = paged();
    builder.sections = vec![section(".", 0x1000, 0, 0, 0, 0); 97];
    assert_eq!(
        refusal(&builder.build()),
        "the image has 97 sections, expected at most 96"
    );
}

#[test]
fn headers_that_exceed_their_size() {
    let end = paged().headers_end() as u32;
    for size_of_headers in [end - 1, 0x7001] {
        let mut file = Builder {
            size_of_headers,
            ..paged()
        }
        .build();
        file.resize(0x8000, 0);
        assert_eq!(
            refusal(&file),
            format!(
                "SizeOfHeaders is {size_of_headers:#x}, expected 0x228 (end of the section table) \
                 to 0x7000 (SizeOfImage)"
            )
        );
    }
}

#[test]
fn alignments_that_are_no_powers_of_two() {
    for section_alignment in [0, 0x30, 0x3000, u32::MAX] {
        let file = Builder {
            section_alignment,
            ..paged()
        }
        .build();
        assert_eq!(
            refusal(&file),
            format!("SectionAlignment is {section_alignment:#x}, expected a power of two")
        );
    }
}

#[test]
fn entry_points_outside_of_the_image() {
    for entry in [0, 0x7000, u32::MAX] {
        let file = Builder { entry, ..paged() }.build();
        assert_eq!(
            refusal(&file),
            format!(
                "AddressOfEntryPoint is {entry:#x}, expected more than 0 and less than 0x7000 \
                 (SizeOfImage)"
            )
        );
    }
}

#[test]
fn fixed_images_that_cannot_be_aligned() {
    let file = Builder {
        characteristics: 0x207,
        image_base: 0x10_0800,
        ..paged()
    }
    .build();
    assert_eq!(
        refusal(&file),
        "ImageBase is 0x100800, expected a multiple of 0x1000: the image has no relocations"
    );
}

#[test]
fn sections_outside_of_the_image() {
    let expected = |range| {
        format!(
            "section .text occupies {range} of the image, expected it to end by 0x7000 \
             (SizeOfImage)"
        )
    };
    let mut builder = paged();
    builder.section(".text").virtual_size = 0x2001;
    assert_eq!(refusal(&builder.build()), expected("0x5000..0x7001"));
    builder.section(".text").rva = u32::MAX;
    builder.section(".text").virtual_size = u32::MAX;
    assert_eq!(
        refusal(&builder.build()),
        expected("0xffffffff..0x1fffffffe")
    );
}

#[test]
fn sections_that_overlap() {
    let mut builder = paged();
    builder.section(".data").virtual_size = 0x4001;
    assert_eq!(
        refusal(&builder.build()),
        "section .text starts at 0x5000 of the image, expected 0x5001 (end of section .data) or \
         more"
    );
    let mut builder = paged();
    builder.section(".data").rva = 0x3ff;
    assert_eq!(
        refusal(&builder.build()),
        "section .data starts at 0x3ff of the image, expected 0x400 (end of the area of \
         SizeOfHeaders) or more"
    );
}

#[test]
fn relocations_that_are_not_in_the_file() {
    for (rva, size) in [
        (0x6000, 0x25),
        (0x5fff, 8),
        (0x4000, 8),
        (u32::MAX, u32::MAX),
    ] {
        let mut builder = paged();
        builder.directories[5] = (rva, size);
        assert_eq!(
            refusal(&builder.build()),
            format!(
                "the relocations are {size:#x} bytes at {rva:#x} of the image, expected them \
                 inside the file's bytes of one section"
            )
        );
    }
}

#[test]
fn relocation_blocks_of_the_wrong_size() {
    let good = block(0x1000, &[(10, 8)]);
    let broken = |bytes: &[u8]| refusal(&paged().relocations(&[&good, bytes].concat()).build());
    assert_eq!(
        broken(&[0; 7]),
        "the relocations end with 0x7 bytes, expected a block header of 0x8"
    );
    for size in [0, 7, 9, 12, u32::MAX] {
        let header = [0x1000_u32.to_le_bytes(), size.to_le_bytes()].concat();
        let block = [&header[..], &[0; 3]].concat();
        assert_eq!(
            broken(&block),
            format!(
                "a relocation block has {size:#x} bytes, expected an even number from 0x8 to 0xb"
            )
        );
    }
}

#[test]
fn relocations_of_unknown_types() {
    for kind in [1, 2, 4, 5, 7, 9, 11, 15] {
        let file = paged().relocations(&block(0x1000, &[(10, 0), (kind, 4)]));
        assert_eq!(
            refusal(&file.build()),
            format!(
                "the relocation at 0x1004 has type {kind}, expected 0 (ABSOLUTE), 3 (HIGHLOW) or \
                 10 (DIR64)"
            )
        );
    }
}

#[test]
fn relocations_behind_the_image() {
    for (page, kind, offset) in [
        (0x6000, 10, 0xff9),
        (0x6000, 3, 0xffd),
        (0xffff_ffff, 3, 0xfff),
    ] {
        let file = paged().relocations(&block(page, &[(kind, offset)]));
        let rva = u64::from(page) + u64::from(offset);
        assert_eq!(
            refusal(&file.build()),
            format!(
                "the relocation at {rva:#x} changes bytes behind the image, which ends at 0x7000 \
                 (SizeOfImage)"
            )
        );
    }
}
