//! Events as a program uses them (UEFI 2.11 §7.1), and what signals some of them.

use super::*;
use crate::events::group;
use std::cell::RefCell;
use uefi_raw::Event;
use uefi_raw::protocol::memory_protection::MemoryAttributeProtocol;
use uefi_raw::table::boot::{EventType, InterfaceType, MemoryAttribute, TimerDelay, Tpl};

const SIGNAL: EventType = EventType::NOTIFY_SIGNAL;

thread_local! {
    /// What the notification functions were called with.
    static CALLED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    /// The services, for notification functions that call some.
    static SERVICES: RefCell<Option<&'static BootServices>> = const { RefCell::new(None) };
}

/// What was called since this was asked last.
fn called() -> Vec<usize> {
    CALLED.with_borrow_mut(core::mem::take)
}

unsafe extern "efiapi" fn note(_: Event, context: *mut c_void) {
    CALLED.with_borrow_mut(|called| called.push(context.addr()));
}

/// Signals its own event, which only means something to one that waits.
unsafe extern "efiapi" fn signal_itself(event: Event, context: *mut c_void) {
    // SAFETY: as `note` asks for.
    unsafe { note(event, context) };
    let services = SERVICES.with_borrow(|services| services.unwrap());
    // SAFETY: no pointers.
    assert_eq!(unsafe { (services.signal_event)(event) }, Status::SUCCESS);
}

/// Takes memory and gives none back.
unsafe extern "efiapi" fn allocate(event: Event, context: *mut c_void) {
    // SAFETY: as `note` asks for.
    unsafe { note(event, context) };
    let services = SERVICES.with_borrow(|services| services.unwrap());
    let ty = MemoryType::LOADER_DATA;
    // SAFETY: room for a pointer.
    let status = unsafe { (services.allocate_pool)(ty, PAGE, &mut null_mut()) };
    assert_eq!(status, Status::SUCCESS);
}

impl World {
    fn event(&self, kind: EventType, tpl: Tpl, context: usize) -> Event {
        let (mut event, context) = (null_mut(), core::ptr::without_provenance_mut(context));
        let create = self.services.create_event;
        // SAFETY: room for an event; the function takes any context.
        let status = unsafe { create(kind, tpl, Some(note), context, &mut event) };
        assert_eq!(status, Status::SUCCESS);
        event
    }

    fn in_group(&self, group: Guid, context: usize) -> Event {
        let (mut event, context) = (null_mut(), core::ptr::without_provenance(context));
        let create = self.services.create_event_ex;
        // SAFETY: room for an event; the function takes any context.
        let status = unsafe {
            create(
                SIGNAL,
                Tpl::CALLBACK,
                Some(note),
                context,
                &group,
                &mut event,
            )
        };
        assert_eq!(status, Status::SUCCESS);
        event
    }

    fn signal(&self, event: Event) -> Status {
        // SAFETY: no pointers.
        unsafe { (self.services.signal_event)(event) }
    }

    fn check(&self, event: Event) -> Status {
        // SAFETY: no pointers.
        unsafe { (self.services.check_event)(event) }
    }

    fn set_timer(&self, event: Event, delay: TimerDelay, time: u64) -> Status {
        // SAFETY: no pointers.
        unsafe { (self.services.set_timer)(event, delay, time) }
    }

    fn wait(&self, events: &[Event]) -> (Status, usize) {
        let mut index = 99;
        let wait = self.services.wait_for_event;
        // SAFETY: as many events as said, and room for an index.
        let status = unsafe { wait(events.len(), events.as_ptr(), &mut index) };
        (status, index)
    }

    fn raise(&self, tpl: Tpl) -> Tpl {
        // SAFETY: no pointers.
        unsafe { (self.services.raise_tpl)(tpl) }
    }

    fn restore(&self, tpl: Tpl) {
        // SAFETY: no pointers.
        unsafe { (self.services.restore_tpl)(tpl) }
    }
}

