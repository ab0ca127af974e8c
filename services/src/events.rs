//! Events, timers and pending notifications (UEFI 2.11 §7.1).
//!
//! Promises: a notification function is handed out once for each time its event
//! is signalled or waited for, the highest level first and at one level in the
//! order in which they became due. Calls none itself: [`Events::next`] returns
//! what is to be called now. There is no interrupt, so time passes when
//! [`Events::expire`] is told so; periods that were missed meanwhile count once.
//! Events are numbers that are looked up, like handles, and are never used again.

use crate::guids::number;
use crate::resident::MAX_LISTENERS;
use alloc::vec::Vec;
use uefi_raw::table::boot::{EventNotifyFn, EventType, Tpl};
use uefi_raw::{Event, Guid, guid};

/// Most events at any one time: some 100 bytes each of the firmware's heap.
const MAX_EVENTS: usize = 1024;
/// A non-canonical x86-64 address, so that using an event as a pointer faults.
const EVENT_BASE: usize = 0x4556_454e_0000_0000;
/// What a period of 0, "every timer tick", comes to: 1 ms in units of 100 ns.
const TICK: u64 = 10_000;
/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// Event groups that the firmware signals (UEFI 2.11 §7.1.2).
pub mod group {
    use super::{Guid, guid};

    /// ExitBootServices has succeeded.
    pub const EXIT_BOOT_SERVICES: Guid = guid!("27abf055-b1b8-4c26-8048-748f37baa2df");
    /// ExitBootServices was called for the first time.
    pub const BEFORE_EXIT: Guid = guid!("8be0e274-3970-4b44-80c5-1ab9502f3bfc");
    /// SetVirtualAddressMap was called.
    pub const VIRTUAL_ADDRESS_CHANGE: Guid = guid!("13fa7698-c831-49c7-87ea-8f43fcc25196");
    /// The memory map has changed.
    pub const MEMORY_MAP_CHANGE: Guid = guid!("78bee926-692f-48fd-9edb-01422ef0d7ab");
    /// A boot option is about to be started.
    pub const READY_TO_BOOT: Guid = guid!("7ce88fb3-4bd7-4679-87a8-a8d8dee50d2b");
    /// As above, behind everything that waits for that.
    pub const AFTER_READY_TO_BOOT: Guid = guid!("3a2a00ad-98b9-4cdf-a478-702777f1c10b");
}

/// An event that exists, or that did or never has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventId(usize);

impl EventId {
    /// What a caller alleges to be an event.
    #[must_use]
    pub fn from_raw(raw: Event) -> Self {
        Self(raw.addr())
    }

    /// The `EFI_EVENT` given to programs.
    #[must_use]
    pub fn to_raw(self) -> Event {
        core::ptr::without_provenance_mut(self.0)
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No such event, not one of the kind that the service is for, or not a kind.
    Invalid,
    /// [`MAX_EVENTS`] is reached.
    Full,
}

/// A function to be called, and the address it is called with.
#[derive(Clone, Copy, Debug)]
pub struct Notify {
    /// The function.
    pub function: EventNotifyFn,
    /// Its second argument, an address that is not looked behind.
    pub context: usize,
}

/// A notification that is due.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The event, for the function's first argument.
    pub event: EventId,
    /// What is to be called.
    pub notify: Notify,
    /// At which level it runs.
    pub tpl: Tpl,
}

/// When a timer's event is signalled, in units of 100 ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// Not any more.
    Cancel,
    /// Each time that this long has passed.
    Periodic(u64),
    /// Once, when this long has passed.
    Relative(u64),
}

struct Entry {
    id: EventId,
    kind: EventType,
    tpl: Tpl,
    notify: Option<Notify>,
    group: Option<u128>,
    signalled: bool,
    /// Its place in the queue of notifications; 0 when it is not there.
    queued: u64,
    due: u64,
    period: u64,
}

impl Entry {
    fn queue(&mut self, place: &mut u64) {
        *place = place.saturating_add(1);
        self.queued = *place;
    }

