//! The variable services (UEFI 2.11 §8.2) over stores in EDK2's layout: one in
//! memory and, where the machine has flash or a disk for it, one that stays.
//!
//! Promises the letter of §8.2 for every sequence of calls: a call that fails
//! changes nothing, an enumeration lists each variable once as long as none is
//! written, and the sizes [`Variables::info`] reports are true.
//! Refuses signed writes and hardware error records: nobody could check the
//! former or would collect the latter.
//!
//! Where §8.2.3 can be read in several ways:
//!
//! * "No access attributes" deletes, whatever else is set and whatever the data:
//!   it is the first exception to "other attributes are refused". EDK2 takes only
//!   0 for that and refuses `NON_VOLATILE` alone.
//! * No data delete only with the variable's own attributes: the other exception
//!   is `APPEND_WRITE`. Appending nothing changes nothing and creates nothing, and
//!   succeeds.
//! * What does not fit is `OUT_OF_RESOURCES`, not `INVALID_PARAMETER`: there is no
//!   largest size but that of the store, so "not enough storage" is all there is
//!   to say. Linux asks for more than fits on purpose (`arch/x86/platform/efi/quirks.c`).
//! * After ExitBootServices, a write to a variable that is out of reach is
//!   `WRITE_PROTECTED`, as in EDK2, though GetVariable says `NOT_FOUND`: the name is
//!   taken.
//! * A variable that needs a signature is `WRITE_PROTECTED` to whoever would delete
//!   it without one. With other attributes than its own it is `INVALID_PARAMETER`, as
//!   any variable.
//!
//! No allocation and no reachable panic: this is part of the runtime image.

mod attributes;
#[cfg(test)]
mod cuts;
mod edit;
mod error;
#[cfg(test)]
mod foreign;
mod global;
mod layout;
#[cfg(test)]
mod letter;
#[cfg(test)]
mod model;
mod name;
#[cfg(test)]
mod on_disk;
mod record;
pub mod remote;
mod rewrite;
#[cfg(test)]
mod simulated;
mod storage;
#[cfg(test)]
mod tests;
mod volume;
mod work;

use uefi_raw::Guid;
use uefi_raw::table::runtime::VariableAttributes;

pub use error::Error;
pub use layout::{FIRST, Layout};
pub use name::Name;
pub use record::Variable;
pub use storage::{BLOCK, ERASED, Failed, Memory, Storage};
pub use volume::{Opened, Volume};

/// Which rules apply: those before or those after ExitBootServices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Every variable is visible and may be written.
    Boot,
    /// Variables without `RUNTIME_ACCESS` are out of reach, variables without
    /// `NON_VOLATILE` are read-only.
    Runtime,
}

/// What identifies a variable: two vendors may use the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// `VendorGuid`.
    pub vendor: Guid,
    /// `VariableName`.
    pub name: Name<'a>,
}

/// What QueryVariableInfo reports, all in bytes (UEFI 2.11 §8.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// `MaximumVariableStorageSize`: all there is.
    pub storage: usize,
    /// `RemainingVariableStorageSize`: what is not taken by variables, their
    /// names and their headers.
    pub remaining: usize,
    /// `MaximumVariableSize`: name, its terminator and data of the largest
    /// variable that can be created now.
    pub largest: usize,
}

/// All variables of the machine: `N` bytes of memory and perhaps flash.
///
/// Volatile variables are in memory, and so are the others when there is no
/// flash. To be opened before it is used.
///
/// A disk is not there any more after ExitBootServices. What of it is visible then
/// has to fit into memory, where it can only be read.
pub struct Variables<F, const N: usize> {
    memory: Volume<Memory<N>>,
    flash: Option<Volume<F>>,
    frozen: bool,
}

impl<F: Storage, const N: usize> Variables<F, N> {
    /// No variables. All bytes zero, so that a static of it takes no room in an image file.
    pub const fn new() -> Self {
        Self {
            memory: Volume::new(Memory::new(), Layout::NONE),
            flash: None,
            frozen: false,
        }
    }

    /// Opens the store in `flash`, and an empty one in memory.
    ///
    /// # Errors
    /// [`Error::Storage`] when there is no store in flash that takes no writes:
    /// memory is used instead.
    pub fn open(&mut self, flash: Option<Volume<F>>) -> Result<Opened, Error> {
        self.memory.clear_memory(Layout::of_memory(N));
        let Some(mut flash) = flash else {
            return Ok(Opened::Formatted);
        };
        let opened = flash.open();
        // One that can be read is better than none.
        self.flash = Some(flash).filter(Volume::is_formatted);
        Ok(opened?)
    }

