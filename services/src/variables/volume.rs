//! A store of variables in EDK2's layout, over any [`Storage`].
//!
//! Promises that a power failure at any moment leaves each variable with its old
//! or its new value, never with neither, and no deleted one comes back; that
//! [`Volume::open`] makes a usable store of any bytes; and that one write costs
//! at most one rewriting of the store. EDK2 finds the same variables in it, and
//! may continue what was interrupted.
//!
//! In flash, records are added one after the other, and a record that is no
//! longer valid stays until room is needed (see `rewrite`). Memory is edited in
//! place (see `edit`).

use super::layout::{FIRST, Layout};
use super::record::{self, Variable};
use super::record::{ADDED, DELETED, HEADER, HEADER_VALID, RETIRING, Record, Records, STATE};
use super::storage::{BLOCK, Failed, Storage, is_blank};
use super::{Error, Key, Phase};
use core::ops::Range;
use uefi_raw::table::runtime::VariableAttributes;

/// What [`Volume::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A store in good order.
    Kept,
    /// A store whose rewriting had been interrupted; it is finished now.
    Resumed,
    /// No store, or a damaged one; it is empty now.
    Formatted,
}

/// A store.
pub struct Volume<S> {
    pub(super) storage: S,
    pub(super) layout: Layout,
    /// Where the next record goes, or [`UNKNOWN`].
    pub(super) end: usize,
}

/// Nobody has looked yet: that takes longer the more there is, and can wait for the
/// first write.
const UNKNOWN: usize = 0;

/// Where a variable is.
#[derive(Clone)]
pub(super) struct Place {
    pub offset: usize,
    pub size: usize,
    pub data: Range<usize>,
}

impl From<Record<'_>> for Place {
    fn from(record: Record<'_>) -> Self {
        let data = record.data();
        Self {
            offset: record.offset,
            size: record.size(),
            data: data..data.wrapping_add(record.content.data.len()),
        }
    }
}

/// A record to be written.
pub(super) struct New<'a> {
    pub key: Key<'a>,
    pub attributes: VariableAttributes,
    /// Where the beginning of its data is now.
    pub kept: Range<usize>,
    /// The rest of its data.
    pub data: &'a [u8],
}

impl New<'_> {
    pub const fn data_size(&self) -> usize {
        let kept = self.kept.end.saturating_sub(self.kept.start);
        kept.wrapping_add(self.data.len())
    }

    pub const fn size(&self) -> usize {
        record::size(self.key.name.bytes().len(), self.data_size())
    }
}

impl<S: Storage> Volume<S> {
    /// A store on `storage`, to be opened.
    pub const fn new(storage: S, layout: Layout) -> Self {
        Self {
            storage,
            layout,
            end: UNKNOWN,
        }
    }

    /// Gives the storage back.
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// What the store lies on.
    pub const fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// Finishes what was interrupted, and formats what is no store. Takes the same
    /// time however full the store is.
    ///
    /// # Errors
    /// [`Failed`] when the storage takes no writes; what is in it can be read.
    pub fn open(&mut self) -> Result<Opened, Failed> {
        self.end = UNKNOWN;
        let resumed = self.resume()?;
        if !self.is_formatted() {
            self.format()?;
            return Ok(Opened::Formatted);
        }
        Ok(if resumed {
            Opened::Resumed
        } else {
            Opened::Kept
        })
    }

    /// Makes it ready to be written to.
    pub(super) fn settle(&mut self) -> Result<(), Failed> {
        if self.end == UNKNOWN {
            self.end_retiring()?;
            self.end = self.records().end();
        }
        Ok(())
    }

    /// Whether there is a store.
    pub fn is_formatted(&self) -> bool {
        let bytes = self.storage.bytes();
        bytes.len() == self.layout.size && self.layout.is_at(bytes)
    }

    /// Makes it an empty store. The volume header comes last, and with it the
    /// store becomes one.
    fn format(&mut self) -> Result<(), Failed> {
        self.blank(0..self.layout.size)?;
        if let Some(work) = self.layout.work() {
            self.format_work(work)?;
        }
        let headers = self.layout.headers();
        let (volume, store) = headers.split_at_checked(72).ok_or(Failed)?;
        self.program(volume.len(), store)?;
        self.storage.sync()?;
        self.program(0, volume)?;
        self.storage.sync()
    }