#[test]
fn notifications_wait_for_a_lower_level() {
    let world = open(false);
    let low = world.event(SIGNAL, Tpl::CALLBACK, 1);
    let high = world.event(SIGNAL, Tpl::NOTIFY, 2);
    assert_eq!(world.signal(low), Status::SUCCESS);
    assert_eq!(called(), [1]);
    assert_eq!(world.raise(Tpl::CALLBACK), Tpl::APPLICATION);
    assert_eq!(world.raise(Tpl::NOTIFY), Tpl::CALLBACK);
    for event in [low, high, low] {
        assert_eq!(world.signal(event), Status::SUCCESS);
    }
    assert_eq!(called(), []);
    world.restore(Tpl::CALLBACK);
    assert_eq!(called(), [2]);
    // Mistakes: they change nothing.
    assert_eq!(world.raise(Tpl::APPLICATION), Tpl::CALLBACK);
    world.restore(Tpl::NOTIFY);
    assert_eq!(called(), []);
    world.restore(Tpl::APPLICATION);
    assert_eq!(called(), [1]);
    assert_eq!(world.raise(Tpl::APPLICATION), Tpl::APPLICATION);
    // SAFETY: no pointers.
    let close = |event| unsafe { (world.services.close_event)(event) };
    assert_eq!(close(low), Status::SUCCESS);
    assert_eq!(close(low), Status::INVALID_PARAMETER);
    assert_eq!(world.signal(low), Status::INVALID_PARAMETER);
}

#[test]
fn there_are_no_interrupts_at_the_highest_level() {
    let world = open(false);
    let interrupts = || INTERRUPTS.load(Ordering::Relaxed);
    let before = world.raise(Tpl::NOTIFY);
    assert!(interrupts());
    world.raise(Tpl::HIGH_LEVEL);
    assert!(!interrupts());
    world.restore(Tpl::NOTIFY);
    assert!(interrupts());
    world.restore(before);
    assert!(interrupts());
}

#[test]
fn who_waits_is_heard_by_the_notification() {
    let world = open(false);
    SERVICES.set(Some(world.services));
    let (mut event, kind) = (null_mut(), EventType::NOTIFY_WAIT);
    let context = core::ptr::without_provenance_mut(3);
    let create = world.services.create_event;
    // SAFETY: room for an event; the function takes any context.
    let status = unsafe { create(kind, Tpl::NOTIFY, Some(signal_itself), context, &mut event) };
    assert_eq!(status, Status::SUCCESS);
    let silent = world.event(EventType::empty(), Tpl(0), 0);
    assert_eq!(world.check(silent), Status::NOT_READY);
    assert_eq!(world.wait(&[silent, event]), (Status::SUCCESS, 1));
    assert_eq!(world.check(event), Status::SUCCESS);
    assert_eq!(called(), [3, 3]);
    let signals = world.event(SIGNAL, Tpl::NOTIFY, 4);
    let refused = Status::INVALID_PARAMETER;
    assert_eq!(world.wait(&[silent, signals, event]), (refused, 1));
    assert_eq!(world.wait(&[]), (refused, 99));
    world.raise(Tpl::CALLBACK);
    assert_eq!(world.wait(&[event]), (Status::UNSUPPORTED, 99));
    world.restore(Tpl::APPLICATION);
}

#[test]
fn timers_end_while_a_program_waits() {
    let world = open(false);
    let kind = EventType::TIMER | SIGNAL;
    let often = world.event(kind, Tpl::CALLBACK, 5);
    let once = world.event(EventType::TIMER, Tpl(0), 0);
    // SAFETY: no pointers.
    let stall = |microseconds| unsafe { (world.services.stall)(microseconds) };
    let (periodic, relative) = (TimerDelay::PERIODIC, TimerDelay::RELATIVE);
    assert_eq!(
        world.set_timer(often, periodic, 10_000_000),
        Status::SUCCESS
    );
    assert_eq!(stall(3_500_000), Status::SUCCESS);
    assert_eq!(called(), [5, 5, 5]);
    assert_eq!(world.set_timer(once, relative, 5_000_000), Status::SUCCESS);
    assert_eq!(world.wait(&[once]), (Status::SUCCESS, 0));
    assert_eq!(called(), [5]);
    assert_eq!(
        world.set_timer(often, TimerDelay::CANCEL, 0),
        Status::SUCCESS
    );
    assert_eq!(stall(3_500_000), Status::SUCCESS);
    assert_eq!(called(), []);
    let refused = Status::INVALID_PARAMETER;
    assert_eq!(world.set_timer(often, TimerDelay(7), 0), refused);
}

#[test]
fn groups_hear_of_the_memory_map_and_of_tables() {
    let world = open(false);
    world.in_group(group::MEMORY_MAP_CHANGE, 6);
    world.in_group(A, 7);
    world.pool(PAGE);
    assert_eq!(called(), [6]);
    // SAFETY: the address is only stored.
    let status = unsafe { (world.services.install_configuration_table)(&A, world.table.cast()) };
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(called(), [7]);
}

