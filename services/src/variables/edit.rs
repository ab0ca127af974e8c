//! Changing a store in memory: in place, with nothing left over.

use super::layout::{FIRST, Layout, put};
use super::record::{self, ADDED, HEADER, STATE};
use super::storage::{ERASED, Failed, Storage};
use super::volume::{New, Place, Volume};
use core::ops::Range;

impl<S: Storage> Volume<S> {
    /// Makes memory, which is all zero, an empty store with `layout`. It is not
    /// erased: no record begins with zeros, and nobody else reads it.
    pub(super) fn clear_memory(&mut self, layout: Layout) {
        if let Some(memory) = self.storage.memory() {
            put(memory, 0, &layout.headers());
        }
        self.layout = layout;
        self.end = FIRST;
    }

    /// Puts `new` in the place of `old`, if any, or takes `old` out. There is
    /// room for it.
    pub(super) fn edit(&mut self, old: Option<Place>, new: Option<&New<'_>>) -> Result<(), Failed> {
        let size = new.map_or(0, New::size);
        let (offset, before) = match &old {
            Some(old) => (old.offset, old.size),
            None => (self.end, 0),
        };
        let (limit, used) = (self.layout.variables, self.end);
        let memory = self.storage.memory().ok_or(Failed)?;
        let memory = memory.get_mut(offset..limit).ok_or(Failed)?;
        let used = used.saturating_sub(offset);
        shift(memory, before..used, size);
        if let Some(new) = new {
            let record = memory.get_mut(..size).ok_or(Failed)?;
            fill(record, new);
        }
        // What was given up.
        let end = used.saturating_sub(before).wrapping_add(size);
        let rest = memory.get_mut(end..).unwrap_or_default();
        let count = used.saturating_sub(end);
        rest.iter_mut().take(count).for_each(|byte| *byte = ERASED);
        Ok(())
    }
}

/// Moves `from` to `to`.
fn shift(memory: &mut [u8], from: Range<usize>, to: usize) {
    let size = memory.len();
    let count = from.end.saturating_sub(from.start);
    let fits = |start: usize| start <= size && count <= size.saturating_sub(start);
    // Always so. Spelled out because only then the compiler sees that
    // `copy_within` cannot panic.
    if fits(from.start) && fits(to) {
        memory.copy_within(from.start..from.start.wrapping_add(count), to);
    }
}

/// Writes `new` over a record that has the same name and begins with the data
/// to be kept, if there are any.
fn fill(record: &mut [u8], new: &New<'_>) {
    let mut header = record::header(new.key, new.attributes, new.data_size());
    put(&mut header, STATE, &[ADDED]);
    let name = new.key.name.bytes();
    let data = HEADER.wrapping_add(name.len()).wrapping_add(new.kept.len());
    put(record, 0, &header);
    put(record, HEADER, name);
    put(record, data, new.data);
    let end = data.wrapping_add(new.data.len());
    record.iter_mut().skip(end).for_each(|byte| *byte = ERASED);
}
