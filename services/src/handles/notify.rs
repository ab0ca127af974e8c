//! Who wants to know of new interfaces of a protocol (UEFI 2.11 §7.3.5).
//!
//! Promises: the search by a registration finds each interface that was installed
//! or replaced since it was found last, the oldest first, those that were there
//! before the registration included.

use super::{Error, HandleId, Handles};
use crate::events::EventId;
use crate::guids::number;
use alloc::vec::Vec;
use core::ffi::c_void;
use uefi_raw::Guid;

/// Most registrations at any one time.
const MAX_REGISTRATIONS: usize = 512;
/// A non-canonical x86-64 address, so that using a registration as a pointer faults.
const REGISTRATION_BASE: usize = 0x5245_4749_0000_0000;

/// A registration that exists, or that did or never has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration(usize);

impl Registration {
    /// What a caller alleges to be a registration.
    #[must_use]
    pub fn from_raw(raw: *const c_void) -> Self {
        Self(raw.addr())
    }

    /// The `Registration` given to programs.
    #[must_use]
    pub fn to_raw(self) -> *mut c_void {
        core::ptr::without_provenance_mut(self.0)
    }
}

struct Registered {
    registration: Registration,
    protocol: u128,
    event: EventId,
    /// The serial number of the last interface that was found.
    seen: u64,
}

/// All registrations.
#[derive(Default)]
pub(super) struct Registrations {
    created: usize,
    list: Vec<Registered>,
}

impl Registrations {
    pub(super) const fn new() -> Self {
        Self {
            created: 0,
            list: Vec::new(),
        }
    }

    fn get(&self, registration: Registration) -> Option<&Registered> {
        self.list
            .iter()
            .find(|one| one.registration == registration)
    }
}

impl Handles {
    /// Registers `event` for interfaces of `protocol`.
    pub fn register(&mut self, protocol: Guid, event: EventId) -> Result<Registration, Error> {
        let all = &mut self.registrations;
        if all.list.len() >= MAX_REGISTRATIONS {
            return Err(Error::Full);
        }
        all.created = all.created.saturating_add(1);
        let registration = Registration(REGISTRATION_BASE.saturating_add(all.created));
        all.list.push(Registered {
            registration,
            protocol: number(&protocol),
            event,
            seen: 0,
        });
        Ok(registration)
    }

    /// Forgets the registrations of an event: it goes.
    pub fn unregister(&mut self, event: EventId) {
        self.registrations.list.retain(|one| one.event != event);
    }

    /// The events that are registered for a protocol.
    pub fn registered(&self, protocol: Guid) -> impl Iterator<Item = EventId> {
        let protocol = number(&protocol);
        let all = self.registrations.list.iter();
        let same = all.filter(move |one| one.protocol == protocol);
        same.map(|one| one.event)
    }

    /// The next handle that is new to a registration.
    pub(super) fn next_new(&self, registration: Registration) -> Option<HandleId> {
        let registered = self.registrations.get(registration)?;
        let new = self.installed.iter().filter(|((_, protocol), entry)| {
            *protocol == registered.protocol && entry.serial > registered.seen
        });
        let oldest = new.min_by_key(|(_, entry)| entry.serial)?;
        Some(oldest.0.0)
    }

    /// The handle was found by the registration: it is not new to it any more.
    #[cold]
    pub fn found_by(&mut self, registration: Registration, handle: HandleId) {
        let mut all = self.registrations.list.iter_mut();
        if let Some(one) = all.find(|one| one.registration == registration)
            && let Some(entry) = self.installed.get(&(handle, one.protocol))
        {
            one.seen = entry.serial;
        }
    }
}
