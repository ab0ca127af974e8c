//! The variable services over a fixed piece of memory (UEFI 2.11 §8.2).
//!
//! Promises the letter of §8.2 for every sequence of calls: a call that fails
//! changes nothing, an enumeration lists each variable once as long as none is
//! created or deleted, and the sizes [`Variables::info`] reports are true.
//! Refuses signed writes and hardware error records: nobody could check the
//! former or would collect the latter.
//!
//! No allocation and no reachable panic: this is part of the runtime image.

mod attributes;
mod error;
#[cfg(test)]
mod model;
mod name;
mod records;
#[cfg(test)]
mod tests;

use uefi_raw::Guid;
use uefi_raw::table::runtime::VariableAttributes;

pub use error::Error;
pub use name::Name;
use records::Records;
pub use records::Variable;

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

/// All variables of the machine, in `N` bytes of storage.
///
/// Volatile and non-volatile variables share the storage: all of it is memory
/// of the guest.
pub struct Variables<const N: usize>(Records<N>);

impl<const N: usize> Variables<N> {
    /// No variables. All bytes zero, so that a static of it takes no room in an
    /// image file.
    pub const fn new() -> Self {
        Self(Records::new())
    }

    /// The variable `key`, for GetVariable.
    pub fn get(&self, phase: Phase, key: Key<'_>) -> Result<Variable<'_>, Error> {
        self.visible(phase)
            .find(|variable| variable.is(key))
            .ok_or(Error::NotFound)
    }

    /// The variable after `key` in enumeration order, for GetNextVariableName.
    /// The empty name asks for the first one, whatever the vendor.
    pub fn next(&self, phase: Phase, key: Key<'_>) -> Result<Variable<'_>, Error> {
        let mut variables = self.visible(phase);
        if !key.name.is_empty() {
            variables
                .find(|variable| variable.is(key))
                .ok_or(Error::UnknownPredecessor)?;
        }
        variables.next().ok_or(Error::NotFound)
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
        attributes::check(attributes)?;
        match self.0.find(key).map(|variable| variable.attributes) {
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
        if attributes::without_access(attributes) {
            return Err(Error::NoAccess);
        }
        if phase == Phase::Runtime && !attributes.contains(VariableAttributes::RUNTIME_ACCESS) {
            return Err(Error::NotForRuntime);
        }
        let remaining = self.0.remaining();
        Ok(Info {
            storage: N,
            remaining,
            largest: remaining.saturating_sub(records::HEADER),
        })
    }

    fn visible(&self, phase: Phase) -> impl Iterator<Item = Variable<'_>> {
        self.0.iter().filter(move |variable| {
            phase == Phase::Boot
                || variable
                    .attributes
                    .contains(VariableAttributes::RUNTIME_ACCESS)
        })
    }

    fn change(
        &mut self,
        key: Key<'_>,
        old: VariableAttributes,
        new: VariableAttributes,
        data: &[u8],
    ) -> Result<(), Error> {
        if attributes::deletes(new, data) {
            self.0.remove(key)
        } else if new.difference(VariableAttributes::APPEND_WRITE) != old {
            Err(Error::AttributesDiffer)
        } else if new.contains(VariableAttributes::APPEND_WRITE) {
            self.0.append(key, data)
        } else {
            self.0.replace(key, data)
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
        self.0.insert(
            key,
            attributes.difference(VariableAttributes::APPEND_WRITE),
            data,
        )
    }
}

impl<const N: usize> Default for Variables<N> {
    fn default() -> Self {
        Self::new()
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
