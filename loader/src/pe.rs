//! UEFI images: PE32+ for x86-64 (UEFI 2.11 §2.1.1, Microsoft PE Format).
//!
//! Promises: [`Image::parse`] checks every range the file declares, so that all
//! that follows is infallible but for the caller's choice of memory. The layout
//! is believed as it is declared: section alignments below a page, memory far
//! larger than the file and images without relocations are all in use by Linux.
//! Refuses: other machines, PE32, relocation types other than ABSOLUTE, HIGHLOW
//! and DIR64, and sections that overlap each other or the headers.
//! Ignores: symbols, checksum, certificates, debug data, imports and
//! `FileAlignment`. Signatures are not verified here.

mod error;
mod header;
mod relocation;
mod section;
mod settle;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::iter;

use header::Headers;
use relocation::Relocations;

pub use error::{Error, Part, PlaceError};
pub use header::HeaderError;
pub use relocation::RelocationError;
pub use section::{Section, SectionError, SectionName};
pub use settle::{Needs, settle};

/// The unit in which UEFI hands out memory: `EFI_PAGE_SIZE`.
const PAGE: u32 = 0x1000;

/// A PE32+ image for x86-64, checked and ready to be placed in memory.
#[derive(Clone)]
pub struct Image<'a> {
    headers: Headers<'a>,
    /// In address order, none empty, none overlapping.
    sections: Vec<Section<'a>>,
    relocations: Relocations<'a>,
}

impl<'a> Image<'a> {
    /// Checks `file`, the whole image file, and keeps references into it.
    ///
    /// # Errors
    /// The first declaration of the file that does not hold.
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, Error> {
        let headers = Headers::parse(file)?;
        let sections = section::parse(file, &headers)?;
        let relocations =
            Relocations::parse(&sections, headers.relocations, headers.size_of_image)?;
        Ok(Image {
            headers,
            sections,
            relocations,
        })
    }

    /// Bytes of memory the image needs: `SizeOfImage` rounded up to 4 KiB.
    pub fn size(&self) -> usize {
        (self.headers.size_of_image as usize).next_multiple_of(PAGE as usize)
    }

    /// Bytes of the file that belong to the image: headers, sections and
    /// certificates, which signing appends. Whatever follows is not the image's.
    /// More than the file has when the certificates were cut off.
    pub fn file_size(&self) -> usize {
        let certificates = &self.headers.certificates;
        let certificates_end = match certificates.size {
            0 => 0,
            size => (certificates.virtual_address as usize).saturating_add(size as usize),
        };
        let ends = self.sections.iter().map(|section| section.file_end);
        ends.fold(self.headers.bytes.len().max(certificates_end), usize::max)
    }

    /// What the address of the image must be a multiple of, in bytes:
    /// `SectionAlignment`, at least 4 KiB.
    pub fn alignment(&self) -> usize {
        self.headers.alignment() as usize
    }

    /// `AddressOfEntryPoint`, relative to the image's address; inside the image.
    pub fn entry(&self) -> u32 {
        self.headers.entry
    }

    /// `ImageBase`: the address the image was linked for.
    pub fn image_base(&self) -> u64 {
        self.headers.image_base
    }

    /// What kind of UEFI image this is.
    pub fn subsystem(&self) -> Subsystem {
        self.headers.subsystem
    }

    /// Whether any aligned address will do. Otherwise the image runs only at
    /// [`image_base`](Self::image_base): `IMAGE_FILE_RELOCS_STRIPPED` is set.
    pub fn relocatable(&self) -> bool {
        !self.headers.relocations_stripped
    }

    /// Whether placing the image changes any address inside it. ABSOLUTE
    /// entries are padding and do not count.
    pub fn has_relocations(&self) -> bool {
        self.relocations.fixups().next().is_some()
    }

    /// Whether there is an import directory, for which UEFI has no meaning.
    pub fn imports(&self) -> bool {
        self.headers.imports
    }

    /// The sections that occupy memory, in address order.
    pub fn sections(&self) -> impl Iterator<Item = Section<'a>> {
        self.sections.iter().copied()
    }

    /// Makes the first [`size`](Self::size) bytes of `memory` the image as it
    /// runs at address `base`; what no section fills becomes zero.
    ///
    /// # Errors
    /// `memory` is left alone if it is too short or if the image cannot run at
    /// `base`.
    pub fn place(&self, memory: &mut [u8], base: u64) -> Result<(), PlaceError> {
        self.check_base(base)?;
        let found = memory.len();
        let memory = memory
            .get_mut(..self.size())
            .ok_or(PlaceError::MemoryTooShort {
                needed: self.size(),
                found,
            })?;
        self.copy(memory);
        self.relocations
            .apply(memory, base.wrapping_sub(self.image_base()));
        Ok(())
    }

    fn check_base(&self, base: u64) -> Result<(), PlaceError> {
        if !base.is_multiple_of(self.headers.alignment().into()) {
            return Err(PlaceError::Misaligned {
                base,
                alignment: self.alignment(),
            });
        }
        if !self.relocatable() && base != self.image_base() {
            return Err(PlaceError::NotRelocatable {
                base,
                image_base: self.image_base(),
            });
        }
        Ok(())
    }

    /// Writes every byte of `memory` exactly once: a kernel's image is large
    /// enough for a second pass to be felt.
    fn copy(&self, memory: &mut [u8]) {
        let sections = self.sections.iter().map(|s| (s.rva as usize, s.raw));
        let mut rest = memory;
        let mut written = 0_usize;
        for (rva, bytes) in iter::once((0, self.headers.bytes)).chain(sections) {
            zero(&mut rest, rva.saturating_sub(written));
            if let Some(target) = rest.split_off_mut(..bytes.len()) {
                target.copy_from_slice(bytes);
            }
            written = rva.saturating_add(bytes.len());
        }
        rest.fill(0);
    }
}

/// Takes `length` bytes off the front of `rest` and zeroes them.
fn zero(rest: &mut &mut [u8], length: usize) {
    if let Some(gap) = rest.split_off_mut(..length) {
        gap.fill(0);
    }
}

/// `Subsystem` of the optional header; any value may come from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsystem(pub u16);

impl Subsystem {
    /// An application: its memory goes back when its entry point returns.
    pub const EFI_APPLICATION: Self = Self(10);
    /// A driver that lives until ExitBootServices.
    pub const EFI_BOOT_SERVICE_DRIVER: Self = Self(11);
    /// A driver that outlives ExitBootServices.
    pub const EFI_RUNTIME_DRIVER: Self = Self(12);
}
