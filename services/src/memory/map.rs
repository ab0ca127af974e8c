//! The memory map behind AllocatePages, FreePages and GetMemoryMap
//! (UEFI 2.11 §7.2.1-7.2.3).
//!
//! Promises: regions are sorted, never overlap, are never empty, and two
//! neighbours are never alike; hence as few descriptors as the machine allows.
//! The key changes exactly when a region does.
//!
//! Refuses: to free what AllocatePages did not give out, so a program cannot
//! release the firmware or the machine's tables from under it; and to choose
//! page 0 by itself, which C programs take for a failure.

use alloc::vec::Vec;
use core::ops::Range;

use uefi_raw::table::boot::{MemoryAttribute, MemoryDescriptor, MemoryType};

use super::{Error, Frame, PAGE_SIZE, PageCount, PhysAddr};

/// Most regions that the map will hold: 24 bytes each of the firmware's heap.
const REGION_LIMIT: usize = 2048;

/// The first page that may be chosen for the caller.
const FIRST: Frame = PhysAddr(PAGE_SIZE).frame();
/// Below is left alone while there is other memory: operating systems start
/// further CPUs in real mode from there (Linux `reserve_real_mode`).
const LOW_END: Frame = PhysAddr(1 << 20).frame();
/// Programs that keep pointers in 32 bits work below only.
const FOUR_GIB: Frame = PhysAddr(1 << 32).frame();

/// The lowest memory type of OEMs and OS loaders; all from here are allowed.
const FIRST_CUSTOM_TYPE: u32 = *MemoryType::RESERVED_FOR_OEM.start();

/// What every page of RAM is capable of. Linux maps runtime regions uncached
/// that lack `WRITE_BACK` (`arch/x86/platform/efi/efi_64.c`).
const RAM: MemoryAttribute = MemoryAttribute::UNCACHEABLE
    .union(MemoryAttribute::WRITE_COMBINE)
    .union(MemoryAttribute::WRITE_THROUGH)
    .union(MemoryAttribute::WRITE_BACK);

/// Where an allocation is to be: `EFI_ALLOCATE_TYPE` with its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere: as high as possible below 4 GiB, else above.
    Any,
    /// As high as possible with no byte above this address. Any address will
    /// do, `u64::MAX` included, which is what Linux passes for "anywhere".
    Below(PhysAddr),
    /// Exactly here.
    At(PhysAddr),
}

/// What a page is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    ty: MemoryType,
    /// Whether it came from [`MemoryMap::allocate`] and may thus be freed.
    allocated: bool,
}

impl Usage {
    const FREE: Self = Self {
        ty: MemoryType::CONVENTIONAL,
        allocated: false,
    };

    /// Only RAM is ever allocated, whatever type the caller gave it.
    fn is_ram(self) -> bool {
        self.allocated
            || !matches!(
                self.ty,
                MemoryType::RESERVED
                    | MemoryType::UNUSABLE
                    | MemoryType::MMIO
                    | MemoryType::MMIO_PORT_SPACE
                    | MemoryType::PAL_CODE
            )
    }

    /// Nothing is promised about reserved ranges: what is behind them is not
    /// known, and operating systems go by their type alone.
    fn attribute(self) -> MemoryAttribute {
        match self.ty {
            MemoryType::RUNTIME_SERVICES_CODE | MemoryType::RUNTIME_SERVICES_DATA => {
                RAM | MemoryAttribute::RUNTIME
            }
            _ if self.is_ram() => RAM,
            // Devices are described only when the runtime services use them.
            MemoryType::MMIO => MemoryAttribute::UNCACHEABLE | MemoryAttribute::RUNTIME,
            MemoryType::MMIO_PORT_SPACE => MemoryAttribute::UNCACHEABLE,
            _ => MemoryAttribute::empty(),
        }
    }
}

/// Pages `start..end` of one usage; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    start: Frame,
    end: Frame,
    usage: Usage,
}

