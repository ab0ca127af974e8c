//! Who has opened which protocol interface (UEFI 2.11 §7.3.9-7.3.11).
//!
//! Promises: at most one opener at a time *manages* an interface, as a driver
//! or exclusively; whoever asks while there is one is refused. To make the present
//! one let go is for who can call it: `abi/drivers.rs`.

use super::{Error, HandleId, Key};
use alloc::vec::Vec;

/// Most open records at any one time, of all interfaces: 64 bytes each of the
/// firmware's heap.
pub(super) const MAX_RECORDS: usize = 1024;

/// How a protocol interface is opened: a legal value of `Attributes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode(u32);

impl Mode {
    /// As HandleProtocol does.
    pub const BY_HANDLE_PROTOCOL: Self = Self(0x01);
    /// To get at the interface.
    pub const GET_PROTOCOL: Self = Self(0x02);
    /// To see whether it is there.
    pub const TEST_PROTOCOL: Self = Self(0x04);
    /// By a bus driver, for a child that uses its parent.
    pub const BY_CHILD_CONTROLLER: Self = Self(0x08);
    /// By the driver that manages the controller.
    pub const BY_DRIVER: Self = Self(0x10);
    /// By an application that wants no driver at it.
    pub const EXCLUSIVE: Self = Self(0x20);
    /// By a driver that wants no other at it.
    pub const EXCLUSIVE_BY_DRIVER: Self = Self(0x30);

    const ALL: [Self; 7] = [
        Self::BY_HANDLE_PROTOCOL,
        Self::GET_PROTOCOL,
        Self::TEST_PROTOCOL,
        Self::BY_CHILD_CONTROLLER,
        Self::BY_DRIVER,
        Self::EXCLUSIVE,
        Self::EXCLUSIVE_BY_DRIVER,
    ];

    /// The mode that `Attributes` stands for; `None` when it is not legal.
    #[must_use]
    pub fn from_attributes(attributes: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.0 == attributes)
    }

    /// `Attributes` as a program gave it.
    #[must_use]
    pub fn attributes(self) -> u32 {
        self.0
    }

    /// Whether the one who opens has to be named by a valid handle.
    pub(super) fn needs_agent(self) -> bool {
        self == Self::BY_CHILD_CONTROLLER || self.manages()
    }

    /// Whether the controller has to be named by a valid handle.
    pub(super) fn needs_controller(self) -> bool {
        self.needs_agent() && self != Self::EXCLUSIVE
    }

    /// Whether no driver is wanted beside.
    #[must_use]
    pub fn exclusive(self) -> bool {
        self.0 & Self::EXCLUSIVE.0 != 0
    }

    /// Whether nobody else may manage the interface meanwhile.
    fn manages(self) -> bool {
        self.0 & Self::EXCLUSIVE_BY_DRIVER.0 != 0
    }

    /// Whether a driver manages the controller by it.
    #[must_use]
    pub fn by_driver(self) -> bool {
        self.0 & Self::BY_DRIVER.0 != 0
    }

    /// Whether the interface has to stay until it is closed. The others never
    /// have to close it and are not asked (§7.3.3).
    fn holds(self) -> bool {
        self.needs_agent()
    }
}

/// Who opens an interface, for whom and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opener {
    /// The image that opens it.
    pub agent: Option<HandleId>,
    /// The controller it is opened for.
    pub controller: Option<HandleId>,
    /// How.
    pub mode: Mode,
}

/// An item of the open list (`EFI_OPEN_PROTOCOL_INFORMATION_ENTRY`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its `agent` is never `None`.
    pub opener: Opener,
    /// How often it was opened so.
    pub count: u32,
}

/// The open lists of all interfaces.
#[derive(Default)]
pub(super) struct Opens(Vec<(Key, Record)>);

impl Opens {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The open list of one interface, oldest first.
    pub(super) fn of(&self, key: Key) -> impl Iterator<Item = &Record> {
        let same = self.0.iter().filter(move |(other, _)| *other == key);
        same.map(|(_, record)| record)
    }

    /// Who has opened something on a handle: one protocol, or any.
    pub(super) fn on(
        &self,
        handle: HandleId,
        protocol: Option<u128>,
    ) -> impl Iterator<Item = &Opener> {
        let same = self.0.iter().filter(move |((on, guid), _)| {
            *on == handle && protocol.is_none_or(|protocol| protocol == *guid)
        });
        same.map(|(_, record)| &record.opener)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Opens an interface, unless who has it open forbids. Who does not say who
    /// he is leaves no record.
    pub(super) fn add(&mut self, key: Key, opener: Opener) -> Result<(), Error> {
        self.admit(key, opener)?;
        if opener.agent.is_none() {
            return Ok(());
        }
        let again = |(other, record): &&mut (Key, Record)| *other == key && record.opener == opener;
        if let Some((_, record)) = self.0.iter_mut().find(again) {
            record.count = record.count.saturating_add(1);
            return Ok(());
        }
        if self.0.len() >= MAX_RECORDS {
            return Err(Error::Full);
        }
        self.0.push((key, Record { opener, count: 1 }));
        Ok(())
    }

    /// The access rules of §7.3.9, of which there is one: only one may manage.
    fn admit(&self, key: Key, opener: Opener) -> Result<(), Error> {
        let manager = self.of(key).find(|record| record.opener.mode.manages());
        let Some(manager) = manager.filter(|_| opener.mode.manages()) else {
            return Ok(());
        };
        let itself = manager.opener.agent == opener.agent && manager.opener.mode == opener.mode;
        if itself && opener.mode.by_driver() {
            return Err(Error::AlreadyStarted);
        }
        Err(Error::InUse)
    }

    /// Whether someone has to close the interface before it may go.
    pub(super) fn hold(&self, key: Key) -> bool {
        self.of(key).any(|record| record.opener.mode.holds())
    }

    /// Ends what `agent` opened for `controller`; whether there was anything.
    pub(super) fn close(
        &mut self,
        key: Key,
        agent: HandleId,
        controller: Option<HandleId>,
    ) -> bool {
        let before = self.0.len();
        self.0.retain(|(other, Record { opener, .. })| {
            *other != key || opener.agent != Some(agent) || opener.controller != controller
        });
        self.0.len() < before
    }

    /// Forgets everyone who has the interface open: it goes.
    pub(super) fn forget(&mut self, key: Key) {
        self.0.retain(|(other, _)| *other != key);
    }

    /// Closes everything that `agent` has opened: it goes.
    pub(super) fn close_all(&mut self, agent: HandleId) {
        self.0
            .retain(|(_, record)| record.opener.agent != Some(agent));
    }
}
