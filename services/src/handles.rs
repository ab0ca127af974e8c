//! The handle database: which handle carries which protocol interface.
//!
//! UEFI 2.11 §7.3. Handles are numbers, never pointers: a program that
//! dereferences one faults at once instead of reading something by chance, and
//! a handle value from outside is looked up, never trusted. Interfaces are
//! opaque addresses; this module never looks behind them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use uefi_raw::{Guid, Handle};

/// Most handles that may exist at once: what a hostile program can make the
/// firmware's heap hold is bounded.
const MAX_HANDLES: usize = 1024;
/// Most protocol interfaces on one handle.
const MAX_PROTOCOLS: usize = 64;
/// A non-canonical x86-64 address, so that using a handle as a pointer faults.
const HANDLE_BASE: usize = 0x4841_4e44_0000_0000;

/// A handle known to be, or to have been, in the database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HandleId(usize);

impl HandleId {
    /// What a caller alleges to be a handle.
    #[must_use]
    pub fn from_raw(raw: Handle) -> Self {
        Self(raw.addr())
    }

    /// The `EFI_HANDLE` given to programs.
    #[must_use]
    pub fn to_raw(self) -> Handle {
        core::ptr::without_provenance_mut(self.0)
    }
}

impl fmt::Debug for HandleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handle {}", self.0.wrapping_sub(HANDLE_BASE))
    }
}

/// The address of a protocol interface structure; null is legal (UEFI 2.11
/// §7.3.2: some protocols are only tags).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface(pub usize);

/// Why the database refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The handle is not in the database.
    UnknownHandle,
    /// The handle has no such protocol, or no handle has.
    NotFound,
    /// The handle has the protocol already.
    AlreadyInstalled,
    /// [`MAX_HANDLES`] or [`MAX_PROTOCOLS`] is reached.
    Full,
}

/// Which handles a search is after (`EFI_LOCATE_SEARCH_TYPE`).
#[derive(Clone, Copy, Debug)]
pub enum Search {
    /// Every handle.
    AllHandles,
    /// Handles that carry this protocol.
    ByProtocol(Guid),
}

/// The handle database.
#[derive(Default)]
pub struct Handles {
    created: usize,
    protocols: BTreeMap<HandleId, BTreeMap<Guid, Interface>>,
}

