//! Kernel and initrd in one file: `cat vmlinuz initrd.img`, for loaders that
//! pass on one module only.
//!
//! The kernel's headers say where it ends; what follows counts as an initrd
//! only when it begins as one, so that junk behind a kernel stays junk.

use ovmf_lite_loader::pe;

/// How an initrd begins: a cpio archive, or one compressed in a way that Linux
/// knows (`lib/decompress.c`, `init/initramfs.c`).
const MAGICS: [&[u8]; 9] = [
    b"070701",
    b"070702",
    b"\x1f\x8b",
    b"BZh",
    b"\x5d\x00\x00",
    b"\xfd7zXZ\x00",
    b"\x89LZO",
    b"\x02\x21\x4c\x18",
    b"\x28\xb5\x2f\xfd",
];

/// What follows the PE image at the start of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Nothing, or zeroes.
    Nothing,
    /// An initrd, from this offset to the file's end.
    Initrd(usize),
    /// From this offset on something that Linux would not take for an initrd.
    Junk(usize),
}

/// What follows the PE image at the start of `file`. Zeroes between the two are
/// padding.
#[must_use]
pub fn appended(file: &[u8]) -> Appended {
    behind_image(file).unwrap_or(Appended::Nothing)
}

fn behind_image(file: &[u8]) -> Option<Appended> {
    let end = pe::Image::parse(file).ok()?.file_size();
    let rest = file.get(end..)?;
    let padding = rest.iter().position(|byte| *byte != 0)?;
    let start = end.checked_add(padding)?;
    let behind = rest.get(padding..)?;
    let known = MAGICS.iter().any(|magic| behind.starts_with(magic));
    Some(if known {
        Appended::Initrd(start)
    } else {
        Appended::Junk(start)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
    use super::*;

    /// A PE32+ image without sections: its headers are all there is.
    fn kernel() -> Vec<u8> {
        let mut file = vec![0; 0x200];
        let mut put = |at: usize, value: &[u8]| {
            file.splice(at..at.saturating_add(value.len()), value.iter().copied());
        };
        put(0, b"MZ");
        put(0x3c, &[0x40]);
        put(0x40, b"PE\0\0\x64\x86");
        put(0x54, &[240, 0, 2, 0]);
        let optional_header = [
            (0, 0x20bu32),
            (16, 0x100),
            (32, 0x1000),
            (56, 0x1000),
            (60, 0x200),
            (68, 10),
            (108, 16),
        ];
        for (at, value) in optional_header {
            put(0x58 + at, &value.to_le_bytes());
        }
        file
    }

    fn found(between: &[u8], behind: &[u8]) -> Appended {
        appended(&[&kernel(), between, behind].concat())
    }

    #[test]
    fn archives_are_found_behind_padding() {
        for magic in MAGICS {
            assert_eq!(found(&[], magic), Appended::Initrd(0x200));
            assert_eq!(found(&[0; 512], magic), Appended::Initrd(0x400));
        }
    }

    #[test]
    fn nothing_and_junk_are_no_initrd() {
        assert_eq!(found(&[], &[]), Appended::Nothing);
        assert_eq!(found(&[0; 512], &[]), Appended::Nothing);
        assert_eq!(found(b"junk", b"070701"), Appended::Junk(0x200));
        assert_eq!(found(&[0; 3], b"0707"), Appended::Junk(0x203));
        assert_eq!(appended(b"070701"), Appended::Nothing);
    }
}
