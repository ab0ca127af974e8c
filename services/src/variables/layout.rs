//! Where things lie in a store, and the headers that say so.
//!
//! A store is a firmware volume as EDK2 makes it (UEFI PI 1.8 volume 3 §3.2.1;
//! EDK2 `MdeModulePkg/Include/Guid/VariableFormat.h`, `OvmfPkg/OvmfPkgDefines.fdf.inc`):
//!
//! ```text
//! 0        volume header, variable store header, variables one after the other
//! ...      a page for an event log, which nobody writes
//! ...      a page that says which block is being rewritten (see `work`)
//! ...      spare: the new content of what is being rewritten
//! ```

use super::storage::BLOCK;

/// Length of the volume header.
const VOLUME_HEADER: usize = 0x48;
/// Length of the variable store header.
const STORE_HEADER: usize = 28;
/// Where the first variable is.
pub const FIRST: usize = VOLUME_HEADER + STORE_HEADER;

/// The headers but for sizes and the checksum: a volume for
/// `EFI_SYSTEM_NV_DATA_FV_GUID`, with the attributes of OVMF's templates and blocks
/// of 4 KiB; in it a store of `EFI_AUTHENTICATED_VARIABLE_GUID`, whose variables
/// have 60-byte headers, formatted and healthy.
const HEADERS: [u8; FIRST] = *b"\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \x8d\x2b\xf1\xff\x96\x76\x8b\x4c\xa9\x85\x27\x47\x07\x5b\x4f\x50\
    \0\0\0\0\0\0\0\0_FVH\xff\xfe\x04\0\
    \x48\0\0\0\0\0\0\x02\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\
    \x78\x2c\xf3\xaa\x7b\x94\x9a\x43\xa1\x80\x2e\x14\x4e\xc3\x77\x92\
    \0\0\0\0\x5a\xfe\0\0\0\0\0\0";

/// Where the sizes and the checksum are.
const VOLUME_SIZE: usize = 32;
const CHECKSUM: usize = 50;
const BLOCKS: usize = 56;
const STORE_SIZE: usize = 88;

/// Where the parts of a store are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of the store.
    pub size: usize,
    /// Where the variables end.
    pub variables: usize,
    /// What makes rewriting safe; 0 in memory, which has none.
    working: usize,
    spare: usize,
}

/// The areas for fault-tolerant writes. The spare area reaches to the store's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The block that says what is being written.
    pub working: usize,
    /// Where its new content is kept meanwhile.
    pub spare: usize,
}

impl Layout {
    /// No store. All of it 0, so that a static of it takes no room.
    pub(super) const NONE: Self = Self::of_memory(0);

    /// The layout of flash of `size` bytes, for the sizes that OVMF's builds
    /// have: 128 KiB ("2M") and 528 KiB ("4M").
    #[must_use]
    pub const fn of_flash(size: usize) -> Option<Self> {
        let variables = match size {
            0x2_0000 => 0xe000,
            0x8_4000 => 0x4_0000,
            _ => return None,
        };
        Some(Self::with_spare(size, variables))
    }

    /// The layout of the store that begins with `bytes`, if one does. There may be
    /// more on what it lies on than the store.
    #[must_use]
    #[cold]
    pub fn of_volume(bytes: &[u8]) -> Option<Self> {
        let known = [0x2_0000, 0x8_4000].map(Self::of_flash);
        let mut known = known.into_iter().flatten();
        known.find(|layout| layout.is_at(bytes))
    }

    /// A layout with `variables` bytes for variables and the rest for safety.
    pub(super) const fn with_spare(size: usize, variables: usize) -> Self {
        let working = variables.saturating_add(BLOCK);
        let spare = working.saturating_add(BLOCK);
        Self {
            size,
            variables,
            working,
            spare,
        }
    }

    /// `size` bytes of memory, all for variables.
    #[must_use]
    pub const fn of_memory(size: usize) -> Self {
        Self {
            size,
            variables: size,
            working: 0,
            spare: 0,
        }
    }

    /// The areas for fault-tolerant writes.
    pub(super) const fn work(&self) -> Option<Work> {
        let Self { working, spare, .. } = *self;
        if working == 0 {
            return None;
        }
        Some(Work { working, spare })
    }

    /// Bytes for variables, their names and their headers.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.variables.saturating_sub(FIRST)
    }

    /// The two headers at the start of a store.
    pub(super) fn headers(&self) -> [u8; FIRST] {
        let mut headers = HEADERS;
        put(&mut headers, VOLUME_SIZE, &wide(self.size));
        put(&mut headers, BLOCKS, &wide(self.size / BLOCK));
        let sum = sum(&headers).wrapping_neg();
        put(&mut headers, CHECKSUM, &sum.to_le_bytes());
        put(&mut headers, STORE_SIZE, &wide(self.store_size()));
        headers
    }

    /// What the variable store header calls its size.
    pub(super) const fn store_size(&self) -> usize {
        self.variables.saturating_sub(VOLUME_HEADER)
    }

    /// Whether `bytes` begin with the headers of this layout. What a header may
    /// say freely, such as attributes, is not judged.
    pub(super) fn is_at(&self, bytes: &[u8]) -> bool {
        let Some(found) = bytes.first_chunk::<FIRST>() else {
            return false;
        };
        let expected = self.headers();
        let same = |from: usize, to: usize| found.get(from..to) == expected.get(from..to);
        same(16, 44)
            && same(48, 50)
            && sum(found) == 0
            && same(VOLUME_HEADER, VOLUME_HEADER.saturating_add(22))
    }
}

/// The 16-bit sum of the volume header, 0 in a valid one.
fn sum(headers: &[u8; FIRST]) -> u16 {
    let (words, _) = headers.as_chunks::<2>();
    let words = words.iter().take(VOLUME_HEADER / 2);
    words.fold(0, |sum: u16, word| {
        sum.wrapping_add(u16::from_le_bytes(*word))
    })
}

/// A size as the format has it.
pub fn wide(size: usize) -> [u8; 4] {
    u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes()
}

/// Writes `field` at `offset` of `room`.
pub fn put(room: &mut [u8], offset: usize, field: &[u8]) {
    let room = room.get_mut(offset..).unwrap_or_default();
    for (to, from) in room.iter_mut().zip(field) {
        *to = *from;
    }
}
