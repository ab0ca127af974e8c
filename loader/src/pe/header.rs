//! The headers of a PE file, from "MZ" to the section table.
//!
//! Promises: the headers are inside the file and inside the image, the entry
//! point is inside the image, the alignment is a power of two.
//! Refuses: anything but PE32+ for x86-64. Microsoft PE Format, "MS-DOS Stub"
//! to "Optional Header Data Directories".

use core::fmt;

use goblin::pe::characteristic::IMAGE_FILE_RELOCS_STRIPPED;
use goblin::pe::data_directories::{DataDirectory, SIZEOF_DATA_DIRECTORY};
use goblin::pe::header::{
    COFF_MACHINE_X86_64, CoffHeader, PE_POINTER_OFFSET, SIZEOF_COFF_HEADER, SIZEOF_PE_MAGIC,
};
use goblin::pe::optional_header::{
    IMAGE_NT_OPTIONAL_HDR64_MAGIC, SIZEOF_STANDARD_FIELDS_64, SIZEOF_WINDOWS_FIELDS_64,
};
use goblin::pe::section_table::SIZEOF_SECTION_TABLE;

use super::{Error, PAGE, Part, Subsystem};

/// Where the optional header starts, from the PE signature on.
const OPTIONAL_HEADER: usize = SIZEOF_PE_MAGIC + SIZEOF_COFF_HEADER;

/// Where the data directories start in the optional header, their number in
/// front of them.
const DATA_DIRECTORIES: usize = SIZEOF_STANDARD_FIELDS_64 + SIZEOF_WINDOWS_FIELDS_64;
const NUMBER_OF_DIRECTORIES: usize = DATA_DIRECTORIES - 4;
/// What the format has names for.
const MAX_DIRECTORIES: u32 = 16;

/// Offsets of fields in the optional header (Microsoft PE Format, "Optional Header
/// Standard Fields" and "Windows-Specific Fields" of PE32+).
const ADDRESS_OF_ENTRY_POINT: usize = 16;
const IMAGE_BASE: usize = 24;
const SECTION_ALIGNMENT: usize = 32;
const SIZE_OF_IMAGE: usize = 56;
const SIZE_OF_HEADERS: usize = 60;
const SUBSYSTEM: usize = 68;

/// Numbers of data directories.
const IMPORT_TABLE: u32 = 1;
const CERTIFICATE_TABLE: u32 = 4;
const BASE_RELOCATION_TABLE: u32 = 5;

/// The loader of Windows stops here as well (Microsoft PE Format, "COFF File
/// Header"); it bounds the memory a hostile file can make us use.
const MAX_SECTIONS: u16 = 96;

/// What the loader needs from the headers.
#[derive(Clone)]
pub(super) struct Headers<'a> {
    /// The first `SizeOfHeaders` bytes of the file, which are placed as well.
    pub bytes: &'a [u8],
    pub section_table: &'a [[u8; SIZEOF_SECTION_TABLE]],
    pub relocations: DataDirectory,
    /// Offset and size in the file, not checked: nobody reads them here.
    pub certificates: DataDirectory,
    pub size_of_image: u32,
    pub section_alignment: u32,
    pub entry: u32,
    pub image_base: u64,
    pub subsystem: Subsystem,
    pub relocations_stripped: bool,
    pub imports: bool,
}

impl<'a> Headers<'a> {
    pub fn parse(file: &'a [u8]) -> Result<Self, Error> {
        let pe = pe_offset(file)?;
        let coff = coff_header(file, pe)?;
        let optional = OptionalHeader::parse(file, pe, &coff)?;
        let section_table = pe
            .saturating_add(OPTIONAL_HEADER)
            .saturating_add(coff.size_of_optional_header.into());
        let length = usize::from(coff.number_of_sections).saturating_mul(SIZEOF_SECTION_TABLE);
        let sections = slice(file, Part::SectionTable, section_table, length)?;
        let headers = Self::collect(file, sections, &coff, &optional)?;
        headers.check(section_table.saturating_add(length))?;
        Ok(headers)
    }