impl Handles {
    /// An empty database.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            created: 0,
            protocols: BTreeMap::new(),
        }
    }

    /// Adds a protocol to `handle`, or to a new handle when there is none.
    pub fn install(
        &mut self,
        handle: Option<HandleId>,
        protocol: Guid,
        interface: Interface,
    ) -> Result<HandleId, Error> {
        let Some(handle) = handle else {
            return self.create(protocol, interface);
        };
        let protocols = self
            .protocols
            .get_mut(&handle)
            .ok_or(Error::UnknownHandle)?;
        if protocols.contains_key(&protocol) {
            return Err(Error::AlreadyInstalled);
        }
        if protocols.len() >= MAX_PROTOCOLS {
            return Err(Error::Full);
        }
        protocols.insert(protocol, interface);
        Ok(handle)
    }

    fn create(&mut self, protocol: Guid, interface: Interface) -> Result<HandleId, Error> {
        if self.protocols.len() >= MAX_HANDLES {
            return Err(Error::Full);
        }
        // Never reused: a stale handle stays unknown.
        self.created = self.created.checked_add(1).ok_or(Error::Full)?;
        let handle = HandleId(HANDLE_BASE.checked_add(self.created).ok_or(Error::Full)?);
        self.protocols
            .insert(handle, BTreeMap::from([(protocol, interface)]));
        Ok(handle)
    }

    /// Removes a protocol; the handle goes with its last one.
    pub fn uninstall(
        &mut self,
        handle: HandleId,
        protocol: Guid,
        interface: Interface,
    ) -> Result<(), Error> {
        let protocols = self
            .protocols
            .get_mut(&handle)
            .ok_or(Error::UnknownHandle)?;
        if protocols.get(&protocol) != Some(&interface) {
            return Err(Error::NotFound);
        }
        protocols.remove(&protocol);
        if protocols.is_empty() {
            self.protocols.remove(&handle);
        }
        Ok(())
    }

    /// The interface of `protocol` on `handle`.
    pub fn interface(&self, handle: HandleId, protocol: Guid) -> Result<Interface, Error> {
        self.protocols
            .get(&handle)
            .ok_or(Error::UnknownHandle)?
            .get(&protocol)
            .copied()
            .ok_or(Error::NotFound)
    }

    /// Whether `handle` is in the database.
    #[must_use]
    pub fn contains(&self, handle: HandleId) -> bool {
        self.protocols.contains_key(&handle)
    }

    /// The handles `search` matches, oldest first.
    #[must_use]
    pub fn locate(&self, search: Search) -> Vec<HandleId> {
        self.protocols
            .iter()
            .filter(|(_, protocols)| match search {
                Search::AllHandles => true,
                Search::ByProtocol(protocol) => protocols.contains_key(&protocol),
            })
            .map(|(handle, _)| *handle)
            .collect()
    }

    /// The first interface of `protocol` on any handle.
    pub fn locate_interface(&self, protocol: Guid) -> Result<Interface, Error> {
        self.protocols
            .values()
            .find_map(|protocols| protocols.get(&protocol).copied())
            .ok_or(Error::NotFound)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use uefi_raw::guid;

    const A: Guid = guid!("00000001-0000-0000-0000-000000000000");
    const B: Guid = guid!("00000002-0000-0000-0000-000000000000");

    #[test]
    fn a_handle_lives_from_its_first_protocol_to_its_last() {
        let mut handles = Handles::new();
        let handle = handles.install(None, A, Interface(1)).unwrap();
        assert_eq!(handles.install(Some(handle), B, Interface(2)), Ok(handle));
        assert_eq!(handles.interface(handle, A), Ok(Interface(1)));
        assert_eq!(handles.interface(handle, B), Ok(Interface(2)));
        assert_eq!(handles.uninstall(handle, A, Interface(1)), Ok(()));
        assert_eq!(handles.interface(handle, A), Err(Error::NotFound));
        assert_eq!(handles.uninstall(handle, B, Interface(2)), Ok(()));
        assert!(!handles.contains(handle));
        assert_eq!(handles.interface(handle, B), Err(Error::UnknownHandle));
    }

    #[test]
    fn uninstall_wants_the_installed_interface() {
        let mut handles = Handles::new();
        let handle = handles.install(None, A, Interface(1)).unwrap();
        assert_eq!(
            handles.uninstall(handle, A, Interface(2)),
            Err(Error::NotFound)
        );
        assert_eq!(handles.interface(handle, A), Ok(Interface(1)));
    }

    #[test]
    fn a_protocol_is_installed_once_per_handle() {
        let mut handles = Handles::new();
        let handle = handles.install(None, A, Interface(1)).unwrap();
        assert_eq!(
            handles.install(Some(handle), A, Interface(2)),
            Err(Error::AlreadyInstalled)
        );
    }

    #[test]
    fn a_dead_handle_is_never_given_out_again() {
        let mut handles = Handles::new();
        let first = handles.install(None, A, Interface(1)).unwrap();
        handles.uninstall(first, A, Interface(1)).unwrap();
        assert_ne!(handles.install(None, A, Interface(1)).unwrap(), first);
    }

    #[test]
    fn locate_keeps_the_order_of_creation() {
        let mut handles = Handles::new();
        let first = handles.install(None, A, Interface(1)).unwrap();
        let second = handles.install(None, B, Interface(2)).unwrap();
        let third = handles.install(None, B, Interface(3)).unwrap();
        assert_eq!(handles.locate(Search::AllHandles), [first, second, third]);
        assert_eq!(handles.locate(Search::ByProtocol(B)), [second, third]);
        assert_eq!(handles.locate_interface(B), Ok(Interface(2)));
    }

    #[test]
    fn the_number_of_handles_is_bounded() {
        let mut handles = Handles::new();
        for n in 0..MAX_HANDLES {
            handles.install(None, A, Interface(n)).unwrap();
        }
        assert_eq!(handles.install(None, A, Interface(0)), Err(Error::Full));
    }
}
