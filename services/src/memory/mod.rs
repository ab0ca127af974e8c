//! Physical memory as UEFI sees it: which page belongs to whom (UEFI 2.11 §7.2).
//!
//! Promises: [`MemoryMap`] is the one truth about pages, [`Pool`] divides pages
//! into the small buffers of AllocatePool. All bookkeeping lives outside the
//! memory it describes, so a program that writes past its buffer damages only
//! its own data. A refused request changes nothing. Neither type ever touches
//! the memory that it hands out.
//!
//! Refuses: to grow without bound on behalf of the program it serves. The
//! number of regions and of pool buffers is limited, and a full heap is an
//! error, not a panic.

use core::fmt;

use uefi_raw::table::boot::MemoryType;

mod map;
mod pool;

pub use map::{MemoryMap, Placement};
pub use pool::Pool;

/// Size of an EFI page in bytes, whatever the CPU maps with.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
const PAGE_SHIFT: u32 = 12;

/// A physical address in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysAddr(pub u64);

impl PhysAddr {
    /// The page that contains this address.
    #[must_use]
    pub const fn frame(self) -> Frame {
        Frame(self.0 >> PAGE_SHIFT)
    }

    /// The first page that starts at or above this address, at most [`Frame::MAX`].
    #[must_use]
    pub fn frame_up(self) -> Frame {
        Frame(self.0.div_ceil(PAGE_SIZE)).min(Frame::MAX)
    }

    /// Whether the address is a multiple of `bytes`; no address is one of 0.
    #[must_use]
    pub const fn is_aligned_to(self, bytes: u64) -> bool {
        self.0.is_multiple_of(bytes) && bytes != 0
    }
}

impl fmt::Display for PhysAddr {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A page number: the page starts at `Frame * PAGE_SIZE`.
///
/// Frames come from a [`PhysAddr`] only, so turning one back cannot overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame(u64);

impl Frame {
    /// The last page of the 64-bit space. Ranges of frames end here at the
    /// latest and exclude it: thus the end of a range is an address, too.
    pub const MAX: Self = PhysAddr(u64::MAX).frame();

    /// Where the page starts.
    #[must_use]
    pub const fn address(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }

    /// The frame `pages` further up, if it is at most [`Frame::MAX`].
    #[must_use]
    pub fn checked_add(self, pages: PageCount) -> Option<Self> {
        let sum = Self(self.0.checked_add(pages.0)?);
        (sum <= Self::MAX).then_some(sum)
    }

    /// The frame `pages` further down, if there is one.
    #[must_use]
    pub fn checked_sub(self, pages: PageCount) -> Option<Self> {
        self.0.checked_sub(pages.0).map(Self)
    }

    /// The number of pages from here to `end`; 0 when `end` is below.
    #[must_use]
    pub const fn pages_until(self, end: Self) -> PageCount {
        PageCount(end.0.saturating_sub(self.0))
    }
}

/// A number of EFI pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageCount(pub u64);

impl PageCount {
    /// The fewest pages that hold `bytes` bytes.
    #[must_use]
    pub const fn covering(bytes: usize) -> Self {
        Self((bytes as u64).div_ceil(PAGE_SIZE))
    }
}

/// Why a request for memory was refused. Each variant names the status that
/// UEFI 2.11 §7.2 has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The memory type is not one that can be allocated: `INVALID_PARAMETER`.
    Type(MemoryType),
    /// The alignment in bytes is not a power of two: `INVALID_PARAMETER`.
    Alignment(u64),
    /// The range to free is not made of whole pages, or is empty or wraps:
    /// `INVALID_PARAMETER`.
    Range(PhysAddr, PageCount),
    /// Not every page of the range is free: `NOT_FOUND`.
    NotFree(PhysAddr, PageCount),
    /// Not every page of the range was allocated: `NOT_FOUND`.
    NotAllocated(PhysAddr, PageCount),
    /// No free range is long enough: `OUT_OF_RESOURCES`.
    NoSpace(PageCount),
    /// The buffer is larger than the address space: `OUT_OF_RESOURCES`.
    TooLarge(usize),
    /// No pool buffer starts at the address: `INVALID_PARAMETER`.
    NotInPool(PhysAddr),
    /// The firmware's own bookkeeping is full: `OUT_OF_RESOURCES`.
    Bookkeeping,
}

impl fmt::Display for Error {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Type(ty) => write!(
                f,
                "expected an allocatable memory type, found {:#x}: use 0-6, 8-13 or 0x70000000 and up",
                ty.0
            ),
            Self::Alignment(bytes) => {
                write!(
                    f,
                    "expected a power of two as alignment, found {bytes} bytes"
                )
            }
            Self::Range(start, pages) => write!(
                f,
                "expected whole pages to free, found {} pages at {start}: free what was allocated",
                pages.0
            ),
            Self::NotFree(start, pages) => write!(
                f,
                "expected {} free pages at {start}, found them in use or absent: choose a range of conventional memory",
                pages.0
            ),
            Self::NotAllocated(start, pages) => write!(
                f,
                "expected {} allocated pages at {start}, found others: free only what was allocated",
                pages.0
            ),
            Self::NoSpace(pages) => write!(
                f,
                "expected {} free pages in a row, found none: give the machine more memory",
                pages.0
            ),
            Self::TooLarge(bytes) => write!(
                f,
                "expected a buffer that fits in memory, found a request for {bytes} bytes"
            ),
            Self::NotInPool(start) => write!(
                f,
                "expected the address of a pool buffer, found {start}: free it once, with the address it came with"
            ),
            Self::Bookkeeping => write!(
                f,
                "expected fewer separate allocations, found the memory map or the pool full: free some"
            ),
        }
    }
}

impl core::error::Error for Error {}