impl Region {
    fn descriptor(&self) -> MemoryDescriptor {
        MemoryDescriptor {
            ty: self.usage.ty,
            padding: 0,
            phys_start: self.start.address().0,
            virt_start: 0,
            page_count: self.start.pages_until(self.end).0,
            att: self.usage.attribute(),
        }
    }

    /// The highest aligned range of `pages` pages inside both this region and `zone`.
    fn highest(&self, zone: &Range<Frame>, pages: PageCount, align: u64) -> Option<Range<Frame>> {
        let top = self.end.min(zone.end).checked_sub(pages)?;
        // A power of two, so `align - 1` masks what is above a multiple of it.
        let start = PhysAddr(top.address().0 & !align.saturating_sub(1)).frame();
        let end = start.checked_add(pages)?;
        (start >= self.start.max(zone.start)).then_some(start..end)
    }
}

/// What becomes of the regions in `touched` when `new` is laid over them: `new`
/// with what is left of them on either side, alike neighbours united.
///
/// `touched` is every region that overlaps `new` or adjoins it.
fn overlay(touched: &[Region], mut new: Region) -> [Option<Region>; 3] {
    let first = touched.first().filter(|r| r.start < new.start);
    let last = touched.last().filter(|r| r.end > new.end);
    let mut before = first.map(|r| Region {
        end: new.start,
        ..*r
    });
    let mut after = last.map(|r| Region {
        start: new.end,
        ..*r
    });
    if let Some(alike) = before.take_if(|r| r.usage == new.usage) {
        new.start = alike.start;
    }
    if let Some(alike) = after.take_if(|r| r.usage == new.usage) {
        new.end = alike.end;
    }
    [before, Some(new), after]
}

/// Takes the first of `regions`, and those behind it that adjoin and are alike.
#[inline(never)]
fn next_run(regions: &mut &[Region], alike: fn(Usage, Usage) -> bool) -> Option<Region> {
    let (mut run, mut rest) = regions.split_first().map(|(first, rest)| (*first, rest))?;
    while let Some((next, behind)) = rest.split_first()
        && next.start == run.end
        && alike(next.usage, run.usage)
    {
        run.end = next.end;
        rest = behind;
    }
    *regions = rest;
    Some(run)
}

/// AllocatePages refuses free memory as a type, and types no one has defined.
fn check_type(ty: MemoryType) -> Result<(), Error> {
    let refused = matches!(
        ty,
        MemoryType::CONVENTIONAL | MemoryType::PERSISTENT_MEMORY | MemoryType::UNACCEPTED
    );
    let undefined = (MemoryType::MAX.0..FIRST_CUSTOM_TYPE).contains(&ty.0);
    if refused || undefined {
        return Err(Error::Type(ty));
    }
    Ok(())
}

/// Who owns which page of the machine. Pages never described are holes.
#[derive(Debug, Default)]
pub struct MemoryMap {
    regions: Vec<Region>,
    key: usize,
}