    fn signal(&mut self, place: &mut u64) {
        if !self.signalled {
            self.signalled = true;
            if self.kind.contains(EventType::NOTIFY_SIGNAL) {
                self.queue(place);
            }
        }
    }
}

/// All events.
pub struct Events {
    entries: Vec<Entry>,
    created: usize,
    /// The last place given in the queue of notifications.
    place: u64,
    /// When the next timer ends.
    due: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

/// The kind of an event without what only says where it lives, and its group.
fn classify(kind: EventType, group: Option<Guid>) -> Result<(EventType, Option<Guid>), Error> {
    let implied = if kind == EventType::SIGNAL_EXIT_BOOT_SERVICES {
        group::EXIT_BOOT_SERVICES
    } else if kind == EventType::SIGNAL_VIRTUAL_ADDRESS_CHANGE {
        group::VIRTUAL_ADDRESS_CHANGE
    } else {
        let kind = kind.difference(EventType::RUNTIME);
        let both = EventType::NOTIFY_WAIT | EventType::NOTIFY_SIGNAL;
        let known = (both | EventType::TIMER).contains(kind) && !kind.contains(both);
        return known.then_some((kind, group)).ok_or(Error::Invalid);
    };
    match group {
        None => Ok((EventType::NOTIFY_SIGNAL, Some(implied))),
        Some(_) => Err(Error::Invalid),
    }
}

impl Events {
    /// No events.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            created: 0,
            place: 0,
            due: NEVER,
        }
    }

    /// A new event. `tpl` and `notify` are of no account to a kind without
    /// notification.
    pub fn create(
        &mut self,
        kind: EventType,
        tpl: Tpl,
        notify: Option<Notify>,
        group: Option<Guid>,
    ) -> Result<EventId, Error> {
        let (kind, group) = classify(kind, group)?;
        let notifies = kind.intersects(EventType::NOTIFY_WAIT | EventType::NOTIFY_SIGNAL);
        let level = tpl == Tpl::CALLBACK || tpl == Tpl::NOTIFY;
        if notifies && !(level && notify.is_some()) {
            return Err(Error::Invalid);
        }
        let group = group.as_ref().map(number);
        let listens = group == Some(number(&group::VIRTUAL_ADDRESS_CHANGE));
        let listeners = self.of_group(group::VIRTUAL_ADDRESS_CHANGE).count();
        if self.entries.len() >= MAX_EVENTS || listens && listeners >= MAX_LISTENERS {
            return Err(Error::Full);
        }
        self.created = self.created.saturating_add(1);
        let id = EventId(EVENT_BASE.saturating_add(self.created));
        self.entries.push(Entry {
            id,
            kind,
            tpl,
            notify,
            group,
            signalled: false,
            queued: 0,
            due: NEVER,
            period: 0,
        });
        Ok(id)
    }

    fn entry(&mut self, id: EventId) -> Result<&mut Entry, Error> {
        let found = self.entries.iter_mut().find(|entry| entry.id == id);
        found.ok_or(Error::Invalid)
    }

    /// Whether there is this event.
    pub fn known(&mut self, id: EventId) -> Result<(), Error> {
        self.entry(id).map(drop)
    }

    /// Forgets an event, and its notification if that is due.
    pub fn close(&mut self, id: EventId) -> Result<(), Error> {
        self.entry(id)?;
        self.entries.retain(|entry| entry.id != id);
        self.plan();
        Ok(())
    }

    /// Signals an event, and all others of its group.
    #[cold]
    pub fn signal(&mut self, id: EventId) -> Result<(), Error> {
        let (signalled, group) = self.entry(id).map(|entry| (entry.signalled, entry.group))?;
        match group {
            _ if signalled => {}
            Some(group) => self.signal_all(group),
            None => {
                let mut place = self.place;
                self.entry(id)?.signal(&mut place);
                self.place = place;
            }
        }
        Ok(())
    }

    /// Signals all events of a group.
    pub fn signal_group(&mut self, group: Guid) {
        self.signal_all(number(&group));
    }

    fn signal_all(&mut self, group: u128) {
        for entry in &mut self.entries {
            if entry.group == Some(group) {
                entry.signal(&mut self.place);
            }
        }
    }

    /// Whether an event is signalled, which it then is no more. If it is not,
    /// and wants to know who asks, its notification is due.
    pub fn check(&mut self, id: EventId) -> Result<bool, Error> {
        let mut place = self.place;
        let entry = self.entry(id)?;
        if entry.kind.contains(EventType::NOTIFY_SIGNAL) {
            return Err(Error::Invalid);
        }
        let signalled = core::mem::take(&mut entry.signalled);
        if !signalled && entry.kind.contains(EventType::NOTIFY_WAIT) {
            entry.queue(&mut place);
        }
        self.place = place;
        Ok(signalled)
    }

    /// Whether an event is signalled, which it then is no more.
    pub fn take(&mut self, id: EventId) -> Result<bool, Error> {
        Ok(core::mem::take(&mut self.entry(id)?.signalled))
    }

    /// Starts or stops the timer of an event; it is `now`.
    pub fn set_timer(&mut self, id: EventId, timer: Timer, now: u64) -> Result<(), Error> {
        let entry = self.entry(id)?;
        if !entry.kind.contains(EventType::TIMER) {
            return Err(Error::Invalid);
        }
        (entry.due, entry.period) = match timer {
            Timer::Cancel => (NEVER, 0),
            Timer::Relative(time) => (now.saturating_add(time), 0),
            Timer::Periodic(0) => (now.saturating_add(TICK), TICK),
            Timer::Periodic(time) => (now.saturating_add(time), time),
        };
        self.plan();
        Ok(())
    }

    /// Stops all timers.
    pub fn cancel_timers(&mut self) {
        for entry in &mut self.entries {
            entry.due = NEVER;
        }
        self.due = NEVER;
    }

    #[cold]
    fn plan(&mut self) {
        let due = self.entries.iter().map(|entry| entry.due).min();
        self.due = due.unwrap_or(NEVER);
    }

    /// Whether anybody waits for time to pass.
    #[must_use]
    pub fn has_timers(&self) -> bool {
        self.due != NEVER
    }

    /// Signals the events whose time has come, the earliest first; it is `now`.
    pub fn expire(&mut self, now: u64) {
        while self.due <= now && self.due != NEVER {
            let due = self.due;
            let mut first = self.entries.iter_mut().filter(|entry| entry.due == due);
            let Some(entry) = first.next() else { return };
            entry.due = match entry.period {
                0 => NEVER,
                period => next_after(due, period, now),
            };
            let id = entry.id;
            // It was found just now.
            let _ = self.signal(id);
            self.plan();
        }
    }

    /// The next notification above level `above`, to be called now.
    pub fn next(&mut self, above: Tpl) -> Option<Call> {
        let due = self.entries.iter_mut();
        let due = due.filter(|entry| entry.queued != 0 && entry.tpl.0 > above.0);
        let entry = due.min_by_key(|entry| (core::cmp::Reverse(entry.tpl.0), entry.queued))?;
        entry.queued = 0;
        if entry.kind.contains(EventType::NOTIFY_SIGNAL) {
            entry.signalled = false;
        }
        Some(Call {
            event: entry.id,
            notify: entry.notify?,
            tpl: entry.tpl,
        })
    }

    /// The notifications of a group, in the order of their creation.
    pub fn of_group(&self, group: Guid) -> impl Iterator<Item = (EventId, Notify)> {
        let group = number(&group);
        let members = self.entries.iter();
        let members = members.filter(move |entry| entry.group == Some(group));
        members.filter_map(|entry| Some((entry.id, entry.notify?)))
    }
}

/// The first multiple of `period` from `due` that is later than `now`.
fn next_after(due: u64, period: u64, now: u64) -> u64 {
    let missed = now.saturating_sub(due).checked_div(period).unwrap_or(0);
    let periods = missed.saturating_add(1);
    due.saturating_add(period.saturating_mul(periods))
}

#[cfg(test)]
mod tests;
