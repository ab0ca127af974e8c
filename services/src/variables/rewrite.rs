//! Rewriting a store in flash without what has been deleted, with the record
//! for which there was no room.
//!
//! The new content is written to the spare area. From the bit on that says it is
//! complete, it is the store: whoever opens the store next copies it over the
//! variables, and may be interrupted and start again as often as it takes.

use super::layout::{FIRST, Work};
use super::record::{ADDED, Records, STATE};
use super::storage::{BLOCK, Failed, Storage};
use super::volume::{New, Volume};
use super::work::{self, Entry, Last};
use core::ops::Range;

impl<S: Storage> Volume<S> {
    /// Rewrites the store with `new` in place of all records of its variable.
    pub(super) fn rewrite(&mut self, new: &New<'_>) -> Result<(), Failed> {
        let work = self.layout.work().ok_or(Failed)?;
        let entry = self.begin(work)?;
        self.blank(work.spare..self.layout.size)?;
        self.fill_spare(work, new)?;
        self.clear(entry.record, work::SPARE_COMPLETE)?;
        self.finish(work, entry, 0..self.layout.variables)
    }

    /// Finishes an interrupted rewriting, or drops one that was not complete in
    /// the spare area. Whether there was something to finish.
    pub(super) fn resume(&mut self) -> Result<bool, Failed> {
        let Some(work) = self.layout.work() else {
            return Ok(false);
        };
        match work::last(self.storage.bytes(), &self.layout, work) {
            Last::Pending(entry, Some(target)) => {
                self.finish(work, entry, target)?;
                Ok(true)
            }
            Last::Pending(entry, None) => {
                self.clear(entry.header, work::COMPLETE)?;
                Ok(false)
            }
            Last::Free(_) | Last::Unusable => Ok(false),
        }
    }

    /// Makes the working block one without entries.
    pub(super) fn format_work(&mut self, work: Work) -> Result<(), Failed> {
        self.blank(work.working..work.spare)?;
        self.program(work.working, &work::blank_header())?;
        self.clear(work.working.wrapping_add(work::VALID), work::ALLOCATED)
    }

    /// Announces a rewriting. Until the spare area is complete it is one that
    /// has not happened.
    fn begin(&mut self, work: Work) -> Result<Entry, Failed> {
        let mut last = work::last(self.storage.bytes(), &self.layout, work);
        if !matches!(last, Last::Free(_)) {
            // Nothing is under way: the queue is full, or the block damaged.
            self.format_work(work)?;
            last = work::last(self.storage.bytes(), &self.layout, work);
        }
        let Last::Free(entry) = last else {
            return Err(Failed);
        };
        self.program(entry.header, &work::entry(&self.layout, work))?;
        self.clear(entry.header, work::ALLOCATED)?;
        self.clear(entry.header, work::WRITES_ALLOCATED)?;
        Ok(entry)
    }

    /// Writes headers, valid records and `new` to the spare area.
    fn fill_spare(&mut self, work: Work, new: &New<'_>) -> Result<(), Failed> {
        self.copy(0..FIRST, work.spare)?;
        let mut to = work.spare.wrapping_add(FIRST);
        let mut from = FIRST;
        let variables = self.layout.variables;
        loop {
            let bytes = self.storage.bytes().get(..variables).ok_or(Failed)?;
            let Some(record) = Records::from(bytes, from).next() else {
                break;
            };
            let (at, size) = (record.offset, record.size());
            let end = at.wrapping_add(record.length());
            if record.is_live() && !record.content.is(new.key) {
                self.program(to.wrapping_add(STATE), &[ADDED])?;
                self.copy(at..at.wrapping_add(STATE), to)?;
                let rest = STATE.wrapping_add(1);
                self.copy(at.wrapping_add(rest)..end, to.wrapping_add(rest))?;
                to = to.wrapping_add(size);
            }
            from = from.wrapping_add(size);
        }
        self.write(to, new)
    }

    /// Copies the spare area to `target` and says so. The block with the headers
    /// comes last: until then others still see a store.
    fn finish(&mut self, work: Work, entry: Entry, target: Range<usize>) -> Result<(), Failed> {
        for offset in target.clone().step_by(BLOCK).rev() {
            let spare = work.spare.wrapping_add(offset.saturating_sub(target.start));
            if self.block(offset) != self.block(spare) {
                self.blank(offset..offset.wrapping_add(BLOCK))?;
                self.copy(spare..spare.wrapping_add(BLOCK), offset)?;
            }
        }
        self.clear(entry.record, work::TARGET_COMPLETE)?;
        self.clear(entry.header, work::COMPLETE)?;
        self.blank(work.spare..self.layout.size)
    }
}
