//! Events, timers and task priority levels (UEFI 2.11 §7.1), what is signalled by
//! other services, and the monotonic counter (§7.5).

use crate::calls::Guest;
use crate::ports;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use crate::signals::eventually;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use r_efi::efi::{self, Event, EventNotify, Guid, Status, SystemTable, Tpl};

pub const AREA: Area = Area {
    name: "events",
    checks: &[
        ("2.3.4 interrupts are enabled, and end HLT", interrupts),
        ("7.1.8 TPL_HIGH_LEVEL disables interrupts", disabled),
        ("7.1.3 a closed event is none", closed),
        ("7.1.4 a notification runs at its level", at_its_level),
        ("7.1.4 a signalled event is signalled once", once),
        ("7.1.4 a group is signalled as one", one_group),
        ("7.1.5 WaitForEvent says which", wait),
        ("7.1.5 WaitForEvent with wrong parameters", wait_wrong),
        ("7.1.5 WaitForEvent leaves the processor to others", idle),
        ("7.1.6 CheckEvent clears what it finds", check),
        ("7.1.6 CheckEvent asks who can signal", check_asks),
        ("7.1.7 a timer ends once", relative),
        ("7.1.7 a timer goes on until it is cancelled", periodic),
        ("7.1.7 a timer's notification runs during Stall", stalled),
        ("7.1.8 the higher level comes first", order),
        ("7.1.9 RestoreTPL runs what has waited", restored),
        ("7.2 the memory map's changes are told", memory_map),
        ("7.5.5 GetNextMonotonicCount grows", monotonic),
        ("7.5.6 a configuration table's changes are told", table),
        ("8.5.2 GetNextHighMonotonicCount grows", high),
    ],
};

/// A group that nobody else knows.
pub const GROUP: Guid = Guid::from_fields(
    0x1c1b_92d4,
    0x6f0e,
    0x4a55,
    0x8d,
    0x13,
    &[0x57, 0xe2, 0x90, 0x3b, 0xc6, 0x7a],
);

/// One second in the unit of timers.
const SECOND: u64 = 10_000_000;

/// What the notifications were called with, four bits a call, the latest lowest.
static CALLED: AtomicU64 = AtomicU64::new(0);
/// The level at which the last one ran.
static LEVEL: AtomicUsize = AtomicUsize::new(0);
/// The system table, for notifications.
static SYSTEM: AtomicPtr<SystemTable> = AtomicPtr::new(ptr::null_mut());

/// What was called since this was asked last.
pub fn called() -> u64 {
    CALLED.swap(0, Ordering::Relaxed)
}

/// The firmware, for notifications.
fn services() -> Guest {
    Guest::new(ptr::null_mut(), SYSTEM.load(Ordering::Relaxed))
}

/// Writes its context down, and the level it runs at.
pub extern "efiapi" fn note(_: Event, context: *mut c_void) {
    let before = CALLED.load(Ordering::Relaxed);
    CALLED.store(before << 4 | context.addr() as u64, Ordering::Relaxed);
    let level = services().raise_tpl(efi::TPL_HIGH_LEVEL);
    LEVEL.store(level, Ordering::Relaxed);
    services().restore_tpl(level);
}

extern "efiapi" fn signal_itself(event: Event, context: *mut c_void) {
    note(event, context);
    services().signal_event(event);
}

/// An event with a function, whose context is `number`.
fn create(
    guest: &Guest,
    kind: u32,
    tpl: Tpl,
    notify: EventNotify,
    number: usize,
) -> Result<Event, Failure> {
    SYSTEM.store(guest.system_table(), Ordering::Relaxed);
    let (mut event, context) = (ptr::null_mut(), ptr::without_provenance_mut(number));
    let found = guest.create_event(kind, tpl, Some(notify), context, &mut event);
    success("CreateEvent", found)?;
    Ok(event)
}

/// An event that notes `number` when it is signalled.
pub fn noting(guest: &Guest, tpl: Tpl, number: usize) -> Result<Event, Failure> {
    create(guest, efi::EVT_NOTIFY_SIGNAL, tpl, note, number)
}

/// An event of a group that notes `number`.
pub fn in_group(guest: &Guest, group: &Guid, number: usize) -> Result<Event, Failure> {
    SYSTEM.store(guest.system_table(), Ordering::Relaxed);
    let (mut event, context) = (ptr::null_mut(), ptr::without_provenance_mut(number));
    let (kind, tpl) = (efi::EVT_NOTIFY_SIGNAL, efi::TPL_CALLBACK);
    let found = guest.create_event_ex(kind, tpl, Some(note), context, group, &mut event);
    success("CreateEventEx", found)?;
    Ok(event)
}

