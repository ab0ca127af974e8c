//! The handle database: which handle carries which protocol interface.
//!
//! UEFI 2.11 §7.3. Promises: a service that takes a list of protocols does all
//! of it or nothing. Handles are numbers, never pointers: a program that
//! dereferences one faults at once instead of reading something by chance, and
//! a handle value from outside is looked up, never trusted. Interfaces are
//! opaque addresses; this module never looks behind them.

mod notify;
mod opens;

pub use notify::Registration;
pub use opens::{Mode, Opener, Record};

use crate::guids::{self, number};
use crate::sorted::{Sorted, gathered};
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroUsize;
use core::ops::RangeInclusive;
use notify::Registrations;
use opens::Opens;
use uefi_raw::{Guid, Handle};

/// Most protocol interfaces at any one time, on all handles: at most some 70
/// bytes each of the firmware's heap. No handle is without one.
const MAX_INTERFACES: usize = 2048;
/// A non-canonical x86-64 address, so that using a handle as a pointer faults.
const HANDLE_BASE: usize = 0x4841_4e44_0000_0000;

/// A handle known to be, or to have been, in the database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct HandleId(NonZeroUsize);

impl HandleId {
    /// What a caller alleges to be a handle. Null is none, like the highest address.
    #[must_use]
    pub fn from_raw(raw: Handle) -> Self {
        Self::of(raw.addr())
    }

    fn of(address: usize) -> Self {
        Self(NonZeroUsize::new(address).unwrap_or(NonZeroUsize::MAX))
    }

    /// What a caller alleges to be a handle, where null means none.
    #[must_use]
    pub fn optional(raw: Handle) -> Option<Self> {
        (!raw.is_null()).then(|| Self::from_raw(raw))
    }

    /// The `EFI_HANDLE` given to programs.
    #[must_use]
    pub fn to_raw(self) -> Handle {
        core::ptr::without_provenance_mut(self.0.get())
    }
}

impl fmt::Debug for HandleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handle {}", self.0.get().wrapping_sub(HANDLE_BASE))
    }
}

/// The address of a protocol interface structure; null is legal (UEFI 2.11
/// §7.3.2: some protocols are only tags).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface(pub usize);

/// A protocol and its interface.
pub type Protocol = (Guid, Interface);

/// What there is one interface for: a protocol on a handle.
type Key = (HandleId, u128);

fn key(handle: HandleId, protocol: &Guid) -> Key {
    (handle, number(protocol))
}

/// All protocols that `handle` may carry.
fn all_of(handle: HandleId) -> RangeInclusive<Key> {
    (handle, 0)..=(handle, u128::MAX)
}

/// Why the database refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The handle is not in the database.
    UnknownHandle,
    /// The handle has no such protocol, or no handle has; or nobody has it open.
    NotFound,
    /// The handle has the protocol already.
    AlreadyInstalled,
    /// Someone has the interface open who does not let go of it.
    InUse,
    /// The same driver has the interface open already.
    AlreadyStarted,
    /// A controller was said to be its own child.
    OwnChild,
    /// [`MAX_INTERFACES`] is reached, or the limit of open records.
    Full,
}

/// Which handles a search is after (`EFI_LOCATE_SEARCH_TYPE`).
#[derive(Clone, Copy, Debug)]
pub enum Search {
    /// Every handle.
    AllHandles,
    /// Handles that carry this protocol.
    ByProtocol(Guid),
    /// The one handle that is new to this registration for the longest time.
    ByRegistration(Registration),
}

/// An installed interface.
struct Installed {
    interface: Interface,
    /// A number that is higher than that of any installed before.
    serial: u64,
}

/// The handle database.
#[derive(Default)]
pub struct Handles {
    created: usize,
    serial: u64,
    installed: Sorted<Key, Installed>,
    opens: Opens,
    registrations: Registrations,
}

