//! Events, statement by statement (UEFI 2.11 §7.1.1-7.1.7): what may be created,
//! waited for, signalled and timed, and what not. How notifications follow each
//! other is in [`crate::events`].

use crate::calls::Guest;
use crate::events::{GROUP, called, close, note, noting, plain};
use crate::report::{Area, Failure, Outcome, equal, gives, holds, invalid, success, works};
use core::ptr;
use r_efi::efi::{
    self, EVT_NOTIFY_SIGNAL as SIGNAL, EVT_NOTIFY_WAIT as WAIT, EVT_TIMER as TIMER, Event, Status,
    TPL_APPLICATION, TPL_CALLBACK, TPL_HIGH_LEVEL, TPL_NOTIFY, Tpl,
};

pub const CREATE: Area = Area {
    name: "7.1.1 CreateEvent",
    checks: &[
        ("a type of 0", |g| creates(g, 0)),
        ("EVT_TIMER", |g| creates(g, TIMER)),
        ("EVT_NOTIFY_WAIT", |g| creates(g, WAIT)),
        ("EVT_NOTIFY_SIGNAL", |g| creates(g, SIGNAL)),
        ("EVT_TIMER | EVT_NOTIFY_WAIT", |g| creates(g, TIMER | WAIT)),
        ("EVT_TIMER | EVT_NOTIFY_SIGNAL", |g| {
            creates(g, TIMER | SIGNAL)
        }),
        ("EVT_SIGNAL_EXIT_BOOT_SERVICES", |g| {
            creates(g, efi::EVT_SIGNAL_EXIT_BOOT_SERVICES)
        }),
        ("EVT_SIGNAL_VIRTUAL_ADDRESS_CHANGE", |g| {
            creates(g, efi::EVT_SIGNAL_VIRTUAL_ADDRESS_CHANGE)
        }),
        ("EVT_NOTIFY_WAIT | EVT_NOTIFY_SIGNAL", |g| {
            invalid(create(g, WAIT | SIGNAL, TPL_NOTIFY))
        }),
        ("an unknown type", |g| invalid(create(g, 0x400, TPL_NOTIFY))),
        ("an unknown type besides a known one", |g| {
            invalid(create(g, SIGNAL | 4, TPL_NOTIFY))
        }),
        ("EVT_TIMER | EVT_SIGNAL_EXIT_BOOT_SERVICES", |g| {
            invalid(create(
                g,
                TIMER | efi::EVT_SIGNAL_EXIT_BOOT_SERVICES,
                TPL_NOTIFY,
            ))
        }),
        ("NotifyFunction of NULL to be signalled", |g| {
            no_function(g, SIGNAL)
        }),
        ("NotifyFunction of NULL to be waited for", |g| {
            no_function(g, WAIT)
        }),
        ("NotifyFunction of NULL of a timer to be signalled", |g| {
            no_function(g, TIMER | SIGNAL)
        }),
        ("NotifyFunction of NULL at the end", |g| {
            no_function(g, efi::EVT_SIGNAL_EXIT_BOOT_SERVICES)
        }),
        ("NotifyTpl of 0", |g| invalid(create(g, SIGNAL, 0))),
        ("NotifyTpl of TPL_APPLICATION", |g| {
            invalid(create(g, SIGNAL, TPL_APPLICATION))
        }),
        ("NotifyTpl of TPL_HIGH_LEVEL", |g| {
            invalid(create(g, WAIT, TPL_HIGH_LEVEL))
        }),
        ("NotifyTpl above all levels", |g| {
            invalid(create(g, SIGNAL, TPL_HIGH_LEVEL + 1))
        }),
        ("NotifyTpl does not matter without a notification", |g| {
            let mut event = ptr::null_mut();
            works(g.create_event(TIMER, 99, None, ptr::null_mut(), &mut event))?;
            close(g, &[event])
        }),
        ("Event of NULL", |g| {
            let null = ptr::null_mut();
            invalid(g.create_event(0, TPL_CALLBACK, None, null, null.cast()))
        }),
        ("events of all kinds are different", different),
    ],
};

