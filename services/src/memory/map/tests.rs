//! The map against examples from the specification, and against a model that
//! keeps one entry per page.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "a machine with one range of memory"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uefi_raw::table::boot::MemoryType as Type;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn machine(ram: &[Range<u64>]) -> MemoryMap {
    let mut map = MemoryMap::new();
    for range in ram {
        map.describe(
            PhysAddr(range.start),
            range.end - range.start,
            Type::CONVENTIONAL,
        )
        .unwrap();
    }
    map
}

/// (type, start, pages) of every descriptor.
fn listing(map: &MemoryMap) -> Vec<(Type, u64, u64)> {
    map.descriptors()
        .map(|d| (d.ty, d.phys_start, d.page_count))
        .collect()
}

fn any(map: &mut MemoryMap, pages: u64) -> Result<u64, Error> {
    let start = map.allocate(Placement::Any, Type::LOADER_DATA, PageCount(pages))?;
    Ok(start.0)
}

fn below(map: &mut MemoryMap, last_byte: u64, pages: u64) -> Result<u64, Error> {
    let place = Placement::Below(PhysAddr(last_byte));
    let start = map.allocate(place, Type::LOADER_DATA, PageCount(pages))?;
    Ok(start.0)
}

fn at(map: &mut MemoryMap, start: u64, pages: u64) -> Result<u64, Error> {
    let place = Placement::At(PhysAddr(start));
    let start = map.allocate(place, Type::LOADER_DATA, PageCount(pages))?;
    Ok(start.0)
}

#[test]
fn conventional_memory_shrinks_to_whole_pages_and_the_rest_grows() {
    let mut map = machine(&[0x10_0001..0x10_3fff]);
    map.describe(PhysAddr(0x10_1ff0), 32, Type::ACPI_RECLAIM)
        .unwrap();
    assert_eq!(listing(&map), [(Type::ACPI_RECLAIM, 0x10_1000, 2)]);
}

#[test]
fn ranges_are_cut_off_at_the_end_of_the_address_space() {
    let mut map = machine(&[]);
    map.describe(PhysAddr(u64::MAX - 0x2fff), u64::MAX, Type::RESERVED)
        .unwrap();
    map.describe(PhysAddr(0x1234), 0, Type::RESERVED).unwrap();
    assert_eq!(listing(&map), [(Type::RESERVED, 0xffff_ffff_ffff_d000, 2)]);
}

#[test]
fn later_descriptions_override_earlier_ones() {
    let mut map = machine(&[0..16 * MIB]);
    map.describe(PhysAddr(0xa_0000), 0x6_0000, Type::RESERVED)
        .unwrap();
    map.describe(PhysAddr(0xf_f000), 0x2000, Type::CONVENTIONAL)
        .unwrap();
    assert_eq!(
        listing(&map),
        [
            (Type::CONVENTIONAL, 0, 0xa0),
            (Type::RESERVED, 0xa_0000, 0x5f),
            (Type::CONVENTIONAL, 0xf_f000, 0xf01),
        ]
    );
}

#[test]
fn any_prefers_32_bit_addresses_and_spares_low_memory() {
    let mut map = machine(&[0..0x3000, MIB..MIB + 0x2000, 4 * GIB..4 * GIB + 0x1000]);
    assert_eq!(any(&mut map, 1), Ok(MIB + 0x1000));
    assert_eq!(any(&mut map, 1), Ok(MIB));
    assert_eq!(any(&mut map, 1), Ok(4 * GIB));
    assert_eq!(any(&mut map, 2), Ok(0x1000));
    assert_eq!(any(&mut map, 1), Err(Error::NoSpace(PageCount(1))));
    assert_eq!(at(&mut map, 0, 1), Ok(0));
}

#[test]
fn any_uses_a_range_across_4_gib_when_it_must() {
    let mut map = machine(&[4 * GIB - 0x2000..4 * GIB + 0x2000]);
    assert_eq!(any(&mut map, 4), Ok(4 * GIB - 0x2000));
}

