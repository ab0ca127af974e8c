//! Base relocations: which fields of the image hold addresses.
//!
//! Promises: once parsed, every field is inside the image. An empty directory
//! is what position-independent images such as Linux have.
//! Refuses: types other than ABSOLUTE, HIGHLOW and DIR64, the only ones with a
//! meaning on x86-64. Microsoft PE Format, "The .reloc Section".

use core::fmt;
use core::slice::Iter;

use goblin::pe::data_directories::DataDirectory;
use goblin::pe::relocation::{
    IMAGE_REL_BASED_ABSOLUTE, IMAGE_REL_BASED_DIR64, IMAGE_REL_BASED_HIGHLOW,
    RELOCATION_BLOCK_SIZE, RelocationWord,
};

use super::Section;

/// A base relocation directory, checked.
#[derive(Clone)]
pub(super) struct Relocations<'a> {
    directory: &'a [u8],
}

impl<'a> Relocations<'a> {
    pub fn parse(
        sections: &[Section<'a>],
        directory: DataDirectory,
        size_of_image: u32,
    ) -> Result<Self, RelocationError> {
        let relocations = Self {
            directory: find(sections, directory)?,
        };
        for fixup in relocations.fixups() {
            fixup?.check(size_of_image)?;
        }
        Ok(relocations)
    }

    /// The fields to adjust; errors only before [`parse`](Self::parse) is done.
    pub fn fixups(&self) -> Fixups<'a> {
        Fixups {
            rest: self.directory,
            page: 0,
            entries: [].iter(),
        }
    }

    /// Adds `delta` to every address in `image`, which is as long as the image.
    pub fn apply(&self, image: &mut [u8], delta: u64) {
        if delta == 0 {
            return;
        }
        for fixup in self.fixups().map_while(Result::ok) {
            fixup.apply(image, delta);
        }
    }
}

/// The bytes of the directory, which lie in the file's part of one section.
fn find<'a>(
    sections: &[Section<'a>],
    directory: DataDirectory,
) -> Result<&'a [u8], RelocationError> {
    let DataDirectory {
        virtual_address: rva,
        size,
    } = directory;
    if size == 0 {
        return Ok(&[]);
    }
    let inside = |section: &Section<'a>| {
        let start = rva.checked_sub(section.rva)? as usize;
        section.raw.get(start..start.checked_add(size as usize)?)
    };
    sections
        .iter()
        .find_map(inside)
        .ok_or(RelocationError::Directory { rva, size })
}

/// Walks the directory block by block and skips its padding.
pub(super) struct Fixups<'a> {
    rest: &'a [u8],
    page: u32,
    entries: Iter<'a, [u8; 2]>,
}

impl Fixups<'_> {
    /// Enters the block at the front of `rest`.
    fn next_block(&mut self) -> Result<(), RelocationError> {
        let left = self.rest.len();
        let header = self.rest.first_chunk::<RELOCATION_BLOCK_SIZE>();
        let [p0, p1, p2, p3, s0, s1, s2, s3] =
            *header.ok_or(RelocationError::BlockHeader { left })?;
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        let block = self.rest.split_off(..size as usize);
        let words = block.and_then(|block| block.get(RELOCATION_BLOCK_SIZE..));
        let Some((entries, [])) = words.map(<[u8]>::as_chunks) else {
            return Err(RelocationError::Block { size, left });
        };
        self.page = u32::from_le_bytes([p0, p1, p2, p3]);
        self.entries = entries.iter();
        Ok(())
    }
}

impl Iterator for Fixups<'_> {
    type Item = Result<Fixup, RelocationError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let page = self.page;
            let decode = |entry: &[u8; 2]| Fixup::decode(page, *entry).transpose();
            if let Some(fixup) = self.entries.find_map(decode) {
                return Some(fixup);
            }
            if self.rest.is_empty() {
                return None;
            }
            if let Err(error) = self.next_block() {
                self.rest = &[];
                return Some(Err(error));
            }
        }
    }
}