/// An event that only a timer or SignalEvent signals.
pub fn plain(guest: &Guest, kind: u32) -> Result<Event, Failure> {
    let mut event = ptr::null_mut();
    let found = guest.create_event(kind, 0, None, ptr::null_mut(), &mut event);
    success("CreateEvent", found)?;
    Ok(event)
}

/// Closes all `events`.
pub fn close(guest: &Guest, events: &[Event]) -> Outcome {
    events
        .iter()
        .try_for_each(|&event| success("CloseEvent", guest.close_event(event)))
}

/// A program that waits with HLT, as iPXE does, goes on.
fn interrupts(_: &Guest) -> Outcome {
    holds("interrupts enabled", ports::interrupts_enabled())?;
    ports::halt();
    holds("interrupts still enabled", ports::interrupts_enabled())
}

fn disabled(guest: &Guest) -> Outcome {
    let before = guest.raise_tpl(efi::TPL_HIGH_LEVEL);
    let high = ports::interrupts_enabled();
    guest.restore_tpl(before);
    holds("interrupts disabled", !high)?;
    holds("interrupts enabled again", ports::interrupts_enabled())?;
    let before = guest.raise_tpl(efi::TPL_NOTIFY);
    let lower = ports::interrupts_enabled();
    guest.restore_tpl(before);
    holds("interrupts enabled at a lower level", lower)
}

fn closed(guest: &Guest) -> Outcome {
    let event = noting(guest, efi::TPL_CALLBACK, 1)?;
    let before = guest.raise_tpl(efi::TPL_NOTIFY);
    let signalled = guest.signal_event(event);
    let closed = guest.close_event(event);
    guest.restore_tpl(before);
    success("SignalEvent", signalled)?;
    success("CloseEvent", closed)?;
    equal("notifications of a closed event", called(), 0)
}

fn at_its_level(guest: &Guest) -> Outcome {
    for (tpl, number) in [(efi::TPL_CALLBACK, 1), (efi::TPL_NOTIFY, 2)] {
        let event = noting(guest, tpl, number)?;
        success("SignalEvent", guest.signal_event(event))?;
        equal("notifications", called(), number as u64)?;
        equal("level", LEVEL.load(Ordering::Relaxed), tpl)?;
        close(guest, &[event])?;
    }
    let after = guest.raise_tpl(efi::TPL_APPLICATION);
    equal("level afterwards", after, efi::TPL_APPLICATION)
}

fn once(guest: &Guest) -> Outcome {
    let event = noting(guest, efi::TPL_CALLBACK, 3)?;
    let before = guest.raise_tpl(efi::TPL_CALLBACK);
    let both = [guest.signal_event(event), guest.signal_event(event)];
    let early = called();
    guest.restore_tpl(before);
    for found in both {
        success("SignalEvent", found)?;
    }
    equal("notifications before, after", (early, called()), (0, 3))?;
    close(guest, &[event])
}

fn one_group(guest: &Guest) -> Outcome {
    let (one, two) = (in_group(guest, &GROUP, 1)?, in_group(guest, &GROUP, 1)?);
    let other = noting(guest, efi::TPL_CALLBACK, 2)?;
    success("SignalEvent", guest.signal_event(two))?;
    equal("notifications", called(), 0x11)?;
    close(guest, &[one, other])?;
    success("SignalEvent", guest.signal_event(two))?;
    equal("notifications of the rest", called(), 0x1)?;
    close(guest, &[two])
}

fn wait(guest: &Guest) -> Outcome {
    let (one, two) = (plain(guest, 0)?, plain(guest, efi::EVT_TIMER)?);
    success(
        "SetTimer",
        guest.set_timer(two, efi::TIMER_RELATIVE, SECOND / 100),
    )?;
    let (mut index, mut events) = (99, [one, two]);
    let found = guest.wait_for_event(2, events.as_mut_ptr(), &mut index);
    success("WaitForEvent(timer)", found)?;
    equal("index", index, 1)?;
    success("SignalEvent", guest.signal_event(one))?;
    let found = guest.wait_for_event(2, events.as_mut_ptr(), &mut index);
    success("WaitForEvent(signalled)", found)?;
    equal("index", index, 0)?;
    status("CheckEvent", guest.check_event(one), Status::NOT_READY)?;
    close(guest, &events)
}