#[test]
fn below_includes_the_last_byte() {
    let mut map = machine(&[MIB..2 * MIB, 4 * GIB..5 * GIB]);
    assert_eq!(below(&mut map, u64::MAX, 1), Ok(5 * GIB - 0x1000));
    assert_eq!(below(&mut map, MIB + 0x2fff, 1), Ok(MIB + 0x2000));
    assert_eq!(below(&mut map, MIB + 0x1ffe, 1), Ok(MIB));
    let none = Err(Error::NoSpace(PageCount(1)));
    assert_eq!(below(&mut map, MIB + 0xfff, 1), none);
    assert_eq!(below(&mut map, 0, 1), none);
}

#[test]
fn at_takes_wholly_free_aligned_ranges_only() {
    let mut map = machine(&[MIB..2 * MIB]);
    assert_eq!(at(&mut map, MIB + 0x1000, 2), Ok(MIB + 0x1000));
    for (start, pages) in [
        (MIB, 2),
        (MIB + 0x2000, 1),
        (2 * MIB - 0x1000, 2),
        (MIB + 0x4001, 1),
        (3 * MIB, 1),
        (MIB, u64::MAX),
        (MIB, 0),
    ] {
        let refused = Error::NotFree(PhysAddr(start), PageCount(pages));
        assert_eq!(at(&mut map, start, pages), Err(refused));
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let mut map = machine(&[0..16 * MIB]);
    for pages in [0, 1 << 20, 1 << 52, u64::MAX] {
        let refused = Err(Error::NoSpace(PageCount(pages)));
        assert_eq!(any(&mut map, pages), refused);
        assert_eq!(below(&mut map, u64::MAX, pages), refused);
    }
}

#[test]
fn alignment_is_a_power_of_two() {
    let mut map = machine(&[MIB..16 * MIB - 0x1000]);
    let mut aligned = |align| {
        map.allocate_aligned(Placement::Any, Type::LOADER_CODE, PageCount(3), align)
            .map(|start| start.0)
    };
    assert_eq!(aligned(2 * MIB), Ok(14 * MIB));
    assert_eq!(aligned(0x20), Ok(16 * MIB - 0x4000));
    assert_eq!(aligned(16 * MIB), Err(Error::NoSpace(PageCount(3))));
    assert_eq!(aligned(1 << 63), Err(Error::NoSpace(PageCount(3))));
    assert_eq!(aligned(0x3000), Err(Error::Alignment(0x3000)));
    assert_eq!(aligned(0), Err(Error::Alignment(0)));
}

#[test]
fn only_types_that_the_specification_allows_are_allocated() {
    let mut map = machine(&[MIB..2 * MIB]);
    let mut allocate = |ty| map.allocate(Placement::Any, Type(ty), PageCount(1));
    for ty in [7, 14, 15, 16, 0x6fff_ffff] {
        assert_eq!(allocate(ty), Err(Error::Type(Type(ty))));
    }
    for ty in [0, 1, 6, 8, 13, 0x7000_0000, 0x8000_0000, u32::MAX] {
        assert!(allocate(ty).is_ok(), "type {ty:#x}");
    }
}

#[test]
fn parts_of_allocations_and_several_at_once_can_be_freed() {
    let mut map = machine(&[MIB..MIB + 0x4000]);
    let before = listing(&map);
    at(&mut map, MIB, 2).unwrap();
    let place = Placement::At(PhysAddr(MIB + 0x2000));
    map.allocate(place, Type::BOOT_SERVICES_DATA, PageCount(2))
        .unwrap();
    map.free(PhysAddr(MIB + 0x1000), PageCount(2)).unwrap();
    assert_eq!(
        listing(&map),
        [
            (Type::LOADER_DATA, MIB, 1),
            (Type::CONVENTIONAL, MIB + 0x1000, 2),
            (Type::BOOT_SERVICES_DATA, MIB + 0x3000, 1),
        ]
    );
    map.free(PhysAddr(MIB), PageCount(1)).unwrap();
    map.free(PhysAddr(MIB + 0x3000), PageCount(1)).unwrap();
    assert_eq!(listing(&map), before);
}

#[test]
fn only_allocated_pages_are_freed() {
    let mut map = machine(&[MIB..2 * MIB]);
    map.describe(PhysAddr(MIB), 0x1000, Type::LOADER_DATA)
        .unwrap();
    at(&mut map, MIB + 0x1000, 1).unwrap();
    for (start, pages) in [
        (MIB, 1),
        (MIB, 2),
        (MIB + 0x1000, 2),
        (MIB + 0x2000, 1),
        (2 * MIB, 1),
    ] {
        let (start, pages) = (PhysAddr(start), PageCount(pages));
        let refused = Error::NotAllocated(start, pages);
        assert_eq!(map.free(start, pages), Err(refused));
    }
    for (start, pages) in [(MIB + 0x1001, 1), (MIB + 0x1000, 0), (MIB, u64::MAX)] {
        let (start, pages) = (PhysAddr(start), PageCount(pages));
        assert_eq!(map.free(start, pages), Err(Error::Range(start, pages)));
    }
}

#[test]
fn a_hole_between_allocations_is_not_freed() {
    let mut map = machine(&[MIB..MIB + 0x1000, MIB + 0x2000..MIB + 0x3000]);
    at(&mut map, MIB, 1).unwrap();
    at(&mut map, MIB + 0x2000, 1).unwrap();
    let (start, pages) = (PhysAddr(MIB), PageCount(3));
    let refused = Error::NotAllocated(start, pages);
    assert_eq!(map.free(start, pages), Err(refused));
}

#[test]
fn kept_allocations_stay_and_unite_with_alike_neighbours() {
    let mut map = machine(&[MIB..2 * MIB]);
    let start = any(&mut map, 2).unwrap();
    map.describe(PhysAddr(start - PAGE_SIZE), PAGE_SIZE, Type::LOADER_DATA)
        .unwrap();
    let (before, key) = (listing(&map), map.key());
    map.keep_allocations();
    assert_eq!(listing(&map), before);
    assert_ne!(map.key(), key);
    let refused = map.free(PhysAddr(start), PageCount(2));
    assert_eq!(
        refused,
        Err(Error::NotAllocated(PhysAddr(start), PageCount(2)))
    );
    let later = any(&mut map, 1).unwrap();
    assert_eq!(map.free(PhysAddr(later), PageCount(1)), Ok(()));
    assert_eq!(map.regions.len(), 2);
}

#[test]
fn described_and_allocated_neighbours_share_a_descriptor() {
    let mut map = machine(&[MIB..2 * MIB]);
    map.describe(PhysAddr(MIB), 0x1000, Type::LOADER_DATA)
        .unwrap();
    at(&mut map, MIB + 0x1000, 1).unwrap();
    assert_eq!(listing(&map)[0], (Type::LOADER_DATA, MIB, 2));
    assert_eq!(map.descriptor_count(), 2);
}

#[test]
fn attributes_follow_from_the_type() {
    let ram = MemoryAttribute::from_bits_retain(0xf);
    for (ty, expected) in [
        (Type::CONVENTIONAL, ram),
        (Type::BOOT_SERVICES_DATA, ram),
        (Type::ACPI_NON_VOLATILE, ram),
        (Type::RUNTIME_SERVICES_CODE, ram | MemoryAttribute::RUNTIME),
        (Type::RUNTIME_SERVICES_DATA, ram | MemoryAttribute::RUNTIME),
        (
            Type::MMIO,
            MemoryAttribute::UNCACHEABLE | MemoryAttribute::RUNTIME,
        ),
        (Type::RESERVED, MemoryAttribute::empty()),
        (Type::UNUSABLE, MemoryAttribute::empty()),
    ] {
        let mut map = machine(&[]);
        map.describe(PhysAddr(MIB), MIB, ty).unwrap();
        assert_eq!(map.descriptors().next().unwrap().att, expected, "{ty:?}");
    }
}

#[test]
fn allocated_pages_are_ram_whatever_their_type() {
    let mut map = machine(&[MIB..2 * MIB, 3 * MIB..4 * MIB]);
    map.describe(PhysAddr(2 * MIB), MIB, Type::RESERVED)
        .unwrap();
    let place = Placement::At(PhysAddr(2 * MIB - 0x1000));
    map.allocate(place, Type::RESERVED, PageCount(1)).unwrap();
    assert_eq!(map.descriptor_count(), 4);
    let ram: Vec<_> = map.ram().map(|r| r.start.0..r.end.0).collect();
    assert_eq!(ram, [MIB..2 * MIB, 3 * MIB..4 * MIB]);
}

#[test]
#[cfg_attr(miri, ignore = "thousands of calls: minutes in Miri")]
fn a_full_map_still_frees() {
    let mut map = machine(&[MIB..1 << 40]);
    let mut page = MIB;
    let full = loop {
        page += 0x2000;
        match at(&mut map, page, 1) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(full, Error::Bookkeeping);
    assert!(map.descriptor_count() <= REGION_LIMIT);
    let key = map.key();
    assert_eq!(at(&mut map, page, 1), Err(Error::Bookkeeping));
    assert_eq!(map.key(), key);
    map.free(PhysAddr(page - 0x2000), PageCount(1)).unwrap();
    assert_eq!(at(&mut map, page, 1), Ok(page));
}

/// Two windows of pages, around 1 MiB and around 4 GiB: where placement
/// changes its mind.
const LOW_PAGES: usize = 320;
const PAGES: usize = 512;

/// Steps in a row, fewer than this; the interpreter Miri is slow.
const STEPS: usize = if cfg!(miri) { 6 } else { 80 };

fn page_address(index: usize) -> u64 {
    let index = index as u64;
    let low = LOW_PAGES as u64;
    if index < low {
        return index * PAGE_SIZE;
    }
    4 * GIB - 64 * PAGE_SIZE + (index - low) * PAGE_SIZE
}

/// One entry per page: `None` where nothing was described.
#[derive(Clone, PartialEq)]
struct Model([Option<(Type, bool)>; PAGES]);

impl Model {
    fn fill(&mut self, pages: Range<usize>, usage: (Type, bool)) {
        self.0[pages].fill(Some(usage));
    }

    fn all(&self, pages: Range<usize>, test: impl Fn((Type, bool)) -> bool) -> bool {
        let in_a_row = pages
            .clone()
            .skip(1)
            .all(|p| page_address(p) == page_address(p - 1) + PAGE_SIZE);
        in_a_row && pages.end <= PAGES && self.0[pages].iter().all(|p| p.is_some_and(&test))
    }

    fn is_free(&self, pages: Range<usize>) -> bool {
        self.all(pages, |usage| usage == (Type::CONVENTIONAL, false))
    }

    /// The highest free range inside one of the zones, the first zone first.
    fn find(&self, zones: &[Range<u64>], count: usize) -> Option<usize> {
        zones.iter().find_map(|zone| {
            (0..=PAGES - count).rev().find(|&p| {
                page_address(p) >= zone.start
                    && page_address(p + count - 1) + PAGE_SIZE <= zone.end
                    && self.is_free(p..p + count)
            })
        })
    }

    fn place(&self, place: Placement, count: usize) -> Option<usize> {
        let end = u64::MAX;
        match place {
            Placement::Any => self.find(&[MIB..4 * GIB, MIB..end, PAGE_SIZE..end], count),
            Placement::Below(last) => self.find(&[MIB..last.0 + 1, PAGE_SIZE..last.0 + 1], count),
            Placement::At(start) => (0..=PAGES - count)
                .find(|&p| page_address(p) == start.0)
                .filter(|&p| self.is_free(p..p + count)),
        }
    }

    fn descriptors(&self) -> Vec<(Type, u64, u64)> {
        let mut runs: Vec<(Type, u64, u64)> = Vec::new();
        for (index, page) in self.0.iter().enumerate() {
            let Some((ty, _)) = *page else { continue };
            let start = page_address(index);
            match runs.last_mut() {
                Some(run) if run.0 == ty && run.1 + run.2 * PAGE_SIZE == start => run.2 += 1,
                _ => runs.push((ty, start, 1)),
            }
        }
        runs
    }
}

#[derive(Clone, Debug)]
enum Step {
    Describe(Range<usize>, Type),
    Allocate(Placement, Type, usize),
    Free(Range<usize>),
}

/// Types whose attributes do not depend on where the page came from.
const TYPES: [Type; 4] = [
    Type::LOADER_CODE,
    Type::LOADER_DATA,
    Type::BOOT_SERVICES_DATA,
    Type::RUNTIME_SERVICES_DATA,
];

fn pages() -> impl Strategy<Value = Range<usize>> {
    let inside = |start: usize| if start < LOW_PAGES { LOW_PAGES } else { PAGES };
    (0..PAGES, 1..40_usize).prop_map(move |(start, count)| start..inside(start).min(start + count))
}

fn placement() -> impl Strategy<Value = Placement> {
    let address = (0..PAGES).prop_map(page_address);
    prop_oneof![
        2 => Just(Placement::Any),
        1 => address.clone().prop_map(|a| Placement::Below(PhysAddr(a + PAGE_SIZE - 1))),
        1 => address.clone().prop_map(|a| Placement::Below(PhysAddr(a + 17))),
        1 => address.prop_map(|a| Placement::At(PhysAddr(a))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let described = select([&TYPES[..], &[Type::CONVENTIONAL, Type::RESERVED]].concat());
    prop_oneof![
        1 => (pages(), described).prop_map(|(pages, ty)| Step::Describe(pages, ty)),
        3 => (placement(), select(&TYPES[..]), 1..24_usize)
            .prop_map(|(place, ty, count)| Step::Allocate(place, ty, count)),
        2 => pages().prop_map(Step::Free),
    ]
}

/// Takes one step in the map and in the model.
fn take(map: &mut MemoryMap, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Describe(pages, ty) => {
            let bytes = pages.len() as u64 * PAGE_SIZE;
            map.describe(PhysAddr(page_address(pages.start)), bytes, ty)
                .unwrap();
            model.fill(pages, (ty, false));
        }
        Step::Allocate(place, ty, count) => {
            let expected = model.place(place, count);
            let found = map.allocate(place, ty, PageCount(count as u64)).ok();
            prop_assert_eq!(found, expected.map(|p| PhysAddr(page_address(p))));
            if let Some(start) = expected {
                model.fill(start..start + count, (ty, true));
            }
        }
        Step::Free(pages) => {
            let start = PhysAddr(page_address(pages.start));
            let freed = map.free(start, PageCount(pages.len() as u64)).is_ok();
            let allowed = model.all(pages.clone(), |(_, allocated)| allocated);
            prop_assert_eq!(freed, allowed);
            if freed {
                model.fill(pages, (Type::CONVENTIONAL, false));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_map_is_what_a_list_of_pages_says(steps in vec(step(), 1..STEPS)) {
        let mut map = MemoryMap::new();
        let mut model = Model([None; PAGES]);
        let ram = [Step::Describe(0..LOW_PAGES, Type::CONVENTIONAL),
            Step::Describe(LOW_PAGES..PAGES, Type::CONVENTIONAL)];
        for step in ram.into_iter().chain(steps) {
            let (key, before) = (map.key(), model.clone());
            take(&mut map, &mut model, step)?;
            prop_assert_eq!(map.key() != key, model != before);
            prop_assert_eq!(listing(&map), model.descriptors());
            prop_assert_eq!(map.descriptor_count(), model.descriptors().len());
        }
    }
}