    /// The memory, for another use as long as nothing is opened.
    pub fn spare(&mut self) -> &mut [u8] {
        self.memory.storage_mut().memory().unwrap_or_default()
    }

    /// What the flash is, if it is used.
    pub fn flash_mut(&mut self) -> Option<&mut F> {
        self.flash.as_mut().map(Volume::storage_mut)
    }

    /// Boot services end. When the store is on a disk, variables that are visible
    /// from now on move to memory, as many as there is room for, and none of them
    /// all can be written any more.
    pub fn exit_boot_services(&mut self) {
        let Some(disk) = self.flash.take_if(|flash| !flash.outlives_boot()) else {
            return;
        };
        self.frozen = true;
        for variable in at_runtime(&disk) {
            if let Some(key) = variable.key() {
                // One for which there is no room is out of reach.
                let Variable {
                    attributes, data, ..
                } = variable;
                let _ = self.memory.put(key, attributes, data, false);
            }
        }
    }

    /// How many variables there is no room for in [`Self::exit_boot_services`].
    pub fn out_of_room(&self) -> usize {
        let mut free = self.memory.remaining();
        let mut left_out = 0_usize;
        for variable in self.disk().into_iter().flat_map(at_runtime) {
            match free.checked_sub(variable.size()) {
                Some(rest) => free = rest,
                None => left_out = left_out.saturating_add(1),
            }
        }
        left_out
    }

    /// The store that is not there any more after ExitBootServices.
    fn disk(&self) -> Option<&Volume<F>> {
        self.flash.as_ref().filter(|flash| !flash.outlives_boot())
    }

    /// Bytes of memory that are free, and not needed for what moves there.
    fn free_memory(&self) -> usize {
        let moves = self.disk().map_or(0, |disk| disk.taken(Phase::Runtime));
        self.memory.remaining().saturating_sub(moves)
    }