impl MemoryMap {
    /// A machine without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            regions: Vec::new(),
            key: 0,
        }
    }

    /// Says what is at `start`, for `bytes` bytes; overrides what was said before.
    ///
    /// Conventional memory is rounded inwards to whole pages and everything
    /// else outwards, so that an ACPI table of a few bytes keeps its page. What
    /// goes beyond the end of the address space is cut off, an empty range
    /// ignored.
    ///
    /// # Errors
    /// [`Error::Bookkeeping`] when the map has too many regions.
    pub fn describe(&mut self, start: PhysAddr, bytes: u64, ty: MemoryType) -> Result<(), Error> {
        let end = PhysAddr(start.0.saturating_add(bytes));
        let range = if ty == MemoryType::CONVENTIONAL {
            start.frame_up()..end.frame()
        } else {
            start.frame()..end.frame_up()
        };
        if bytes == 0 || range.is_empty() {
            return Ok(());
        }
        let allocated = false;
        self.set(range, Usage { ty, allocated })
    }

    /// AllocatePages: makes free pages `ty` and says where they start.
    ///
    /// # Errors
    /// As [`MemoryMap::allocate_aligned`].
    pub fn allocate(
        &mut self,
        place: Placement,
        ty: MemoryType,
        pages: PageCount,
    ) -> Result<PhysAddr, Error> {
        self.allocate_aligned(place, ty, pages, PAGE_SIZE)
    }

    /// As [`MemoryMap::allocate`], at a multiple of `align` bytes, a power of
    /// two; less than a page counts as a page.
    ///
    /// # Errors
    /// [`Error::Type`], [`Error::Alignment`]; [`Error::NotFree`] when
    /// [`Placement::At`] cannot be had and [`Error::NoSpace`] when the others
    /// cannot, which like in EDK2 is also the answer to a request for 0 pages;
    /// [`Error::Bookkeeping`] when the map has too many regions.
    pub fn allocate_aligned(
        &mut self,
        place: Placement,
        ty: MemoryType,
        pages: PageCount,
        align: u64,
    ) -> Result<PhysAddr, Error> {
        check_type(ty)?;
        if !align.is_power_of_two() {
            return Err(Error::Alignment(align));
        }
        let range = match self.find(place, pages, align.max(PAGE_SIZE)) {
            Some(range) if !range.is_empty() => range,
            _ => return Err(place.failure(pages)),
        };
        let start = range.start;
        let allocated = true;
        self.set(range, Usage { ty, allocated })?;
        Ok(start.address())
    }

    /// Keeps what has been allocated so far for good: FreePages refuses it from
    /// now on. So a program cannot free what the firmware stands on.
    pub fn keep_allocations(&mut self) {
        for region in &mut self.regions {
            region.usage.allocated = false;
        }
        self.regions.dedup_by(|next, last| {
            let alike = last.end == next.start && last.usage == next.usage;
            if alike {
                last.end = next.end;
            }
            alike
        });
        self.key = self.key.wrapping_add(1);
    }

    /// FreePages: makes allocated pages free. The range may be part of an
    /// allocation, or span several that adjoin.
    ///
    /// # Errors
    /// [`Error::Range`], [`Error::NotAllocated`]; [`Error::Bookkeeping`] when
    /// the map has too many regions.
    pub fn free(&mut self, start: PhysAddr, pages: PageCount) -> Result<(), Error> {
        let end = start.frame().checked_add(pages);
        let range = match end {
            Some(end) if start.is_aligned_to(PAGE_SIZE) => start.frame()..end,
            _ => return Err(Error::Range(start, pages)),
        };
        if range.is_empty() {
            return Err(Error::Range(start, pages));
        }
        if !self.is_allocated(&range) {
            return Err(Error::NotAllocated(start, pages));
        }
        self.set(range, Usage::FREE)
    }

    /// `MapKey`: differs after every change of the map.
    #[must_use]
    pub const fn key(&self) -> usize {
        self.key
    }

    /// The map as GetMemoryMap reports it: in ascending order, no two
    /// neighbours with the same type and attributes.
    pub fn descriptors(&self) -> impl Iterator<Item = MemoryDescriptor> {
        self.runs(|a, b| a.ty == b.ty && a.attribute() == b.attribute())
            .map(|run| run.descriptor())
    }

    /// Whether the page at `address` has the type `ty`.
    #[must_use]
    pub fn is_of_type(&self, address: PhysAddr, ty: MemoryType) -> bool {
        let page = address.frame();
        let inside = |r: &Region| r.start <= page && page < r.end;
        let mut regions = self.regions.iter();
        regions.any(|region| inside(region) && region.usage.ty == ty)
    }

    /// The number of [`MemoryMap::descriptors`].
    #[must_use]
    pub fn descriptor_count(&self) -> usize {
        self.descriptors().count()
    }

    /// The ranges of memory that can be mapped cached, in ascending order:
    /// everything described but reserved ranges and devices.
    pub fn ram(&self) -> impl Iterator<Item = Range<PhysAddr>> {
        self.runs(|a, b| a.is_ram() == b.is_ram())
            .filter(|run| run.usage.is_ram())
            .map(|run| run.start.address()..run.end.address())
    }

    /// The regions, adjoining ones united while `alike` holds.
    fn runs(&self, alike: fn(Usage, Usage) -> bool) -> impl Iterator<Item = Region> {
        let mut regions = self.regions.as_slice();
        core::iter::from_fn(move || next_run(&mut regions, alike))
    }

    /// Free pages for a request. Each zone includes the one tried before, so
    /// that a range across the boundary is found, too.
    fn find(&self, place: Placement, pages: PageCount, align: u64) -> Option<Range<Frame>> {
        let (near, far) = match place {
            Placement::Any => (FOUR_GIB, Frame::MAX),
            Placement::Below(last_byte) => {
                let end = PhysAddr(last_byte.0.saturating_add(1)).frame();
                (end, end)
            }
            Placement::At(start) => return self.find_at(start, pages, align),
        };
        let zones = [LOW_END..near, LOW_END..far, FIRST..far];
        let mut found = zones.iter();
        found.find_map(|zone| self.find_highest(zone, pages, align))
    }

    fn find_highest(
        &self,
        zone: &Range<Frame>,
        pages: PageCount,
        align: u64,
    ) -> Option<Range<Frame>> {
        self.regions
            .iter()
            .rev()
            .filter(|r| r.usage == Usage::FREE)
            .find_map(|r| r.highest(zone, pages, align))
    }

    /// Free neighbours are always united: one region has all of it or none has.
    fn find_at(&self, start: PhysAddr, pages: PageCount, align: u64) -> Option<Range<Frame>> {
        let range = start.frame()..start.frame().checked_add(pages)?;
        let fits = |r: &Region| r.start <= range.start && range.end <= r.end;
        let free = self
            .regions
            .iter()
            .any(|r| r.usage == Usage::FREE && fits(r));
        (free && start.is_aligned_to(align)).then_some(range)
    }

    fn is_allocated(&self, range: &Range<Frame>) -> bool {
        let overlapping = |r: &&Region| r.start < range.end && range.start < r.end;
        let mut reached = range.start;
        for region in self.regions.iter().filter(overlapping) {
            if region.start > reached || !region.usage.allocated {
                return false;
            }
            reached = region.end;
        }
        reached >= range.end
    }

    /// How many regions at the beginning are `before` something.
    fn count(&self, before: impl Fn(&Region) -> bool) -> usize {
        let regions = self.regions.iter();
        regions.take_while(|region| before(region)).count()
    }

    /// Gives the pages of `range` a usage. All changes of the map are made here.
    fn set(&mut self, range: Range<Frame>, usage: Usage) -> Result<(), Error> {
        let first = self.count(|r| r.end < range.start);
        let after = self.count(|r| r.start <= range.end);
        let touched = self.regions.get(first..after).unwrap_or_default();
        let Range { start, end } = range;
        // Regions are as large as can be: what is so already is in one of them.
        let same = |r: &Region| r.usage == usage && r.start <= start && end <= r.end;
        if touched.iter().any(same) {
            return Ok(());
        }
        let new = overlay(touched, Region { start, end, usage });
        let kept = self.regions.len().saturating_sub(touched.len());
        if kept.saturating_add(new.iter().flatten().count()) > REGION_LIMIT {
            return Err(Error::Bookkeeping);
        }
        // After this, nothing below allocates.
        self.regions
            .try_reserve(new.len())
            .map_err(|_| Error::Bookkeeping)?;
        for _ in first..after {
            self.regions.remove(first);
        }
        #[expect(clippy::manual_flatten, reason = "it would have the loop three times")]
        for region in new.into_iter().rev() {
            if let Some(region) = region {
                self.regions.insert(first, region);
            }
        }
        self.key = self.key.wrapping_add(1);
        Ok(())
    }
}

impl Placement {
    /// What to answer when nothing was found for this placement.
    const fn failure(self, pages: PageCount) -> Error {
        match self {
            Self::At(start) => Error::NotFree(start, pages),
            Self::Any | Self::Below(_) => Error::NoSpace(pages),
        }
    }
}

#[cfg(test)]
mod tests;