pub const CREATE_EX: Area = Area {
    name: "7.1.2 CreateEventEx",
    checks: &[
        ("EventGroup of NULL", |g| {
            let event = create_ex(g, SIGNAL, ptr::null())?;
            works(g.signal_event(event))?;
            close(g, &[event])?;
            equal("notifications", called(), 1)
        }),
        ("a group of one", |g| {
            let event = create_ex(g, SIGNAL, &GROUP)?;
            works(g.signal_event(event))?;
            close(g, &[event])?;
            equal("notifications", called(), 1)
        }),
        ("EVT_SIGNAL_EXIT_BOOT_SERVICES in a group", |g| {
            invalid(in_group(g, efi::EVT_SIGNAL_EXIT_BOOT_SERVICES))
        }),
        ("EVT_SIGNAL_VIRTUAL_ADDRESS_CHANGE in a group", |g| {
            invalid(in_group(g, efi::EVT_SIGNAL_VIRTUAL_ADDRESS_CHANGE))
        }),
        ("Event of NULL", |g| {
            let null = ptr::null_mut();
            invalid(g.create_event_ex(0, TPL_CALLBACK, None, null, &GROUP, null.cast()))
        }),
    ],
};

pub const SIGNALS: Area = Area {
    name: "7.1.3-7.1.6 events",
    checks: &[
        ("CloseEvent of NULL", |g| {
            invalid(g.close_event(ptr::null_mut()))
        }),
        ("SignalEvent of NULL", |g| {
            invalid(g.signal_event(ptr::null_mut()))
        }),
        ("CheckEvent of NULL", |g| {
            invalid(g.check_event(ptr::null_mut()))
        }),
        ("a new event is not signalled", |g| with(g, 0, not_ready)),
        ("a signalled event is", |g| {
            with(g, 0, |g, event| {
                works(g.signal_event(event)).and(works(g.check_event(event)))
            })
        }),
        ("CheckEvent takes the signal", |g| {
            with(g, 0, |g, event| {
                works(g.signal_event(event))?;
                works(g.check_event(event))?;
                not_ready(g, event)
            })
        }),
        ("two signals are one", |g| {
            with(g, 0, |g, event| {
                works(g.signal_event(event)).and(works(g.signal_event(event)))?;
                works(g.check_event(event))?;
                not_ready(g, event)
            })
        }),
        ("CheckEvent of EVT_NOTIFY_SIGNAL", |g| {
            with_noting(g, |g, event| invalid(g.check_event(event)))
        }),
        ("WaitForEvent of a signalled event", |g| {
            with(g, 0, |g, event| {
                works(g.signal_event(event))?;
                works(wait(g, &mut [event], &mut 9))?;
                not_ready(g, event)
            })
        }),
        (
            "WaitForEvent takes the first that is signalled",
            first_of_two,
        ),
        ("WaitForEvent of no events", |g| {
            with(g, 0, |g, event| {
                invalid(g.wait_for_event(0, &mut { event }, &mut 0))
            })
        }),
        ("WaitForEvent of EVT_NOTIFY_SIGNAL", |g| {
            with_noting(g, |g, event| {
                let mut index = 9;
                invalid(wait(g, &mut [event], &mut index))?;
                equal("index", index, 0)
            })
        }),
        ("WaitForEvent above TPL_APPLICATION", |g| {
            with(g, 0, |g, event| {
                works(g.signal_event(event))?;
                let before = g.raise_tpl(TPL_CALLBACK);
                let found = wait(g, &mut [event], &mut 9);
                g.restore_tpl(before);
                gives(Status::UNSUPPORTED, found)
            })
        }),
        ("a notification runs inside SignalEvent", |g| {
            with_noting(g, |g, event| {
                works(g.signal_event(event))?;
                equal("notifications", called(), 1)
            })
        }),
        ("a level that is masked waits for RestoreTPL", |g| {
            masked(g, TPL_CALLBACK, 0, 1)
        }),
        ("a level that is not masked does not wait", |g| {
            masked(g, TPL_APPLICATION, 1, 0)
        }),
        ("a notification can be signalled again afterwards", |g| {
            with_noting(g, |g, event| {
                works(g.signal_event(event)).and(works(g.signal_event(event)))?;
                equal("notifications", called(), 0x11)
            })
        }),
        (
            "notifications of one level come in the order of signals",
            in_order,
        ),
    ],
};

/// Of handles that were never real, EDK2 looks behind the pointer.
pub const OURS: Area = Area {
    name: "7.1.3-7.1.6 events",
    checks: &[
        ("CloseEvent of what is closed", |g| {
            invalid(g.close_event(closed(g)?))
        }),
        ("SignalEvent of what is closed", |g| {
            invalid(g.signal_event(closed(g)?))
        }),
        ("CheckEvent of what is closed", |g| {
            invalid(g.check_event(closed(g)?))
        }),
        ("SetTimer of what is closed", |g| {
            invalid(g.set_timer(closed(g)?, efi::TIMER_CANCEL, 0))
        }),
        ("WaitForEvent of what is closed", |g| {
            invalid(wait(g, &mut [closed(g)?], &mut 0))
        }),
        ("SignalEvent of a handle", |g| {
            invalid(g.signal_event(g.handle))
        }),
    ],
};