    fn collect(
        file: &'a [u8],
        section_table: &'a [u8],
        coff: &CoffHeader,
        optional: &OptionalHeader<'_>,
    ) -> Result<Self, Error> {
        let size_of_headers = optional.number(SIZE_OF_HEADERS);
        Ok(Self {
            bytes: slice(file, Part::Headers, 0, size_of_headers as usize)?,
            section_table: section_table.as_chunks().0,
            relocations: optional.directory(BASE_RELOCATION_TABLE),
            certificates: optional.directory(CERTIFICATE_TABLE),
            size_of_image: optional.number(SIZE_OF_IMAGE),
            section_alignment: optional.number(SECTION_ALIGNMENT),
            entry: optional.number(ADDRESS_OF_ENTRY_POINT),
            image_base: u64::from_le_bytes(optional.field(IMAGE_BASE)),
            subsystem: Subsystem(u16::from_le_bytes(optional.field(SUBSYSTEM))),
            relocations_stripped: coff.characteristics & IMAGE_FILE_RELOCS_STRIPPED != 0,
            imports: optional.directory(IMPORT_TABLE).size != 0,
        })
    }

    /// At least a page, because pages are what memory is handed out in.
    pub fn alignment(&self) -> u32 {
        self.section_alignment.max(PAGE)
    }

    fn check(&self, section_table_end: usize) -> Result<(), HeaderError> {
        let size_of_headers = self.bytes.len();
        let size_of_image = self.size_of_image;
        let alignment = self.alignment();
        if size_of_headers < section_table_end || size_of_headers > size_of_image as usize {
            return Err(HeaderError::SizeOfHeaders {
                found: size_of_headers,
                section_table_end,
                size_of_image,
            });
        }
        if !self.section_alignment.is_power_of_two() {
            return Err(HeaderError::SectionAlignment(self.section_alignment));
        }
        if self.entry == 0 || self.entry >= size_of_image {
            return Err(HeaderError::Entry {
                found: self.entry,
                size_of_image,
            });
        }
        if self.relocations_stripped && !self.image_base.is_multiple_of(alignment.into()) {
            return Err(HeaderError::ImageBase {
                found: self.image_base,
                alignment,
            });
        }
        Ok(())
    }
}

/// `length` bytes of `file` from `offset` on, which are in `part`.
pub(super) fn slice(file: &[u8], part: Part, offset: usize, length: usize) -> Result<&[u8], Error> {
    let needs = offset..offset.saturating_add(length);
    file.get(needs.clone()).ok_or(Error::Truncated {
        part,
        needs,
        file: file.len(),
    })
}

/// `N` bytes of `file` from `offset` on, which are in `part`.
fn array<const N: usize>(file: &[u8], part: Part, offset: usize) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    bytes.copy_from_slice(slice(file, part, offset, N)?);
    Ok(bytes)
}

/// Where the PE signature is.
fn pe_offset(file: &[u8]) -> Result<usize, Error> {
    if file.is_empty() {
        return Err(Error::Empty);
    }
    let found = array(file, Part::DosHeader, 0)?;
    if found != *b"MZ" {
        return Err(Error::NotPe(found));
    }
    let pointer = array(file, Part::DosHeader, PE_POINTER_OFFSET as usize)?;
    let offset = u32::from_le_bytes(pointer) as usize;
    let found = array(file, Part::PeHeader, offset)?;
    if found != *b"PE\0\0" {
        return Err(Error::PeSignature { offset, found });
    }
    Ok(offset)
}

fn coff_header(file: &[u8], pe: usize) -> Result<CoffHeader, Error> {
    let bytes = slice(file, Part::PeHeader, pe, OPTIONAL_HEADER)?;
    let coff =
        CoffHeader::parse(bytes, &mut { SIZEOF_PE_MAGIC }).map_err(|_| HeaderError::CoffHeader)?;
    if coff.machine != COFF_MACHINE_X86_64 {
        return Err(Error::Machine(coff.machine));
    }
    if coff.number_of_sections > MAX_SECTIONS {
        return Err(HeaderError::NumberOfSections(coff.number_of_sections).into());
    }
    Ok(coff)
}

/// The optional header, read field by field: goblin's reader comes with that of
/// PE32 and is five times as large.
struct OptionalHeader<'a>(&'a [u8]);

