//! The pool against examples, and against a list of the buffers in use.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use uefi_raw::table::boot::MemoryDescriptor;

use super::*;

const DATA: MemoryType = MemoryType::LOADER_DATA;
const ACPI: MemoryType = MemoryType::ACPI_RECLAIM;

fn machine() -> MemoryMap {
    let mut map = MemoryMap::new();
    map.describe(PhysAddr(0x10_0000), 0x10_0000, MemoryType::CONVENTIONAL)
        .unwrap();
    map
}

fn descriptors(map: &MemoryMap) -> Vec<MemoryDescriptor> {
    map.descriptors().collect()
}

/// Pages of type `ty` in the map.
fn pages_of(map: &MemoryMap, ty: MemoryType) -> u64 {
    let of_type = map.descriptors().filter(|d| d.ty == ty);
    of_type.map(|d| d.page_count).sum()
}

#[test]
fn small_buffers_share_a_chunk() {
    let (mut map, mut pool) = (machine(), Pool::new());
    let first = pool.allocate(&mut map, DATA, 1).unwrap();
    let key = map.key();
    let second = pool.allocate(&mut map, DATA, 17).unwrap();
    let third = pool.allocate(&mut map, DATA, 1).unwrap();
    assert_eq!((second.0 - first.0, third.0 - second.0), (16, 32));
    assert_eq!(map.key(), key);
    assert_eq!(pages_of(&map, DATA), 4);
}

#[test]
fn types_that_stay_take_single_pages() {
    let (mut map, mut pool) = (machine(), Pool::new());
    pool.allocate(&mut map, ACPI, 36).unwrap();
    assert_eq!(pages_of(&map, ACPI), 1);
}

#[test]
fn a_request_for_nothing_gets_an_address_of_its_own() {
    let (mut map, mut pool) = (machine(), Pool::new());
    let first = pool.allocate(&mut map, DATA, 0).unwrap();
    let second = pool.allocate(&mut map, DATA, 0).unwrap();
    assert_ne!(first, second);
    assert_eq!(pool.free(&mut map, first), Ok(()));
}

#[test]
fn large_buffers_keep_their_pages_to_themselves() {
    let (mut map, mut pool) = (machine(), Pool::new());
    let large = pool.allocate(&mut map, DATA, 0x4001).unwrap();
    assert_eq!(pages_of(&map, DATA), 5);
    let small = pool.allocate(&mut map, DATA, 16).unwrap();
    assert!(!(large.0..large.0 + 0x5000).contains(&small.0));
    pool.free(&mut map, large).unwrap();
    assert_eq!(pages_of(&map, DATA), 4);
}

#[test]
fn only_the_start_of_a_live_buffer_is_freed() {
    let (mut map, mut pool) = (machine(), Pool::new());
    let buffer = pool.allocate(&mut map, DATA, 64).unwrap();
    for address in [0, 1, buffer.0 + 16, buffer.0 + 64, u64::MAX] {
        let refused = Err(Error::NotInPool(PhysAddr(address)));
        assert_eq!(pool.free(&mut map, PhysAddr(address)), refused);
    }
    assert_eq!(pool.free(&mut map, buffer), Ok(()));
    let twice = Err(Error::NotInPool(buffer));
    assert_eq!(pool.free(&mut map, buffer), twice);
}

#[test]
fn impossible_requests_change_nothing() {
    let (mut map, mut pool) = (machine(), Pool::new());
    let before = descriptors(&map);
    let mut refusal = |ty, bytes| pool.allocate(&mut map, ty, bytes).unwrap_err();
    assert_eq!(refusal(DATA, usize::MAX), Error::TooLarge(usize::MAX));
    assert_eq!(refusal(DATA, 0x20_0000), Error::NoSpace(PageCount(0x200)));
    let free = MemoryType::CONVENTIONAL;
    assert_eq!(refusal(free, 16), Error::Type(free));
    assert_eq!(descriptors(&map), before);
}

#[test]
#[cfg_attr(miri, ignore = "thousands of calls: minutes in Miri")]
fn the_number_of_buffers_is_limited() {
    let (mut map, mut pool) = (machine(), Pool::new());
    let first = pool.allocate(&mut map, DATA, 1).unwrap();
    for _ in 1..BUFFER_LIMIT {
        pool.allocate(&mut map, DATA, 1).unwrap();
    }
    let full = Err(Error::Bookkeeping);
    assert_eq!(pool.allocate(&mut map, DATA, 1), full);
    pool.free(&mut map, first).unwrap();
    assert_eq!(pool.allocate(&mut map, DATA, 1), Ok(first));
}

#[test]
fn pages_freed_behind_its_back_are_not_freed_again() {
    let (mut map, mut pool) = (machine(), Pool::new());
    let buffer = pool.allocate(&mut map, ACPI, 16).unwrap();
    map.free(buffer, PageCount(1)).unwrap();
    let refused = Err(Error::NotAllocated(buffer, PageCount(1)));
    assert_eq!(pool.free(&mut map, buffer), refused);
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(MemoryType, usize),
    Free(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![4 => 0..600_usize, 2 => 600..0x5000_usize, 1 => 0x3ff0..0x4020_usize];
    prop_oneof![
        3 => (select(vec![DATA, ACPI]), bytes).prop_map(|(ty, bytes)| Step::Allocate(ty, bytes)),
        2 => any::<Index>().prop_map(Step::Free),
    ]
}

/// A buffer as its owner sees it.
#[derive(Clone, Copy, Debug)]
struct Live {
    ty: MemoryType,
    start: u64,
    end: u64,
}

impl Live {
    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn is_inside(&self, d: &MemoryDescriptor) -> bool {
        let end = d.phys_start + d.page_count * PAGE_SIZE;
        d.ty == self.ty && d.phys_start <= self.start && self.end <= end
    }
}

/// Steps in a row, fewer than this; the interpreter Miri is slow.
const STEPS: usize = if cfg!(miri) { 12 } else { 120 };

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn buffers_never_overlap_and_all_memory_comes_back(steps in vec(step(), 1..STEPS)) {
        let (mut map, mut pool) = (machine(), Pool::new());
        let original = descriptors(&map);
        let mut live: Vec<Live> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate(ty, bytes) => {
                    let Ok(PhysAddr(start)) = pool.allocate(&mut map, ty, bytes) else {
                        continue;
                    };
                    let new = Live { ty, start, end: start + bytes.max(1) as u64 };
                    prop_assert_eq!(start % 16, 0);
                    prop_assert!(!live.iter().any(|other| other.overlaps(&new)));
                    live.push(new);
                }
                Step::Free(index) if !live.is_empty() => {
                    let buffer = live.swap_remove(index.index(live.len()));
                    prop_assert_eq!(pool.free(&mut map, PhysAddr(buffer.start)), Ok(()));
                }
                Step::Free(_) => {}
            }
            for buffer in &live {
                prop_assert!(map.descriptors().any(|d| buffer.is_inside(&d)));
            }
        }
        for buffer in live {
            prop_assert_eq!(pool.free(&mut map, PhysAddr(buffer.start)), Ok(()));
        }
        prop_assert_eq!(descriptors(&map), original);
    }
}