#[test]
fn page_tables_for_memory_attributes_change_the_memory_map() {
    let world = open(false);
    protection::publish().unwrap();
    let mut found = null_mut();
    let guid = &MemoryAttributeProtocol::GUID;
    // SAFETY: room for a pointer.
    let status = unsafe { (world.services.locate_protocol)(guid, null(), &mut found) };
    assert_eq!(status, Status::SUCCESS);
    world.in_group(group::MEMORY_MAP_CHANGE, 6);
    let protocol: *const MemoryAttributeProtocol = found.cast();
    // SAFETY: it was published just now.
    let set = unsafe { &*protocol }.set_memory_attributes;
    let page = PAGE as u64;
    for (start, expected, heard) in [
        (page, Status::SUCCESS, vec![6]),
        (0, Status::UNSUPPORTED, vec![]),
    ] {
        // SAFETY: the address is only told to the machine of these tests.
        let status = unsafe { set(protocol, start, page, MemoryAttribute::READ_ONLY) };
        assert_eq!((status, called()), (expected, heard));
    }
}

#[test]
fn the_end_of_boot_services_is_told_once_before_and_once_after_the_key_is_right() {
    let world = open(false);
    SERVICES.set(Some(world.services));
    let (mut event, context) = (null_mut(), core::ptr::without_provenance(8));
    let (group, create) = (&group::BEFORE_EXIT, world.services.create_event_ex);
    // SAFETY: room for an event; the function takes any context.
    let status = unsafe {
        create(
            SIGNAL,
            Tpl::CALLBACK,
            Some(allocate),
            context,
            group,
            &mut event,
        )
    };
    assert_eq!(status, Status::SUCCESS);
    world.event(EventType::SIGNAL_EXIT_BOOT_SERVICES, Tpl::CALLBACK, 9);
    world.in_group(group::EXIT_BOOT_SERVICES, 10);
    let (_, key) = world.map();
    // The notification has taken memory: the key is stale.
    assert_eq!(world.exit_boot_services(key), Status::INVALID_PARAMETER);
    assert_eq!(called(), [8]);
    let (_, key) = world.map();
    assert_eq!(world.exit_boot_services(key), Status::SUCCESS);
    assert_eq!(called(), [9, 10]);
}

#[test]
fn who_registers_for_a_protocol_finds_what_is_new() {
    let world = open(false);
    let interface = core::ptr::without_provenance_mut::<c_void>(0x1000);
    let install = |handle: &mut Handle| {
        let (install, native) = (
            world.services.install_protocol_interface,
            InterfaceType::NATIVE_INTERFACE,
        );
        // SAFETY: room for a handle.
        unsafe { install(handle, &A, native, interface) }
    };
    let (mut old, mut new) = (null_mut(), null_mut());
    assert_eq!(install(&mut old), Status::SUCCESS);
    let event = world.event(SIGNAL, Tpl::CALLBACK, 11);
    let mut key = null_mut();
    let register = world.services.register_protocol_notify;
    // SAFETY: room for a registration.
    assert_eq!(unsafe { register(&A, event, &mut key) }, Status::SUCCESS);
    // SAFETY: as above; there is no such event.
    let status = unsafe { register(&A, null_mut(), &mut key) };
    assert_eq!(status, Status::INVALID_PARAMETER);
    let locate = |room: usize| {
        let (mut size, mut handle) = (room, null_mut());
        // SAFETY: room for one handle.
        let status =
            unsafe { (world.services.locate_handle)(1, null(), key, &mut size, &mut handle) };
        (status, handle)
    };
    assert_eq!(locate(0).0, Status::BUFFER_TOO_SMALL);
    assert_eq!(locate(8), (Status::SUCCESS, old));
    assert_eq!(locate(8).0, Status::NOT_FOUND);
    assert_eq!(called(), []);
    assert_eq!(install(&mut new), Status::SUCCESS);
    assert_eq!(called(), [11]);
    let reinstall = world.services.reinstall_protocol_interface;
    // SAFETY: interfaces that nobody looks behind.
    let status = unsafe { reinstall(old, &A, interface, null()) };
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(called(), [11]);
    assert_eq!(locate(8), (Status::SUCCESS, new));
    let mut found = interface;
    // SAFETY: room for an interface.
    let status = unsafe { (world.services.locate_protocol)(&A, key, &mut found) };
    assert_eq!((status, found), (Status::SUCCESS, null_mut()));
    assert_eq!(locate(8).0, Status::NOT_FOUND);
    // SAFETY: no pointers.
    let closed = unsafe { (world.services.close_event)(event) };
    assert_eq!(closed, Status::SUCCESS);
    // SAFETY: interfaces that nobody looks behind.
    let status = unsafe { reinstall(old, &A, null(), interface) };
    assert_eq!((status, locate(8).0), (Status::SUCCESS, Status::NOT_FOUND));
}