pub const TIMERS: Area = Area {
    name: "7.1.7 SetTimer",
    checks: &[
        ("Event of NULL", |g| {
            invalid(g.set_timer(ptr::null_mut(), efi::TIMER_CANCEL, 0))
        }),
        ("an event without a timer", |g| {
            with(g, 0, |g, event| {
                invalid(g.set_timer(event, efi::TIMER_RELATIVE, SECOND))
            })
        }),
        ("a Type that is none", |g| {
            with(g, TIMER, |g, event| invalid(g.set_timer(event, 3, SECOND)))
        }),
        ("the cancellation of what is not set", |g| {
            with(g, TIMER, |g, event| {
                works(g.set_timer(event, efi::TIMER_CANCEL, 0))
            })
        }),
        ("a time that is long is not over", |g| {
            timed(g, efi::TIMER_RELATIVE, 100 * SECOND, not_ready)
        }),
        ("a time that never comes", |g| {
            timed(g, efi::TIMER_RELATIVE, u64::MAX, not_ready)
        }),
        ("TimerRelative of 0 comes at once", |g| {
            timed(g, efi::TIMER_RELATIVE, 0, comes)
        }),
        ("TimerRelative comes", |g| {
            timed(g, efi::TIMER_RELATIVE, SECOND / 100, comes)
        }),
        ("TimerRelative comes once", |g| {
            timed(g, efi::TIMER_RELATIVE, SECOND / 100, |g, event| {
                comes(g, event)?;
                stays_away(g, event)
            })
        }),
        ("TimerPeriodic of 0 comes with every tick", |g| {
            timed(g, efi::TIMER_PERIODIC, 0, |g, event| {
                comes(g, event).and(comes(g, event))
            })
        }),
        ("TimerPeriodic comes again", |g| {
            timed(g, efi::TIMER_PERIODIC, SECOND / 100, |g, event| {
                comes(g, event).and(comes(g, event))
            })
        }),
        ("TimerCancel ends it", |g| {
            timed(g, efi::TIMER_PERIODIC, SECOND / 100, |g, event| {
                works(g.set_timer(event, efi::TIMER_CANCEL, 0))?;
                // One may have come just before.
                let _ = g.check_event(event);
                stays_away(g, event)
            })
        }),
        ("another SetTimer takes the place of the first", |g| {
            timed(g, efi::TIMER_PERIODIC, SECOND / 100, |g, event| {
                works(g.set_timer(event, efi::TIMER_RELATIVE, 100 * SECOND))?;
                let _ = g.check_event(event);
                stays_away(g, event)
            })
        }),
        ("WaitForEvent waits for it", |g| {
            timed(g, efi::TIMER_RELATIVE, SECOND / 50, |g, event| {
                works(wait(g, &mut [event], &mut 9))
            })
        }),
        ("its notification is called", |g| {
            let mut event = ptr::null_mut();
            let context = ptr::without_provenance_mut(1);
            let kind = TIMER | SIGNAL;
            works(g.create_event(kind, TPL_CALLBACK, Some(note), context, &mut event))?;
            works(g.set_timer(event, efi::TIMER_RELATIVE, SECOND / 100))?;
            let found = eventually(g, || called() == 1);
            close(g, &[event])?;
            holds("a notification", found)
        }),
        ("CloseEvent ends it", |g| {
            let event = plain(g, TIMER)?;
            works(g.set_timer(event, efi::TIMER_PERIODIC, SECOND / 100))?;
            close(g, &[event])?;
            works(g.stall(30_000))
        }),
    ],
};

/// One second in the unit of timers.
const SECOND: u64 = 10_000_000;

/// CreateEvent, with a function that must not be called.
fn create(guest: &Guest, kind: u32, tpl: Tpl) -> Status {
    let null = ptr::null_mut();
    guest.create_event(kind, tpl, Some(note), null, &mut ptr::null_mut())
}

fn creates(guest: &Guest, kind: u32) -> Outcome {
    let mut event = ptr::null_mut();
    works(guest.create_event(kind, TPL_NOTIFY, Some(note), ptr::null_mut(), &mut event))?;
    holds("an event", !event.is_null())?;
    close(guest, &[event])
}

fn no_function(guest: &Guest, kind: u32) -> Outcome {
    let null = ptr::null_mut();
    invalid(guest.create_event(kind, TPL_NOTIFY, None, null, &mut ptr::null_mut()))
}