/// Who waits does not look all the time: each look asks the event that can be
/// signalled by its notification.
fn idle(guest: &Guest) -> Outcome {
    const MOST: u64 = 100;
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    extern "efiapi" fn look(_: Event, _: *mut c_void) {
        LOOKS.fetch_add(1, Ordering::Relaxed);
    }
    let asked = create(guest, efi::EVT_NOTIFY_WAIT, efi::TPL_NOTIFY, look, 0)?;
    let timer = plain(guest, efi::EVT_TIMER)?;
    let found = guest.set_timer(timer, efi::TIMER_RELATIVE, SECOND / 5);
    success("SetTimer", found)?;
    let (mut index, mut events) = (99, [asked, timer]);
    let found = guest.wait_for_event(2, events.as_mut_ptr(), &mut index);
    success("WaitForEvent", found)?;
    equal("index", index, 1)?;
    let looks = LOOKS.load(Ordering::Relaxed);
    holds("some looks, but few", (1..MOST).contains(&looks))?;
    close(guest, &events)
}

fn wait_wrong(guest: &Guest) -> Outcome {
    let quiet = plain(guest, 0)?;
    let signals = noting(guest, efi::TPL_CALLBACK, 1)?;
    let (mut index, mut events) = (99, [quiet, signals]);
    let refused = Status::INVALID_PARAMETER;
    let found = guest.wait_for_event(0, events.as_mut_ptr(), &mut index);
    status("no events", found, refused)?;
    let found = guest.wait_for_event(2, events.as_mut_ptr(), &mut index);
    status("an event that notifies", found, refused)?;
    equal("index", index, 1)?;
    let before = guest.raise_tpl(efi::TPL_CALLBACK);
    let found = guest.wait_for_event(2, events.as_mut_ptr(), &mut index);
    guest.restore_tpl(before);
    status("at a higher level", found, Status::UNSUPPORTED)?;
    close(guest, &events)
}

fn check(guest: &Guest) -> Outcome {
    let event = plain(guest, 0)?;
    status("CheckEvent", guest.check_event(event), Status::NOT_READY)?;
    success("SignalEvent", guest.signal_event(event))?;
    success("CheckEvent", guest.check_event(event))?;
    status("CheckEvent", guest.check_event(event), Status::NOT_READY)?;
    close(guest, &[event])?;
    let event = noting(guest, efi::TPL_CALLBACK, 1)?;
    let refused = Status::INVALID_PARAMETER;
    status("one that notifies", guest.check_event(event), refused)?;
    close(guest, &[event])
}

fn check_asks(guest: &Guest) -> Outcome {
    let (kind, tpl) = (efi::EVT_NOTIFY_WAIT, efi::TPL_NOTIFY);
    let event = create(guest, kind, tpl, signal_itself, 5)?;
    success("CheckEvent", guest.check_event(event))?;
    equal("notifications", called(), 5)?;
    let before = guest.raise_tpl(tpl);
    let found = guest.check_event(event);
    guest.restore_tpl(before);
    status("CheckEvent at its level", found, Status::NOT_READY)?;
    equal("notifications later", called(), 5)?;
    success("CheckEvent", guest.check_event(event))?;
    equal("notifications of a signalled one", called(), 0)?;
    close(guest, &[event])
}

fn relative(guest: &Guest) -> Outcome {
    let event = plain(guest, efi::EVT_TIMER)?;
    let signalled = || guest.check_event(event) == Status::SUCCESS;
    for time in [SECOND / 50, 0] {
        let found = guest.set_timer(event, efi::TIMER_RELATIVE, time);
        success("SetTimer", found)?;
        holds("a signal", eventually(guest, signalled))?;
        success("Stall", guest.stall(60_000))?;
        status("again", guest.check_event(event), Status::NOT_READY)?;
    }
    close(guest, &[event])
}

fn periodic(guest: &Guest) -> Outcome {
    let event = plain(guest, efi::EVT_TIMER)?;
    let found = guest.set_timer(event, efi::TIMER_PERIODIC, SECOND / 50);
    success("SetTimer", found)?;
    let mut events = [event];
    for _ in 0..3 {
        let found = guest.wait_for_event(1, events.as_mut_ptr(), &mut 0);
        success("WaitForEvent", found)?;
    }
    let found = guest.set_timer(event, efi::TIMER_CANCEL, 0);
    success("SetTimer(cancel)", found)?;
    // One may have come just before.
    let _ = guest.check_event(event);
    success("Stall", guest.stall(60_000))?;
    status("cancelled", guest.check_event(event), Status::NOT_READY)?;
    close(guest, &events)
}

fn stalled(guest: &Guest) -> Outcome {
    let kind = efi::EVT_TIMER | efi::EVT_NOTIFY_SIGNAL;
    let event = create(guest, kind, efi::TPL_CALLBACK, note, 1)?;
    let found = guest.set_timer(event, efi::TIMER_PERIODIC, SECOND / 50);
    success("SetTimer", found)?;
    let mut count = 0;
    let several = eventually(guest, || {
        count += called().count_ones();
        count >= 2
    });
    let before = guest.raise_tpl(efi::TPL_CALLBACK);
    called();
    success("Stall", guest.stall(80_000))?;
    let masked = called();
    guest.restore_tpl(before);
    let late = called();
    close(guest, &[event])?;
    holds("several notifications", several)?;
    equal("notifications of a masked level", masked, 0)?;
    holds("one that has waited", late != 0)
}