    /// Ends the old records whose new ones are complete: rewriting the store would
    /// make both of them complete.
    fn end_retiring(&mut self) -> Result<(), Failed> {
        let mut at = FIRST;
        while let Some(record) = Records::from(self.variables(), at).next() {
            at = at.wrapping_add(record.size());
            let offset = record.offset;
            let replaced = |key| {
                let current = self.place(key);
                current.is_some_and(|current| current.offset != offset)
            };
            if record.state == RETIRING && record.content.key().is_some_and(replaced) {
                self.clear(offset.wrapping_add(STATE), DELETED)?;
            }
        }
        Ok(())
    }

    /// Everything up to where variables end.
    pub(super) fn variables(&self) -> &[u8] {
        let bytes = self.storage.bytes();
        bytes.get(..self.layout.variables).unwrap_or_default()
    }

    pub(super) fn records(&self) -> Records<'_> {
        Records::new(self.variables())
    }

    pub(super) fn place(&self, key: Key<'_>) -> Option<Place> {
        record::find(self.variables(), key).map(Place::from)
    }

    /// The variable `key`.
    pub fn find(&self, key: Key<'_>) -> Option<Variable<'_>> {
        record::find(self.variables(), key).map(|record| record.content)
    }

    /// The first variable behind `key`, or of all, that is visible in `phase`.
    pub fn after(&self, key: Option<Key<'_>>, phase: Phase) -> Option<Variable<'_>> {
        record::after(self.variables(), key, phase)
    }

    /// Bytes for variables, their names and their headers.
    pub const fn capacity(&self) -> usize {
        self.layout.capacity()
    }

    /// Those of them that are not taken.
    pub fn remaining(&self) -> usize {
        self.capacity().saturating_sub(self.taken(Phase::Boot))
    }

    /// Those that variables take that are visible in `phase`.
    pub fn taken(&self, phase: Phase) -> usize {
        record::taken(self.variables(), phase)
    }

    /// Whether it is still there after ExitBootServices.
    pub fn outlives_boot(&self) -> bool {
        self.storage.outlives_boot()
    }

    /// Creates the variable `key`, or gives it other attributes and `data`, or
    /// adds `data` to what it has.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Storage`].
    pub fn put(
        &mut self,
        key: Key<'_>,
        attributes: VariableAttributes,
        data: &[u8],
        append: bool,
    ) -> Result<(), Error> {
        self.settle()?;
        let old = self.place(key);
        let new = New {
            key,
            attributes,
            kept: match &old {
                Some(old) if append => old.data.clone(),
                _ => 0..0,
            },
            data,
        };
        let (size, before) = (new.size(), old.as_ref().map_or(0, |old| old.size));
        let free = self.remaining();
        if size > free.wrapping_add(before) {
            return Err(Error::full(size.saturating_sub(before), free));
        }
        let written = match self.storage.memory() {
            Some(_) => self.edit(old, Some(&new)),
            None => self.add(old, &new),
        };
        self.end = self.records().end();
        Ok(written?)
    }

    /// Deletes the variable `key`.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Storage`].
    pub fn remove(&mut self, key: Key<'_>) -> Result<(), Error> {
        let place = self.place(key).ok_or(Error::NotFound)?;
        if self.storage.memory().is_some() {
            self.edit(Some(place), None)?;
            self.end = self.records().end();
            return Ok(());
        }
        self.end_others(key, place.offset)?;
        Ok(self.clear(place.offset.wrapping_add(STATE), DELETED)?)
    }

    /// Writes `new` in place of `old`, behind the last record or, if there is no
    /// room, by rewriting the store.
    #[inline(never)]
    fn add(&mut self, old: Option<Place>, new: &New<'_>) -> Result<(), Failed> {
        if let Some(old) = &old {
            self.end_others(new.key, old.offset)?;
        }
        let room = self.variables().get(self.end..);
        match room.and_then(|room| room.get(..new.size())) {
            // What a power failure has left there is no room.
            Some(room) if is_blank(room) => self.append(old, new),
            _ => self.rewrite(new),
        }
    }

    fn append(&mut self, old: Option<Place>, new: &New<'_>) -> Result<(), Failed> {
        let state = old.map(|old| old.offset.wrapping_add(STATE));
        if let Some(state) = state {
            self.clear(state, RETIRING)?;
        }
        self.write(self.end, new)?;
        match state {
            Some(state) => self.clear(state, DELETED),
            None => Ok(()),
        }
    }

    /// Writes `new` at `at`, where all is blank.
    pub(super) fn write(&mut self, at: usize, new: &New<'_>) -> Result<(), Failed> {
        let header = record::header(new.key, new.attributes, new.data_size());
        let (state, name) = (at.wrapping_add(STATE), new.key.name.bytes());
        self.program(at, &header)?;
        self.clear(state, HEADER_VALID)?;
        let at = at.wrapping_add(HEADER);
        self.program(at, name)?;
        let at = at.wrapping_add(name.len());
        self.copy(new.kept.clone(), at)?;
        self.program(at.wrapping_add(new.kept.len()), new.data)?;
        self.clear(state, ADDED)
    }

    /// Ends all records of `key` but the one at `main`.
    #[inline(never)]
    fn end_others(&mut self, key: Key<'_>, main: usize) -> Result<(), Failed> {
        loop {
            let mut records = self.records();
            let other = records.find(|record| record.offset != main && record.is(key));
            let Some(other) = other.map(|record| record.offset) else {
                return Ok(());
            };
            self.clear(other.wrapping_add(STATE), DELETED)?;
        }
    }

    /// Clears the bits of one byte that are 0 in `mask`: one step, done or not.
    ///
    /// What was written before lasts before, and it lasts before what comes after.
    /// So only the writes between two steps can be mixed up on a disk, and none of
    /// them counts before the next step: what is not erased yet, half a record, or
    /// a piece of the spare area or of its copy is done over or passed over. The
    /// sector of the step itself differs in this one byte, wherever it is torn.
    #[inline(never)]
    pub(super) fn clear(&mut self, offset: usize, mask: u8) -> Result<(), Failed> {
        let old = self.storage.bytes().get(offset).ok_or(Failed)?;
        let new = old & mask;
        self.storage.sync()?;
        self.program(offset, &[new])?;
        self.storage.sync()
    }

    /// Programs, and looks whether it was done.
    #[inline(never)]
    pub(super) fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        if is_blank(bytes) {
            return Ok(());
        }
        self.storage.program(offset, bytes)?;
        let found = self.storage.bytes().get(offset..).unwrap_or_default();
        found.starts_with(bytes).then_some(()).ok_or(Failed)
    }

    /// Erases every block in `range` that is not blank.
    pub(super) fn blank(&mut self, range: Range<usize>) -> Result<(), Failed> {
        for offset in range.step_by(BLOCK) {
            if !self.block(offset).is_some_and(is_blank) {
                self.storage.erase(offset)?;
            }
        }
        Ok(())
    }

    /// The block at `offset`.
    pub(super) fn block(&self, offset: usize) -> Option<&[u8]> {
        self.storage.bytes().get(offset..)?.get(..BLOCK)
    }

    /// Programs what is in `from` at `to`.
    #[inline(never)]
    pub(super) fn copy(&mut self, from: Range<usize>, to: usize) -> Result<(), Failed> {
        /// On the stack, of which an operating system may have little.
        const PIECE: usize = 128;
        let mut to = to;
        for start in from.clone().step_by(PIECE) {
            let length = from.end.saturating_sub(start).min(PIECE);
            let source = self.storage.bytes().get(start..).ok_or(Failed)?;
            let mut piece = [0; PIECE];
            for (to, from) in piece.iter_mut().zip(source) {
                *to = *from;
            }
            self.program(to, piece.get(..length).ok_or(Failed)?)?;
            to = to.wrapping_add(length);
        }
        Ok(())
    }
}
