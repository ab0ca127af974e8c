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
use storage::Either;
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
        // None of what is beside a `None` is copied: it would stay in the image.
        self.flash = None;
        if let Some(flash) = flash {
            self.flash = Some(flash);
        }
        let (mut flash, end) = self.store(true);
        if matches!(flash.storage, Either::Memory(_)) {
            return Ok(Opened::Formatted);
        }
        let opened = flash.open();
        *end = flash.end;
        // One that can be read is better than none.
        if !flash.is_formatted() {
            self.flash = None;
        }
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
        self.leave_disk(true);
    }

    /// How many variables there is no room for in [`Self::exit_boot_services`].
    pub fn out_of_room(&mut self) -> usize {
        self.leave_disk(false)
    }

    /// Whether there are more than 128 records in flash, deleted ones included.
    pub fn crowded(&self) -> bool {
        let mut flash = self.flash.iter().flat_map(Volume::records);
        flash.nth(128).is_some()
    }

    /// How many variables on the disk there is no room for in memory; the others
    /// move there if `really`, and the disk is left.
    #[inline(never)]
    fn leave_disk(&mut self, really: bool) -> usize {
        let Some(disk) = self.flash.take_if(|flash| !flash.outlives_boot()) else {
            return 0;
        };
        let mut free = self.memory.remaining();
        let (mut left_out, mut last) = (0_usize, None);
        while let Some(variable) = disk.after(last, Phase::Runtime) {
            let Variable {
                attributes, data, ..
            } = variable;
            last = variable.key();
            match (free.checked_sub(variable.size()), last) {
                // The firmware's own, which none on the disk takes the place of.
                (_, Some(key)) if self.memory.find(key).is_some() => {}
                (Some(rest), Some(key)) => {
                    free = rest;
                    if really {
                        // There is room.
                        let _ = self.write(false, key, Some((attributes, data, false)));
                    }
                }
                (None, Some(_)) => left_out = left_out.wrapping_add(1),
                (_, None) => break,
            }
        }
        self.frozen |= really;
        if !really {
            self.flash = Some(disk);
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
    #[inline(never)]
    pub fn next(&self, phase: Phase, key: Key<'_>) -> Result<Variable<'_>, Error> {
        let mut last = Some(key).filter(|key| !key.name.is_empty());
        let mut in_flash = false;
        if last.is_some() {
            let found = self.find(key).filter(|found| found.is_visible(phase));
            found.ok_or(Error::UnknownPredecessor)?;
            in_flash = self.memory.find(key).is_none();
        }
        loop {
            let variables = match &self.flash {
                Some(flash) if in_flash => flash.variables(),
                None if in_flash => return Err(Error::NotFound),
                _ => self.memory.variables(),
            };
            match record::after(variables, last, phase) {
                // One that is in memory as well is not what it seems: there the
                // firmware's own are.
                Some(next) if in_flash => {
                    let key = next.key().ok_or(Error::NotFound)?;
                    if self.memory.find(key).is_none() {
                        return Ok(next);
                    }
                    last = Some(key);
                }
                Some(next) => return Ok(next),
                None if in_flash => return Err(Error::NotFound),
                None => (in_flash, last) = (true, None),
            }
        }
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
        match old {
            Some(old) => {
                writable(phase, old.attributes)?;
                let kept = is_kept(old, attributes, data);
                self.change(key, old.attributes, attributes, data, kept)
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
        kept: bool,
    ) -> Result<(), Error> {
        let in_flash = self.memory.find(key).is_none();
        let append = new.contains(VariableAttributes::APPEND_WRITE);
        let same = new.difference(VariableAttributes::APPEND_WRITE) == old;
        if !same && !attributes::without_access(new) {
            Err(Error::AttributesDiffer)
        } else if attributes::signed(old) {
            Err(Error::Signed)
        } else if attributes::deletes(new, data) {
            self.write(in_flash, key, None)
        } else if kept {
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
        self.write(in_flash, key, Some((attributes, data, append)))
    }

    /// Puts attributes and data, appended or not, or removes the variable.
    #[inline(never)]
    fn write(
        &mut self,
        in_flash: bool,
        key: Key<'_>,
        new: Option<(VariableAttributes, &[u8], bool)>,
    ) -> Result<(), Error> {
        let (mut store, end) = self.store(in_flash);
        let done = match new {
            Some((attributes, data, append)) => store.put(key, attributes, data, append),
            None => store.remove(key),
        };
        *end = store.end;
        done
    }

    /// The store in flash, if there is one and it is asked for, or that in memory;
    /// and where to say where its end is.
    fn store(&mut self, in_flash: bool) -> (Volume<Either<'_, F>>, &mut usize) {
        match &mut self.flash {
            Some(flash) if in_flash => {
                let storage = Either::Other(&mut flash.storage);
                (
                    Volume {
                        storage,
                        layout: flash.layout,
                        end: flash.end,
                    },
                    &mut flash.end,
                )
            }
            _ => {
                let memory = &mut self.memory;
                let bytes = memory.storage.memory().unwrap_or_default();
                let storage = Either::Memory(bytes);
                (
                    Volume {
                        storage,
                        layout: memory.layout,
                        end: memory.end,
                    },
                    &mut memory.end,
                )
            }
        }
    }
}

impl<F: Storage, const N: usize> Default for Variables<F, N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a write would change nothing: flash wears out.
fn is_kept(old: Variable<'_>, attributes: VariableAttributes, data: &[u8]) -> bool {
    if attributes.contains(VariableAttributes::APPEND_WRITE) {
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