fn order(guest: &Guest) -> Outcome {
    let low = noting(guest, efi::TPL_CALLBACK, 1)?;
    let also_low = noting(guest, efi::TPL_CALLBACK, 2)?;
    let high = noting(guest, efi::TPL_NOTIFY, 3)?;
    let events = [also_low, low, high];
    let before = guest.raise_tpl(efi::TPL_HIGH_LEVEL);
    let found = events.map(|event| guest.signal_event(event));
    guest.restore_tpl(before);
    equal("statuses", found, [Status::SUCCESS; 3])?;
    equal("order", called(), 0x321)?;
    close(guest, &events)
}

fn restored(guest: &Guest) -> Outcome {
    let low = noting(guest, efi::TPL_CALLBACK, 1)?;
    let high = noting(guest, efi::TPL_NOTIFY, 2)?;
    let before = guest.raise_tpl(efi::TPL_CALLBACK);
    let middle = guest.raise_tpl(efi::TPL_NOTIFY);
    let signalled = [guest.signal_event(low), guest.signal_event(high)];
    let none = called();
    guest.restore_tpl(middle);
    let some = called();
    guest.restore_tpl(before);
    equal("statuses", signalled, [Status::SUCCESS; 2])?;
    equal("notifications", (none, some, called()), (0, 2, 1))?;
    close(guest, &[low, high])
}

fn memory_map(guest: &Guest) -> Outcome {
    let event = in_group(guest, &efi::EVENT_GROUP_MEMORY_MAP_CHANGE, 1)?;
    let mut memory = 0;
    let (any, ty) = (efi::ALLOCATE_ANY_PAGES, efi::LOADER_DATA);
    success(
        "AllocatePages",
        guest.allocate_pages(any, ty, 1, &mut memory),
    )?;
    let allocated = called();
    success("FreePages", guest.free_pages(memory, 1))?;
    let freed = called();
    close(guest, &[event])?;
    equal("notifications", (allocated, freed), (1, 1))
}

fn monotonic(guest: &Guest) -> Outcome {
    let (mut one, mut two) = (0, 0);
    success(
        "GetNextMonotonicCount",
        guest.get_next_monotonic_count(&mut one),
    )?;
    success(
        "GetNextMonotonicCount",
        guest.get_next_monotonic_count(&mut two),
    )?;
    holds("a higher count", two > one)?;
    let found = guest.get_next_monotonic_count(ptr::null_mut());
    status("no count", found, Status::INVALID_PARAMETER)
}

fn high(guest: &Guest) -> Outcome {
    let (mut count, mut one, mut two) = (0, 0, 0);
    success(
        "GetNextHighMonotonicCount",
        guest.get_next_high_mono_count(&mut one),
    )?;
    success(
        "GetNextMonotonicCount",
        guest.get_next_monotonic_count(&mut count),
    )?;
    success(
        "GetNextHighMonotonicCount",
        guest.get_next_high_mono_count(&mut two),
    )?;
    equal("high half of the count between", (count >> 32) as u32, one)?;
    holds("a higher count", two > one)
}

fn table(guest: &Guest) -> Outcome {
    let event = in_group(guest, &GROUP, 1)?;
    let data = (&raw const CALLED).cast_mut().cast();
    let installed = guest.install_configuration_table(&GROUP, data);
    success("InstallConfigurationTable", installed)?;
    let there = called();
    let removed = guest.install_configuration_table(&GROUP, ptr::null_mut());
    success("InstallConfigurationTable(null)", removed)?;
    let gone = called();
    close(guest, &[event])?;
    equal("notifications", (there, gone), (1, 1))
}

/// Creates events that are signalled by ExitBootServices, which has been refused
/// once already.
pub fn listen_to_the_end(guest: &Guest) -> Outcome {
    called();
    in_group(guest, &efi::EVENT_GROUP_BEFORE_EXIT_BOOT_SERVICES, 1)?;
    in_group(guest, &efi::EVENT_GROUP_EXIT_BOOT_SERVICES, 2)?;
    let kind = efi::EVT_SIGNAL_EXIT_BOOT_SERVICES;
    create(guest, kind, efi::TPL_NOTIFY, note, 3).map(drop)
}

/// Whether those were signalled that had to be, the higher level first.
pub fn end_was_told() -> Outcome {
    equal("notifications", called(), 0x32)
}