fn different(guest: &Guest) -> Outcome {
    let events = [plain(guest, 0)?, plain(guest, TIMER)?, plain(guest, 0)?];
    let [a, b, c] = events;
    close(guest, &events)?;
    holds("three events", a != b && b != c && a != c)
}

fn create_ex(guest: &Guest, kind: u32, group: *const efi::Guid) -> Result<Event, Failure> {
    // Its system table is what the function needs.
    close(guest, &[noting(guest, TPL_CALLBACK, 1)?])?;
    let (mut event, context) = (ptr::null_mut(), ptr::without_provenance(1));
    let found = guest.create_event_ex(kind, TPL_CALLBACK, Some(note), context, group, &mut event);
    success("CreateEventEx", found)?;
    Ok(event)
}

fn in_group(guest: &Guest, kind: u32) -> Status {
    let (event, context) = (&mut ptr::null_mut(), ptr::null());
    guest.create_event_ex(kind, TPL_NOTIFY, Some(note), context, &GROUP, event)
}

/// Does `act` with an event of a type without a notification.
fn with(guest: &Guest, kind: u32, act: impl FnOnce(&Guest, Event) -> Outcome) -> Outcome {
    let event = plain(guest, kind)?;
    let outcome = act(guest, event);
    close(guest, &[event])?;
    outcome
}

/// Does `act` with an event whose notification notes a 1.
fn with_noting(guest: &Guest, act: impl FnOnce(&Guest, Event) -> Outcome) -> Outcome {
    called();
    let event = noting(guest, TPL_CALLBACK, 1)?;
    let outcome = act(guest, event);
    close(guest, &[event])?;
    outcome
}

fn not_ready(guest: &Guest, event: Event) -> Outcome {
    gives(Status::NOT_READY, guest.check_event(event))
}

fn wait(guest: &Guest, events: &mut [Event], index: &mut usize) -> Status {
    guest.wait_for_event(events.len(), events.as_mut_ptr(), index)
}

fn first_of_two(guest: &Guest) -> Outcome {
    let mut events = [plain(guest, 0)?, plain(guest, 0)?];
    let mut index = 9;
    for event in events {
        works(guest.signal_event(event))?;
    }
    works(wait(guest, &mut events, &mut index))?;
    equal("the first", index, 0)?;
    works(wait(guest, &mut events, &mut index))?;
    close(guest, &events)?;
    equal("the second", index, 1)
}

/// Signals at a level; so many notifications come at once, so many later.
fn masked(guest: &Guest, level: Tpl, at_once: u64, later: u64) -> Outcome {
    with_noting(guest, |guest, event| {
        let before = guest.raise_tpl(level);
        let found = guest.signal_event(event);
        let first = called();
        guest.restore_tpl(before);
        works(found)?;
        equal("notifications", (first, called()), (at_once, later))
    })
}

fn in_order(guest: &Guest) -> Outcome {
    called();
    let events = [
        noting(guest, TPL_CALLBACK, 1)?,
        noting(guest, TPL_CALLBACK, 2)?,
    ];
    let before = guest.raise_tpl(TPL_NOTIFY);
    let found = [guest.signal_event(events[1]), guest.signal_event(events[0])];
    guest.restore_tpl(before);
    close(guest, &events)?;
    equal("statuses", found, [Status::SUCCESS; 2])?;
    equal("order", called(), 0x21)
}

fn closed(guest: &Guest) -> Result<Event, Failure> {
    let event = plain(guest, TIMER)?;
    close(guest, &[event])?;
    Ok(event)
}

/// Does `act` with a timer that is set.
fn timed(guest: &Guest, kind: u32, time: u64, act: fn(&Guest, Event) -> Outcome) -> Outcome {
    with(guest, TIMER, |guest, event| {
        works(guest.set_timer(event, kind, time))?;
        act(guest, event)
    })
}

/// Waits for what has to come, on a busy host, too: at most three seconds.
pub fn eventually(guest: &Guest, mut there: impl FnMut() -> bool) -> bool {
    (0..600).any(|_| there() || guest.stall(5000) != Status::SUCCESS)
}

fn comes(guest: &Guest, event: Event) -> Outcome {
    let signalled = || guest.check_event(event) == Status::SUCCESS;
    holds("a signal", eventually(guest, signalled))
}

/// It does not come for several of its times.
fn stays_away(guest: &Guest, event: Event) -> Outcome {
    works(guest.stall(40_000))?;
    not_ready(guest, event)
}
