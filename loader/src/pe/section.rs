//! Sections: which bytes of the file go where in memory.
//!
//! Promises: every section is inside the image, its bytes are inside the file,
//! and no two sections claim the same memory. Addresses need not be multiples
//! of `SectionAlignment`: systemd's stub has neighbours within one unit of it.
//! Microsoft PE Format, "Section Table (Section Headers)".

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use goblin::pe::section_table::{
    IMAGE_SCN_MEM_EXECUTE, IMAGE_SCN_MEM_READ, IMAGE_SCN_MEM_WRITE, SIZEOF_SECTION_TABLE,
};

use super::header::{Headers, slice};
use super::{Error, Part};

/// One section that occupies memory.
#[derive(Clone, Copy)]
pub struct Section<'a> {
    /// What the linker called it.
    pub name: SectionName,
    /// Where it starts, in bytes from the image's address.
    pub rva: u32,
    /// Bytes of memory it occupies: `VirtualSize`, or `SizeOfRawData` where
    /// that is zero. Never zero.
    pub virtual_size: u32,
    /// What the memory starts with, at most `virtual_size` bytes; zeroes follow.
    pub raw: &'a [u8],
    /// Where its bytes start in the file, if it has some.
    pub(super) file_start: usize,
    /// Where they end; 0 when it has none.
    pub(super) file_end: usize,
    characteristics: u32,
}

impl<'a> Section<'a> {
    /// Whether the section asks to be readable: `IMAGE_SCN_MEM_READ`.
    pub fn readable(&self) -> bool {
        self.characteristics & IMAGE_SCN_MEM_READ != 0
    }

    /// Whether the section asks to be writable: `IMAGE_SCN_MEM_WRITE`. Linux
    /// before 6.7 writes to sections that do not.
    pub fn writable(&self) -> bool {
        self.characteristics & IMAGE_SCN_MEM_WRITE != 0
    }

    /// Whether the section asks to be executable: `IMAGE_SCN_MEM_EXECUTE`.
    pub fn executable(&self) -> bool {
        self.characteristics & IMAGE_SCN_MEM_EXECUTE != 0
    }

    fn end(&self) -> usize {
        (self.rva as usize).saturating_add(self.virtual_size as usize)
    }

    /// `None` for a section that occupies no memory.
    fn parse(
        file: &'a [u8],
        header: &[u8; SIZEOF_SECTION_TABLE],
        size_of_image: u32,
    ) -> Result<Option<Self>, Error> {
        let Some((name, fields)) = header.split_first_chunk() else {
            return Ok(None); // never: there are 40 bytes
        };
        let name = SectionName(*name);
        // goblin's reader would follow a name such as `/4` into the string
        // table, which placing an image does not need and which need not exist.
        let field = |index| {
            fields
                .as_chunks()
                .0
                .get(index)
                .map_or(0, |field| u32::from_le_bytes(*field))
        };
        let (raw_size, pointer) = (field(2) as usize, field(3) as usize);
        let raw = match raw_size {
            0 => &[],
            _ => slice(file, Part::Section(name), pointer, raw_size)?,
        };
        let virtual_size = match field(0) {
            0 => field(2),
            size => size,
        };
        let section = Self {
            name,
            rva: field(1),
            virtual_size,
            raw: raw.get(..virtual_size as usize).unwrap_or(raw),
            file_start: pointer,
            file_end: match raw_size {
                0 => 0,
                _ => raw_size.saturating_add(pointer),
            },
            characteristics: field(7),
        };
        if section.end() > size_of_image as usize {
            return Err(SectionError::OutsideImage {
                name,
                range: section.rva as usize..section.end(),
                size_of_image,
            }
            .into());
        }
        Ok((virtual_size != 0).then_some(section))
    }
}

/// A name as the section header holds it: up to 8 bytes, padded with NUL.
/// Names that live in the string table read as their reference, such as `/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionName([u8; 8]);

impl SectionName {
    /// The name without its padding.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or(&self.0)
    }
}

impl fmt::Display for SectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::Printed(self.as_bytes()).fmt(f)
    }
}

/// The sections that occupy memory, in address order.
pub(super) fn parse<'a>(file: &'a [u8], headers: &Headers<'a>) -> Result<Vec<Section<'a>>, Error> {
    let mut sections = Vec::with_capacity(headers.section_table.len());
    for header in headers.section_table {
        if let Some(section) = Section::parse(file, header, headers.size_of_image)? {
            let behind = |other: &Section<'_>| other.rva <= section.rva;
            sections.insert(sections.partition_point(behind), section);
        }
    }
    check_overlaps(headers, &sections)?;
    Ok(sections)
}

/// `sections` are in address order, so only neighbours can overlap.
fn check_overlaps(headers: &Headers<'_>, sections: &[Section<'_>]) -> Result<(), SectionError> {
    let mut before = (Part::Headers, headers.bytes.len());
    for section in sections {
        let (first, end) = before;
        if end > section.rva as usize {
            return Err(SectionError::Overlap {
                first,
                end,
                second: section.name,
                start: section.rva,
            });
        }
        before = (Part::Section(section.name), section.end());
    }
    Ok(())
}

/// Why a section is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the numbers of the message")]
pub enum SectionError {
    /// The section does not end inside of the image.
    OutsideImage {
        name: SectionName,
        range: Range<usize>,
        size_of_image: u32,
    },
    /// A section starts before the part in front of it ends.
    Overlap {
        first: Part,
        end: usize,
        second: SectionName,
        start: u32,
    },
}

impl fmt::Display for SectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideImage {
                name,
                range,
                size_of_image,
            } => write!(
                f,
                "section {name} occupies {:#x}..{:#x} of the image, expected it to end by \
                 {size_of_image:#x} (SizeOfImage)",
                range.start, range.end
            ),
            Self::Overlap {
                first,
                end,
                second,
                start,
            } => write!(
                f,
                "section {second} starts at {start:#x} of the image, expected {end:#x} (end of \
                 {first}) or more"
            ),
        }
    }
}