/// One field of the image that holds an address.
pub(super) struct Fixup {
    /// Where the field is. Beyond 4 GiB in a file that lies.
    rva: u64,
    width: Width,
}

/// How much of the address the field holds.
enum Width {
    /// HIGHLOW: the low 32 bits.
    Low,
    /// DIR64: all of it.
    Full,
}

impl Fixup {
    /// `None` for padding.
    fn decode(page: u32, entry: [u8; 2]) -> Result<Option<Self>, RelocationError> {
        let word = RelocationWord {
            value: u16::from_le_bytes(entry),
        };
        let rva = u64::from(page).saturating_add(word.offset().into());
        let width = match word.reloc_type().into() {
            IMAGE_REL_BASED_ABSOLUTE => return Ok(None),
            IMAGE_REL_BASED_HIGHLOW => Width::Low,
            IMAGE_REL_BASED_DIR64 => Width::Full,
            kind => return Err(RelocationError::Type { kind, rva }),
        };
        Ok(Some(Self { rva, width }))
    }

    fn check(&self, size_of_image: u32) -> Result<(), RelocationError> {
        let length = match self.width {
            Width::Low => 4,
            Width::Full => 8,
        };
        if self.rva.saturating_add(length) > size_of_image.into() {
            return Err(RelocationError::Target {
                rva: self.rva,
                size_of_image,
            });
        }
        Ok(())
    }

    fn apply(&self, image: &mut [u8], delta: u64) {
        let field = usize::try_from(self.rva)
            .ok()
            .and_then(|rva| image.get_mut(rva..))
            .unwrap_or_default();
        match self.width {
            Width::Low => add_low(field, delta),
            Width::Full => add_full(field, delta),
        }
    }
}

/// Xen links far above 4 GiB and keeps low halves of addresses, so a carry out
/// of them is expected.
fn add_low(field: &mut [u8], delta: u64) {
    let [d0, d1, d2, d3, ..] = delta.to_le_bytes();
    let delta = u32::from_le_bytes([d0, d1, d2, d3]);
    if let Some(field) = field.first_chunk_mut() {
        *field = u32::from_le_bytes(*field).wrapping_add(delta).to_le_bytes();
    }
}

fn add_full(field: &mut [u8], delta: u64) {
    if let Some(field) = field.first_chunk_mut() {
        *field = u64::from_le_bytes(*field).wrapping_add(delta).to_le_bytes();
    }
}

/// Why the base relocations are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the numbers of the message")]
pub enum RelocationError {
    /// The directory is not inside the file's bytes of one section.
    Directory { rva: u32, size: u32 },
    /// The directory ends within the header of a block.
    BlockHeader { left: usize },
    /// A block is too small, larger than what is left of the directory, or odd.
    Block { size: u32, left: usize },
    /// A type without a meaning on x86-64.
    Type { kind: u16, rva: u64 },
    /// The field to change is not inside the image.
    Target { rva: u64, size_of_image: u32 },
}

impl fmt::Display for RelocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { rva, size } => write!(
                f,
                "the relocations are {size:#x} bytes at {rva:#x} of the image, expected them \
                 inside the file's bytes of one section"
            ),
            Self::BlockHeader { left } => write!(
                f,
                "the relocations end with {left:#x} bytes, expected a block header of \
                 {RELOCATION_BLOCK_SIZE:#x}"
            ),
            Self::Block { size, left } => write!(
                f,
                "a relocation block has {size:#x} bytes, expected an even number from \
                 {RELOCATION_BLOCK_SIZE:#x} to {left:#x}"
            ),
            Self::Type { kind, rva } => write!(
                f,
                "the relocation at {rva:#x} has type {kind}, expected 0 (ABSOLUTE), 3 (HIGHLOW) \
                 or 10 (DIR64)"
            ),
            Self::Target { rva, size_of_image } => write!(
                f,
                "the relocation at {rva:#x} changes bytes behind the image, which ends at \
                 {size_of_image:#x} (SizeOfImage)"
            ),
        }
    }
}