impl<'a> OptionalHeader<'a> {
    /// Checks that all fields and data directories are inside of
    /// `SizeOfOptionalHeader`: behind it is the section table.
    fn parse(file: &'a [u8], pe: usize, coff: &CoffHeader) -> Result<Self, Error> {
        let size = coff.size_of_optional_header;
        let start = pe.saturating_add(OPTIONAL_HEADER);
        let bytes = slice(file, Part::PeHeader, start, size.into())?;
        let short = HeaderError::SizeOfOptionalHeader(size);
        let magic = *bytes.first_chunk().ok_or_else(|| short.clone())?;
        match u16::from_le_bytes(magic) {
            IMAGE_NT_OPTIONAL_HDR64_MAGIC => {}
            other => return Err(HeaderError::Magic(other.into()).into()),
        }
        let header = Self(bytes);
        let directories = match header.number(NUMBER_OF_DIRECTORIES) {
            number if number > MAX_DIRECTORIES => return Err(short.into()),
            number => (number as usize).saturating_mul(SIZEOF_DATA_DIRECTORY),
        };
        if bytes.len() < DATA_DIRECTORIES.saturating_add(directories) {
            return Err(short.into());
        }
        Ok(header)
    }

    /// The field at `offset`, zeros behind the end.
    fn field<const N: usize>(&self, offset: usize) -> [u8; N] {
        let field = self.0.get(offset..).and_then(|rest| rest.first_chunk());
        field.copied().unwrap_or([0; N])
    }

    fn number(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.field(offset))
    }

    /// The data directory `index`, an empty one where there are fewer.
    fn directory(&self, index: u32) -> DataDirectory {
        if index >= self.number(NUMBER_OF_DIRECTORIES) {
            return DataDirectory::default();
        }
        let before = (index as usize).saturating_mul(SIZEOF_DATA_DIRECTORY);
        let offset = DATA_DIRECTORIES.saturating_add(before);
        DataDirectory {
            virtual_address: self.number(offset),
            size: self.number(offset.saturating_add(4)),
        }
    }
}

/// Why the headers are refused, by the names of the Microsoft PE Format.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the numbers of the message")]
pub enum HeaderError {
    /// The COFF header cannot be read.
    CoffHeader,
    /// More sections than any loader is expected to take.
    NumberOfSections(u16),
    /// `Magic` is not that of PE32+.
    Magic(u64),
    /// The optional header does not hold its fields and data directories.
    SizeOfOptionalHeader(u16),
    /// `SizeOfHeaders` does not cover the section table or exceeds the image.
    SizeOfHeaders {
        found: usize,
        section_table_end: usize,
        size_of_image: u32,
    },
    /// `SectionAlignment` is not a power of two.
    SectionAlignment(u32),
    /// `AddressOfEntryPoint` is zero, which means none, or outside the image.
    Entry { found: u32, size_of_image: u32 },
    /// The image can run at `ImageBase` only, and would not be aligned there.
    ImageBase { found: u64, alignment: u32 },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CoffHeader => f.write_str("the COFF header cannot be read"),
            Self::NumberOfSections(found) => write!(
                f,
                "the image has {found} sections, expected at most {MAX_SECTIONS}"
            ),
            Self::Magic(found) => write!(
                f,
                "the optional header has magic {found:#x}, expected {:#x} (PE32+)",
                IMAGE_NT_OPTIONAL_HDR64_MAGIC
            ),
            Self::SizeOfOptionalHeader(found) => write!(
                f,
                "SizeOfOptionalHeader is {found:#x}, expected room for the fields of PE32+ and \
                 for all of at most 16 data directories"
            ),
            Self::SizeOfHeaders {
                found,
                section_table_end,
                size_of_image,
            } => write!(
                f,
                "SizeOfHeaders is {found:#x}, expected {section_table_end:#x} (end of the section \
                 table) to {size_of_image:#x} (SizeOfImage)"
            ),
            Self::SectionAlignment(found) => {
                write!(f, "SectionAlignment is {found:#x}, expected a power of two")
            }
            Self::Entry {
                found,
                size_of_image,
            } => write!(
                f,
                "AddressOfEntryPoint is {found:#x}, expected more than 0 and less than \
                 {size_of_image:#x} (SizeOfImage)"
            ),
            Self::ImageBase { found, alignment } => write!(
                f,
                "ImageBase is {found:#x}, expected a multiple of {alignment:#x}: the image has no \
                 relocations"
            ),
        }
    }
}
