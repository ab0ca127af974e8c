//! Why an image is refused, in words for whoever supplied the file.
//!
//! Promises: every message is one line that names what was expected and what
//! was found. The file's role or name is the caller's to put in front, as in
//! "kernel: the file is empty". Sizes, offsets and addresses are in bytes.

use core::fmt;
use core::ops::Range;

use goblin::pe::header as coff;

use super::{HeaderError, RelocationError, SectionError, SectionName};

/// Why a file is not an image this firmware can run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the numbers of the message")]
pub enum Error {
    /// No bytes at all.
    Empty,
    /// The first two bytes are not "MZ".
    NotPe([u8; 2]),
    /// "MZ", but no "PE\0\0" where it points: a program for MS-DOS.
    PeSignature { offset: usize, found: [u8; 4] },
    /// `Machine` is another architecture.
    Machine(u16),
    /// The file ends before a part it declares.
    Truncated {
        part: Part,
        needs: Range<usize>,
        file: usize,
    },
    /// A field of the headers is wrong.
    Header(HeaderError),
    /// A section is wrong.
    Section(SectionError),
    /// A base relocation is wrong.
    Relocation(RelocationError),
}

impl core::error::Error for Error {}

impl fmt::Display for Error {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::NotPe([a, b]) => write!(
                f,
                "not a PE image: expected \"MZ\" at offset 0, found {a:02x} {b:02x}; \
                 Linux has one if built with CONFIG_EFI_STUB=y"
            ),
            Self::PeSignature {
                offset,
                found: [a, b, c, d],
            } => write!(
                f,
                "not a PE image: expected \"PE\\0\\0\" at offset {offset:#x}, \
                 found {a:02x} {b:02x} {c:02x} {d:02x}"
            ),
            Self::Machine(machine) => write!(
                f,
                "the image is for {} (machine {machine:#x}), expected x86-64 (machine {:#x})",
                machine_name(*machine),
                coff::COFF_MACHINE_X86_64
            ),
            Self::Truncated { part, needs, file } => write!(
                f,
                "truncated: {part} needs bytes {:#x}..{:#x} of a file of {file:#x} bytes",
                needs.start, needs.end
            ),
            Self::Header(error) => error.fmt(f),
            Self::Section(error) => error.fmt(f),
            Self::Relocation(error) => error.fmt(f),
        }
    }
}

impl From<HeaderError> for Error {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

impl From<SectionError> for Error {
    fn from(error: SectionError) -> Self {
        Self::Section(error)
    }
}

impl From<RelocationError> for Error {
    fn from(error: RelocationError) -> Self {
        Self::Relocation(error)
    }
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        coff::COFF_MACHINE_X86 => "i386",
        coff::COFF_MACHINE_EBC => "EFI Byte Code",
        coff::COFF_MACHINE_ARM | coff::COFF_MACHINE_THUMB | coff::COFF_MACHINE_ARMNT => "ARM",
        coff::COFF_MACHINE_ARM64 => "AArch64",
        coff::COFF_MACHINE_RISCV32 => "32-bit RISC-V",
        coff::COFF_MACHINE_RISCV64 => "RISC-V",
        coff::COFF_MACHINE_LOONGARCH32 => "32-bit LoongArch",
        coff::COFF_MACHINE_LOONGARCH64 => "LoongArch",
        coff::COFF_MACHINE_IA64 => "Itanium",
        _ => "an unknown architecture",
    }
}

/// A part of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The MS-DOS header, which starts with "MZ".
    DosHeader,
    /// The signature, the COFF header and the optional header.
    PeHeader,
    /// The section headers.
    SectionTable,
    /// All of the above: the first `SizeOfHeaders` bytes.
    Headers,
    /// The bytes of one section.
    Section(SectionName),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DosHeader => f.write_str("the MS-DOS header"),
            Self::PeHeader => f.write_str("the PE header"),
            Self::SectionTable => f.write_str("the section table"),
            Self::Headers => f.write_str("the area of SizeOfHeaders"),
            Self::Section(name) => write!(f, "section {name}"),
        }
    }
}

/// Why an image cannot be placed in the memory that was chosen for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the numbers of the message")]
pub enum PlaceError {
    /// The memory has fewer than [`size`](super::Image::size) bytes.
    MemoryTooShort { needed: usize, found: usize },
    /// The address is no multiple of [`alignment`](super::Image::alignment).
    Misaligned { base: u64, alignment: usize },
    /// The image runs at `ImageBase` only.
    NotRelocatable { base: u64, image_base: u64 },
}

impl core::error::Error for PlaceError {}

impl fmt::Display for PlaceError {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemoryTooShort { needed, found } => write!(
                f,
                "the image needs {needed:#x} bytes of memory, found {found:#x}"
            ),
            Self::Misaligned { base, alignment } => write!(
                f,
                "the image's address is {base:#x}, expected a multiple of {alignment:#x}"
            ),
            Self::NotRelocatable { base, image_base } => write!(
                f,
                "the image's address is {base:#x}, expected {image_base:#x}: it has no relocations"
            ),
        }
    }
}
