//! Events and task priority levels (UEFI 2.11 §7.1).
//!
//! No interrupt does anything. Timers are looked at, and notification functions run,
//! at the end of the services that may have to run some: RestoreTPL, SignalEvent,
//! CheckEvent, WaitForEvent, Stall, and those that change the memory map or
//! install a protocol somebody has registered for. RaiseTPL to a lower level and
//! RestoreTPL to a higher one, a program's mistakes, leave the level as it is.

use super::{Alleged, Edge, machine, status, timers, with, with_edge};
use crate::catalog::Service;
use crate::events::{Call, EventId, Notify, group};
use core::ffi::c_void;
use core::ptr;
use uefi_raw::table::boot::{EventNotifyFn, EventType, Tpl};
use uefi_raw::{Event, Guid, Status};

/// Runs the notification functions that are due and above the present level.
pub(super) fn dispatch() {
    timers::poll();
    while let Ok(Some((call, level))) = with_edge(Service::Firmware, |edge| {
        let call = edge.boot.events.next(edge.boot.tpl);
        Ok(call.map(|call| (call, edge.set_level(call.tpl))))
    }) {
        run(call);
        set_level(level);
    }
}

fn run(Call { event, notify, .. }: Call) {
    let context = ptr::with_exposed_provenance_mut(notify.context);
    // SAFETY: the function that the event's creator gave, with its own context.
    unsafe { (notify.function)(event.to_raw(), context) };
}

impl Edge {
    /// Returns the level before. At `TPL_HIGH_LEVEL` there are no interrupts.
    #[cold]
    fn set_level(&mut self, level: Tpl) -> Tpl {
        let old = core::mem::replace(&mut self.boot.tpl, level);
        let [was_high, is_high] = [old, level].map(|tpl| tpl >= Tpl::HIGH_LEVEL);
        if was_high != is_high {
            (self.machine.interrupts)(!is_high);
        }
        old
    }
}

/// What RestoreTPL does, but for the notifications.
pub(super) fn set_level(level: Tpl) {
    let _ = with_edge(Service::RestoreTPL, |edge| Ok(edge.set_level(level)));
}

#[cold]
pub(super) unsafe extern "efiapi" fn raise_tpl(new_tpl: Tpl) -> Tpl {
    with_edge(Service::RaiseTPL, |edge| {
        Ok(edge.set_level(edge.boot.tpl.max(new_tpl)))
    })
    .unwrap_or(Tpl::APPLICATION)
}

#[cold]
pub(super) unsafe extern "efiapi" fn restore_tpl(old_tpl: Tpl) {
    let _ = with_edge(Service::RestoreTPL, |edge| {
        Ok(edge.set_level(edge.boot.tpl.min(old_tpl)))
    });
    dispatch();
}

#[cold]
pub(super) unsafe extern "efiapi" fn create_event(
    kind: EventType,
    notify_tpl: Tpl,
    notify: Option<EventNotifyFn>,
    context: *mut c_void,
    event: *mut Event,
) -> Status {
    // SAFETY: OUT, the caller's promise.
    let event = unsafe { Alleged::new(event) };
    status::of(create(kind, notify_tpl, notify, context, None, event))
}

#[cold]
pub(super) unsafe extern "efiapi" fn create_event_ex(
    kind: EventType,
    notify_tpl: Tpl,
    notify: Option<EventNotifyFn>,
    context: *const c_void,
    group: *const Guid,
    event: *mut Event,
) -> Status {
    // SAFETY: IN OPTIONAL, the caller's promise.
    let group = unsafe { Alleged::new(group) };
    // SAFETY: OUT, the caller's promise.
    let event = unsafe { Alleged::new(event) };
    let group = group.read().ok();
    status::of(create(kind, notify_tpl, notify, context, group, event))
}

#[cold]
fn create(
    kind: EventType,
    tpl: Tpl,
    notify: Option<EventNotifyFn>,
    context: *const c_void,
    group: Option<Guid>,
    event: Alleged<Event>,
) -> Result<(), Status> {
    if event.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    let context = context.expose_provenance();
    let notify = notify.map(|function| Notify { function, context });
    let created = with(Service::CreateEvent, |boot| {
        let created = boot.events.create(kind, tpl, notify, group);
        created.map_err(status::from)
    })?;
    event.write(created.to_raw())
}

#[cold]
pub(super) unsafe extern "efiapi" fn close_event(event: Event) -> Status {
    let event = EventId::from_raw(event);
    status::of(with(Service::CloseEvent, |boot| {
        boot.handles.unregister(event);
        boot.events.close(event).map_err(status::from)
    }))
}

#[cold]
pub(super) unsafe extern "efiapi" fn signal_event(event: Event) -> Status {
    let event = EventId::from_raw(event);
    let signalled = with(Service::SignalEvent, |boot| {
        boot.events.signal(event).map_err(status::from)
    });
    dispatch();
    status::of(signalled)
}

/// Signals all events of a group, and runs what then is due.
pub(super) fn signal_group(group: Guid) {
    let _ = with(Service::SignalEvent, |boot| {
        boot.events.signal_group(group);
        Ok(())
    });
    dispatch();
}

/// Says that an operating system is about to be started: to programs, and to
/// the runtime image, which may have to tell the host.
pub fn ready_to_boot() {
    signal_group(group::READY_TO_BOOT);
    let _ = with_edge(Service::Firmware, |edge| {
        if let Some(tell) = edge.resident.0.ready_to_boot {
            // SAFETY: the runtime image's own function.
            unsafe { tell() };
        }
        Ok(())
    });
    signal_group(group::AFTER_READY_TO_BOOT);
}

/// CheckEvent, with time looked at already.
#[cold]
fn check(event: EventId) -> Result<(), Status> {
    let ask = || {
        with(Service::CheckEvent, |boot| {
            boot.events.check(event).map_err(status::from)
        })
    };
    let take = || {
        with(Service::CheckEvent, |boot| {
            boot.events.take(event).map_err(status::from)
        })
    };
    if ask()? {
        return Ok(());
    }
    // Whoever wants to know that somebody waits may signal the event now.
    dispatch();
    if take()? {
        Ok(())
    } else {
        Err(Status::NOT_READY)
    }
}

pub(super) unsafe extern "efiapi" fn check_event(event: Event) -> Status {
    dispatch();
    status::of(check(EventId::from_raw(event)))
}

#[cold]
pub(super) unsafe extern "efiapi" fn wait_for_event(
    count: usize,
    events: *const Event,
    index: *mut usize,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let events = unsafe { Alleged::new(events) };
    // SAFETY: OUT, the caller's promise.
    let index = unsafe { Alleged::new(index) };
    status::of(wait(count, events, index))
}

fn wait(count: usize, events: Alleged<Event>, index: Alleged<usize>) -> Result<(), Status> {
    if count == 0 || events.is_null() {
        return Err(Status::INVALID_PARAMETER);
    }
    if with(Service::WaitForEvent, |boot| Ok(boot.tpl))? != Tpl::APPLICATION {
        return Err(Status::UNSUPPORTED);
    }
    loop {
        dispatch();
        for at in 0..count {
            match check(EventId::from_raw(events.at(at)?.read()?)) {
                Err(Status::NOT_READY) => {}
                done => {
                    index.write_optional(at);
                    return done;
                }
            }
        }
        (machine(Service::WaitForEvent)?.pause)();
    }
}