    /// The variable `key`, for GetVariable.
    pub fn get(&self, phase: Phase, key: Key<'_>) -> Result<Variable<'_>, Error> {
        let found = self.find(key).filter(|found| found.is_visible(phase));
        let found = found.ok_or(Error::NotFound)?;
        Ok(self.current(found))
    }

    /// The variable after `key` in enumeration order, for GetNextVariableName.
    /// The empty name asks for the first one, whatever the vendor.
    pub fn next(&self, phase: Phase, key: Key<'_>) -> Result<Variable<'_>, Error> {
        let mut predecessor = Some(key).filter(|key| !key.name.is_empty());
        let visible = |found: Variable<'_>| found.is_visible(phase);
        if predecessor.is_some() && !self.find(key).is_some_and(visible) {
            return Err(Error::UnknownPredecessor);
        }
        let mut next = None;
        if predecessor.is_none() || self.memory.find(key).is_some() {
            next = self.memory.after(predecessor.take(), phase);
        }
        next.or_else(|| self.next_in_flash(predecessor, phase))
            .ok_or(Error::NotFound)
    }

    /// The variable in flash behind `key`, or the first one, of those that are not
    /// in memory as well: there the firmware's own are.
    fn next_in_flash(&self, key: Option<Key<'_>>, phase: Phase) -> Option<Variable<'_>> {
        let flash = self.flash.as_ref()?;
        let mut next = flash.after(key, phase)?;
        while self.memory.find(next.key()?).is_some() {
            next = flash.after(next.key(), phase)?;
        }
        Some(next)
    }

    /// Creates, replaces, extends or deletes the variable `key`, as SetVariable
    /// reads its arguments (UEFI 2.11 §8.2.3).
    pub fn set(
        &mut self,
        phase: Phase,
        key: Key<'_>,
        attributes: VariableAttributes,
        data: &[u8],
    ) -> Result<(), Error> {
        if key.name.is_empty() {
            return Err(Error::EmptyName);
        }
        attributes::check_write(attributes, data)?;
        if self.frozen {
            return Err(Error::Frozen);
        }
        let old = self.find(key);
        let kind = attributes.difference(VariableAttributes::APPEND_WRITE);
        if global::is_owned(key, old.map_or(kind, |old| old.attributes)) {
            let lasting = attributes.contains(VariableAttributes::NON_VOLATILE);
            let same = old.is_some_and(|old| old.attributes == attributes && old.data == data);
            return (same && lasting).then_some(()).ok_or(Error::ReadOnly);
        }
        match old.map(|old| old.attributes) {
            Some(old) => {
                writable(phase, old)?;
                self.change(key, old, attributes, data)
            }
            None => self.create(phase, key, attributes, data),
        }
    }

    /// Sizes for variables with `attributes`, for QueryVariableInfo.
    pub fn info(&self, phase: Phase, attributes: VariableAttributes) -> Result<Info, Error> {
        attributes::check(attributes)?;
        attributes::queried(phase, attributes)?;
        let lasting = attributes.contains(VariableAttributes::NON_VOLATILE);
        let (mut storage, mut remaining) = match &self.flash {
            Some(flash) if lasting => (flash.capacity(), flash.remaining()),
            _ => (self.memory.capacity(), self.memory.remaining()),
        };
        if self.frozen {
            remaining = 0;
        } else if self.needs_memory(lasting, attributes) {
            storage = storage.min(self.memory.capacity());
            remaining = remaining.min(self.free_memory());
        }
        Ok(Info {
            storage,
            remaining,
            largest: remaining.saturating_sub(record::HEADER),
        })
    }

    /// Whether such a variable is in memory, or will be.
    fn needs_memory(&self, in_flash: bool, attributes: VariableAttributes) -> bool {
        let stays = !in_flash || attributes.contains(VariableAttributes::RUNTIME_ACCESS);
        stays && self.disk().is_some()
    }

    fn find(&self, key: Key<'_>) -> Option<Variable<'_>> {
        let flash = || self.flash.as_ref().and_then(|flash| flash.find(key));
        self.memory.find(key).or_else(flash)
    }

    fn change(
        &mut self,
        key: Key<'_>,
        old: VariableAttributes,
        new: VariableAttributes,
        data: &[u8],
    ) -> Result<(), Error> {
        let in_flash = self.memory.find(key).is_none();
        let append = new.contains(VariableAttributes::APPEND_WRITE);
        let same = new.difference(VariableAttributes::APPEND_WRITE) == old;
        if !same && !attributes::without_access(new) {
            Err(Error::AttributesDiffer)
        } else if attributes::signed(old) {
            Err(Error::Signed)
        } else if attributes::deletes(new, data) {
            match &mut self.flash {
                Some(flash) if in_flash => flash.remove(key),
                _ => self.memory.remove(key),
            }
        } else if self.find(key).is_some_and(|old| is_kept(old, append, data)) {
            Ok(())
        } else {
            self.put(in_flash, key, old, data, append)
        }
    }

    fn create(
        &mut self,
        phase: Phase,
        key: Key<'_>,
        attributes: VariableAttributes,
        data: &[u8],
    ) -> Result<(), Error> {
        if attributes::deletes(attributes, data) {
            return Err(Error::NotFound);
        }
        if data.is_empty() {
            return Ok(()); // nothing appended to nothing
        }
        if phase == Phase::Runtime && !attributes.contains(attributes::NEEDED_AT_RUNTIME) {
            return Err(Error::NotForRuntime);
        }
        if global::is_for_keys(key) {
            return Err(Error::Unsigned);
        }
        let lasting = attributes.contains(VariableAttributes::NON_VOLATILE);
        let attributes = attributes.difference(VariableAttributes::APPEND_WRITE);
        self.put(lasting, key, attributes, data, false)
    }

    fn put(
        &mut self,
        in_flash: bool,
        key: Key<'_>,
        attributes: VariableAttributes,
        data: &[u8],
        append: bool,
    ) -> Result<(), Error> {
        if self.needs_memory(in_flash, attributes) {
            let old = self.find(key);
            let before = old.map_or(0, |old| old.size());
            let kept = old.filter(|_| append).map_or(0, |old| old.data.len());
            let size = record::size(key.name.bytes().len(), kept.saturating_add(data.len()));
            let (needed, free) = (size.saturating_sub(before), self.free_memory());
            if needed > free {
                return Err(Error::full(needed, free));
            }
        }
        match &mut self.flash {
            Some(flash) if in_flash => flash.put(key, attributes, data, append),
            _ => self.memory.put(key, attributes, data, append),
        }
    }
}

impl<F: Storage, const N: usize> Default for Variables<F, N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The variables in `volume` that are visible after ExitBootServices.
fn at_runtime<S: Storage>(volume: &Volume<S>) -> impl Iterator<Item = Variable<'_>> {
    let first = volume.after(None, Phase::Runtime);
    core::iter::successors(first, |last| {
        volume.after(Some(last.key()?), Phase::Runtime)
    })
}

/// Whether a write would change nothing: flash wears out.
fn is_kept(old: Variable<'_>, append: bool, data: &[u8]) -> bool {
    if append {
        data.is_empty()
    } else {
        old.data == data
    }
}

/// After ExitBootServices only non-volatile variables with `RUNTIME_ACCESS` may
/// be written (UEFI 2.11 §8.2.3).
fn writable(phase: Phase, old: VariableAttributes) -> Result<(), Error> {
    match phase {
        Phase::Runtime if !old.contains(attributes::NEEDED_AT_RUNTIME) => Err(Error::ReadOnly),
        _ => Ok(()),
    }
}