impl Handles {
    /// An empty database.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            created: 0,
            serial: 0,
            installed: Sorted::new(),
            opens: Opens::new(),
            registrations: Registrations::new(),
        }
    }

    /// Adds a protocol to `handle`, or to a new handle when there is none.
    pub fn install(
        &mut self,
        handle: Option<HandleId>,
        protocol: Guid,
        interface: Interface,
    ) -> Result<HandleId, Error> {
        self.install_all(handle, &[(protocol, interface)])
    }

    /// Adds protocols to `handle`, or to a new handle when there is none: all
    /// of them or, when that is an error, none. The list must not be empty.
    pub fn install_all(
        &mut self,
        handle: Option<HandleId>,
        protocols: &[Protocol],
    ) -> Result<HandleId, Error> {
        if let Some(handle) = handle {
            self.known(handle)?;
            let installed = |(guid, _): &Protocol| self.installed.contains_key(&key(handle, guid));
            if protocols.iter().any(installed) {
                return Err(Error::AlreadyInstalled);
            }
        }
        if repeats(protocols) {
            return Err(Error::AlreadyInstalled);
        }
        if self.installed.len().saturating_add(protocols.len()) > MAX_INTERFACES {
            return Err(Error::Full);
        }
        let handle = handle.map_or_else(|| self.create(), Ok)?;
        for (guid, interface) in protocols {
            self.put(key(handle, guid), *interface);
        }
        Ok(handle)
    }

    #[cold]
    fn remove(&mut self, key: Key) {
        self.opens.forget(key);
        self.installed.remove(&key);
    }

    fn put(&mut self, key: Key, interface: Interface) {
        self.serial = self.serial.saturating_add(1);
        let serial = self.serial;
        self.installed.insert(key, Installed { interface, serial });
    }

    /// A handle that never was: a stale one stays unknown.
    fn create(&mut self) -> Result<HandleId, Error> {
        self.created = self.created.checked_add(1).ok_or(Error::Full)?;
        let handle = HANDLE_BASE.checked_add(self.created);
        handle.map(HandleId::of).ok_or(Error::Full)
    }

    /// Removes a protocol; the handle goes with its last one.
    pub fn uninstall(
        &mut self,
        handle: HandleId,
        protocol: Guid,
        interface: Interface,
    ) -> Result<(), Error> {
        self.uninstall_all(handle, &[(protocol, interface)])
    }

    /// Removes protocols, all of them or, when that is an error, none; the
    /// handle goes with its last one.
    #[cold]
    pub fn uninstall_all(&mut self, handle: HandleId, protocols: &[Protocol]) -> Result<(), Error> {
        for protocol in protocols {
            self.check_unused(handle, *protocol)?;
        }
        if repeats(protocols) {
            return Err(Error::NotFound);
        }
        for (protocol, _) in protocols {
            self.remove(key(handle, protocol));
        }
        Ok(())
    }

    /// Replaces the interface of a protocol.
    pub fn reinstall(
        &mut self,
        handle: HandleId,
        protocol: Guid,
        old: Interface,
        new: Interface,
    ) -> Result<(), Error> {
        self.check_unused(handle, (protocol, old))?;
        let key = key(handle, &protocol);
        self.opens.forget(key);
        self.put(key, new);
        Ok(())
    }

    /// Whether the interface is there and may go.
    #[cold]
    fn check_unused(&self, handle: HandleId, (protocol, interface): Protocol) -> Result<(), Error> {
        if self.interface(handle, protocol)? != interface {
            return Err(Error::NotFound);
        }
        if self.opens.hold(key(handle, &protocol)) {
            return Err(Error::InUse);
        }
        Ok(())
    }

    /// Takes an image's protocol off its handle although someone may have it
    /// open, since it is about to go, and closes what the image has opened.
    #[cold]
    pub fn remove_image(&mut self, handle: HandleId, protocol: Guid, interface: Interface) {
        self.opens.close_all(handle);
        if self.interface(handle, protocol) == Ok(interface) {
            self.remove(key(handle, &protocol));
        }
    }

    /// Opens a protocol; [`Self::interface`] is what the opener gets.
    pub fn open(&mut self, handle: HandleId, protocol: Guid, opener: Opener) -> Result<(), Error> {
        self.known(handle)?;
        if opener.mode.needs_agent() {
            self.known(opener.agent.ok_or(Error::UnknownHandle)?)?;
        }
        if opener.mode.needs_controller() {
            self.known(opener.controller.ok_or(Error::UnknownHandle)?)?;
        }
        if opener.mode == Mode::BY_CHILD_CONTROLLER && opener.controller == Some(handle) {
            return Err(Error::OwnChild);
        }
        self.interface(handle, protocol)?;
        self.opens.add(key(handle, &protocol), opener)
    }

    /// Ends what `agent` opened for `controller`, in whatever mode.
    pub fn close(
        &mut self,
        handle: HandleId,
        protocol: Guid,
        agent: HandleId,
        controller: Option<HandleId>,
    ) -> Result<(), Error> {
        self.known(agent)?;
        if let Some(controller) = controller {
            self.known(controller)?;
        }
        self.interface(handle, protocol)?;
        let closed = self.opens.close(key(handle, &protocol), agent, controller);
        closed.then_some(()).ok_or(Error::NotFound)
    }

    /// Who has a protocol open, oldest first.
    pub fn opened(
        &self,
        handle: HandleId,
        protocol: Guid,
    ) -> Result<impl Iterator<Item = &Record>, Error> {
        self.interface(handle, protocol)?;
        Ok(self.opens.of(key(handle, &protocol)))
    }

    /// Who has opened something on a handle: `protocol`, or any.
    pub fn opened_on(
        &self,
        handle: HandleId,
        protocol: Option<Guid>,
    ) -> impl Iterator<Item = &Opener> {
        self.opens.on(handle, protocol.as_ref().map(number))
    }

    /// The interface of `protocol` on `handle`.
    pub fn interface(&self, handle: HandleId, protocol: Guid) -> Result<Interface, Error> {
        self.known(handle)?;
        let found = self.installed.get(&key(handle, &protocol));
        let interface = found.map(|installed| installed.interface);
        interface.ok_or(Error::NotFound)
    }

    /// The protocols on `handle`, in no order that means anything.
    #[cold]
    pub fn protocols(&self, handle: HandleId) -> Result<Vec<Guid>, Error> {
        self.known(handle)?;
        let protocols = self.installed.range(all_of(handle));
        Ok(gathered(
            protocols.map(|((_, found), _)| guids::guid(*found)),
        ))
    }

    fn known(&self, handle: HandleId) -> Result<(), Error> {
        let mut protocols = self.installed.range(all_of(handle));
        protocols.next().map(drop).ok_or(Error::UnknownHandle)
    }

    /// The handles `search` matches, oldest first.
    #[must_use]
    pub fn locate(&self, search: Search) -> Vec<HandleId> {
        let wanted = match search {
            Search::AllHandles => None,
            Search::ByProtocol(wanted) => Some(number(&wanted)),
            Search::ByRegistration(which) => return self.next_new(which).into_iter().collect(),
        };
        let keys = self.installed.keys();
        let mut handles = Vec::new();
        for (handle, found) in keys {
            let matches = wanted.is_none_or(|wanted| *found == wanted);
            if matches && handles.last() != Some(handle) {
                handles.push(*handle);
            }
        }
        handles
    }

    /// The first interface of `protocol` on any handle.
    pub fn locate_interface(&self, protocol: Guid) -> Result<Interface, Error> {
        let protocol = number(&protocol);
        let mut all = self.installed.iter();
        let first = all.find(|((_, found), _)| *found == protocol);
        first
            .map(|(_, installed)| installed.interface)
            .ok_or(Error::NotFound)
    }
}

/// Whether a list names a protocol twice.
fn repeats(protocols: &[Protocol]) -> bool {
    protocols.iter().enumerate().any(|(index, (guid, _))| {
        let mut earlier = protocols.iter().take(index);
        earlier.any(|(other, _)| guids::same(other, guid))
    })
}

#[cfg(test)]
mod tests;
