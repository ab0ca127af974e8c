//! Ranges of addresses that are still free.

use alloc::vec::Vec;
use core::ops::Range;

/// Free ranges, in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space(Vec<Range<u64>>);

impl Space {
    /// A space of these ranges, which do not overlap.
    pub fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut space = Self::default();
        for range in ranges {
            space.add(range);
        }
        space
    }

    /// Takes `taken` out, as far as it is in.
    pub fn remove(&mut self, taken: &Range<u64>) {
        if taken.is_empty() {
            return;
        }
        for free in core::mem::take(&mut self.0) {
            self.add(free.start..free.end.min(taken.start));
            self.add(free.start.max(taken.end)..free.end);
        }
    }

    /// Adds a range behind all others, if it is one.
    #[inline(never)]
    fn add(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.0.push(range);
        }
    }

    /// Takes `size` bytes at a multiple of `alignment` out of the first range
    /// that holds them.
    pub fn take(&mut self, size: u64, alignment: u64) -> Option<u64> {
        let start = self.0.iter().find_map(|range| {
            let start = range.start.checked_next_multiple_of(alignment)?;
            (start.checked_add(size)? <= range.end).then_some(start)
        })?;
        self.remove(&(start..start.checked_add(size)?));
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_tried_in_order() {
        let mut space = Space::new([0x100..0x180, 0x10..0x90]);
        assert_eq!(space.take(0x80, 0x80), Some(0x100));
        assert_eq!(space.take(0x20, 0x20), Some(0x20));
        assert_eq!(space.take(0x10, 0x10), Some(0x10));
        assert_eq!(space.take(0x80, 0x80), None);
        assert_eq!(space, Space::new(Some(0x40..0x90)));
    }

    #[test]
    fn removing_splits() {
        let mut space = Space::new(Some(0..100));
        space.remove(&(40..60));
        space.remove(&(90..200));
        space.remove(&(50..50));
        assert_eq!(space, Space::new([0..40, 60..90]));
    }

    #[test]
    fn the_end_of_all_addresses_is_no_room() {
        let mut space = Space::new(Some(u64::MAX - 10..u64::MAX));
        assert_eq!(space.take(1, 1 << 63), None);
        assert_eq!(space.take(u64::MAX, 1), None);
    }
}
